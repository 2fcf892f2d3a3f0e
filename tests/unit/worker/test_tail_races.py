"""What a worker sees at a moment between two steps of a producer, or takes over from a worker that was killed between two of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flightlog.schema import frames
from flightlog.schema.blocks import Block
from flightlog.stores.base import Gap
from flightlog.stores.memory import MemoryStore
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.sources.tail import Tail
from journals import RUN, WRITER, held, poke, tag, write_segment

Drain = Callable[[], int]


def test_a_segment_that_is_just_being_begun_is_waited_for(tmp_path: Path, store: MemoryStore, drain: Drain) -> None:
    path = write_segment(tmp_path, tag("a"), state=frames.OPEN)
    poke(path, 0, bytes(8))
    with held(path):
        assert drain() == 0
        poke(path, 0, frames.MAGIC)
        assert drain() == 1
    assert store.position(RUN, WRITER) == 1


def test_a_segment_in_whose_beginning_the_writer_died_is_set_aside(tmp_path: Path, drain: Drain) -> None:
    path = write_segment(tmp_path)
    poke(path, 0, bytes(8))
    assert drain() == 0
    assert [entry.name for entry in tmp_path.glob("*.seg*")] == [path.name + frames.CORRUPT_SUFFIX]


def test_records_after_a_header_that_was_lost_are_kept(tmp_path: Path, drain: Drain) -> None:
    path = write_segment(tmp_path, tag("a"))
    poke(path, 0, bytes(frames.HEADER_SIZE))
    assert drain() == 0
    assert [entry.name for entry in tmp_path.glob("*.seg*")] == [path.name + frames.CORRUPT_SUFFIX]


def test_the_file_of_a_living_writer_is_never_taken_away(tmp_path: Path, drain: Drain, caplog: pytest.LogCaptureFixture) -> None:
    path = write_segment(tmp_path, tag("a"), state=frames.OPEN)
    poke(path, 20, b"\xff")
    write_segment(tmp_path, tag("b"), number=1, first=1)
    with held(path):
        assert (drain(), drain()) == (0, 0)
        assert path.exists()
        assert caplog.text.count("left where it is") == 1
    drain()
    assert not path.exists()


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Tail]:
    tail = Tail(tmp_path, WRITER)
    yield tail
    tail.close()


def _read(tail: Tail, *listed: int) -> list[tuple[str, int]]:
    """Return kind and first sequence of what a tail gives after a listing: of a folder that changes meanwhile, names may be left out."""
    tail.segments = list(listed)
    items: list[Block | Gap] = []
    while tail.identify() and (item := tail.read()) is not None:
        items.append(item)
    return [("block", item.first_sequence) if isinstance(item, Block) else (item.reason, item.sequence) for item in items]


def test_a_segment_that_a_listing_left_out_is_read_before_its_successor(tmp_path: Path, tail: Tail) -> None:
    write_segment(tmp_path, tag("a"), tag("b"), state=frames.SEALED)
    write_segment(tmp_path, tag("c"), number=1, first=2)
    assert _read(tail, 1) == [("block", 0), ("block", 2)]
    tail.acknowledge(3, [])
    assert list(tmp_path.glob("*.seg*")) == []


def test_an_open_segment_does_not_end_where_a_later_one_begins_if_another_lies_between(tmp_path: Path, tail: Tail) -> None:
    write_segment(tmp_path, tag("a"), state=frames.OPEN)
    write_segment(tmp_path, tag("b"), number=1, first=1)
    write_segment(tmp_path, tag("c"), number=2, first=2)
    assert _read(tail, 0, 2) == [("block", 0), ("block", 1), ("block", 2)]


def test_a_segment_left_out_that_has_not_begun_is_not_gone_back_to(tmp_path: Path, tail: Tail) -> None:
    blank = write_segment(tmp_path)
    poke(blank, 0, bytes(frames.HEADER_SIZE))
    write_segment(tmp_path, tag("c"), number=1, first=2)
    with held(blank):
        assert _read(tail, 1) == [("missing", 0), ("block", 2)]


def test_events_that_are_really_missing_are_told(tmp_path: Path, store: MemoryStore, drain: Drain) -> None:
    write_segment(tmp_path, tag("c"), number=1, first=2)
    drain()
    assert [(letter.reason, letter.sequence, letter.count) for letter in store.dead_letters()] == [("missing", 0, 2)]


def test_a_position_that_a_killed_worker_did_not_write_down_is_written_by_the_next(tmp_path: Path, store: MemoryStore) -> None:
    path = write_segment(tmp_path, tag("a"), tag("b"), state=frames.OPEN)
    with held(path):
        killed, successor = SpoolSource(tmp_path, store.position), SpoolSource(tmp_path, store.position)
        store.apply(killed.take(10))
        killed.close()
        assert successor.take(10) == []
        assert frames.read_header(path)[1].committed == 2
        successor.close()
