"""Histories in chunks: the points of one metric of one run, up to some thousand a row, in columns.

    body    = header, zstd frame                      all integers little-endian

    offset  size  header
    0       1     format version, 1
    1       1     bytes of a step delta: 0, 1, 2, 4 or 8
    2       1     bytes of a timestamp delta: the same
    3       1     0
    4       4     number of points, at least 1
    8       8     first step, signed
    16      8     least step delta, signed
    24      8     first timestamp, signed, ms since the epoch, UTC
    32      8     least timestamp delta, signed

Uncompressed the frame holds three columns one after the other: the step deltas, the timestamp deltas, the values. A delta is the
difference to the point before, less the least delta, as an unsigned integer of the size that the header says; the first point has
none; a size of 0 says that all are 0. Sums and differences are modulo 2**64. A value is a float 64, kept bit for bit. A column is
shuffled: all first bytes, all second bytes, and so on, since the bytes of one place resemble each other.

The points are in the order (step, timestamp, value). Chunks may overlap; the history is all of them, in that order.
"""

from __future__ import annotations

import math
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import zstandard
from sqlalchemy import Connection

from flightlog.schema.columns import Floats
from flightlog.schema.errors import DecodeError
from flightlog.schema.records import Bytes, Ints
from flightlog.stores.base import History
from flightlog.stores.series import ordered
from flightlog.stores.sql.points import Groups
from flightlog.stores.sql.rows import Values, insert_rows
from flightlog.stores.sql.summaries import extremes, is_negative_zero
from flightlog.stores.sql.tables import metric_chunks

FORMAT_VERSION = 1
LEVEL = 1
CHUNK = 4096
"""Points in a full chunk."""

_HEADER = struct.Struct("<BBBxIqqqq")
_WIDTHS = np.array([0, 1, 2, 4, 8])
_LIMITS = np.array([0, 2**8 - 1, 2**16 - 1, 2**32 - 1], np.uint64)
"""The greatest delta for each width but the last."""
_per_thread = threading.local()


Key = tuple[int, int, int]
"""`runs.id`, `metric_names.id` and the attempt of a group of points."""


def save_points(connection: Connection, keys: Sequence[Key], groups: Groups) -> None:
    """Write groups of points as chunks."""
    insert_rows(connection, metric_chunks, sorted(chunk_rows(keys, groups), key=lambda row: (row["run"], row["metric"], row["min_step"])))


def chunk_rows(keys: Sequence[Key], groups: Groups) -> list[Values]:
    """Return the rows for groups of points; a long group becomes several of about equal size."""
    owners, starts = _pieces(groups.bounds)
    if not owners:
        return []
    ends = np.append(starts[1:], groups.bounds[-1])
    low, high = extremes(groups.value, starts)
    columns = {
        "count": (ends - starts).tolist(),
        "min_step": groups.step[starts].tolist(),
        "max_step": groups.step[ends - 1].tolist(),
        "min_value": _storable(low),
        "max_value": _storable(high),
        "first_value": _storable(groups.value[starts]),
        "last_value": _storable(groups.value[ends - 1]),
        "body": encode_pieces(History(groups.step, groups.time, groups.value), starts),
    }
    rows = zip(owners, *columns.values(), strict=True)
    places = [dict(zip(("run", "metric", "attempt"), key, strict=True)) for key in keys]
    return [{**places[owner], **dict(zip(columns, row, strict=True))} for owner, *row in rows]


