"""What travels through the queue comes back as it was; what is damaged or means harm becomes a dead letter, within bounds."""

from __future__ import annotations

import time
import tracemalloc
import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from flightlog.schema.blocks import Block, decode_body, encode_body
from flightlog.schema.frames import MAX_SEQUENCE
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Records
from flightlog.stores.base import Gap
from flightlog.worker.entries import MAX_BODY, MAX_EVENTS, NoEntry, decode_entry, encode_entry
from journals import RUN, WRITER, tag

MOST_MEMORY = 3 * MAX_BODY
"""Bytes: the body, what it unpacks to, and that in rows."""

subjects = st.one_of(st.uuids().map(lambda found: found.hex), st.integers(0, 2**63).map("experiment:{}".format))
writers = st.uuids().map(lambda found: WriterId(found.hex))
sequences = st.integers(0, MAX_SEQUENCE - MAX_EVENTS - 1)
names = st.dictionaries(st.integers(0, 2**32 - 1), st.text(max_size=20), max_size=5)
payloads = st.lists(st.binary(min_size=1, max_size=60), min_size=1, max_size=40)


@given(subjects, writers, sequences, names, payloads)
@settings(max_examples=60)
def test_a_block_comes_back_as_it_was_sent(subject: str, writer: WriterId, first: int, table: dict[int, str], events: list[bytes]) -> None:
    found = decode_entry(encode_entry(Block(subject, writer, first, table, Records.of(events))))
    assert isinstance(found, Block)
    assert (found.subject, found.writer, found.first_sequence, found.names) == (subject, writer, first, table)
    assert list(found.records.payloads()) == events


@given(subjects, writers, sequences, st.integers(1, 10**6), st.text(max_size=20), st.binary(max_size=99), st.none() | st.integers(1, 9))
@settings(max_examples=60)
def test_a_gap_comes_back_as_it_was_sent(
    subject: str, writer: WriterId, first: int, length: int, message: str, payload: bytes, count: int | None
) -> None:
    gap = Gap(subject, writer, first, min(first + length, MAX_SEQUENCE - 1), "torn", message, payload, count)
    assert decode_entry(encode_entry(gap)) == gap


def test_the_body_that_came_is_the_body_that_goes_on() -> None:
    block = Block(RUN, WRITER, 0, {1: "loss"}, Records.of([tag("a"), tag("b")]))
    found = decode_entry(encode_entry(block))
    assert isinstance(found, Block)
    assert found.body == encode_body(block.names, block.records)
    assert encode_entry(found) == encode_entry(block)


def _sealed(*fields: Any) -> bytes:
    return _checked(msgpack.packb(fields))


def _checked(packed: bytes) -> bytes:
    return zlib.crc32(packed).to_bytes(4, "little") + packed


BODY = encode_body({}, Records.of([tag("a")]))
RAW = bytes.fromhex(WRITER)
GOOD = _sealed(1, RUN, RAW, 0, 1, BODY)

