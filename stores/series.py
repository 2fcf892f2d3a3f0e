"""Points of one metric as arrays: their order and their envelope."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import numpy as np
import numpy.typing as npt

from flightlog.schema.columns import Floats
from flightlog.schema.entities import Metric
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.records import Ints
from flightlog.stores.base import Envelope, History


def value_ranks(value: Floats) -> Ints:
    """Return integers in the order of `fold.history_order`: .. -0.0, 0.0, NaN, positive numbers. Equal only for equal bits, or for NaN."""
    bits = np.ascontiguousarray(value).view(np.int64)
    rank = bits ^ ((bits >> 63) & np.int64(2**63 - 1))
    return np.where(np.isnan(value), 1, rank + (rank > 0))


def in_order(keys: Sequence[Ints | Callable[[], Ints]]) -> bool:
    """Say whether rows are in lexicographic order, the first key counting most. A key that is a function is made only when needed."""
    tied: Ints | None = None
    for maker in keys:
        if tied is not None and not len(tied):
            return True
        key = maker() if callable(maker) else maker
        before, after = (key[:-1], key[1:]) if tied is None else (key[tied], key[tied + 1])
        if (after < before).any():
            return False
        same = np.flatnonzero(after == before)
        tied = same if tied is None else tied[same]
    return True


def ordered(history: History) -> History:
    """Return a history in its order: (step, timestamp, value)."""
    if in_order((history.step, history.timestamp, lambda: value_ranks(history.value))):
        return history
    order = np.lexsort((value_ranks(history.value), history.timestamp, history.step))
    return History(history.step[order], history.timestamp[order], history.value[order])


def between(history: History, start_step: int | None, end_step: int | None) -> History:
    """Return the part of an ordered history whose steps are from `start_step` to `end_step`, inclusive."""
    start = 0 if start_step is None else int(np.searchsorted(history.step, start_step, "left"))
    end = len(history) if end_step is None else int(np.searchsorted(history.step, end_step, "right"))
    return History(history.step[start:end], history.timestamp[start:end], history.value[start:end])


def before(history: History, step: int | None) -> History:
    """Return the part of an ordered history before a step; all of it for None."""
    end = len(history) if step is None else int(np.searchsorted(history.step, step, "left"))
    return History(history.step[:end], history.timestamp[:end], history.value[:end])


def merged(parts: Sequence[History]) -> History:
    """Return several ordered histories as one."""
    if len(parts) == 1:
        return parts[0]
    columns = [(part.step, part.timestamp, part.value) for part in [_EMPTY, *parts]]
    return ordered(History(*(np.concatenate(column) for column in zip(*columns, strict=True))))


_EMPTY = History(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


def to_metrics(key: str, history: History, run_id: str | None = None) -> list[Metric]:
    """Return a history as entities, ordered by (timestamp, step, value) as MLflow does."""
    order = np.lexsort((value_ranks(history.value), history.step, history.timestamp))
    columns = (history.value[order].tolist(), history.timestamp[order].tolist(), history.step[order].tolist())
    return [Metric(key, value, timestamp, step, run_id=run_id) for value, timestamp, step in zip(*columns, strict=True)]


def points(history: History) -> Envelope:
    """Return an envelope with a row for each point."""
    value = history.value
    return Envelope(history.step, history.step, np.broadcast_to(np.int64(1), len(history)), value, value, value, value)


def bucketed(rows: Envelope, widths: Buckets) -> Envelope:
    """Sum up rows, ordered by step and none reaching over the end of its bucket, to one a bucket."""
    if not len(rows.start):
        return rows
    starts = widths.starts(rows.start)
    ends = np.append(starts[1:], len(rows.start)) - 1
    with np.errstate(invalid="ignore"):
        low, high = _reduced(np.minimum, np.fmin, rows.min, starts), _reduced(np.maximum, np.fmax, rows.max, starts)
    count = np.add.reduceat(rows.count, starts)
    return Envelope(rows.start[starts], rows.end[ends], count, low, high, rows.first[starts], rows.last[ends])


def _reduced(plain: np.ufunc, past_nan: np.ufunc, column: Floats, starts: Ints) -> Floats:
    """Reduce each piece of a column; a piece in which the plain, faster function meets a NaN is done again with the other."""
    found: Floats = plain.reduceat(column, starts)
    bounds = np.append(starts, len(column))
    for index in np.flatnonzero(np.isnan(found)):
        found[index] = past_nan.reduce(column[bounds[index] : bounds[index + 1]])
    return found


class Buckets:
    """At most `count` buckets of equal width over the steps `low` .. `high`."""

    def __init__(self, count: int, low: int, high: int) -> None:
        self._low, self._high, self._last = low, high, count - 1
        self._width = min(-(-(high - low + 1) // count), 2**64 - 1)

    def starts(self, ordered: Ints) -> Ints:
        """Return where each bucket that is not empty begins among steps that are in order and within the range."""
        edges = np.arange(self._last + 1, dtype=object) * self._width + self._low
        edges = edges[edges <= self._high].astype(np.int64)
        found = np.unique(np.searchsorted(ordered, edges, "left"))
        return found[found < len(ordered)]

    def of(self, step: Ints) -> npt.NDArray[np.uint64]:
        """Return the number of each step's bucket."""
        offset = step.view(np.uint64) - np.uint64(self._low % 2**64)
        number: npt.NDArray[np.uint64] = np.minimum(offset // np.uint64(self._width), np.uint64(self._last))
        return number


def check_buckets(buckets: int) -> None:
    """Raise `InvalidParameter` unless there is at least one bucket."""
    if buckets < 1:
        raise InvalidParameter(f"an envelope needs at least one bucket, not {buckets}")


def envelope_of(history: History, buckets: int, start_step: int | None, end_step: int | None) -> Envelope:
    """Return the envelope of an ordered history; see `RunReader.envelope`."""
    check_buckets(buckets)
    part = between(history, start_step, end_step)
    if not len(part):
        return points(part)
    low = int(part.step[0]) if start_step is None else start_step
    high = int(part.step[-1]) if end_step is None else end_step
    return bucketed(points(part), Buckets(buckets, low, high))


def joined(a: Envelope, b: Envelope) -> Envelope:
    """Return the rows of two envelopes in the order of their steps."""
    if not len(b.start):
        return a
    order = np.argsort(np.concatenate((a.start, b.start)), kind="stable")
    return Envelope(*(np.concatenate((getattr(a, item.name), getattr(b, item.name)))[order] for item in fields(Envelope)))
