"""Scripts in processes of their own, and what a test needs to watch them and to judge what they left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from types import TracebackType

import numpy as np
import psutil
from typing_extensions import Self

from flightlog.schema.entities import Run, ViewType
from flightlog.schema.names import WORKER_MODULE
from flightlog.schema.settings import Location, Settings, locate
from flightlog.stores import open_store
from flightlog.stores.base import History, Store
from flightlog.worker.spool import drain_spool

PATIENCE = 60.0
"""Seconds after which something that should have happened will not."""
NO_WORKER = {"FLIGHTLOG_START_WORKER": "0"}

COUNTING = """
import mmap
from pathlib import Path

Path("calls").write_bytes(bytes(8))
with open("calls", "r+b") as file:
    calls = mmap.mmap(file.fileno(), 8)


def returned(count):
    calls[:8] = count.to_bytes(8, "little")

"""
"""A script that begins with this can tell how many of its calls have returned, also when it is killed."""


def calls_returned() -> int:
    """Return how many calls the script has told of."""
    path = Path("calls")
    return int.from_bytes(path.read_bytes(), "little") if path.exists() else 0


def wait_until(condition: Callable[[], object], what: str | Callable[[], str], seconds: float = PATIENCE) -> None:
    """Wait until a condition holds. Raises `AssertionError` with `what` was waited for."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s in vain until {what if isinstance(what, str) else what()}")
        pause.wait(0.01)


@dataclass(frozen=True)
class Finished:
    """How a script ended. `code` is negative for a signal; `delay` is seconds from its line "done" to its end."""

    code: int
    out: str
    err: str
    delay: float

    @property
    def warnings(self) -> list[str]:
        """What flightlog said."""
        return [line for line in self.err.splitlines() if line.startswith("flightlog:")]


class Script:
    """A Python script that runs in a process of its own; killed at the end of a `with` block if it still runs."""

    def __init__(self, source: str, *arguments: str, **environment: str) -> None:
        self.path = Path(f"script_{uuid.uuid4().hex[:8]}.py").resolve()
        self.path.write_text(dedent(source))
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", str(self.path), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def wait_for_line(self, line: str = "ready") -> None:
        """Wait until the script prints a line."""
        assert self.process.stdout is not None
        for found in self.process.stdout:
            if found.strip() == line:
                return
        raise AssertionError(f"the script ended without printing {line!r}: {self.process.communicate()[1]}")

    def send(self, number: signal.Signals) -> None:
        """Send the script a signal."""
        self.process.send_signal(number)

    def finish(self) -> Finished:
        """Wait until the script has ended."""
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        errors: list[str] = []
        reading = threading.Thread(target=lambda stream: errors.append(stream.read()), args=(self.process.stderr,))
        reading.start()
        said, done = [], time.monotonic()
        for line in self.process.stdout:
            said.append(line)
            if line.strip() == "done":
                done = time.monotonic()
        code = self.process.wait(PATIENCE)
        delay = time.monotonic() - done
        reading.join(PATIENCE)
        return Finished(code, "".join(said), "".join(errors), delay)


def run(source: str, *arguments: str, **environment: str) -> Finished:
    """Run a script to its end."""
    with Script(source, *arguments, **environment) as script:
        return script.finish()


class Flight:
    """The flight folder that the scripts of a test log to."""

    def __init__(self, location: Location) -> None:
        self.location = location

    @property
    def database(self) -> Path:
        """The file that the worker files into."""
        return Path(self.location.tracking_uri) / "tracking.db"

    @property
    def segments(self) -> list[Path]:
        """The journal files that the store does not have whole yet."""
        return sorted(self.location.spool.glob("*.seg"))

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store."""
        store = open_store(self.location.database_url)
        try:
            yield store
        finally:
            store.close()

    def drain(self) -> int:
        """File what the journals hold, in this process, as soon as no other worker is at it; return the number of events."""
        filed: list[int] = []
        with self.store() as store:

            def drained() -> bool:
                count = drain_spool(self.location, store)
                filed.extend([] if count is None else [count])
                return count is not None

            wait_until(drained, "no other worker is at the spool")
        return filed[0]

    def runs(self) -> list[Run]:
        """Return all runs, the first to start first."""
        with self.store() as store:
            experiments = [item.experiment_id for item in store.search_experiments(ViewType.ALL)]
            return list(store.search_runs(experiments, "", ViewType.ALL, 50_000, ["attributes.start_time ASC"]))

    def only_run(self) -> Run:
        """Return the run, of which there must be one."""
        runs = self.runs()
        assert len(runs) == 1, f"there should be one run, and there are {len(runs)}"
        return runs[0]

    def history(self, run_id: str, key: str = "loss") -> History:
        """Return the points of a metric."""
        with self.store() as store:
            return store.metric_arrays(run_id, key)

    def reasons(self) -> list[str]:
        """Return why there are dead letters."""
        with self.store() as store:
            return [letter.reason for letter in store.dead_letters()]

    def workers(self) -> list[psutil.Process]:
        """Return the worker processes of this folder."""
        found = []
        for process in psutil.process_iter(["cmdline"]):
            line = process.info["cmdline"] or []
            if WORKER_MODULE in line and str(self.location.spool) in line and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        return found

    def wait_for_workers_to_leave(self) -> None:
        """Wait until no worker runs."""
        wait_until(lambda: not self.workers(), "the worker leaves")

    def start_worker(self, idle: float = 1.0) -> subprocess.Popen[bytes]:
        """Start a worker that is this process's child."""
        command = [sys.executable, "-m", WORKER_MODULE, "--spool", str(self.location.spool), "--tracking-uri", self.location.tracking_uri]
        return subprocess.Popen([*command, "--idle", str(idle)], stderr=subprocess.DEVNULL)


def flight_of_environment() -> Flight:
    """Return the flight folder that the environment names."""
    return Flight(locate(None, Settings.from_environ(os.environ)))


def assert_unbroken(history: History, count: int) -> None:
    """Check that a history has the steps 0 .. count once each, with the value that belongs to each: half the step."""
    assert len(history) == count, f"{count} points were logged and {len(history)} are there"
    assert np.array_equal(history.step, np.arange(count))
    assert np.array_equal(history.value, np.arange(count) / 2)
