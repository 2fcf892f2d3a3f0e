"""The life of the process: what happens to its runs when it ends, however it ends, and when it forks. The only place that hooks into it.

    how it ends                        status     noticed by
    end of the script, sys.exit(0)     FINISHED   atexit
    sys.exit(other)                    FAILED     sys.exit, wrapped
    uncaught exception                 FAILED     sys.excepthook, wrapped
    KeyboardInterrupt (SIGINT)         KILLED     sys.excepthook, wrapped
    SIGTERM                            KILLED     a signal handler, before the user's own or the default; not in forked children
    SIGKILL, power                     -          nobody here; the journal has every event

`raise SystemExit(n)` outside a `with` block leaves no trace and counts as the end of the script; a `sys.exit(n)` that the script catches
counts all the same. A `with` block ends its own run. The hooks are set when the first run starts and call what was there before.
"""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import threading
import time
import traceback
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, NoReturn

from flightlog.producer.context import context
from flightlog.producer.operations import NOTHING, RunOperations
from flightlog.schema.errors import FlightlogException, NotCommitted

if TYPE_CHECKING:
    from flightlog.producer.client import Producer
    from flightlog.producer.run import ActiveRun

log = logging.getLogger("flightlog")


class Hooks:
    """What this process has been told about its end so far."""

    def __init__(self) -> None:
        self.installed = False
        self.status = "FINISHED"
        self.reason: str | None = None
        self.terminated = False
        self.sigterm: tuple[Any, Any] | None = None
        """Our handler of SIGTERM and the one that it stands before, while it is set."""
        self.kept: dict[str, ActiveRun] = {}
        self.warned: set[str] = set()

    def note(self, status: str, reason: str | None) -> None:
        """Remember how this process ends. What follows SIGTERM, such as a handler's `sys.exit`, is part of that."""
        if not self.terminated:
            self.status, self.reason = status, reason


hooks = Hooks()


def own(run: ActiveRun) -> None:
    """Take over a run: it is ended with this process unless it ends before."""
    hooks.kept[run.info.run_id] = run
    if not run.producer.is_lasting:
        return
    if not hooks.installed:
        _install()
    if hooks.sigterm is None:
        _wrap_sigterm()


def end(run: ActiveRun, status: str, reason: str | None = None) -> None:
    """End a run that this process owns; a run that it only attached to is left to its owner."""
    hooks.kept.pop(run.info.run_id, None)
    operation = _record_end(run, status, reason)
    if is_waiting_at_end():
        operation.wait()
    _say_failed(run.producer, run.info.run_id)


def end_all(producer: Producer, error: BaseException | None) -> None:
    """End the runs of a producer that are still under way, as if the process ended with this exception or without one."""
    for run in [run for run in hooks.kept.values() if run.producer is producer]:
        end(run, *verdict(error))


def _record_end(run: ActiveRun, status: str, reason: str | None) -> RunOperations:
    if run.ended:
        return NOTHING
    run.ended = True
    if run.owner == os.getpid():
        return run.producer.end(run.info.run_id, status, reason=reason)
    if run.sampler is not None:
        run.producer.stop_sampling(run.info.run_id, run.sampler)
    run.producer.close_subject(run.info.run_id)
    return NOTHING


def verdict(error: BaseException | None) -> tuple[str, str | None]:
    """Return status and reason of a run whose `with` block ends with this exception, or without one."""
    if error is not None and hooks.terminated:
        return hooks.status, hooks.reason
    return _outcome(error), _reason(error)


