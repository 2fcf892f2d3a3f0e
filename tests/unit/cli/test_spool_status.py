"""A spool read from outside: counts, writers, ages and damage."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flightlog.producer.caretaker import Caretaker
from flightlog.producer.client import Producer
from flightlog.producer.recorder import Recorder
from flightlog.schema import frames
from flightlog.schema.entities import DeadLetter, WriterStatus
from flightlog.schema.ids import now_ms
from flightlog.schema.settings import Settings, locate
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.status import Progress, Spool, oldest_time, progress, read_spool
from journals import tag, write_segment

RUN = "a" * 32
LARGE = 1 << 40


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def recorder(folder: Path) -> Iterator[Recorder]:
    with recording(folder) as recorder:
        yield recorder


@contextmanager
def recording(folder: Path, limit: int = LARGE) -> Iterator[Recorder]:
    settings = Settings(spool_limit=limit, start_worker=False)
    caretaker = Caretaker()
    producer = Producer(locate(folder.parent, settings), settings, caretaker)
    yield producer.recorder(RUN)
    caretaker.stop()
    producer.close()
    producer.release()


def log(recorder: Recorder, count: int) -> None:
    for step in range(count):
        recorder.metric("loss", 1.0, step)


def one(spool: Spool, *known: WriterStatus, letters: tuple[DeadLetter, ...] = (), dropped: dict[str, int] | None = None) -> Progress:
    [found] = progress(spool, known, letters, now_ms(), dropped)
    return found


def test_a_spool_that_does_not_exist_is_empty_and_is_not_made(folder: Path) -> None:
    assert read_spool(folder) == Spool(folder, worker_running=False, journals=(), corrupt=(), unreadable=())
    assert not folder.exists()


@pytest.mark.parametrize("count", [1, 7, 5_000], ids=["one", "some", "many segments"])
def test_events_of_a_living_writer_are_counted(folder: Path, recorder: Recorder, count: int) -> None:
    log(recorder, count)
    found = one(read_spool(folder))
    assert (found.subject, found.emitted, found.journaled, found.committed, found.lag) == (RUN, count, count, 0, count)
    assert [(writer.state, writer.pid) for writer in found.writers] == [("alive", os.getpid())]


def test_a_writer_that_has_closed_its_journal_is_closed(folder: Path, recorder: Recorder) -> None:
    log(recorder, 3)
    recorder.journal.close()
    assert [journal.state for journal in read_spool(folder).journals] == ["closed"]


def test_a_writer_whose_process_was_killed_is_dead(folder: Path) -> None:
    source = f"""
