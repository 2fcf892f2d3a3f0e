"""Summaries of metrics, taken from whole groups of points at once, and the rows that keep them.

What a summary is says `schema.fold.merge_summaries`; a property test holds the two together.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, select

from flightlog.schema.columns import Floats
from flightlog.schema.entities import MetricSummary, Point
from flightlog.schema.fold import merge_summaries
from flightlog.schema.records import Ints
from flightlog.stores.sql.points import Groups
from flightlog.stores.sql.rows import Values, fetch, in_parts, upsert_rows
from flightlog.stores.sql.tables import latest_metrics

GREATEST = float(np.finfo(np.float64).max)
SPECIAL_VALUES = (None, math.nan, math.inf, -math.inf)
"""What two bits of `specials` stand for; 0 says that the column holds the value itself."""
NEGATIVE_ZERO = 1 << 8
"""The first of the bits of `specials` for -0.0."""
ENDS = ("last", "first", "min", "max")
SUMMARY_COLUMNS = (
    *(latest_metrics.c[f"{end}_{part}"] for end in ENDS for part in ("value", "step", "time")),
    latest_metrics.c["count"],
    latest_metrics.c.non_finite,
    latest_metrics.c.specials,
)


def extremes(value: Floats, starts: Ints) -> tuple[Floats, Floats]:
    """Return the least and the greatest value of each group, NaN left out; NaN where there is nothing else."""
    with np.errstate(invalid="ignore"):
        return np.fmin.reduceat(value, starts), np.fmax.reduceat(value, starts)


def summarise(groups: Groups) -> list[MetricSummary]:
    """Return the summary of each group."""
    if not len(groups):
        return []
    starts, ends = groups.bounds[:-1], groups.bounds[1:]
    low, high = extremes(groups.value, starts)
    columns = (
        _points(groups, ends - 1),
        _points(groups, starts),
        _points(groups, _first_equal(groups, low)),
        _points(groups, _first_equal(groups, high)),
        (ends - starts).tolist(),
        np.add.reduceat(~np.isfinite(groups.value), starts, dtype=np.int64).tolist(),
    )
    return [MetricSummary(series.metric, *rest) for series, *rest in zip(groups.series, *columns, strict=True)]


def _first_equal(groups: Groups, wanted: Floats) -> Ints:
    """Return the row of each group's first point with the wanted value, -1 where that is NaN. Rows are in order."""
    rows = np.flatnonzero(groups.value == np.repeat(wanted, np.diff(groups.bounds)))
    group = np.searchsorted(groups.bounds, rows, "right") - 1
    result = np.full(len(groups), -1, np.int64)
    result[group[::-1]] = rows[::-1]
    return result


def _points(groups: Groups, rows: Ints) -> list[Point | None]:
    columns = zip(groups.value[rows].tolist(), groups.step[rows].tolist(), groups.time[rows].tolist(), strict=True)
    return [Point(*fields) if row >= 0 else None for row, fields in zip(rows.tolist(), columns, strict=True)]


def save_summaries(connection: Connection, keys: Sequence[tuple[int, int]], summaries: Sequence[MetricSummary]) -> None:
    """Merge summaries into the stored ones. `keys` are `runs.id` and `metric_names.id` of each, all different."""
    stored = _stored(connection, keys)
    rows = [
        {"run": run, "metric": metric, **to_row(merge_summaries(stored[run, metric], new) if (run, metric) in stored else new)}
        for (run, metric), new in sorted(zip(keys, summaries, strict=True), key=lambda item: item[0])
    ]
    upsert_rows(connection, latest_metrics, rows)


def _stored(connection: Connection, keys: Sequence[tuple[int, int]]) -> dict[tuple[int, int], MetricSummary]:
    query = select(latest_metrics.c.run, latest_metrics.c.metric, *SUMMARY_COLUMNS)
    wanted = set(keys)
    found: dict[tuple[int, int], MetricSummary] = {}
    for runs in in_parts(sorted({run for run, _ in keys})):
        rows = fetch(
            connection, query.where(latest_metrics.c.run.in_(runs)), latest_metrics.c.metric, sorted({metric for _, metric in keys})
        )
        found |= {(row[0], row[1]): from_row("", row[2:]) for row in rows if (row[0], row[1]) in wanted}
    return found


def to_row(summary: MetricSummary) -> Values:
    """Return a summary as the columns that keep it; see the head of `tables`."""
    row: Values = {"count": summary.count, "non_finite": summary.non_finite, "specials": 0}
    for shift, end in enumerate(ENDS):
        point: Point | None = getattr(summary, end)
        row[f"{end}_value"] = point and point.value
        row[f"{end}_step"] = point and point.step
        row[f"{end}_time"] = point and point.timestamp
        if point and not math.isfinite(point.value):
            row[f"{end}_value"], special = _storable(point.value)
            row["specials"] |= special << (2 * shift)
        elif point and is_negative_zero(point.value):
            row["specials"] |= NEGATIVE_ZERO << shift
    return row


def _storable(value: float) -> tuple[float, int]:
    if math.isnan(value):
        return 0.0, 1
    return (GREATEST, 2) if value > 0 else (-GREATEST, 3)


def is_negative_zero(value: float) -> bool:
    """Say whether a value is -0.0: SQLite would keep it as 0."""
    return value == 0.0 and math.copysign(1.0, value) < 0


def last_of(value: float, specials: int) -> float:
    """Return the last value that its column and `specials` hold."""
    special = _special(specials, 0) if specials else None
    return value if special is None else special


def from_row(key: str, row: Sequence[Any]) -> MetricSummary:
    """Return the summary that `SUMMARY_COLUMNS` hold."""
    count, non_finite, specials = row[12:15]
    if not specials and row[6] is not None and row[9] is not None:
        return MetricSummary(key, Point(*row[0:3]), Point(*row[3:6]), Point(*row[6:9]), Point(*row[9:12]), count, non_finite)
    ends = (_end(row[3 * index : 3 * index + 3], _special(specials, index) if specials else None) for index in range(4))
    last, first, low, high = ends
    assert last is not None and first is not None, "the columns of last and first are not nullable"  # noqa: S101, PT018
    return MetricSummary(key, last, first, low, high, count, non_finite)


def _special(specials: int, index: int) -> float | None:
    """Return the value that a column could not hold, None where it holds it."""
    if specials & NEGATIVE_ZERO << index:
        return -0.0
    return SPECIAL_VALUES[specials >> (2 * index) & 3]


def _end(fields: Sequence[Any], special: float | None) -> Point | None:
    value, step, time = fields
    if value is None:
        return None
    return Point(value if special is None else special, step, time)
