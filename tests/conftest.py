"""What every test runs in, a clean environment and a folder of its own, and what none may leave behind."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
from hypothesis.configuration import set_hypothesis_home_dir

from fleet import Fleet, fleet_of
from services import MariaServer, Missing, PostgresServer, RedisServer, S3Server, ServerKind, absent, running

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 15.0
"""Seconds that processes and threads have to end by themselves after the last test: a worker leaves when it was idle for one."""
CARETAKERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
"""Python's own children, which end with their parent."""
TOOL_FOLDERS = (".git", ".venv", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".import_linter_cache")
SOURCES = (".py", ".md", ".toml")
"""Somebody may be writing these while the tests run."""

set_hypothesis_home_dir(ROOT / ".hypothesis")
hypothesis.settings.register_profile("laptop", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "laptop")


@pytest.fixture(autouse=True)
def clean_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the settings of whoever runs the tests, point flightlog at the test's folder and make that the working directory."""
    for name in list(os.environ):
        if name.startswith(("FLIGHTLOG_", "MLFLOW_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("FLIGHTLOG_TRACKING_URI", str(tmp_path / "flightlogs"))
    monkeypatch.setenv("FLIGHTLOG_WORKER_IDLE", "1")
    monkeypatch.setenv("FLIGHTLOG_LOST_AFTER", "0")  # else a worker would stay to see whether a killed script's run is heard of again
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the session when a test left a process, a thread or a file in the repository behind."""
    folder = str(tmp_path_factory.getbasetemp())
    children, threads, files = _children(), set(threading.enumerate()), _files()
    yield
    left = [f"process {process}" for process in _end(_processes_of(folder) | (_children() - children))]
    left += [f"thread {thread.name}" for thread in _living(set(threading.enumerate()) - threads)]
    left += [f"file {path}" for path in sorted(_files() - files)]
    assert not left, "the tests left behind:\n" + "\n".join(left)


def _served(kind: type[ServerKind]) -> Iterator[ServerKind]:
    try:
        with running(kind) as server:
            yield server
    except Missing as reason:
        absent(reason)


@pytest.fixture(scope="session")
def redis_server(nothing_is_left_behind: None) -> Iterator[RedisServer]:
    """Give a private Redis, started with the first test that asks for it. A test that kills it starts it again."""
    yield from _served(RedisServer)


@pytest.fixture
def fleet(redis_server: RedisServer, tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Fleet]:
    """Give an empty queue, whose training side knows no store, and what is needed to run workers."""
    monkeypatch.delenv("FLIGHTLOG_TRACKING_URI")
    monkeypatch.setenv("FLIGHTLOG_QUEUE_URI", redis_server.url)
    with fleet_of(redis_server, tmp_path) as fleet:
        fleet.client.flushall()
        yield fleet


@pytest.fixture(scope="session")
def postgres_server(nothing_is_left_behind: None) -> Iterator[PostgresServer]:
    """Give a private PostgreSQL, started with the first test that asks for it. A test that kills it starts it again."""
    yield from _served(PostgresServer)


@pytest.fixture(scope="session")
def mariadb_server(nothing_is_left_behind: None) -> Iterator[MariaServer]:
    """Give a private MariaDB, started with the first test that asks for it. A test that kills it starts it again."""
    yield from _served(MariaServer)


@pytest.fixture(scope="session")
def s3_server(nothing_is_left_behind: None) -> Iterator[S3Server]:
    """Give a private S3 endpoint, started with the first test that asks for it. A test that kills it starts it again."""
    yield from _served(S3Server)


def _children() -> set[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return {child for child in found if not any(name in _describe(child) for name in CARETAKERS)}


def _processes_of(folder: str) -> set[psutil.Process]:
    """Return the processes whose command line or working directory lies in a folder: a detached worker is nobody's child."""
    found = {process for process in psutil.process_iter(["cmdline", "cwd"]) if f"{folder}{os.sep}" in f"{process.info}"}
    return found - {psutil.Process(), *psutil.Process().parents()}


def _end(processes: Iterable[psutil.Process]) -> list[str]:
    """Wait for processes to end by themselves; kill and describe the others."""
    _, alive = psutil.wait_procs(list(processes), timeout=PATIENCE)
    descriptions = [_describe(process) for process in alive]
    for process in alive:
        process.kill()
    return descriptions


def _living(threads: Iterable[threading.Thread]) -> list[threading.Thread]:
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in threads if thread.is_alive()]


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())}"
    except psutil.Error:
        return f"{process.pid} (ended)"


def _files() -> set[Path]:
    found: set[Path] = set()
    for folder, subfolders, names in os.walk(ROOT):
        subfolders[:] = [name for name in subfolders if not name.startswith(TOOL_FOLDERS) and not name.endswith(".egg-info")]
        found.update(Path(folder, name) for name in names if not name.endswith(SOURCES))
    return found
