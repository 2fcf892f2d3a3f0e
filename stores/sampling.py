"""Histories cut down to so many points, and put together in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from flightlog.schema.columns import Floats
from flightlog.schema.records import Ints
from flightlog.stores.base import Histories, History
from flightlog.stores.series import value_ranks

Owner = tuple[str, str]
"""Run id and key."""
AT_ONCE = 1_000_000
"""Points whose buckets are looked at together, if one bucket is no longer."""
_GREATEST, _LEAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min


def sampled(history: History, sample: int | None) -> History:
    """Return at most `sample` of the points of an ordered history, always the same: all of them where they are no more, or for None.

    The first and the last stay. The points between them are cut into (sample - 2) / 2 buckets of equally many points; of each its least
    and its greatest value stay, the first of equal ones, and so those of the whole history. NaN is neither; of a bucket of nothing
    else the first point stays.
    """
    if sample is None or len(history) <= sample:
        return history
    kept = _kept(history, sample)
    return History(history.step[kept], history.timestamp[kept], history.value[kept])


def _kept(history: History, sample: int) -> Ints:
    """Return the places of the points that stay, in order."""
    inner = history.value[1:-1]
    width = -(-len(inner) // ((sample - 2) // 2))
    size = max(AT_ONCE // width, 1) * width
    found = [_extremes(inner[start : start + size], width) + start + 1 for start in range(0, len(inner), size)]
    return np.unique(np.concatenate((*found, [0, len(history) - 1])))


def _extremes(value: Floats, width: int) -> Ints:
    """Return the places of the least and of the greatest value of each bucket."""
    rows = -(-len(value) // width)
    rank, missing = value_ranks(value), np.isnan(value)
    low = _filled(rank, missing, _GREATEST, (rows, width)).argmin(axis=1)
    high = _filled(rank, missing, _LEAST, (rows, width)).argmax(axis=1)
    return np.concatenate((low, high)) + np.tile(np.arange(rows) * width, 2)


def _filled(rank: Ints, missing: npt.NDArray[np.bool_], blank: int, shape: tuple[int, int]) -> Ints:
    """Return ranks in rows, with one that is never chosen where a value is missing and where the last row has no more."""
    filled = np.full(shape[0] * shape[1], blank, np.int64)
    np.copyto(filled[: len(rank)], rank, where=~missing)
    return filled.reshape(shape)


def batches(parts: Iterable[tuple[Owner, History]], batch_points: int) -> Iterator[Histories]:
    """Yield histories in batches of at least so many points, the last of any number."""
    found: list[tuple[Owner, History]] = []
    room = batch_points
    for owner, history in parts:
        if len(history):
            found.append((owner, history))
            room -= len(history)
        if found and room <= 0:
            yield batch_of(found)
            found, room = [], batch_points
    if found:
        yield batch_of(found)


def batch_of(parts: list[tuple[Owner, History]]) -> Histories:
    """Return histories, at least one, as a batch."""
    columns = zip(*((part.step, part.timestamp, part.value) for _, part in parts), strict=True)
    bounds = np.cumsum([0, *(len(part) for _, part in parts)])
    return Histories([owner for owner, _ in parts], bounds, History(*map(np.concatenate, columns)))
