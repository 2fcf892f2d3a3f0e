"""The state of this process: its producers by tracking URI, the active experiment, and the stack of active runs of each context."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from flightlog.producer import notebooks
from flightlog.producer.caretaker import Caretaker
from flightlog.schema.entities import Experiment, Run
from flightlog.schema.settings import Location, Settings, locate

if TYPE_CHECKING:
    from flightlog.producer.client import Producer
    from flightlog.producer.run import ActiveRun


TRACKING_VARIABLES = ("FLIGHTLOG_TRACKING_URI", "MLFLOW_TRACKING_URI")
RUN_ID_VARIABLES = ("FLIGHTLOG_RUN_ID", "MLFLOW_RUN_ID")
EXPERIMENT_VARIABLES = ("FLIGHTLOG_EXPERIMENT_NAME", "FLIGHTLOG_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_ID")
"""What would win over, or contradict, the name that `choose_experiment` leaves to children."""


class Lookup(Protocol):
    """What the write side asks of the read side, at the few calls that cannot do without: a resumed run, an experiment by id.

    The face provides it; the write side itself never opens a store. Raises `NotFound`, or `StoreUnavailable`.
    """

    def run(self, run_id: str) -> Run:
        """Return a run as the store knows it now."""

    def experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment as the store knows it now."""

    def experiment_named(self, name: str) -> Experiment | None:
        """Return the experiment of that name as the store knows it now, also a deleted one, or None."""


class Opening(Protocol):
    """How a tracking URI becomes a producer."""

    def locate(self, uri: str | Path | None, settings: Settings) -> Location:
        """Return what a tracking URI means, None: none was named. Raises `InvalidParameter`."""

    def open(self, location: Location, settings: Settings, caretaker: Caretaker) -> Producer:
        """Return a producer for a location."""


class SpoolOpening:
    """Through a spool, to the store that the URI names."""

    def locate(self, uri: str | Path | None, settings: Settings) -> Location:
        """See `Opening.locate`."""
        return locate(uri, settings)

    def open(self, location: Location, settings: Settings, caretaker: Caretaker) -> Producer:
        """See `Opening.open`."""
        from flightlog.producer.client import Producer  # noqa: PLC0415 - pydantic takes as long to import as all the rest

        return Producer(location, settings, caretaker)


