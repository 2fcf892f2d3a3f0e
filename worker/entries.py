"""What travels: a block, or the word that events can never come, as one entry of a stream.

    entry   = CRC32 of the rest (4 bytes, little-endian), then a msgpack array
    block   = [1, subject, writer (16 bytes), first sequence, count, body]                          body: see `schema.blocks`
    gap     = [2, subject, writer (16 bytes), first sequence, count or nil, next sequence, reason, message, payload]

Whoever reads entries believes nothing of them that it has not checked: an entry may be damaged, or written to do harm.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgpack

from flightlog.schema.blocks import Block, decode_body, encode_body
from flightlog.schema.errors import DecodeError
from flightlog.schema.frames import MAX_PAYLOAD, MAX_SEQUENCE
from flightlog.schema.ids import EXPERIMENT_SUBJECT, WriterId
from flightlog.schema.limits import is_run_id
from flightlog.schema.plain import unpack_plain
from flightlog.stores.base import Gap

BLOCK, GAP = 1, 2
MAX_EVENTS = 1 << 18
"""Events in one entry; a shipper sends what it reads of a journal at once, which is less."""
MAX_BODY = MAX_PAYLOAD + (1 << 20)
"""Bytes of one entry: that of the largest event, which need not compress, and room for its names."""
MAX_SUBJECT = 300
EXCERPT = 1 << 20
"""Bytes that a dead letter keeps of a block that cannot be read."""


class NoEntry(ValueError):
    """Bytes that are no whole entry: nothing in them can be believed, not even whose events they are."""


def encode_entry(item: Block | Gap) -> bytes:
    """Return an item as it travels. Raises `ValueError` for one that nobody would take: it would be sent again for ever."""
    if not _is_subject(item.subject):
        raise ValueError(f"the subject {item.subject[:100]!r} is neither a run id nor an experiment")
    head = (item.subject, bytes.fromhex(item.writer))
    fields: tuple[Any, ...]
    if isinstance(item, Block):
        body = encode_body(item.names, item.records) if item.body is None else item.body
        fields = (BLOCK, *head, item.first_sequence, len(item.records), body)
    else:
        fields = (GAP, *head, item.sequence, item.count, item.next_sequence, item.reason, item.message, item.payload)
    packed: bytes = msgpack.packb(fields)
    if len(packed) + 4 > MAX_BODY:
        raise ValueError(f"an entry takes {len(packed) + 4} bytes, more than {MAX_BODY}")
    return zlib.crc32(packed).to_bytes(4, "little") + packed


def decode_entry(entry: bytes) -> Block | Gap:
    """Return the item that an entry holds; a block that cannot be read becomes a gap with the reason.

    Raises `NoEntry` for bytes that cannot even be tied to a writer.
    """
    kind, subject, writer, first, count, *rest = _fields(entry)
    if kind == GAP:
        return _gap(subject, writer, first, count, rest)
    if kind != BLOCK or len(rest) != 1 or type(rest[0]) is not bytes or not _is_count(count, first):
        raise NoEntry(f"an entry of kind {str(kind)[:100]} for {str(count)[:100]} events is not known here")
    body = rest[0]
    try:
        names, records = decode_body(body, count, MAX_BODY)
    except DecodeError as error:
        return Gap(subject, writer, first, first + count, error.reason, error.message, body[:EXCERPT], count)
    return Block(subject, writer, first, names, records, body)


def _fields(entry: bytes) -> tuple[Any, ...]:
    if len(entry) > MAX_BODY:
        raise NoEntry(f"an entry has {len(entry)} bytes, more than {MAX_BODY}")
    if len(entry) < 4 or zlib.crc32(entry[4:]) != int.from_bytes(entry[:4], "little"):
        raise NoEntry(f"an entry of {len(entry)} bytes is damaged: its checksum does not match")
    try:
        kind, subject, writer, first, count, *rest = unpack_plain(entry[4:])
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise NoEntry(f"an entry is not a msgpack array of at least five: {error}") from error
    if type(subject) is not str or not 0 < len(subject) <= MAX_SUBJECT or type(writer) is not bytes or len(writer) != 16:
        raise NoEntry(f"an entry names no subject and writer: {str(subject)[:100]!r}, {str(writer)[:100]}")
    if not _is_subject(subject):
        raise NoEntry(f"an entry's subject {subject[:100]!r} is neither a run id nor an experiment")
    if type(first) is not int or not 0 <= first < MAX_SEQUENCE:
        raise NoEntry(f"an entry begins at {str(first)[:100]}, which is no sequence")
    return kind, subject, WriterId(writer.hex()), first, count, *rest


def _is_subject(subject: str) -> bool:
    return subject.startswith(EXPERIMENT_SUBJECT) or is_run_id(subject)


def _is_count(count: object, first: int) -> bool:
    return type(count) is int and 0 < count <= MAX_EVENTS and first + count < MAX_SEQUENCE


def _gap(subject: str, writer: WriterId, first: int, count: object, rest: list[Any]) -> Gap:
    types = tuple(map(type, rest))
    if types != (int, str, str, bytes) or not (count is None or type(count) is int) or not first < rest[0] < MAX_SEQUENCE:
        raise NoEntry(f"an entry is no gap: {str((count, *rest))[:200]}")
    following, reason, message, payload = rest
    return Gap(subject, writer, first, following, reason[:32], message, payload, count if type(count) is int else None)
