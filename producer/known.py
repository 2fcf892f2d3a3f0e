"""What this process knows of the experiments and runs of one store because it has read, made or deleted them itself.

It saves round trips, and is no cache of the store: others may have changed what is here, so nobody is refused anything for what it says
of a name or an id that it does not know.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

from flightlog.schema.entities import Experiment, LifecycleStage, Run
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.ids import experiment_id_for

MOST_BEGUN = 1_000
"""So many of the runs that were begun here are remembered whole, the latest: the store has long heard of the others."""


class Known:
    """Experiments by id, the runs that there are or that were begun here, and the ids of deleted runs."""

    def __init__(self) -> None:
        self.appending = threading.Lock()
        """Held while a table of a run is read, extended and logged anew."""
        self.tables: dict[str, list[Any]] = {}
        """What this process has said of the tables of a run."""
        self._runs: set[str] = set()
        self._begun: OrderedDict[str, Run] = OrderedDict()
        self._experiments: dict[str, Experiment] = {}
        self._deleted_runs: dict[str, str | None] = {}
        """The experiment of each, None where it is not known."""

    def abandon(self) -> None:
        """Start anew after a fork: whoever appended stayed with the parent."""
        self.appending = threading.Lock()

    def remember(self, experiment: Experiment) -> Experiment:
        """Note an experiment as it is now, and return it."""
        self._experiments[experiment.experiment_id] = experiment
        return experiment

    def with_id(self, experiment_id: str) -> Experiment | None:
        """Return an experiment that is known, also a deleted one."""
        return self._experiments.get(experiment_id)

    def experiment(self, experiment_id: str) -> Experiment | None:
        """Return an experiment that is known to be active."""
        found = self.with_id(experiment_id)
        return found if found and found.lifecycle_stage == LifecycleStage.ACTIVE else None

    def is_deleted(self, experiment_id: str) -> bool:
        """Say whether an experiment is known to be deleted."""
        found = self.with_id(experiment_id)
        return found is not None and found.lifecycle_stage != LifecycleStage.ACTIVE

    def named(self, name: str) -> Experiment | None:
        """Return the experiment that is known to have a name, also a deleted one."""
        return next((experiment for experiment in list(self._experiments.values()) if experiment.name == name), None)

    def new_id(self, name: str) -> str:
        """Return the id for a new experiment of a name: the first that follows from it and is not known to be another's, since renamed."""
        return next(found for found in map(partial(experiment_id_for, name), count()) if found not in self._experiments)

    def stage(self, experiment_id: str, stage: str) -> None:
        """Note that an experiment was deleted or restored, and with it its runs, as far as they are known."""
        if experiment_id in self._experiments:
            self._experiments[experiment_id] = replace(self._experiments[experiment_id], lifecycle_stage=stage)
        if stage == LifecycleStage.DELETED:
            begun = [run_id for run_id, run in list(self._begun.items()) if run.info.experiment_id == experiment_id]
            self._deleted_runs.update(dict.fromkeys(begun, experiment_id))
        else:
            for run_id, home in list(self._deleted_runs.items()):
                if home in (experiment_id, None):
                    del self._deleted_runs[run_id]

    def forget(self, experiment_id: str) -> None:
        """Note that an experiment is not what it was."""
        self._experiments.pop(experiment_id, None)

    def note_run(self, run_id: str) -> None:
        """Note that there is a run."""
        self._runs.add(run_id)

    def begin_run(self, run: Run) -> Run:
        """Note a run that this process has made, as it is at its start, and return it."""
        self._begun[run.info.run_id] = run
        if len(self._begun) > MOST_BEGUN:
            self._begun.popitem(last=False)
        self.note_run(run.info.run_id)
        return run

    def begun(self, run_id: str) -> Run | None:
        """Return a run that this process has made, as it was at its start; None for one that it made long ago."""
        return self._begun.get(run_id)

    def has_run(self, run_id: str) -> bool:
        """Say whether a run is known to be there; it may be deleted."""
        return run_id in self._runs

    def stage_run(self, run_id: str, stage: str, experiment_id: str | None = None) -> None:
        """Note that a run, of an experiment that may be unknown, is deleted or active."""
        if stage == LifecycleStage.DELETED:
            begun = self._begun.get(run_id)
            self._deleted_runs[run_id] = begun.info.experiment_id if begun else experiment_id
        else:
            self._deleted_runs.pop(run_id, None)

    def is_run_deleted(self, run_id: str) -> bool:
        """Say whether a run is known to be deleted."""
        return run_id in self._deleted_runs

    def check_active(self, run_id: str) -> None:
        """Raise `InvalidParameter` for a run that is known to be deleted."""
        if self.is_run_deleted(run_id):
            raise InvalidParameter(f"run {run_id} is deleted and cannot be changed; restore it with restore_run first")
