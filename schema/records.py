"""Many payloads at once: found in journal bytes, checked and regrouped with numpy instead of one by one.

Payloads of equal length form a matrix (one row a payload), on which checksums, decoding and compression are a few array
operations. That is where a worker's 300,000 points a second come from.
"""

from __future__ import annotations

import enum
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flightlog.schema.frames import RECORD_HEAD

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]

HEAD_SIZE = RECORD_HEAD.size
STRIDE_TRIAL = 16
"""So many records of one length in a row make it worth looking for more with numpy."""
SCALAR_BURST = 512
FEW = 200
"""Fewer records are checked one by one: each array operation costs as much as several of them."""
MAX_VECTOR_LENGTH = 1024
"""Longer payloads are checked one by one: zlib is faster there."""


class Ending(enum.Enum):
    """Why a scan stopped."""

    CLEAN = "clean"
    """At a length of 0 or exactly at the end of the bytes."""
    CUT = "cut"
    """The bytes end inside a record; more may follow in the file."""
    CORRUPT = "corrupt"
    """A checksum does not match."""


@dataclass(frozen=True)
class Records:
    """Payloads inside a buffer, in order. Offsets and lengths count bytes."""

    buffer: Bytes
    offsets: Ints
    lengths: Ints

    def __len__(self) -> int:
        return len(self.offsets)

    def payload(self, index: int) -> bytes:
        """Return one payload."""
        start = int(self.offsets[index])
        return self.buffer[start : start + int(self.lengths[index])].tobytes()

    def payloads(self) -> Iterator[bytes]:
        """Yield all payloads in order."""
        return (self.payload(index) for index in range(len(self)))

    def take(self, which: slice | Ints | npt.NDArray[np.bool_]) -> Records:
        """Return some of the records, sharing the buffer."""
        return Records(self.buffer, self.offsets[which], self.lengths[which])

    def groups(self) -> Iterator[tuple[Ints, Bytes]]:
        """Yield (indices, matrix) for each length: row k of the matrix is payload `indices[k]`."""
        if not len(self):
            return
        first = int(self.lengths[0])
        if (self.lengths == first).all():
            yield np.arange(len(self)), self._matrix(self.offsets, first)
            return
        for length in np.unique(self.lengths):
            indices = np.flatnonzero(self.lengths == length)
            yield indices, self._matrix(self.offsets[indices], int(length))

    def _matrix(self, offsets: Ints, length: int) -> Bytes:
        stride = int(offsets[1] - offsets[0]) if len(offsets) > 1 else length
        if stride >= length and (np.diff(offsets) == stride).all():
            start = self.buffer[int(offsets[0]) :]
            return np.lib.stride_tricks.as_strided(start, (len(offsets), length), (stride, 1), writeable=False)
        matrix: Bytes = self.buffer[offsets[:, None] + np.arange(length)]
        return matrix

    @staticmethod
    def joined(parts: Sequence[Records]) -> Records:
        """Return the records of all parts, in order. Their whole buffers are copied."""
        starts = np.cumsum([0, *(len(part.buffer) for part in parts[:-1])])
        offsets = np.concatenate([part.offsets + start for part, start in zip(parts, starts.tolist(), strict=True)])
        return Records(np.concatenate([part.buffer for part in parts]), offsets, np.concatenate([part.lengths for part in parts]))

    @staticmethod
    def of(payloads: list[bytes]) -> Records:
        """Return records that hold the given payloads."""
        lengths = np.fromiter(map(len, payloads), np.int64, len(payloads))
        return Records(np.frombuffer(b"".join(payloads), np.uint8), np.cumsum(lengths) - lengths, lengths)


@dataclass(frozen=True)
class Scan:
    """What a scan of journal bytes found: whole records, where they end and why."""

    records: Records
    end: int
    ending: Ending


def scan(data: bytes, start: int = 0) -> Scan:
    """Find all whole records from `start` on, up to the first that is missing, cut off or damaged."""
    buffer = np.frombuffer(data, np.uint8)
    offsets, lengths, end, ending = _walk(data, buffer, start)
    records = Records(buffer, offsets, lengths)
    good = _count_intact(records)
    if good < len(records):
        end, ending = int(offsets[good]) - HEAD_SIZE, Ending.CORRUPT
        records = records.take(slice(0, good))
    return Scan(records, end, ending)


