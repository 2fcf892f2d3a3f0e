r"""The journal's file format, version 1. `docs/journal-format.md` says the same for someone who writes a reader elsewhere.

A writer's journal is a row of *segments*, files named `<writer id>-<number, 8 digits>.seg`, numbered from 0. All integers are
little-endian. A segment is a header page of 4,096 bytes, then records.

    offset  size  field
    0       8     magic "FLTJRNL\n"
    8       4     format version, 1
    12      4     CRC32 of the bytes 16 .. 64 and of the meta map
    16      16    writer id, raw
    32      8     sequence of the first event
    40      4     segment number
    44      4     size of the meta map
    48      8     size of the file when whole
    56      8     time of creation, ms since the epoch, UTC
    64      ..    meta: msgpack map {"subject": .., "host": .., "pid": .., ...}, at most 1,984 bytes

    these change while the segment lives and are under no checksum; each from 4032 on is written as one aligned word
    2048    ..    the newest rejection: length (4), msgpack array [sequence, reason, message], at most 1,980 bytes (written by the worker)
    4032    8     committed: the store has everything before this sequence          (written by the worker)
    4040    8     rejected: dead letters of this writer so far                      (written by the worker)
    4048    8     end: the sequence after the last event, when state is not 0       (written by the producer)
    4056    8     dropped: events that were not recorded because the spool was full (written by the producer)
    4064    4     state: 0 open, 1 sealed (the next segment follows), 2 closed (the writer has ended)

    record:  4  length of the payload
             4  CRC32 of the payload
             .. payload, one msgpack value: an array is an event, a map adds to the segment's name table (see `codec`)

The producer writes the header's magic last: while its 8 bytes are zeros, the segment is prepared or being begun, and nobody reads it.
A sequence is less than 2^62. A length of 0, or the end of the file, ends the records: the file is preallocated and full of zeros.
Events are numbered in order from the header's first sequence; maps take no number. Every segment defines the names that it uses. A
payload has at most 64 MiB; a longer one counts as an event that cannot be kept. The producer writes a
record with one memory copy into its map of the file, so a killed producer leaves at most one torn record, the last.

The producer creates segments and never deletes one; the worker deletes a segment when the store has committed all of it.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from flightlog.schema.ids import WriterId

MAGIC = b"FLTJRNL\n"
FORMAT_VERSION = 1
HEADER_SIZE = 4096
MAX_META = 1984
MAX_PAYLOAD = 64 << 20
"""A longer payload is refused at the call, and a worker that meets one files a dead letter in its place."""
MAX_SEQUENCE = 1 << 62
"""No writer comes so far; a header that says so is damaged, and every database can hold it."""
SUFFIX = ".seg"
NEW_SUFFIX = ".new"
"""A segment that its producer is still creating; left over when it is killed just then."""
MAX_PAYLOAD = 64 << 20
"""A larger event is refused at the call."""
CORRUPT_SUFFIX = ".corrupt"
"""Added to the name of a segment of which something could not be read; kept for whoever wants to look."""

RECORD_HEAD = struct.Struct("<II")
REJECTION_OFFSET = 2048
MAX_REJECTION = 1980
COMMITTED_OFFSET = 4032
REJECTED_OFFSET = 4040
END_OFFSET = 4048
DROPPED_OFFSET = 4056
STATE_OFFSET = 4064
WORD = struct.Struct("<Q")
STATE = struct.Struct("<I")
TAIL = struct.Struct("<QQQQI")

OPEN, SEALED, CLOSED = 0, 1, 2

_HEAD = struct.Struct("<8sII16sQIIQq")


class NotASegment(ValueError):
    """The file has no readable segment header."""


class Blank(NotASegment):
    """The segment is prepared, or just being begun: its magic, which comes last, is not there."""


class NewerVersion(NotASegment):
    """The segment was written by a newer version of flightlog, for a worker of that version."""


@dataclass(frozen=True)
class SegmentHeader:
    """The part of the header that never changes."""

    writer: WriterId
    subject: str
    number: int
    first_sequence: int
    capacity: int
    created: int
    meta: dict[str, Any] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the first bytes of the header page."""
        meta: bytes = msgpack.packb({**self.meta, "subject": self.subject})
        if len(meta) > MAX_META:
            message = f"the segment's meta map takes {len(meta)} bytes, at most {MAX_META} fit"
            raise ValueError(message)
        fields = (bytes.fromhex(self.writer), self.first_sequence, self.number, len(meta), self.capacity, self.created)
        plain = _HEAD.pack(MAGIC, FORMAT_VERSION, 0, *fields) + meta
        return _HEAD.pack(MAGIC, FORMAT_VERSION, zlib.crc32(plain[16:]), *fields) + meta

    def stated_end(self, state: SegmentState) -> int | None:
        """Return the sequence after the last event as the producer stated it; None while it has not, or when it cannot be true."""
        most = min(self.first_sequence + self.capacity // (RECORD_HEAD.size + 1), MAX_SEQUENCE)
        return state.end if state.state in (SEALED, CLOSED) and self.first_sequence <= state.end <= most else None

    @staticmethod
    def from_bytes(page: bytes) -> SegmentHeader:
        """Read a header page. Raises `Blank`, `NewerVersion` or another `NotASegment`."""
        if not any(page[: len(MAGIC)]):
            message = "the segment has not begun"
            raise Blank(message)
        if len(page) < HEADER_SIZE or not page.startswith(MAGIC):
            message = f"not a journal segment: it begins {page[:8]!r}"
            raise NotASegment(message)
        _, version, checksum, writer, first, number, meta_size, capacity, created = _HEAD.unpack_from(page)
        if version != FORMAT_VERSION:
            message = f"journal format {version} is not known to this version of flightlog, which reads {FORMAT_VERSION}"
            raise NewerVersion(message)
        if meta_size > MAX_META or zlib.crc32(page[16 : _HEAD.size + meta_size]) != checksum:
            message = "the segment's header is damaged: its checksum does not match"
            raise NotASegment(message)
        if first >= MAX_SEQUENCE:
            message = f"the segment's first sequence {first} is not possible: sequences are less than {MAX_SEQUENCE}"
            raise NotASegment(message)
        meta = _decode_meta(page[_HEAD.size : _HEAD.size + meta_size])
        subject = meta.pop("subject")
        return SegmentHeader(WriterId(writer.hex()), subject, number, first, capacity, created, meta)


def _decode_meta(packed: bytes) -> dict[str, Any]:
    try:
        meta = msgpack.unpackb(packed)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        message = f"the segment's meta map is not msgpack: {error!r}"
        raise NotASegment(message) from error
    if not isinstance(meta, dict) or not isinstance(meta.get("subject"), str):
        message = f"the segment's meta must be a map with a subject, not {str(meta)[:100]}"
        raise NotASegment(message)
    return meta


@dataclass(frozen=True)
class SegmentState:
    """The part of the header that changes; see the module's head."""

    committed: int
    rejected: int
    end: int
    dropped: int
    state: int

    @staticmethod
    def from_bytes(page: bytes) -> SegmentState:
        """Read it from a header page."""
        return SegmentState(*TAIL.unpack_from(page, COMMITTED_OFFSET))


def encode_rejection(sequence: int, reason: str, message: str) -> bytes:
    """Return the bytes of the newest rejection, its message cut to fit."""
    body: bytes = msgpack.packb([sequence, reason, message[:400]])
    return len(body).to_bytes(4, "little") + body


def decode_rejection(page: bytes) -> tuple[int, str, str] | None:
    """Return (sequence, reason, message) of the newest rejection from a header page, or None if there is none or it is being written."""
    size = int.from_bytes(page[REJECTION_OFFSET : REJECTION_OFFSET + 4], "little")
    if not 0 < size <= MAX_REJECTION:
        return None
    try:
        sequence, reason, message = msgpack.unpackb(page[REJECTION_OFFSET + 4 : REJECTION_OFFSET + 4 + size])
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    return (sequence, reason, message) if (type(sequence), type(reason), type(message)) == (int, str, str) else None


def segment_name(writer: WriterId, number: int) -> str:
    """Return the file name of a segment."""
    return f"{writer}-{number:08d}{SUFFIX}"


def parse_segment_name(name: str) -> tuple[WriterId, int] | None:
    """Return writer and number of a segment's file name, or None for another file."""
    stem, dot, _ = name.partition(SUFFIX)
    writer, dash, number = stem.partition("-")
    if not (dot and dash and name.endswith(SUFFIX) and len(writer) == 32 and number.isascii() and number.isdecimal()):
        return None
    return WriterId(writer), int(number)


def frame(payload: bytes) -> bytes:
    """Return a whole record for a payload."""
    return RECORD_HEAD.pack(len(payload), zlib.crc32(payload)) + payload


def read_header(path: Path) -> tuple[SegmentHeader, SegmentState]:
    """Read both parts of a segment's header. Raises `NotASegment` or `OSError`."""
    with path.open("rb") as file:
        page = file.read(HEADER_SIZE)
    return SegmentHeader.from_bytes(page), SegmentState.from_bytes(page)
