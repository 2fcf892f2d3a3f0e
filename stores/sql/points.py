"""The metric points of a batch, grouped: one group a series, a series being one metric of one run in one attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from flightlog.schema.columns import Floats
from flightlog.schema.records import Ints
from flightlog.stores.series import in_order, value_ranks


class Series(NamedTuple):
    """One metric of one run in one attempt; `hidden` are the points of it that a later attempt hides."""

    run_id: str
    metric: str
    attempt: int = 0
    hidden: bool = False


@dataclass(frozen=True)
class Groups:
    """Points in columns, ordered by series and within it as a history is. Group k is rows `bounds[k]` .. `bounds[k + 1]`."""

    series: list[Series]
    bounds: Ints
    step: Ints
    time: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.series)


@dataclass(frozen=True)
class PointsBuilder:
    """Collects columns of points, whose series are numbered as they come."""

    numbers: dict[Series, int] = field(default_factory=dict)
    columns: list[tuple[Ints, Ints, Ints, Floats]] = field(default_factory=list)

    def number(self, series: Series) -> int:
        """Return the number of a series in this batch."""
        return self.numbers.setdefault(series, len(self.numbers))

    def add(self, number: Ints, step: Ints, time: Ints, value: Floats) -> None:
        """Add points; `number` holds the series of each."""
        self.columns.append((number, step, time, value))

    def add_one(self, series: Series, step: int, time: int, value: float) -> None:
        """Add one point."""
        number, steps, times = (np.array([item], np.int64) for item in (self.number(series), step, time))
        self.add(number, steps, times, np.array([value]))

    def grouped(self) -> Groups:
        """Return all points in groups."""
        if not self.columns:
            return Groups([], np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        number, step, time, value = (np.concatenate(column) for column in zip(*self.columns, strict=True))
        order = np.argsort(number.astype(np.uint16) if len(self.numbers) < 2**16 else number, kind="stable")
        number, step, time, value = number[order], step[order], time[order], value[order]
        if not in_order((number, step, time, lambda: value_ranks(value))):
            order = np.lexsort((value_ranks(value), time, step, number))
            number, step, time, value = number[order], step[order], time[order], value[order]
        starts = np.flatnonzero(np.concatenate(([True], number[1:] != number[:-1])))
        every = list(self.numbers)
        return Groups([every[index] for index in number[starts].tolist()], np.append(starts, len(number)), step, time, value)
