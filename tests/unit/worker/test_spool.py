"""One worker to a spool, in whatever thread."""

from __future__ import annotations

import errno
import fcntl
import threading
from pathlib import Path

import pytest

from flightlog.schema.settings import Location, Settings, locate
from flightlog.stores import open_store
from flightlog.worker.spool import raise_file_limit, run_spool_worker, spool_lock
from journals import RUN, WRITER, tag, write_segment

resource = pytest.importorskip("resource")


@pytest.fixture
def location(tmp_path: Path) -> Location:
    location = locate(str(tmp_path), Settings())
    location.spool.mkdir(parents=True)
    return location


def test_a_worker_runs_in_any_thread(location: Location) -> None:
    write_segment(location.spool, tag("k"))
    thread = threading.Thread(target=run_spool_worker, args=(location, 0.1))
    thread.start()
    thread.join(20)
    store = open_store(location.database_url)
    assert store.position(RUN, WRITER) == 1
    store.close()


def test_a_second_worker_is_kept_away(location: Location) -> None:
    with spool_lock(location) as mine, spool_lock(location) as another:
        assert (mine, another) == (True, False)


def test_a_file_system_without_locks_is_not_taken_for_another_worker(location: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int, __: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with (
        pytest.raises(OSError, match="the spool cannot be locked: No locks available"),
        spool_lock(location),
    ):
        pass


def test_a_limit_that_the_system_refuses_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int, __: tuple[int, int]) -> None:
        raise ValueError("current limit exceeds maximum limit")

    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    raise_file_limit()
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before
