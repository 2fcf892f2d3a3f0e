"""A tail reads what is there, waits for what may come, and lets go of what the store has."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from flightlog.schema import codec, frames
from flightlog.schema.blocks import Block
from flightlog.schema.events import ParamLogged
from flightlog.schema.ids import WriterId
from flightlog.stores.base import Gap
from flightlog.stores.memory import MemoryStore
from flightlog.worker.ingest import Ingest
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.sources.tail import Tail
from flightlog.worker.uploads import Uploads

RUN = "a" * 32
WRITER, OTHER = WriterId("1" * 32), WriterId("2" * 32)
CAPACITY = 64 << 10


def _event(key: str) -> bytes:
    return frames.frame(codec.encode(ParamLogged(time=1, key=key, value="x")))


def _segment(folder: Path, number: int, first: int, *keys: str, state: int = frames.OPEN, writer: WriterId = WRITER) -> Path:
    """Write a whole segment as a producer does."""
    header = frames.SegmentHeader(writer, RUN, number, first, CAPACITY, 1).to_bytes()
    end = first + len(keys) if state != frames.OPEN else 0
    tail = frames.TAIL.pack(0, 0, end, 0, state)
    page = header.ljust(frames.COMMITTED_OFFSET, b"\0") + tail
    content = page.ljust(frames.HEADER_SIZE, b"\0") + b"".join(_event(key) for key in keys)
    path = folder / frames.segment_name(writer, number)
    path.write_bytes(content.ljust(CAPACITY, b"\0"))
    return path


def _blank(folder: Path, number: int) -> Path:
    path = folder / frames.segment_name(WRITER, number)
    path.write_bytes(bytes(CAPACITY))
    return path


@contextmanager
def _written_by_a_living_process(path: Path) -> Iterator[None]:
    """Hold a segment's lock as its producer does."""
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)


@pytest.fixture
def tail(tmp_path: Path) -> Iterator[Tail]:
    tail = Tail(tmp_path, WRITER)
    yield tail
    tail.close()


def _look(tail: Tail, *numbers: int) -> list[Block | Gap]:
    """Return everything that a tail gives now."""
    tail.segments = list(numbers)
    if tail.identify() is None:
        return []
    items: list[Block | Gap] = []
    while (item := tail.read()) is not None:
        items.append(item)
    return items


def _keys(items: list[Block | Gap]) -> list[str]:
    return [codec.decode(payload, {}).key for item in items if isinstance(item, Block) for payload in item.records.payloads()]  # type: ignore[attr-defined]  # params


def test_a_blank_segment_of_a_living_writer_is_left_alone(tail: Tail, tmp_path: Path) -> None:
    path = _blank(tmp_path, 0)
    with _written_by_a_living_process(path):
        assert _look(tail, 0) == []
        assert path.exists()


def test_a_blank_segment_of_a_dead_writer_is_deleted(tail: Tail, tmp_path: Path) -> None:
    path = _blank(tmp_path, 0)
    assert _look(tail, 0) == []
    assert not path.exists()


def test_events_of_a_living_writer_are_read_as_they_come(tail: Tail, tmp_path: Path) -> None:
    path = _segment(tmp_path, 0, 0, "a")
    with _written_by_a_living_process(path):
        assert _keys(_look(tail, 0)) == ["a"]
        with path.open("r+b") as file:
            file.seek(frames.HEADER_SIZE + len(_event("a")))
            file.write(_event("b"))
        assert _keys(_look(tail, 0)) == ["b"]


def test_a_record_that_is_being_written_is_waited_for(tail: Tail, tmp_path: Path) -> None:
    path = _segment(tmp_path, 0, 0, "a")
    with _written_by_a_living_process(path), path.open("r+b", buffering=0) as file:
        file.seek(frames.HEADER_SIZE + len(_event("a")))
        file.write(_event("b")[:-1])
        assert _keys(_look(tail, 0)) == ["a"]
        file.write(_event("b")[-1:])
        assert _keys(_look(tail, 0)) == ["b"]


@pytest.mark.parametrize("state", [frames.OPEN, frames.SEALED])
def test_the_next_segment_follows_whether_or_not_the_last_was_sealed(tail: Tail, tmp_path: Path, state: int) -> None:
    first, second = _segment(tmp_path, 0, 0, "a", "b", state=state), _segment(tmp_path, 1, 2, "c")
    with _written_by_a_living_process(first), _written_by_a_living_process(second):
        assert _keys(_look(tail, 0, 1)) == ["a", "b", "c"]


def test_a_closed_segment_is_freed_when_the_store_has_it(tail: Tail, tmp_path: Path) -> None:
    path = _segment(tmp_path, 0, 0, "a", state=frames.CLOSED)
    assert _keys(_look(tail, 0)) == ["a"]
    assert path.exists()
    tail.acknowledge(1, [])
    assert not path.exists()