def _pieces(bounds: Ints) -> tuple[list[int], Ints]:
    """Return the group of each piece, and where it starts."""
    owners: list[int] = []
    starts: list[int] = []
    for owner, (start, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        count = -(-(end - start) // CHUNK)
        owners += [owner] * count
        starts += [start + (end - start) * index // count for index in range(count)]
    return owners, np.array(starts, np.int64)


def _storable(column: Floats) -> list[float | None]:
    return [value if math.isfinite(value) and not is_negative_zero(value) else None for value in column.tolist()]


def encode(history: History) -> bytes:
    """Encode points, at least one, that are in order."""
    return encode_pieces(history, np.zeros(1, np.int64))[0]


def encode_pieces(history: History, starts: Ints) -> list[bytes]:
    """Encode each of the pieces, which begin at `starts` and have at least one point, in order."""
    ends = np.append(starts[1:], len(history))
    steps, times = (_encode_deltas(column, starts, ends) for column in (history.step, history.timestamp))
    value = np.ascontiguousarray(history.value, "<f8")
    compress = _compressor().compress
    return [
        _HEADER.pack(FORMAT_VERSION, step[1], time[1], end - start, step[0], step[2], time[0], time[2])
        + compress(step[3] + time[3] + _shuffled(value[start:end]))
        for start, end, step, time in zip(starts.tolist(), ends.tolist(), steps, times, strict=True)
    ]


def decode(body: bytes) -> History:
    """Decode what `encode` made. Raises `DecodeError`."""
    return decode_all([body])


def decode_all(bodies: Iterable[bytes]) -> History:
    """Return the points of several chunks as one history, in order. Raises `DecodeError`."""
    every = list(bodies)
    bounds = np.cumsum([0, *map(_count, every)]).tolist()
    history = History(np.empty(bounds[-1], np.int64), np.empty(bounds[-1], np.int64), np.empty(bounds[-1], "<f8"))
    for body, start, end in zip(every, bounds[:-1], bounds[1:], strict=True):
        _decode_into(body, history.step[start:end], history.timestamp[start:end], history.value[start:end])
    return ordered(history)


def decode_into(body: bytes, room: History) -> None:
    """Decode what `encode` made into arrays, which must be as long as it. Raises `DecodeError`."""
    if _count(body) != len(room):
        raise DecodeError("malformed", f"a chunk of history has {_count(body)} points and should have {len(room)}")
    _decode_into(body, room.step, room.timestamp, room.value)


def _count(body: bytes) -> int:
    """Return how many points a chunk says that it holds."""
    if len(body) < _HEADER.size or not 0 < body[0] <= FORMAT_VERSION:
        version = body[0] if body else None
        raise DecodeError("newer-version", f"history format {version} is not known to this version of flightlog; upgrade it")
    count: int = _HEADER.unpack_from(body)[3]
    return count


def _decode_into(body: bytes, step: Ints, time: Ints, value: Floats) -> None:
    _, step_width, time_width, count, first_step, step_low, first_time, time_low = _HEADER.unpack_from(body)
    split = step_width * (count - 1)
    end = split + time_width * (count - 1)
    try:
        raw = _decompressor().decompress(memoryview(body)[_HEADER.size :], max_output_size=end + 8 * count)
        columns = np.frombuffer(raw, np.uint8)
        _unshuffle(columns[end:], value)
        _decode_deltas(columns[:split], step_width, first_step, step_low, step)
        _decode_deltas(columns[split:end], time_width, first_time, time_low, time)
    except (ValueError, TypeError, IndexError, zstandard.ZstdError) as error:
        raise DecodeError("malformed", f"not a chunk of history: {error}") from error


def _encode_deltas(column: Ints, starts: Ints, ends: Ints) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield of each piece the first integer, the bytes of a delta, the least delta, and all deltas shuffled."""
    deltas = np.zeros(len(column), np.int64)
    np.subtract(column[1:], column[:-1], out=deltas[1:])
    deltas[starts] = np.where(ends - starts > 1, deltas[np.minimum(starts + 1, len(column) - 1)], 0)
    low = np.minimum.reduceat(deltas, starts)
    above = (deltas - np.repeat(low, ends - starts)).view(np.uint64)
    widths = _WIDTHS[np.searchsorted(_LIMITS, np.maximum.reduceat(above, starts))]
    rows = zip(column[starts].tolist(), widths.tolist(), low.tolist(), starts.tolist(), ends.tolist(), strict=True)
    for first, width, least, start, end in rows:
        yield first, width, least, _shuffled(above[start + 1 : end].astype(f"<u{width}")) if width else b""


def _decode_deltas(raw: Bytes, width: int, first: int, low: int, column: Ints) -> None:
    """Fill a column with what `_encode_deltas` made."""
    if width:
        deltas = np.empty(len(column) - 1, f"<u{width}")
        _unshuffle(raw, deltas)
        np.add(deltas.view(np.int64) if width == 8 else deltas, low, out=column[1:], dtype=np.int64)
    else:
        column[1:] = low
    column[0] = first
    np.cumsum(column, out=column)


def _shuffled(column: npt.NDArray[Any]) -> bytes:
    rows: Bytes = column.view(np.uint8).reshape(len(column), column.itemsize)
    shuffled: bytes = rows.T.tobytes()
    return shuffled


def _unshuffle(raw: Bytes, column: npt.NDArray[Any]) -> None:
    """Fill a column with what `_shuffled` made."""
    column.view(np.uint8).reshape(len(column), column.itemsize).T[...] = raw.reshape(column.itemsize, len(column))


def _compressor() -> zstandard.ZstdCompressor:
    """Return this thread's compressor: one is not to be used by two threads at once."""
    if not hasattr(_per_thread, "compressor"):
        _per_thread.compressor = zstandard.ZstdCompressor(level=LEVEL, write_content_size=False)
    found: zstandard.ZstdCompressor = _per_thread.compressor
    return found


def _decompressor() -> zstandard.ZstdDecompressor:
    if not hasattr(_per_thread, "decompressor"):
        _per_thread.decompressor = zstandard.ZstdDecompressor()
    found: zstandard.ZstdDecompressor = _per_thread.decompressor
    return found