import os, signal
import flightlog
flightlog.attach({RUN!r})
flightlog.log_metric("loss", 1.0)
os.kill(os.getpid(), signal.SIGKILL)
"""
    environ = {**os.environ, "FLIGHTLOG_TRACKING_URI": str(folder.parent), "FLIGHTLOG_START_WORKER": "0"}
    subprocess.run([sys.executable, "-c", source], check=False, env=environ)
    [journal] = read_spool(folder).journals
    assert (journal.state, journal.end) == ("dead", 1)


def test_what_the_store_has_is_not_behind(folder: Path, recorder: Recorder) -> None:
    log(recorder, 10)
    status = WriterStatus(RUN, recorder.journal.writer, 4, 0, now_ms())
    assert (one(read_spool(folder), status).lag, one(read_spool(folder), status).committed) == (6, 4)


def test_a_store_that_is_ahead_of_what_was_read_is_not_behind(folder: Path, recorder: Recorder) -> None:
    log(recorder, 10)
    assert one(read_spool(folder), WriterStatus(RUN, recorder.journal.writer, 12, 0, now_ms())).lag == 0


def test_a_writer_of_which_nothing_is_left_has_its_events_in_the_store(folder: Path) -> None:
    found = one(read_spool(folder), WriterStatus(RUN, "1" * 32, 12, 0, 5))
    assert (found.journaled, found.committed, found.lag, found.writers[0].state, found.updated) == (12, 12, 0, None, 5)


def test_the_oldest_event_that_is_not_committed_gives_the_age(folder: Path, recorder: Recorder) -> None:
    later = now_ms() + 3_600_000
    for step, time in enumerate((later, later + 5, 0)):
        recorder.metric("loss", 1.0, step, time)
    [journal] = read_spool(folder).journals
    now = later + 10
    ages = [progress(read_spool(folder), [WriterStatus(RUN, journal.writer, done, 0, 1)], [], now)[0].oldest for done in range(4)]
    assert ages == [later, later + 5, journal.created, None]


def test_the_oldest_event_is_found_in_whichever_segment_it_is(folder: Path, recorder: Recorder) -> None:
    first, last = now_ms() + 1_000_000, now_ms() + 2_000_000
    recorder.metric("loss", 1.0, 0, first)
    log(recorder, 5_000)
    recorder.metric("loss", 1.0, 0, last)
    [journal] = read_spool(folder).journals
    assert len(journal.segments) > 1
    assert [oldest_time(journal, committed, last) for committed in (0, 5_001)] == [first, last]


def test_dropped_events_are_counted_once_whoever_tells_of_them(folder: Path) -> None:
    with recording(folder, limit=64 << 10) as recorder:
        log(recorder, 2_000)
        journaled, dropped = recorder.journal.sequence, recorder.journal.dropped
        assert dropped
        for known in ({}, {RUN: dropped}):
            found = one(read_spool(folder), dropped=known)
            assert (found.emitted, found.journaled, found.dropped) == (2_000, journaled, dropped)


def test_dead_letters_are_counted_by_events_and_damage_by_places(folder: Path) -> None:
    status = WriterStatus(RUN, "1" * 32, 12, 3, 5)
    letters = tuple(
        DeadLetter(RUN, "1" * 32, 0, reason, "", b"", 1, count) for reason, count in (("torn", None), ("missing", 4), ("param-conflict", 1))
    )
    found = one(read_spool(folder), status, letters=letters)
    assert (found.dead_letters, found.damage, found.reasons) == (6, 2, {"torn": 1, "missing": 1, "param-conflict": 1})


def test_files_that_cannot_be_read_are_named(folder: Path, recorder: Recorder) -> None:
    log(recorder, 3)
    unreadable = folder / frames.segment_name(recorder.journal.writer, 7)
    unreadable.write_bytes(b"FLTJRNL\n" + b"x" * frames.HEADER_SIZE)
    corrupt = folder / f"x.seg{frames.CORRUPT_SUFFIX}"
    corrupt.touch()
    (folder / frames.segment_name(recorder.journal.writer, 8)).write_bytes(bytes(frames.HEADER_SIZE))
    spool = read_spool(folder)
    assert (spool.unreadable, spool.corrupt) == ((unreadable,), (corrupt,))
    assert one(spool).journaled == 3


@pytest.mark.parametrize("pid", ["none", -1, 0, 2**40, None])
def test_a_header_is_not_believed_what_cannot_be_true(folder: Path, pid: object) -> None:
    folder.mkdir()
    write_segment(folder, tag("k"), meta={"subject": RUN, "pid": pid, "host": os.uname().nodename}, state=frames.SEALED, end=2**63)
    (journal,) = read_spool(folder).journals
    assert (journal.pid, journal.end) == (0, 1)


def test_a_worker_is_seen_while_it_listens_and_the_look_rings_no_bell(folder: Path) -> None:
    folder.mkdir()
    source = SpoolSource(folder, lambda subject, writer: 0)
    assert read_spool(folder).worker_running
    assert source._bell is not None
    with pytest.raises(BlockingIOError):
        os.read(source._bell, 1)
    source.close()
    assert not read_spool(folder).worker_running


def test_the_newest_activity_comes_first(folder: Path) -> None:
    known = [WriterStatus(subject, "1" * 32, 1, 0, updated) for subject, updated in (("old", 1), ("new", 3), ("middle", 2))]
    assert [item.subject for item in progress(read_spool(folder), known, [], now_ms())] == ["new", "middle", "old"]
