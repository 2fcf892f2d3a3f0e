"""A block: consecutive events of one writer, as they travel and as the ledger keeps them.

    block body = [1, count, length, names, size, packed]      a msgpack array

`packed` is a zstd frame of `size` bytes. Uncompressed it holds, unless all payloads have the one `length` given (0: they differ),
the lengths as little-endian uint 32; then for each length, in ascending order, the payloads of that length transposed: all
their first bytes, all their second bytes, and so on. Records of one shape differ in few places, so their columns compress to
little more than the values' mantissas. The payloads come back bit for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgpack
import numpy as np
import zstandard

from flightlog.schema.errors import DecodeError
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Bytes, Ints, Records

BODY_VERSION = 1
LEVEL = 1
MAX_SIZE = 256 << 20
"""A body that claims to unpack to more bytes than this is refused unread. A block of one payload of any permitted size is smaller."""


@dataclass(frozen=True)
class Block:
    """Consecutive events of one writer. `names` gives at least the metric names that its metrics use (id -> name).

    `body` is the body that the block came in, if it is still whole, so that nobody needs to encode it again.
    """

    subject: str
    writer: WriterId
    first_sequence: int
    names: Mapping[int, str]
    records: Records
    body: bytes | None = field(default=None, compare=False)

    @property
    def end(self) -> int:
        """The sequence after the last event."""
        return self.first_sequence + len(self.records)

    def since(self, sequence: int) -> Block:
        """Return the part from a sequence on."""
        return self.part(max(sequence - self.first_sequence, 0), len(self.records))

    def part(self, start: int, stop: int) -> Block:
        """Return the events `start` .. `stop`, counted from the block's first; the block itself where those are all."""
        if start == 0 and stop == len(self.records):
            return self
        return Block(self.subject, self.writer, self.first_sequence + start, self.names, self.records.take(slice(start, stop)))


def encode_body(names: Mapping[int, str], records: Records) -> bytes:
    """Encode names and payloads; the rest of a block is what the ledger's columns or a stream entry's fields say.

    Raises `ValueError` for a block of more than `MAX_SIZE` bytes, which nobody would read: it can be filed in parts.
    """
    lengths = records.lengths
    uniform = int(lengths[0]) if len(lengths) and (lengths == lengths[0]).all() else 0
    parts = [] if uniform else [lengths.astype("<u4").tobytes()]
    parts += [np.ascontiguousarray(matrix.T).tobytes() for _, matrix in records.groups()]
    raw = b"".join(parts)
    if len(raw) > MAX_SIZE:
        raise ValueError(f"a block of {len(records)} events takes {len(raw)} bytes, more than {MAX_SIZE}; file it in parts")
    packed = _compressor().compress(raw)
    body: bytes = msgpack.packb([BODY_VERSION, len(records), uniform, dict(names), len(raw), packed])
    return body


def decode_body(body: bytes) -> tuple[dict[int, str], Records]:
    """Decode what `encode_body` made. Raises `DecodeError` for anything else, within bounded memory."""
    try:
        version, count, uniform, names, size, packed = msgpack.unpackb(body, strict_map_key=False)
        if version != BODY_VERSION:
            raise DecodeError("newer-version", f"block version {version} is not known here; upgrade the worker")
        if not 0 <= size <= MAX_SIZE:
            raise DecodeError("malformed", f"a block claims {size} bytes, more than {MAX_SIZE}")
        raw = np.frombuffer(zstandard.ZstdDecompressor().decompress(packed, max_output_size=max(size, 1)), np.uint8)
        if len(raw) != size:
            raise DecodeError("malformed", f"a block holds {len(raw)} bytes and claims {size}")
        return names, _rows(raw, count, uniform)
    except (ValueError, TypeError, msgpack.UnpackException, zstandard.ZstdError) as error:
        raise DecodeError("malformed", f"not a block: {error}") from error


def _rows(raw: Bytes, count: int, uniform: int) -> Records:
    if uniform:
        lengths: Ints = np.full(count, uniform, np.int64)
        columns = raw
    else:
        lengths = raw[: 4 * count].view("<u4").astype(np.int64)
        columns = raw[4 * count :]
    if len(lengths) != count or int(lengths.sum()) != len(columns):
        raise DecodeError("malformed", f"a block of {count} events does not add up")
    offsets = np.empty(count, np.int64)
    rows = np.empty(len(columns), np.uint8)
    base = 0
    for length in np.unique(lengths).tolist():
        where = np.flatnonzero(lengths == length)
        size = length * len(where)
        rows[base : base + size] = columns[base : base + size].reshape(length, len(where)).T.ravel()
        offsets[where] = base + length * np.arange(len(where))
        base += size
    return Records(rows, offsets, lengths)


_per_thread = threading.local()


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's compressor: one is not to be used by two threads at once."""
    if not hasattr(_per_thread, "compressor"):
        _per_thread.compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=True)
    found: zstandard.ZstdCompressor = _per_thread.compressor
    return found
