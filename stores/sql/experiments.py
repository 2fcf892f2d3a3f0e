"""The experiments of the database while a batch is applied."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, func, select, update

from flightlog.schema.fold import ExperimentState, RunState, Stamp, set_lifecycle
from flightlog.stores.sql.rows import put_row, upsert_rows
from flightlog.stores.sql.states import experiment_row, load_experiments, stamp_text, tag_row
from flightlog.stores.sql.tables import experiment_tags, experiments, runs


class SqlExperiments:
    """The `ExperimentBook` of the SQL store. Changes are written at once: they are rare, and names must stay unique all the way.

    `present` are the runs that the batch holds in memory and of which an event has come already; they will overwrite their rows.
    """

    def __init__(self, connection: Connection, present: Mapping[str, RunState]) -> None:
        self._connection = connection
        self._present = present
        self._known: dict[str, ExperimentState] = {}

    def get(self, experiment_id: str) -> ExperimentState | None:
        """See `ExperimentBook.get`."""
        if experiment_id not in self._known:
            states = load_experiments(self._connection, [int(experiment_id)])
            self._known |= {state.experiment_id: state for state in states.values()}
        return self._known.get(experiment_id)

    def named(self, name: str) -> str | None:
        """See `ExperimentBook.named`."""
        for state in self._known.values():
            if state.name == name:
                return state.experiment_id
        number = self._connection.execute(select(experiments.c.experiment_id).where(experiments.c.name == name)).scalar()
        return None if number is None else str(number)

    def put(self, state: ExperimentState) -> None:
        """See `ExperimentBook.put`."""
        put_row(self._connection, experiments, experiment_row(state))
        tags = [tag_row("experiment_id", int(state.experiment_id), key, tag) for key, tag in sorted(state.tags.items())]
        upsert_rows(self._connection, experiment_tags, tags)
        self._known[state.experiment_id] = state

    def population(self, experiment_id: str) -> int:
        """See `ExperimentBook.population`."""
        query = select(func.count()).select_from(runs).where(runs.c.experiment_id == int(experiment_id))
        return self._connection.execute(query).scalar_one()

    def cascade(self, experiment_id: str, stage: str, stamp: Stamp) -> None:
        """See `ExperimentBook.cascade`."""
        text = stamp_text(stamp)
        mine = (runs.c.experiment_id == int(experiment_id)) & (runs.c.lifecycle_stamp < text)
        self._connection.execute(update(runs).where(mine).values(lifecycle_stage=stage, lifecycle_stamp=text))
        for run in self._present.values():
            if run.experiment_id == experiment_id:
                set_lifecycle(run, stage, stamp)