def test_events_missing_between_segments_are_a_gap_of_known_size(tail: Tail, tmp_path: Path) -> None:
    _segment(tmp_path, 0, 0, "a", state=frames.SEALED)
    _segment(tmp_path, 2, 5, "b", state=frames.CLOSED)
    _, gap, block = _look(tail, 0, 2)
    assert isinstance(gap, Gap)
    assert (gap.reason, gap.sequence, gap.next_sequence, gap.count) == ("missing", 1, 5, 4)
    assert isinstance(block, Block)
    assert block.first_sequence == 5


def test_a_tail_begins_where_the_store_is(tail: Tail, tmp_path: Path) -> None:
    _segment(tmp_path, 0, 0, "a", "b", "c", state=frames.CLOSED)
    tail.segments = [0]
    tail.identify()
    tail.start_at(2)
    assert _keys(_look(tail, 0)) == ["c"]


def test_what_the_store_did_not_take_is_read_again(tail: Tail, tmp_path: Path) -> None:
    _segment(tmp_path, 0, 0, "a", "b", state=frames.CLOSED)
    assert _keys(_look(tail, 0)) == ["a", "b"]
    tail.acknowledge(1, [])
    assert _keys(_look(tail, 0)) == ["b"]


def test_the_producer_sees_what_was_committed_and_rejected(tail: Tail, tmp_path: Path) -> None:
    path = _segment(tmp_path, 0, 0, "a", "b")
    with _written_by_a_living_process(path):
        _look(tail, 0)
        tail.acknowledge(2, [(1, "param-conflict", "taken")])
        page = path.read_bytes()[: frames.HEADER_SIZE]
    state = frames.SegmentState.from_bytes(page)
    assert (state.committed, state.rejected) == (2, 1)
    assert frames.decode_rejection(page) == (1, "param-conflict", "taken")


def test_writers_take_turns_and_none_starves(tmp_path: Path) -> None:
    for writer in (WRITER, OTHER):
        _segment(tmp_path, 0, 0, *(f"{writer[0]}-{number}" for number in range(100)), state=frames.CLOSED, writer=writer)
    source = SpoolSource(tmp_path, MemoryStore().position)
    try:
        assert {item.writer for _ in range(2) for item in source.take(2)} == {WRITER, OTHER}
    finally:
        source.close()


def test_a_journal_that_may_only_be_read_is_filed_once_and_kept(tmp_path: Path) -> None:
    path = _segment(tmp_path, 0, 0, "a", state=frames.CLOSED)
    real = os.open

    def refuse_writing(name: str | Path, flags: int, *rest: int) -> int:
        if str(name) == str(path) and flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", str(name))
        return real(name, flags, *rest)

    store = MemoryStore()
    with pytest.MonkeyPatch.context() as patch:  # root may write everywhere, so permissions alone would test nothing
        patch.setattr(os, "open", refuse_writing)
        for expected in (1, 0):
            source = SpoolSource(tmp_path, store.position)
            ingest = Ingest(source, store, Uploads(tmp_path, store), idle=0)
            assert ingest.drain() == expected
            assert not source.is_live
            source.close()
    assert path.exists()
    assert store.get_run(RUN).data.params == {"a": "x"}


def test_a_source_tells_living_writers_from_those_that_died_without_a_word(tmp_path: Path) -> None:
    store = MemoryStore()
    _segment(tmp_path, 0, 0, "a")
    living = _segment(tmp_path, 0, 0, "a", writer=OTHER)
    source = SpoolSource(tmp_path, store.position)
    with _written_by_a_living_process(living):
        assert not source.has_lost_writers
        Ingest(source, store, Uploads(tmp_path, store)).drain()
        assert (source.has_lost_writers, source.living()) == (True, {RUN})
    Ingest(source, store, Uploads(tmp_path, store)).drain()
    assert source.living() == set()
    source.close()


def test_a_journal_that_is_closed_is_no_loss(tmp_path: Path) -> None:
    store = MemoryStore()
    _segment(tmp_path, 0, 0, "a", state=frames.CLOSED)
    source = SpoolSource(tmp_path, store.position)
    Ingest(source, store, Uploads(tmp_path, store)).drain()
    assert (source.has_lost_writers, source.living()) == (False, set())
    source.close()


def test_of_journals_that_are_found_together_the_earliest_is_read_first(tmp_path: Path) -> None:
    for created, digit in ((3, "1"), (1, "2"), (2, "3")):
        writer = WriterId(digit * 32)
        path = _segment(tmp_path, 0, 0, "a", state=frames.CLOSED, writer=writer)
        header = frames.SegmentHeader(writer, RUN, 0, 0, CAPACITY, created).to_bytes()
        path.write_bytes(header + path.read_bytes()[len(header) :])
    store = MemoryStore()
    source = SpoolSource(tmp_path, store.position)
    Ingest(source, store, Uploads(tmp_path, store)).drain()
    source.close()
    assert [block.writer[0] for block in store.ledger()] == ["2", "3", "1"]