class Context:
    """One per process. Fields may be read anywhere; change them through the methods."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._opening: Opening = SpoolOpening()
        self._producers: dict[Location, Producer] = {}
        self._aside: list[Producer] = []
        self._current: Producer | None = None
        self._settings: Settings | None = None
        self._tracking_uri: str | None = None
        self.caretaker = Caretaker()
        self.experiment_id: str | None = None
        self.experiment_name: str | None = None
        self.synchronous: bool | None = None
        self.chosen: dict[str, Any] = {}
        """Settings that calls have changed, by their names."""
        self.lookup: Lookup | None = None

    @property
    def settings(self) -> Settings:
        """The environment, read when it is first needed."""
        if self._settings is None:
            self._settings = Settings.from_environ(os.environ)
            if self.synchronous is None and not self._settings.asynchronous:
                self.synchronous = True  # so that a log call need look at this alone
            if self._settings.logging_level is not None:
                logging.getLogger("flightlog").setLevel(self._settings.logging_level)
        return self._settings

    @staticmethod
    def take_run_id() -> str | None:
        """Return the run that the environment says to resume, and take it from there: neither a later run nor a child resumes it again."""
        named = [os.environ.pop(name, None) for name in RUN_ID_VARIABLES]
        return next((run_id for run_id in named if run_id), None)

    def choose_experiment(self, experiment: Experiment) -> None:
        """Make an experiment the active one, here and in the processes that this one starts."""
        self.experiment_id, self.experiment_name = experiment.experiment_id, experiment.name
        for name in EXPERIMENT_VARIABLES:
            os.environ.pop(name, None)
        os.environ["MLFLOW_EXPERIMENT_NAME"] = experiment.name

    @property
    def is_tracking_uri_set(self) -> bool:
        """Whether a call or the environment gave a tracking URI."""
        return bool(self._tracking_uri or self.settings.tracking_uri)

    def set_tracking_uri(self, uri: str | Path | None) -> None:
        """Use another store from now on; None means what the environment says. Active runs stay with theirs."""
        located = self._opening.locate(uri, self.settings)
        with self._lock:
            self._tracking_uri = str(uri) if uri else None
            self._current = self._producer_at(located)
        self._tell_children(located.tracking_uri if uri else self.settings.tracking_uri)

    @staticmethod
    def _tell_children(tracking_uri: str | None) -> None:
        """Leave the choice of a store to the processes that this one starts."""
        for name in TRACKING_VARIABLES:
            os.environ.pop(name, None)
        if tracking_uri is not None:
            os.environ["MLFLOW_TRACKING_URI"] = tracking_uri

    @property
    def location(self) -> Location:
        """Where state, journals and artifacts live now."""
        return self.producer.location

    @property
    def producer(self) -> Producer:
        """The producer of the current tracking URI."""
        current = self._current
        if current is None:
            with self._lock:
                current = self._current = self._producer_at(self._opening.locate(self._tracking_uri, self.settings))
        return current

    def producer_for(self, uri: str | None) -> Producer:
        """Return the producer of a tracking URI, the current one for None."""
        if uri is None:
            return self.producer
        with self._lock:
            return self._producer_at(self._opening.locate(uri, self.settings))

    def _producer_at(self, location: Location) -> Producer:
        producer = self._producers.get(location)
        if producer is None:
            producer = self._producers[location] = self._opening.open(location, self.settings, self.caretaker)
        return producer

    def stand_in_for(self, producer: Producer) -> Producer:
        """Return the producer to use for one that was made earlier: itself, or what takes its place while it is set aside."""
        return self.producer_for(producer.location.tracking_uri) if producer in self._aside else producer

    def producers(self) -> list[Producer]:
        """Return all producers that this process has used."""
        with self._lock:
            return list(self._producers.values())

    def abandon(self) -> None:
        """Start anew after a fork."""
        self._lock = threading.RLock()
        self.caretaker.abandon()
        for producer in (*self._aside, *self._producers.values()):
            producer.abandon()

    @contextmanager
    def set_aside(self, opening: Opening) -> Iterator[None]:
        """Be as new for a while, with producers from elsewhere, for all threads; then be as before. For tests: see `flightlog.testing`.

        A run that is active in this context is not meanwhile; whoever holds it writes to it as ever.
        """
        before = vars(self).copy()
        stack, latest = active_runs.get(), last_run_id.get()
        kept = {"caretaker": self.caretaker, "lookup": self.lookup, "_lock": self._lock}
        vars(self).update({**vars(Context()), **kept, "_opening": opening, "_aside": [*self._aside, *self._producers.values()]})
        active_runs.set(())
        last_run_id.set(None)
        try:
            yield
        finally:
            vars(self).update({**before, "_lock": self._lock})  # in a forked child it is another
            active_runs.set(stack)
            last_run_id.set(latest)

    def reset(self) -> None:
        """Forget everything, for tests: the next call reads the environment again."""
        self.caretaker.stop()
        for producer in self._producers.values():
            producer.close()
            producer.release()
        lookup = self.lookup
        self.__init__()  # type: ignore[misc]  # the same object, because everyone holds it
        self.lookup = lookup
        active_runs.set(())
        last_run_id.set(None)


context = Context()
active_runs: ContextVar[tuple[ActiveRun, ...]] = ContextVar("flightlog_active_runs", default=())
"""The stack of this context: a thread starts with an empty one, an asyncio task with that of its creator. Some may have ended by now."""
last_run_id: ContextVar[str | None] = ContextVar("flightlog_last_run_id", default=None)


def under_way() -> tuple[ActiveRun, ...]:
    """Return the stack of this context without the runs that a task which inherited them has ended."""
    return tuple(run for run in active_runs.get() if not run.ended)


def activate(run: ActiveRun) -> None:
    """Make a run the active one of this context."""
    _set_stack((*under_way(), run), run)


def deactivate(run: ActiveRun) -> None:
    """Take a run off the stack of this context."""
    _set_stack(tuple(item for item in under_way() if item is not run), run)


def _set_stack(stack: tuple[ActiveRun, ...], latest: ActiveRun) -> None:
    active_runs.set(stack)
    last_run_id.set(latest.info.run_id)
    notebooks.keep(active_runs, last_run_id)
