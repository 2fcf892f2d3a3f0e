"""The handle of a run that this process writes to."""

from __future__ import annotations

import os
from types import TracebackType
from typing import TYPE_CHECKING, Any

from flightlog.producer.context import context
from flightlog.schema.entities import Run

if TYPE_CHECKING:
    from typing_extensions import Self

    from flightlog.producer.client import Producer

Status = str


class ActiveRun(Run):
    """A run and, in a `with` block, its life: leaving the block ends it, FAILED after an exception and KILLED after an interrupt.

    `owner` is the process that ends it at exit: a forked child writes to the run and leaves its status alone. Pickling gives a handle
    that writes to the same run from another process.
    """

    def __init__(self, run: Run, producer: Producer, *, owned: bool = True) -> None:
        super().__init__(run.info, run.data, run.inputs, run.outputs)
        self.producer = producer
        self.owner = os.getpid() if owned else None
        self.ended = False
        self.recorder = producer.recorder(run.info.run_id)

    def __enter__(self) -> Self:
        from flightlog.producer import fluent  # noqa: PLC0415 - the fluent verbs stand on this class

        fluent.enter(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> bool:
        from flightlog.producer import fluent  # noqa: PLC0415 - the fluent verbs stand on this class

        fluent.leave(self, error)
        return kind is None

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach, (self.producer.location.tracking_uri, Run(self.info, self.data))


def _attach(tracking_uri: str, run: Run) -> ActiveRun:
    return ActiveRun(run, context.producer_for(tracking_uri), owned=False)


def outcome(error: BaseException | None) -> Status:
    """Return the status of a run that ends with this exception: an interrupt kills, `sys.exit(0)` finishes, all else fails."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def reason_of(error: BaseException | None) -> str | None:
    """Return one line that says why a run did not finish."""
    if error is None or outcome(error) == "FINISHED":
        return None
    return f"{type(error).__name__}: {error}"[:500]