def _walk(data: bytes, buffer: Bytes, position: int) -> tuple[Ints, Ints, int, Ending]:
    """Follow the lengths. Runs of equal lengths, the usual case, are measured at once."""
    parts: list[tuple[Ints, Ints]] = []
    ending: Ending | None = None
    while ending is None:
        offsets, lengths, position, ending = _walk_singly(data, position)
        parts.append((np.array(offsets, np.int64), np.array(lengths, np.int64)))
        if ending is None:
            run = _equal_run(buffer, position, lengths[-1])
            stride = HEAD_SIZE + lengths[-1]
            parts.append((position + HEAD_SIZE + stride * np.arange(run), np.full(run, lengths[-1])))
            position += run * stride
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts]), position, ending


def _walk_singly(data: bytes, position: int) -> tuple[list[int], list[int], int, Ending | None]:
    """Take records one by one until the end, or until a run of equal lengths or a burst is over (no ending then)."""
    offsets: list[int] = []
    lengths: list[int] = []
    size, same, previous = len(data), 0, -1
    while position < size:
        if position + HEAD_SIZE > size:
            return offsets, lengths, position, Ending.CUT if any(data[position:]) else Ending.CLEAN
        length, _ = RECORD_HEAD.unpack_from(data, position)
        if not length:
            return offsets, lengths, position, Ending.CLEAN
        if position + HEAD_SIZE + length > size:
            return offsets, lengths, position, Ending.CUT
        offsets.append(position + HEAD_SIZE)
        lengths.append(length)
        position += HEAD_SIZE + length
        same = same + 1 if length == previous else 0
        previous = length
        if same >= STRIDE_TRIAL or len(offsets) >= SCALAR_BURST:
            return offsets, lengths, position, None
    return offsets, lengths, position, Ending.CLEAN


def _equal_run(buffer: Bytes, position: int, length: int) -> int:
    """Return how many records of this length follow in a row."""
    stride = HEAD_SIZE + length
    most = (len(buffer) - position) // stride
    if most <= 0:
        return 0
    heads = np.lib.stride_tricks.as_strided(buffer[position:], (most, 4), (stride, 1), writeable=False)
    found = np.ascontiguousarray(heads).view("<u4").ravel()
    other = np.flatnonzero(found != length)
    return int(other[0]) if len(other) else most


def _count_intact(records: Records) -> int:
    """Return how many records from the first on have matching checksums."""
    if len(records) < FEW:
        return _count_intact_singly(records)
    expected = _stored_checksums(records)
    actual = np.empty(len(records), np.uint32)
    for indices, matrix in records.groups():
        actual[indices] = checksums(matrix)
    wrong = np.flatnonzero(actual != expected)
    return int(wrong[0]) if len(wrong) else len(records)


def _count_intact_singly(records: Records) -> int:
    data = records.buffer.data
    for index, (offset, length) in enumerate(zip(records.offsets.tolist(), records.lengths.tolist(), strict=True)):
        if RECORD_HEAD.unpack_from(data, offset - HEAD_SIZE)[1] != zlib.crc32(data[offset : offset + length]):
            return index
    return len(records)


def _stored_checksums(records: Records) -> npt.NDArray[np.uint32]:
    words = np.lib.stride_tricks.sliding_window_view(records.buffer, 4)[records.offsets - 4]
    stored: npt.NDArray[np.uint32] = np.ascontiguousarray(words).view("<u4").ravel()
    return stored


def checksums(matrix: Bytes) -> npt.NDArray[np.uint32]:
    """Return the CRC32 of each row.

    CRC32 is affine over GF(2): the checksum of a row is that of as many zeros, xor a table entry for each of its bytes, where the
    table depends only on the byte's distance from the end.
    """
    count, length = matrix.shape
    if length > MAX_VECTOR_LENGTH or count < STRIDE_TRIAL:
        return np.fromiter((zlib.crc32(row) for row in np.ascontiguousarray(matrix)), np.uint32, count)
    result = np.full(count, zlib.crc32(bytes(length)), np.uint32)
    for column in range(length):
        values = np.ascontiguousarray(matrix[:, column])
        table = _table(length - 1 - column)
        if (values == values[0]).all():
            result ^= table[values[0]]
        else:
            result ^= table[values]
    return result


_tables: dict[int, npt.NDArray[np.uint32]] = {}


def _table(distance: int) -> npt.NDArray[np.uint32]:
    """Return, for each byte value, what it adds to the checksum when `distance` bytes follow it.

    Several threads may make the tables at once: each makes the same ones, and puts each in its own place.
    """
    if distance not in _tables:
        zero = zlib.crc32(b"\0")
        table = _tables[0] = np.array([zlib.crc32(bytes([value])) ^ zero for value in range(256)], np.uint32)
        for further in range(1, distance + 1):
            table = _tables[further] = (table >> np.uint32(8)) ^ _tables[0][table & np.uint32(0xFF)]
    return _tables[distance]
