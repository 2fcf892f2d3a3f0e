"""However a script ends, its run has the status that it should have, and the script ends as it would without flightlog."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path
from textwrap import indent

import pytest

from process.scripts import NO_WORKER, Finished, Flight, Script, run, wait_until

STAND_IN = """
class start_run:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False


def log_metric(*_, **__):
    pass


def log_param(*_, **__):
    pass
"""
"""What a script finds in place of flightlog when we look how it ends without."""

HEAD = """
import os, signal, sys, threading, time
import flightlog


def wait_for_signal():
    print("ready", flush=True)
    while True:
        flightlog.log_metric("loss", 1.0)
        time.sleep(0.01)


def say(number, frame):
    print("handler ran", flush=True)


def say_and_exit(number, frame):
    print("handler ran", flush=True)
    sys.exit(5)


def say_and_exit_well(number, frame):
    print("handler ran", flush=True)
    sys.exit(0)


def say_and_raise(number, frame):
    print("handler ran", flush=True)
    raise RuntimeError("stop")


def say_hook(kind, error, trace):
    print("hook ran", kind.__name__, flush=True)


stop = threading.Event()


def set_flag(number, frame):
    print("handler ran", flush=True)
    stop.set()

"""


@dataclass(frozen=True)
class Ending:
    """A way to end: what is done before the run starts and in it, the signal that comes meanwhile, and the run's status afterwards."""

    name: str
    body: str
    inside: str
    """The status of a run in a `with` block around the body."""
    outside: str
    """The status of a run that nobody ends but the end of the process."""
    before: str = ""
    signal: signal.Signals | None = None


TERM, INT = signal.SIGTERM, signal.SIGINT
WAIT = "wait_for_signal()"
WAIT_FOR_FLAG = "print('ready', flush=True)\nwhile not stop.is_set():\n    time.sleep(0.01)"

ENDINGS = [
    Ending("the end of the script", "pass", "FINISHED", "FINISHED"),
    Ending("sys.exit()", "sys.exit()", "FINISHED", "FINISHED"),
    Ending("sys.exit(0)", "sys.exit(0)", "FINISHED", "FINISHED"),
    Ending("sys.exit(1)", "sys.exit(1)", "FAILED", "FAILED"),
    Ending("sys.exit with a message", "sys.exit('no data')", "FAILED", "FAILED"),
    Ending("raise SystemExit(0)", "raise SystemExit(0)", "FINISHED", "FINISHED"),
    Ending("an uncaught exception", "raise ValueError('broken')", "FAILED", "FAILED"),
    Ending(
        "an uncaught exception and a hook of the user", "raise ValueError('broken')", "FAILED", "FAILED", before="sys.excepthook = say_hook"
    ),
    Ending("raise KeyboardInterrupt", "raise KeyboardInterrupt", "KILLED", "KILLED"),
    Ending("SIGINT", WAIT, "KILLED", "KILLED", signal=INT),
    Ending("SIGTERM", WAIT, "KILLED", "KILLED", signal=TERM),
    Ending("SIGTERM with a handler that exits", WAIT, "KILLED", "KILLED", "signal.signal(signal.SIGTERM, say_and_exit)", TERM),
    Ending("SIGTERM with a handler that exits well", WAIT, "KILLED", "KILLED", "signal.signal(signal.SIGTERM, say_and_exit_well)", TERM),
    Ending("SIGTERM with a handler that raises", WAIT, "KILLED", "KILLED", "signal.signal(signal.SIGTERM, say_and_raise)", TERM),
    Ending("SIGTERM with a handler that sets a flag", WAIT_FOR_FLAG, "FINISHED", "KILLED", "signal.signal(signal.SIGTERM, set_flag)", TERM),
    Ending(
        "SIGTERM ignored",
        "print('ready', flush=True)\nsys.stdin.readline()",
        "FINISHED",
        "FINISHED",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        TERM,
    ),
    Ending(
        "a handler for SIGTERM set inside the run", f"signal.signal(signal.SIGTERM, say_and_exit)\n{WAIT}", "FAILED", "FAILED", signal=TERM
    ),
]


def _script(ending: Ending, start: str) -> str:
    return f"{HEAD}{ending.before}\n{start}\n"


def _inside(ending: Ending) -> str:
    return _script(ending, f"with flightlog.start_run():\n{indent(ending.body, '    ')}")


def _outside(ending: Ending) -> str:
    return _script(ending, f"flightlog.start_run()\n{ending.body}")


def _end(source: str, ending: Ending, **environment: str) -> Finished:
    if ending.signal is None:
        return run(source, **environment)
    with Script(source, **environment) as script:
        script.wait_for_line()
        script.send(ending.signal)
        return script.finish()


def _as_without_flightlog(source: str, ending: Ending, tmp_path: Path) -> Finished:
    """Run a script with the stand-in: `import` looks first into the folder of the script."""
    (tmp_path / "flightlog.py").write_text(STAND_IN)
    try:
        return _end(source, ending)
    finally:
        (tmp_path / "flightlog.py").unlink()