NO_ENTRIES = {
    "no bytes": b"",
    "three bytes": b"abc",
    "a bit turned": bytes([GOOD[0] ^ 1]) + GOOD[1:],
    "cut short": GOOD[:-1],
    "no msgpack": _checked(b"\xc1"),
    "two values": _checked(msgpack.packb([1]) + msgpack.packb([2])),
    "a map": _checked(msgpack.packb({1: 2})),
    "a number": _checked(b"\x01"),
    "an array of three": _sealed(1, RUN, RAW),
    "an array of a hundred": _sealed(*range(100)),
    "a nested array": _sealed(1, RUN, RAW, 0, 1, [BODY]),
    "an unknown kind": _sealed(3, RUN, RAW, 0, 1, BODY),
    "a kind that is text": _sealed("1", RUN, RAW, 0, 1, BODY),
    "a subject that is bytes": _sealed(1, RUN.encode(), RAW, 0, 1, BODY),
    "a subject that is no run id": _sealed(1, "../etc/passwd", RAW, 0, 1, BODY),
    "a subject of a mebibyte": _sealed(1, "a" * (1 << 20), RAW, 0, 1, BODY),
    "an empty subject": _sealed(1, "", RAW, 0, 1, BODY),
    "invalid UTF-8": _checked(b"\x96\x01\xa2\xff\xfe" + msgpack.packb(RAW) + b"\x00\x01" + msgpack.packb(BODY)),
    "a short writer": _sealed(1, RUN, RAW[:15], 0, 1, BODY),
    "a negative sequence": _sealed(1, RUN, RAW, -1, 1, BODY),
    "a sequence past the last": _sealed(1, RUN, RAW, MAX_SEQUENCE, 1, BODY),
    "a sequence that is a float": _sealed(1, RUN, RAW, 0.0, 1, BODY),
    "a sequence that is true": _sealed(1, RUN, RAW, True, 1, BODY),
    "a count of a milliard": _sealed(1, RUN, RAW, 0, 10**9, BODY),
    "a count of none": _sealed(1, RUN, RAW, 0, 0, BODY),
    "a negative count": _sealed(1, RUN, RAW, 0, -1, BODY),
    "a body that is text": _sealed(1, RUN, RAW, 0, 1, "body"),
    "a gap that goes back": _sealed(2, RUN, RAW, 5, None, 5, "torn", "", b""),
    "a gap to the end of time": _sealed(2, RUN, RAW, 5, None, MAX_SEQUENCE, "torn", "", b""),
    "a gap whose reason is bytes": _sealed(2, RUN, RAW, 5, None, 6, b"torn", "", b""),
    "a gap whose count is text": _sealed(2, RUN, RAW, 5, "1", 6, "torn", "", b""),
    "a gap without payload": _sealed(2, RUN, RAW, 5, None, 6, "torn", ""),
}