def _outcome(error: BaseException | None) -> str:
    """Return the status of a run that ends with this exception: an interrupt kills, `sys.exit(0)` finishes, all else fails."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "FINISHED"
    return "KILLED" if isinstance(error, KeyboardInterrupt) else "FAILED"


def _reason(error: BaseException | None) -> str | None:
    """Return one line that says why a run did not finish, even for an exception that cannot say what it is."""
    if error is None or _outcome(error) == "FINISHED":
        return None
    return traceback.format_exception_only(type(error), error)[-1].strip()


def is_waiting_at_end() -> bool:
    """Say whether ending a run waits for the commit: only when all calls do."""
    return bool(context.synchronous if context.synchronous is not None else not context.settings.asynchronous)


def _install() -> None:
    hooks.installed = True
    _wrap_excepthook()
    _wrap_exit()


def _wrap_excepthook() -> None:
    previous = sys.excepthook

    def excepthook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not (hasattr(sys, "ps1") or sys.flags.interactive):  # a console goes on after this
            hooks.note(*verdict(error))
        previous(kind, error, trace)

    sys.excepthook = excepthook


def _wrap_exit() -> None:
    """`SystemExit` leaves no trace that atexit could read, so the exit code is noted where it is given."""
    previous = sys.exit

    def exit(status: Any = None, /) -> NoReturn:  # noqa: A001, ANN401 - sys.exit's own signature
        if threading.current_thread() is threading.main_thread():
            hooks.note(*(("FINISHED", None) if status in (None, 0) else ("FAILED", f"SystemExit: {status}")))
        previous(status)

    sys.exit = exit


def _wrap_sigterm() -> None:
    """Only the main thread may set a handler, and one that was set outside Python (None) or ignores the signal is left alone."""
    if threading.current_thread() is not threading.main_thread():
        return
    previous = signal.getsignal(signal.SIGTERM)
    if previous is None or previous is signal.SIG_IGN:
        return

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        hooks.note("KILLED", "SIGTERM")
        hooks.terminated = True
        if callable(previous):
            previous(number, frame)
        elif not any(producer.postpone(_die) for producer in context.producers()):
            _die()

    signal.signal(signal.SIGTERM, on_sigterm)
    hooks.sigterm = (on_sigterm, previous)


def _unwrap_sigterm() -> None:
    """Take our handler back in a forked child, which owns no run.

    A handler in Python waits until the main thread runs Python again. A worker of a pool or data loader that is told to end may just be
    going to wait for work, and would then never do so.
    """
    if hooks.sigterm is not None:
        ours, previous = hooks.sigterm
        hooks.sigterm = None
        if signal.getsignal(signal.SIGTERM) is ours:
            signal.signal(signal.SIGTERM, previous)


def _die() -> None:
    """End the runs, then end by SIGTERM as if there had been no handler."""
    try:
        finish()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


def finish() -> None:
    """End all runs of this process, then wait for the commit at most `FLIGHTLOG_EXIT_TIMEOUT` seconds and say what remains."""
    for run in list(hooks.kept.values()):
        _end_at_exit(run)
    deadline = time.monotonic() + context.settings.exit_timeout
    for producer in context.producers():
        producer.close()
        if not producer.settle(max(deadline - time.monotonic(), 0) if producer.can_arrive else 0):
            log.warning(
                "flightlog: %d events are not in the store yet; they are safe in the journal and %s",
                producer.pending(),
                producer.how_to_file(),
            )
        if not producer.settle_artifacts(max(deadline - time.monotonic(), 0) if producer.can_arrive else 0):
            _say_pending(producer)
        _say_failed(producer)
        _say_losses(producer.dropped(), producer.rejections())
        producer.release()


def _end_at_exit(run: ActiveRun) -> None:
    try:
        _record_end(run, hooks.status, hooks.reason)
    except FlightlogException as error:  # such as a full disk and the policy to raise: the other runs must end all the same
        log.warning("flightlog: the end of run %s was not recorded: %s", run.info.run_id, error)


def _say_losses(dropped: int, rejections: list[str]) -> None:
    if dropped:
        log.warning("flightlog: %d events were dropped because the spool or the disk was full", dropped)
    for sentence in rejections:
        log.warning("flightlog: %s", sentence)


def _say_failed(producer: Producer, run_id: str | None = None) -> None:
    """Say which artifacts could not be stored, once for each run and process."""
    left = [item for item in producer.awaited.unstored(run_id=run_id) if item.reason is not None]
    for owner in dict.fromkeys(item.run_id for item in left):
        failed = [item for item in left if item.run_id == owner]
        first, state = failed[0], "failed" if failed[0].state == "failed" else "tried in vain so far"
        warn_once_for(
            f"artifacts of {owner}",
            f"{_counted(len(failed))} of run {owner} could not be stored ({state}), such as {first.path!r}: {first.reason}; "
            f"the copies are safe in the spool; {producer.how_to_retry(owner)}",
        )


def _say_pending(producer: Producer) -> None:
    left = [item for item in producer.awaited.unstored() if item.reason is None]
    if left:
        log.warning(
            "flightlog: %s not stored yet, such as %r of run %s; the copies are safe in the spool and %s",
            f"{_counted(len(left))} {'is' if len(left) == 1 else 'are'}",
            left[0].path,
            left[0].run_id,
            producer.how_to_file(),
        )


def _counted(artifacts: int) -> str:
    return "1 artifact" if artifacts == 1 else f"{artifacts:,} artifacts"


def settle_all(timeout: float) -> None:
    """Wait until the store has everything that this process logged. Raises `NotCommitted`."""
    for producer in context.producers():
        if not producer.settle(timeout):
            pending = producer.pending()
            raise NotCommitted(
                f"{pending} events were not committed within {timeout:g} s; they are safe in the journal and {producer.how_to_file()}"
            )


def settle_all_artifacts(timeout: float) -> None:
    """Wait until each artifact that this process logged is stored, or cannot be. Raises `NotCommitted`."""
    for producer in context.producers():
        if not producer.settle_artifacts(timeout):
            left = _counted(len(producer.awaited.unstored()))
            raise NotCommitted(
                f"{left} could not be stored within {timeout:g} s; the copies are safe in the spool and {producer.how_to_file()}"
            )


def warn_once(message: str) -> None:
    """Log a warning the first time that it is said."""
    warn_once_for(message, message)


def warn_once_for(matter: str, message: str) -> None:
    """Log a warning the first time that a matter comes up."""
    if matter not in hooks.warned:
        hooks.warned.add(matter)
        log.warning("flightlog: %s", message)


def _after_fork_in_child() -> None:
    """Start anew: the child's events go to writers of its own, and the runs' statuses stay with the parent."""
    hooks.kept = {}
    hooks.status, hooks.reason, hooks.terminated = "FINISHED", None, False
    _unwrap_sigterm()
    context.abandon()


atexit.register(finish)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
