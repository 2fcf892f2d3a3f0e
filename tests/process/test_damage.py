"""A journal that was damaged on disk gives every whole record before the damage, and the loss is told of, once."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flightlog.schema import frames
from flightlog.schema.records import scan
from flightlog.stores.memory import MemoryStore
from flightlog.worker.ingest import Ingest
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.uploads import Uploads
from process.scripts import NO_WORKER, Flight, assert_unbroken, run

POINTS = 40

LOG_AND_DIE = f"""
import os, signal
import flightlog

flightlog.start_run()
for step in range({POINTS}):
    flightlog.log_metric("loss", step / 2, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""


@dataclass(frozen=True)
class Recorded:
    """The one segment of a killed process: its bytes and where each record begins; the last offset is the end of the last record."""

    name: str
    content: bytes
    offsets: list[int]


@pytest.fixture
def recorded(flight: Flight) -> Recorded:
    """Return the journal of a process that logged and was killed."""
    run(LOG_AND_DIE, **NO_WORKER)
    (path,) = flight.segments
    content = path.read_bytes()
    found = scan(content, frames.HEADER_SIZE)
    offsets = [int(offset) - frames.RECORD_HEAD.size for offset in found.records.offsets] + [found.end]
    shutil.rmtree(flight.location.spool)
    return Recorded(path.name, content, offsets)


@dataclass(frozen=True)
class Filed:
    """What came of a journal in a store in memory: points, reasons of dead letters and the names of the files that are left."""

    points: int
    reasons: list[str]
    left: list[str]


def _file(folder: Path, store: MemoryStore) -> Filed:
    """Let a worker file what a folder holds."""
    source = SpoolSource(folder, store.position)
    try:
        Ingest(source, store, Uploads(folder, store)).drain()
    finally:
        source.close()
    points = sum(1 for block in store.ledger() for payload in block.records.payloads() if payload[1] == 1)
    left = [path.name for path in folder.iterdir() if frames.SUFFIX in path.name]
    return Filed(points, [letter.reason for letter in store.dead_letters()], left)


def _file_twice(folder: Path, name: str, content: bytes) -> Filed:
    """File a journal of these bytes; a second worker must change nothing."""
    folder.mkdir()
    (folder / name).write_bytes(content)
    store = MemoryStore()
    first = _file(folder, store)
    assert _file(folder, store) == first
    return first


def _changed(content: bytes, where: int, what: bytes) -> bytes:
    return content[:where] + what + content[where + len(what) :]


def _flipped(content: bytes, where: int) -> bytes:
    return _changed(content, where, bytes([content[where] ^ 0xFF]))


def test_an_undamaged_journal_of_a_killed_process_loses_nothing(recorded: Recorded, tmp_path: Path) -> None:
    assert _file_twice(tmp_path / "spool", recorded.name, recorded.content) == Filed(POINTS, [], [])


def test_a_journal_cut_off_at_any_byte_of_its_last_record_keeps_all_records_before_it(recorded: Recorded, tmp_path: Path) -> None:
    begin, end = recorded.offsets[-2:]
    kept = [f"{recorded.name}.corrupt"]
    for cut in range(begin, end):
        filed = _file_twice(tmp_path / str(cut), recorded.name, recorded.content[:cut])
        assert filed == Filed(POINTS - 1, ["truncated" if cut == begin else "torn"], kept), f"cut at byte {cut - begin}"


def test_a_journal_cut_off_behind_its_last_record_is_told_of_because_nobody_knows_what_followed(recorded: Recorded, tmp_path: Path) -> None:
    filed = _file_twice(tmp_path / "spool", recorded.name, recorded.content[: recorded.offsets[-1]])
    assert filed == Filed(POINTS, ["truncated"], [f"{recorded.name}.corrupt"])


@pytest.mark.parametrize("place", ["checksum", "first byte", "last byte"])
def test_a_flipped_byte_in_a_record_keeps_all_records_before_it(recorded: Recorded, tmp_path: Path, place: str) -> None:
    begin, end = recorded.offsets[20:22]
    where = {"checksum": begin + 4, "first byte": begin + 8, "last byte": end - 1}[place]
    before = _points_before(recorded, begin)
    filed = _file_twice(tmp_path / "spool", recorded.name, _flipped(recorded.content, where))
    assert filed == Filed(before, ["corrupt"], [f"{recorded.name}.corrupt"])


@pytest.mark.parametrize("length", [0, 1, 37, 39, 46, 5_000, 1 << 20, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_wrong_length_keeps_all_records_before_it(recorded: Recorded, tmp_path: Path, length: int) -> None:
    begin = recorded.offsets[20]
    filed = _file_twice(tmp_path / "spool", recorded.name, _changed(recorded.content, begin, length.to_bytes(4, "little")))
    assert filed.points == _points_before(recorded, begin)
    assert filed.reasons in (["corrupt"], ["torn"])
    assert filed.left == [f"{recorded.name}.corrupt"]


def _points_before(recorded: Recorded, where: int) -> int:
    whole = scan(recorded.content[:where], frames.HEADER_SIZE)
    return sum(1 for payload in whole.records.payloads() if payload[0] == 0x95 and payload[1] == 1)


HEADER_FIELDS = {
    "magic": 0,
    "checksum": 12,
    "writer": 16,
    "first": 32,
    "number": 40,
    "meta size": 44,
    "capacity": 48,
    "created": 56,
    "meta": 70,
}


@pytest.mark.parametrize("where", HEADER_FIELDS.values(), ids=HEADER_FIELDS.keys())
def test_a_flipped_byte_in_the_header_sets_the_segment_aside_with_all_its_bytes(recorded: Recorded, tmp_path: Path, where: int) -> None:
    damaged = _flipped(recorded.content, where)
    filed = _file_twice(tmp_path / "spool", recorded.name, damaged)
    assert filed == Filed(0, [], [f"{recorded.name}.corrupt"])
    assert (tmp_path / "spool" / f"{recorded.name}.corrupt").read_bytes() == damaged


def test_a_segment_of_another_version_is_left_to_a_worker_that_knows_it(recorded: Recorded, tmp_path: Path) -> None:
    other = _flipped(recorded.content, 8)
    assert _file_twice(tmp_path / "spool", recorded.name, other) == Filed(0, [], [recorded.name])
    assert (tmp_path / "spool" / recorded.name).read_bytes() == other


@pytest.mark.parametrize("size", [0, 1, 63, 64, 100, 4095])
def test_a_header_cut_short_stops_nobody(recorded: Recorded, tmp_path: Path, size: int) -> None:
    filed = _file_twice(tmp_path / "spool", recorded.name, recorded.content[:size])
    assert filed.points == 0
    assert filed.left in ([], [f"{recorded.name}.corrupt"])


@pytest.mark.parametrize("where", [frames.COMMITTED_OFFSET, frames.REJECTED_OFFSET, frames.DROPPED_OFFSET, frames.REJECTION_OFFSET])
def test_the_words_that_no_checksum_guards_decide_nothing(recorded: Recorded, tmp_path: Path, where: int) -> None:
    assert _file_twice(tmp_path / "spool", recorded.name, _flipped(recorded.content, where)) == Filed(POINTS, [], [])


LOG_SEGMENTS = """
import flightlog

with flightlog.start_run():
    for step in range(30_000):
        flightlog.log_metric("loss", step / 2, step=step)
"""


def _damage(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(_flipped(content, len(content) // 2))


def test_a_damaged_segment_in_the_middle_costs_its_own_rest_and_no_other(flight: Flight) -> None:
    run(LOG_SEGMENTS, **NO_WORKER)
    _damage(flight.segments[1])
    flight.drain()
    flight.drain()
    run_id = flight.only_run().info.run_id
    with flight.store() as store:
        (letter,) = store.dead_letters()
    history = flight.history(run_id)
    assert (letter.reason, letter.subject) == ("corrupt", run_id)
    assert letter.count is not None
    assert len(history) == 30_000 - letter.count
    assert history.step[-1] == 29_999, "the last segment is whole"
    assert flight.only_run().info.status == "FINISHED"


def test_a_missing_segment_in_the_middle_is_told_of_with_the_number_of_its_events(flight: Flight) -> None:
    run(LOG_SEGMENTS, **NO_WORKER)
    flight.segments[1].unlink()
    flight.drain()
    flight.drain()
    with flight.store() as store:
        (letter,) = store.dead_letters()
    assert letter.reason == "missing"
    assert letter.count is not None
    assert len(flight.history(flight.only_run().info.run_id)) == 30_000 - letter.count


def test_a_killed_process_that_lost_nothing_leaves_no_dead_letter_in_the_database(flight: Flight) -> None:
    run(LOG_AND_DIE, **NO_WORKER)
    flight.drain()
    flight.drain()
    assert flight.reasons() == []
    assert_unbroken(flight.history(flight.only_run().info.run_id), POINTS)


@pytest.fixture
def damaged(flight: Flight, recorded: Recorded) -> Flight:
    """Return a flight folder with one journal whose last record is torn and one whose header is damaged, both filed."""
    flight.location.spool.mkdir(parents=True)
    (flight.location.spool / recorded.name).write_bytes(recorded.content[: recorded.offsets[-1] - 1])
    (flight.location.spool / f"{'0' * 32}-00000000.seg").write_bytes(_flipped(recorded.content, 70))
    flight.drain()
    return flight


def test_flightlog_status_tells_of_torn_records_and_of_files_set_aside(damaged: Flight) -> None:
    status = _status()
    assert status["damage"]["dead_letters"] == 1
    assert sorted(Path(path).name for path in status["damage"]["corrupt_files"]) == sorted(
        path.name for path in damaged.location.spool.glob("*.corrupt")
    )
    assert len(status["damage"]["corrupt_files"]) == 2
    assert _status() == status


def _status() -> Any:
    done = subprocess.run([sys.executable, "-m", "flightlog", "status", "--json"], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)
