"""Columns of runs by name: `run_id`, `metrics.loss`, `metrics.loss.min`, `params.*` and so on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from flightlog.cli import output
from flightlog.schema.entities import Run, RunInfo
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.filters.nodes import split_statistic

KINDS = ("metrics", "params", "tags")
EVERYTHING = (
    "run_id",
    "run_name",
    "experiment_id",
    "experiment_name",
    "user_id",
    "status",
    "status_reason",
    "start_time",
    "end_time",
    "lifecycle_stage",
    "artifact_uri",
    "metrics.*",
    "params.*",
    "tags.*",
)
ATTRIBUTES = tuple(name for name in EVERYTHING if not name.endswith(".*"))

ExperimentNames = Mapping[str, str]
"""The names of experiments by id."""


def check(patterns: Sequence[str]) -> Sequence[str]:
    """Return patterns of columns. Raises `InvalidParameter` for one that names nothing of a run."""
    for pattern in patterns:
        kind, dot, key = pattern.partition(".")
        if pattern not in ATTRIBUTES and not (dot and key and kind in KINDS):
            raise InvalidParameter(
                f"there is no column {pattern!r}; there are {', '.join(ATTRIBUTES)}, metrics.KEY, params.KEY and tags.KEY"
            )
    return patterns


def keys_of(run: Run) -> set[str]:
    """Return the columns of metrics, params and tags that a run has."""
    return {f"{kind}.{key}" for kind in KINDS for key in getattr(run.data, kind)}


def expand(patterns: Sequence[str], known: Iterable[str]) -> list[str]:
    """Return the columns that patterns stand for, those of a pattern with `*`, `?` or `[` in order of their names."""
    ordered = sorted(known)
    found = [[name for name in ordered if _matches(name, pattern)] if _is_open(pattern) else [pattern] for pattern in patterns]
    return list(dict.fromkeys(name for names in found for name in names))


def _is_open(pattern: str) -> bool:
    return any(letter in pattern for letter in "*?[")


def _matches(name: str, pattern: str) -> bool:
    return name.partition(".")[0] == pattern.partition(".")[0] and fnmatchcase(name, pattern)


def getter(column: str, names: ExperimentNames) -> Callable[[Run], Any]:
    """Return what gives a run's value in a column, None where it has none. Times are ms since the epoch, UTC."""
    if column == "experiment_name":
        return lambda run: names.get(run.info.experiment_id)
    if column in ATTRIBUTES:
        return lambda run: getattr(run.info, column)
    kind, _, key = column.partition(".")
    if kind == "metrics":
        return lambda run: metric_value(run, key)
    return lambda run: getattr(run.data, kind).get(key)


def metric_value(run: Run, key: str) -> float | None:
    """Return the last value of a metric; of a key such as `loss.min`, unless there is a metric of that name, that statistic of `loss`."""
    if key in run.data.metrics:
        return run.data.metrics[key]
    split = split_statistic(key)
    return statistic_of(run, *split) if split else None


def statistic_of(run: Run, key: str, statistic: str) -> float | None:
    """Return the last, first, least or greatest value of a metric, or its count; None where there is none."""
    summary = run.data.metric_summaries.get(key)
    if summary and statistic == "count":
        return summary.count
    point = getattr(summary, statistic) if summary else None
    return None if point is None else point.value


def took(info: RunInfo) -> str:
    """Return how long a run took, as people read it."""
    return output.span(None if info.end_time is None else (info.end_time - info.start_time) / 1000)
