"""Whatever one journal holds, the worker goes on, and the other journals are filed."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import msgpack
import pytest

from flightlog.schema import blocks, codec, frames
from flightlog.schema.blocks import Block
from flightlog.schema.records import Records
from flightlog.stores.base import Applied, Gap
from flightlog.stores.memory import MemoryStore
from flightlog.stores.sql.store import SqlStore
from flightlog.worker.ingest import Ingest
from flightlog.worker.poison import apply_around_poison
from flightlog.worker.sources import segments, spool, tail
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.uploads import Uploads
from journals import OTHER_WRITER, RUN, WRITER, held, poke, tag, write_segment

INNOCENT = "innocent"
Drain = Callable[[], int]


def _names(ids: object) -> bytes:
    packed: bytes = msgpack.packb(ids)
    return packed


UNREADABLE = {
    "no subject": {"meta": {"host": "h"}},
    "a list for meta": {"meta": [1]},
    "meta that is not msgpack": {"meta": b"\xc1"},
    "meta with an array as a key": {"meta": b"\x81\x90\xa1a"},
    "a number for a subject": {"meta": {"subject": 5}},
    "a map for a subject": {"meta": {"subject": {}}},
    "an impossible first sequence": {"first": 2**63, "end": 0},
}


@pytest.mark.parametrize("segment", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_header_that_makes_no_sense_is_set_aside(tmp_path: Path, store: MemoryStore, drain: Drain, segment: dict[str, object]) -> None:
    path = write_segment(tmp_path, tag("k"), **segment)  # type: ignore[arg-type]
    write_segment(tmp_path, tag("k"), subject=INNOCENT, writer=OTHER_WRITER)
    assert drain() == 1
    assert [status.subject for status in store.writers()] == [INNOCENT]
    assert [entry.name for entry in tmp_path.iterdir() if entry.name.startswith(WRITER)] == [path.name + frames.CORRUPT_SUFFIX]


DAMAGED = {
    "a name table with an array as a key": (b"\x81\x90\xa1a", []),
    "a body with an array as a key": (b"\x94\x03\x01\x01\x81\x90\xa1a", ["malformed"]),
    "a name table of numbers": (_names({1: 7}), []),
    "ids past all bounds": (_names({2**64 - 1: "a", -5: "b"}), []),
    "a time past all bounds": (msgpack.packb([6, 1, 2**64 - 1, {}]), ["invalid"]),
    "nesting without end": (b"\x94\x03\x01\x01" + b"\x91" * 5000 + b"\xc0", ["malformed"]),
    "more points than a metric may have": (tag("k", "x" * (24 + 14 * 33_000 - len(tag("k", "x" * 70_000)) + 70_000)), []),
}


@pytest.mark.parametrize(("payload", "reasons"), DAMAGED.values(), ids=DAMAGED.keys())
def test_a_payload_that_makes_no_sense_costs_itself_alone(tmp_path: Path, payload: bytes, reasons: list[str]) -> None:
    store = SqlStore(f"sqlite:///{tmp_path}/tracking.db")
    source = SpoolSource(tmp_path, store.position)
    is_map = payload[0] >> 4 == 8
    write_segment(tmp_path, payload, tag("after"), end=2 - is_map)
    assert Ingest(source, store, Uploads(tmp_path, store)).drain() == 2 - is_map
    assert [letter.reason for letter in store.dead_letters()] == reasons
    assert store.get_run(RUN).data.tags["after"] == "x"
    source.close()
    store.close()


@pytest.mark.parametrize("state", [frames.SEALED, frames.CLOSED, 77])
@pytest.mark.parametrize("end", [2**62, 2**63, 2**64 - 1])
def test_an_end_that_cannot_be_true_is_not_believed(tmp_path: Path, store: MemoryStore, drain: Drain, state: int, end: int) -> None:
    write_segment(tmp_path, tag("k"), state=state, end=end)
    assert drain() == 1
    assert (store.position(RUN, WRITER), store.dead_letters()) == (1, [])


def test_a_count_of_rejections_that_cannot_be_true_is_not_believed(tmp_path: Path, store: MemoryStore, drain: Drain) -> None:
    path = write_segment(tmp_path, b"\xc0", state=frames.OPEN)
    poke(path, frames.REJECTED_OFFSET, b"\xff" * 8)
    with held(path):
        assert drain() == 1
        assert frames.read_header(path)[1].rejected == 1
    assert len(store.dead_letters()) == 1


def test_a_segment_under_the_name_of_another_is_set_aside(tmp_path: Path, store: MemoryStore, drain: Drain) -> None:
    write_segment(tmp_path, tag("k")).rename(tmp_path / frames.segment_name(WRITER, 7))
    assert drain() == 0
    assert [path.name for path in tmp_path.glob("*.seg*")] == [frames.segment_name(WRITER, 7) + frames.CORRUPT_SUFFIX]
    assert store.writers() == []


def test_a_length_that_reaches_far_beyond_the_file_is_not_read_into_memory(
    tmp_path: Path, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_segment(tmp_path, tail=b"\xff\xff\xff\xff" + b"x" * 64, state=frames.OPEN, capacity=2**40)
    asked: list[int] = []
    real = os.pread

    def measured(descriptor: int, size: int, offset: int) -> bytes:
        asked.append(size)
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", measured)
    drain()
    assert max(asked) <= 64 << 10


@pytest.mark.parametrize("state", [frames.OPEN, frames.CLOSED])
def test_a_payload_that_is_too_large_becomes_a_dead_letter_with_an_excerpt(
    tmp_path: Path, store: MemoryStore, drain: Drain, monkeypatch: pytest.MonkeyPatch, state: int
) -> None:
    monkeypatch.setattr(frames, "MAX_PAYLOAD", 1000)
    monkeypatch.setattr(tail, "CHUNK", 500)
    large = tag("large", "x" * 1000)
    write_segment(tmp_path, tag("before"), large, tag("after"), state=state)
    drain()
    (letter,) = store.dead_letters()
    assert (letter.sequence, letter.count, letter.reason, letter.payload) == (1, 1, "too-large", large[: tail.EXCERPT])
    assert store.position(RUN, WRITER) == 3
    assert sorted(store.get_run(RUN).data.tags) == ["after", "before"]


def test_a_damaged_length_is_not_taken_for_a_large_payload(
    tmp_path: Path, store: MemoryStore, drain: Drain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "MAX_PAYLOAD", 1000)
    monkeypatch.setattr(tail, "CHUNK", 500)
    write_segment(tmp_path, tag("before"), tail=struct.pack("<II", 2000, 0) + b"x" * 2000, end=3)
    drain()
    (letter,) = store.dead_letters()
    assert (letter.sequence, letter.count, letter.reason) == (1, 2, "torn")


def test_a_block_holds_any_payload_that_is_permitted() -> None:
    assert frames.MAX_PAYLOAD + segments.CHUNK * 2 < blocks.MAX_SIZE


def test_a_block_that_nobody_could_read_is_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "MAX_SIZE", 1000)
    with pytest.raises(ValueError, match="more than 1000; file it in parts"):
        blocks.encode_body({}, Records.of([bytes(600), bytes(600)]))


def test_a_journal_of_a_newer_version_is_left_for_a_newer_worker(
    tmp_path: Path, store: MemoryStore, drain: Drain, source: SpoolSource, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_segment(tmp_path, tag("k"))
    poke(path, 8, struct.pack("<I", 2))
    write_segment(tmp_path, tag("k"), subject=INNOCENT, writer=OTHER_WRITER)
    assert (drain(), drain()) == (1, 0)
    assert path.exists()
    assert not source.is_live
    assert [status.subject for status in store.writers()] == [INNOCENT]
    assert caplog.text.count("left for a newer worker") == 1


def test_a_journal_that_cannot_be_followed_does_not_stop_the_others(
    tmp_path: Path, store: MemoryStore, drain: Drain, source: SpoolSource, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / frames.segment_name(WRITER, 0)).mkdir()
    write_segment(tmp_path, tag("k"), subject=INNOCENT, writer=OTHER_WRITER)
    assert (drain(), drain()) == (1, 0)
    assert not source.is_live
    assert [status.subject for status in store.writers()] == [INNOCENT]
    assert caplog.text.count("cannot be followed") == 1


class Stubborn(MemoryStore):
    """Takes nothing at all of one subject."""

    def apply(self, items: Sequence[Block | Gap]) -> Applied:
        if any(item.subject == RUN for item in items):
            raise OverflowError("never")
        return super().apply(items)


def test_a_gap_that_the_store_refuses_is_logged_and_its_writer_stays_where_it_is(caplog: pytest.LogCaptureFixture) -> None:
    applied = apply_around_poison(Stubborn(), [Gap(RUN, WRITER, 3, 5, "missing", "two are missing")])
    assert (applied.positions, applied.events) == ({WRITER: 3}, 0)
    assert "refuses the dead letter of event 3" in caplog.text


def test_a_writer_of_whom_the_store_takes_nothing_is_set_aside_and_its_journal_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Stubborn()
    source = SpoolSource(tmp_path, store.position)
    path = write_segment(tmp_path, tag("k"))
    write_segment(tmp_path, tag("k"), subject=INNOCENT, writer=OTHER_WRITER)
    ingest = Ingest(source, store, Uploads(tmp_path, store))
    ingest.drain()
    assert store.position(INNOCENT, OTHER_WRITER) == 1
    assert path.exists()
    assert "the store stays at sequence 0" in caplog.text
    source.close()


def test_a_batch_ends_when_its_payloads_are_large_enough(tmp_path: Path, source: SpoolSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "BATCH_BYTES", 8192)
    monkeypatch.setattr(tail, "CHUNK", 4096)
    for writer in (WRITER, OTHER_WRITER):
        write_segment(tmp_path, *(tag(f"k{number}", "x" * 2000) for number in range(20)), writer=writer)
    sizes = [int(item.records.lengths.sum()) for item in source.take(50_000) if isinstance(item, Block)]
    assert 8192 <= sum(sizes) < 8192 + 4096


def test_events_that_the_store_has_are_passed_over_however_many(
    tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "CHUNK", 32)
    payloads = [tag(f"{number:04d}") for number in range(1500)]
    write_segment(tmp_path, *payloads)
    store.apply([Block(RUN, WRITER, 0, {}, Records.of(payloads))])
    source = SpoolSource(tmp_path, store.position)
    assert source.take(50_000) == []
    source.close()


def test_a_block_carries_the_names_that_it_uses_of_a_large_table(tmp_path: Path, source: SpoolSource) -> None:
    table = {number: f"metric {number}" for number in range(1000)}
    point = codec.pack_metrics(1, 0, [codec.point_marker(700), 0.5])
    write_segment(tmp_path, codec.encode_names(table), point, tag("k"), end=2)
    (block,) = source.take(10)
    assert isinstance(block, Block)
    assert block.names == {700: "metric 700"}


@pytest.mark.parametrize("body", [b"\xc0", b"\x93\x01\x02\x03", b"\x81\x90\x01", b"\x92\x01\xa1a"])
def test_a_rejection_that_makes_no_sense_is_none(body: bytes) -> None:
    page = (bytes(frames.REJECTION_OFFSET) + struct.pack("<I", len(body)) + body).ljust(frames.HEADER_SIZE, b"\0")
    assert frames.decode_rejection(page) is None


@pytest.mark.parametrize("name", [f"{WRITER}-0000000².seg", f"{WRITER}-.seg", "x-00000000.seg"])
def test_a_file_with_a_strange_name_is_no_segment(tmp_path: Path, drain: Drain, name: str) -> None:
    (tmp_path / name).write_bytes(bytes(100))
    assert drain() == 0
    assert (tmp_path / name).exists()


class Untidy(MemoryStore):
    """Fails at housekeeping, during which an event comes."""

    def __init__(self, spool: Path) -> None:
        super().__init__()
        self._spool = spool

    def maintain(self) -> bool:
        write_segment(self._spool, tag("k"))
        raise ValueError("a chunk cannot be read")


def test_events_go_on_when_housekeeping_fails(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Untidy(tmp_path)
    source = SpoolSource(tmp_path, store.position)
    Ingest(source, store, Uploads(tmp_path, store), idle=0.3).run()
    assert store.position(RUN, WRITER) == 1
    assert caplog.text.count("the store cannot be kept in order") == 1
    source.close()
