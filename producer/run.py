"""The handle of a run that this process writes to."""

from __future__ import annotations

import os
import threading
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flightlog.producer import lifecycle
from flightlog.producer.context import activate, active_runs, context, deactivate
from flightlog.schema.entities import Run
from flightlog.schema.errors import FlightlogException

if TYPE_CHECKING:
    from typing_extensions import Self

    from flightlog.producer.client import Producer
    from flightlog.producer.system.sampler import Sampler


class ActiveRun(Run):
    """A run and, in a `with` block, its life: leaving the block ends it, FAILED after an exception and KILLED after an interrupt.

    `owner` is the process that ends it at exit: a forked child writes to the run and leaves its status alone. Pickling gives a handle
    that writes to the same run from another process.
    """

    def __init__(self, run: Run, producer: Producer, *, owned: bool = True) -> None:
        super().__init__(run.info, run.data, run.inputs, run.outputs)
        self.producer = producer
        self.owner = os.getpid() if owned else None
        self.home = (os.getpid(), threading.get_ident())
        """Where it was started: elsewhere it does not keep others from starting a run."""
        self.ended = False
        self.sampler: Sampler | None = None
        """What logs system metrics to the run by this handle."""
        self.recorder = producer.recorder(run.info.run_id)

    def rewind(self, step: int) -> None:
        """Begin a new attempt at a step, as after going back to a checkpoint: see `flightlog.rewind`."""
        operation = self.producer.rewind(self.info.run_id, step)
        if lifecycle.is_waiting_at_end():
            operation.wait()

    def __enter__(self) -> Self:
        """Make the run the active one, if it is not: a handle that came from another process, say."""
        if not any(run is self for run in active_runs.get()):
            activate(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        """End the run, unless it has been ended already."""
        if any(run is self for run in active_runs.get()):
            deactivate(self)
            self._end(error)
        return kind is None

    def _end(self, error: BaseException | None) -> None:
        try:
            lifecycle.end(self, *lifecycle.verdict(error))
        except FlightlogException as fault:
            if error is None:
                raise
            lifecycle.warn_once(f"the end of run {self.info.run_id} is not confirmed: {fault}")  # what ended the block counts more

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self.producer.location.tracking_uri, Run(self.info, self.data))


def _attach(tracking_uri: str, run: Run) -> ActiveRun:
    return ActiveRun(run, context.producer_for(tracking_uri), owned=False)