@pytest.mark.parametrize("entry", NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_what_cannot_be_tied_to_a_writer_is_no_entry(entry: bytes) -> None:
    with pytest.raises(NoEntry):
        decode_entry(entry)


def _body(version: Any = 1, count: Any = 1, uniform: Any = 3, table: Any = None, size: Any = 3, packed: Any = None) -> bytes:
    frame = zstandard.ZstdCompressor().compress(b"abc") if packed is None else packed
    body: bytes = msgpack.packb([version, count, uniform, {} if table is None else table, size, frame])
    return body


UNREADABLE = {
    "not msgpack": (b"\xc1", "malformed"),
    "a number": (b"\x01", "malformed"),
    "an unknown version": (_body(version=2), "newer-version"),
    "a version that is text": (_body(version="1"), "newer-version"),
    "another count than the entry's": (_body(count=2), "malformed"),
    "a count that is text": (_body(count="1"), "malformed"),
    "a count that is a float": (_body(count=1.0), "malformed"),
    "a negative length": (_body(uniform=-3), "malformed"),
    "a size of a milliard": (_body(size=10**9), "malformed"),
    "a negative size": (_body(size=-1), "malformed"),
    "another size than there is": (_body(uniform=2, size=2), "malformed"),
    "no frame": (_body(packed=b"abc"), "malformed"),
    "a frame that is text": (_body(packed="abc"), "malformed"),
    "names that are a list": (_body(table=["loss"]), "malformed"),
    "a name that is bytes": (_body(table={1: b"loss"}), "malformed"),
    "an id that is text": (_body(table={"1": "loss"}), "malformed"),
    "an id that is an array": (b"\x96\x01\x01\x03\x81\x90\xa1a\x03" + msgpack.packb(b""), "malformed"),
    "a nested map": (_body(table={1: {}}), "malformed"),
    "an invalid name": (b"\x96\x01\x01\x03\x81\x01\xa1\xff\x03" + msgpack.packb(b""), "malformed"),
}


@pytest.mark.parametrize(("body", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_a_block_that_cannot_be_read_becomes_a_gap_of_its_events(body: bytes, reason: str) -> None:
    found = decode_entry(_sealed(1, RUN, RAW, 7, 1, body))
    assert isinstance(found, Gap)
    assert (found.subject, found.writer, found.sequence, found.next_sequence, found.count) == (RUN, WRITER, 7, 8, 1)
    assert found.reason == reason
    assert found.payload == body


def _bomb(size: int, count: int, uniform: int) -> bytes:
    return _body(count=count, uniform=uniform, size=size, packed=zstandard.ZstdCompressor().compress(bytes(size)))


def _unstated_bomb() -> bytes:
    """Return a body whose frame does not say how much it holds."""
    compressor = zstandard.ZstdCompressor(write_content_size=False)
    return _body(packed=compressor.compress(bytes(200 << 20)))


def _full_of(item: bytes) -> bytes:
    count = (MAX_BODY - 100) // len(item)
    return _checked(b"\xdd" + count.to_bytes(4, "big") + item * count)


BOMBS = {
    "a frame of 200 MiB": lambda: _sealed(1, RUN, RAW, 0, 1, _bomb(200 << 20, 1, 200 << 20)),
    "a frame that says not what it holds": lambda: _sealed(1, RUN, RAW, 0, 1, _unstated_bomb()),
    "millions of events of one byte": lambda: _sealed(1, RUN, RAW, 0, MAX_EVENTS, _bomb(64 << 20, 64 << 20, 1)),
    "as many lengths as fit": lambda: _sealed(1, RUN, RAW, 0, 10_000, _lengths_bomb(10_000)),
    "millions of empty arrays": lambda: _full_of(b"\x90"),
    "millions of empty maps": lambda: _full_of(b"\x80"),
    "a tree of empty arrays": lambda: _checked(_tree(6)),
    "arrays in arrays": lambda: _checked(b"\x91" * (MAX_BODY - 100)),
    "a body of millions of empty arrays": lambda: _sealed(1, RUN, RAW, 0, 1, b"\x96\x01" + b"\x90" * (MAX_BODY - 200)),
    "an array that claims four milliards": lambda: _checked(b"\xdd\xff\xff\xff\xff"),
    "bytes that claim four milliards": lambda: _checked(b"\x96\x01\xc6\xff\xff\xff\xff"),
    "more than an entry may have": lambda: _sealed(1, RUN, RAW, 0, 1, bytes(MAX_BODY)),
}


def _tree(depth: int) -> bytes:
    """Return an array of 15 arrays of 15 arrays, and so on."""
    return b"\x9f" + 15 * _tree(depth - 1) if depth else b"\x90"


def _lengths_bomb(count: int) -> bytes:
    lengths = np.arange(1, count + 1, dtype="<u4").tobytes()
    raw = lengths + bytes(count * (count + 1) // 2)
    return _body(count=count, uniform=0, size=len(raw), packed=zstandard.ZstdCompressor().compress(raw))


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_a_bomb_takes_bounded_memory_and_time(bomb: Any) -> None:
    entry = bomb()
    tracemalloc.start()
    began = time.monotonic()
    try:
        found = decode_entry(entry)
    except NoEntry:
        found = None
    taken, (_, peak) = time.monotonic() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found is None or isinstance(found, (Gap, Block))
    assert peak < MOST_MEMORY
    assert taken < 10


def test_a_tag_of_twenty_mebibytes_travels() -> None:
    block = Block(RUN, WRITER, 0, {}, Records.of([tag("big", "x" * (20 << 20))]))
    found = decode_entry(encode_entry(block))
    assert isinstance(found, Block)
    assert found.records.payload(0) == block.records.payload(0)


def test_what_nobody_would_take_is_not_sent() -> None:
    with pytest.raises(ValueError, match="neither a run id nor an experiment"):
        encode_entry(Block("../other", WRITER, 0, {}, Records.of([tag("a")])))
    with pytest.raises(ValueError, match="bytes, more than"):
        encode_entry(Gap(RUN, WRITER, 0, 1, "corrupt", "", bytes(MAX_BODY)))


def test_a_block_of_the_ledger_may_have_any_number_of_events() -> None:
    found, records = decode_body(_bomb(1 << 20, 1 << 20, 1))
    assert (found, len(records)) == ({}, 1 << 20)