def _complaint(finished: Finished) -> str:
    """Return the last line on stderr that is not ours: the exception, if there was one."""
    lines = [line for line in finished.err.splitlines() if not line.startswith("flightlog:")]
    return lines[-1] if lines else ""


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.name)
@pytest.mark.parametrize("where", ["inside", "outside"])
def test_the_status_says_how_the_script_ended_and_the_script_ends_as_it_would_without_us(
    flight: Flight, tmp_path: Path, ending: Ending, where: str
) -> None:
    source, status = (_inside(ending), ending.inside) if where == "inside" else (_outside(ending), ending.outside)
    expected = _as_without_flightlog(source, ending, tmp_path)
    finished = _end(source, ending, **NO_WORKER)
    assert finished.code == expected.code
    assert finished.out == expected.out
    assert _complaint(finished) == _complaint(expected)
    flight.drain()
    info = flight.only_run().info
    assert info.status == status
    assert info.end_time is not None


def test_an_exception_in_a_nested_run_that_is_caught_outside_fails_only_the_nested_run(flight: Flight) -> None:
    body = """
import flightlog

with flightlog.start_run(run_name="outer"):
    try:
        with flightlog.start_run(run_name="inner", nested=True):
            raise ValueError
    except ValueError:
        pass
"""
    assert run(body, **NO_WORKER).code == 0
    flight.drain()
    assert {item.info.run_name: item.info.status for item in flight.runs()} == {"outer": "FINISHED", "inner": "FAILED"}


def test_runs_that_were_never_ended_end_with_the_process(flight: Flight) -> None:
    body = """
import flightlog

flightlog.start_run()
flightlog.start_run(nested=True)
raise ValueError
"""
    assert run(body, **NO_WORKER).code == 1
    flight.drain()
    assert [item.info.status for item in flight.runs()] == ["FAILED", "FAILED"]


def test_a_normal_exit_waits_until_everything_is_in_the_store(flight: Flight) -> None:
    finished = run("import flightlog\nflightlog.start_run()\nfor step in range(20_000): flightlog.log_metric('loss', step / 2, step=step)")
    assert (finished.code, finished.warnings) == (0, [])
    assert len(flight.history(flight.only_run().info.run_id)) == 20_000
    assert flight.only_run().info.status == "FINISHED"


SLOW_EXIT = """
import sys
import flightlog

flightlog.start_run()
flightlog.log_metric("loss", 1.0)
print("done", flush=True)
"""


def test_the_exit_waits_at_most_the_bound_for_a_worker_that_cannot_work(flight: Flight) -> None:
    flight.database.mkdir(parents=True)
    finished = run(SLOW_EXIT, FLIGHTLOG_EXIT_TIMEOUT="2")
    assert finished.code == 0
    assert 1.5 < finished.delay < 5
    (warning,) = finished.warnings
    assert "flightlog worker --spool" in warning


def test_the_exit_does_not_wait_where_nothing_could_be_waited_for(flight: Flight) -> None:
    finished = run(SLOW_EXIT, **NO_WORKER)
    assert finished.code == 0
    assert finished.delay < 1.5


def test_the_bound_holds_for_all_stores_of_a_script_together(flight: Flight, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    for folder in folders:
        (folder / "tracking.db").mkdir(parents=True)
    finished = run(
        """
        import sys
        import flightlog

        for uri in sys.argv[1:]:
            flightlog.set_tracking_uri(uri)
            flightlog.start_run(nested=True)
        print("done", flush=True)
        """,
        *map(str, folders),
        FLIGHTLOG_EXIT_TIMEOUT="2",
    )
    assert finished.code == 0
    assert finished.delay < 5
    assert len(finished.warnings) == 3


def test_synchronous_logging_that_finds_no_worker_still_ends_all_runs(flight: Flight) -> None:
    finished = run(
        """
        import flightlog

        flightlog.start_run()
        flightlog.start_run(nested=True)
        flightlog.config.enable_async_logging(False)
        print("done", flush=True)
        """,
        FLIGHTLOG_EXIT_TIMEOUT="1",
        FLIGHTLOG_SYNC_TIMEOUT="4",
        **NO_WORKER,
    )
    assert finished.code == 0
    assert finished.delay < 3
    flight.drain()
    assert [item.info.status for item in flight.runs()] == ["FINISHED", "FINISHED"]


TERMINATED_AT_FULL_SPEED = """
import flightlog

flightlog.start_run()
print("ready", flush=True)
count = 0
while True:
    flightlog.log_param(f"p{count}", count)
    flightlog.log_metric("loss", count / 2, step=count)
    flightlog.set_tag("count", count)
    count += 1
"""


@pytest.mark.parametrize("attempt", range(10))
def test_sigterm_at_any_moment_of_any_call_ends_the_process_and_the_run(flight: Flight, attempt: int) -> None:
    with Script(TERMINATED_AT_FULL_SPEED, **NO_WORKER) as script:
        script.wait_for_line()
        wait_until(lambda: flight.segments, "the journal is there")
        script.send(TERM)
        assert script.finish().code == -TERM
    flight.drain()
    assert flight.only_run().info.status == "KILLED"
    assert flight.reasons() == []


@pytest.mark.parametrize("attempt", range(10))
def test_sigint_at_any_moment_of_any_call_ends_the_process_and_the_run(flight: Flight, attempt: int) -> None:
    with Script(TERMINATED_AT_FULL_SPEED, **NO_WORKER) as script:
        script.wait_for_line()
        wait_until(lambda: flight.segments, "the journal is there")
        script.send(INT)
        assert script.finish().code == -INT
    flight.drain()
    assert flight.only_run().info.status == "KILLED"
    assert flight.reasons() == []
