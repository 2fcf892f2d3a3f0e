"""States as rows, written straight into the tables, so that a search can be tested without a projector."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, insert

from flightlog.schema.entities import MetricSummary, Point
from flightlog.schema.filters.nodes import clamp
from flightlog.schema.fold import ExperimentState, RunState, Stamped, merge_summaries, summary_of
from flightlog.stores.sql.inputs import dataset_row
from flightlog.stores.sql.tables import dataset_inputs, experiment_tags, experiments, latest_metrics, metric_names, params, runs, tags


def memory_engine() -> Engine:
    """Return an engine of an empty SQLite database in memory, in which LIKE minds the case."""
    engine = create_engine("sqlite://")
    event.listen(engine, "connect", lambda connection, _: connection.execute("PRAGMA case_sensitive_like=ON"))
    runs.metadata.create_all(engine)
    return engine


def summary(key: str, *values: float) -> MetricSummary:
    """Return the summary of values at the steps 0, 1, 2, ..."""
    whole = summary_of(key, Point(values[0], 0, 0))
    for step, value in enumerate(values[1:], start=1):
        whole = merge_summaries(whole, summary_of(key, Point(value, step, 0)))
    return whole


def insert_runs(connection: Connection, states: Sequence[RunState]) -> dict[int, str]:
    """Insert runs; returns run ids by their keys."""
    names = sorted({key for state in states for key in state.metrics})
    ids = {name: number for number, name in enumerate(names, start=1)}
    numbered = list(enumerate(states, start=1))
    _insert(connection, metric_names, ({"id": number, "name": name} for name, number in ids.items()))
    _insert(connection, runs, (_run_row(key, state) for key, state in numbered))
    _insert(connection, params, ({"run": run, "key": key, "value": text} for run, state in numbered for key, text in state.params.items()))
    _insert(connection, tags, ({"run": run, **row} for run, state in numbered for row in _tag_rows(state.tags)))
    _insert(connection, dataset_inputs, (dataset_row(run, item) for run, state in numbered for item in state.datasets.values()))
    metrics = ((run, item) for run, state in numbered for item in state.metrics.values())
    _insert(connection, latest_metrics, ({"run": run, "metric": ids[item.key], **_metric_row(item)} for run, item in metrics))
    return {key: state.run_id for key, state in numbered}


def insert_experiments(connection: Connection, states: Sequence[ExperimentState]) -> None:
    """Insert experiments."""
    names = ("name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time")
    stamps = {"lifecycle_stamp": "", "name_stamp": ""}
    plain = ((state.experiment_id, {name: getattr(state, name) for name in names}) for state in states)
    _insert(connection, experiments, ({"experiment_id": int(key), **stamps, **row} for key, row in plain))
    rows = ({"experiment_id": int(state.experiment_id), **row} for state in states for row in _tag_rows(state.tags))
    _insert(connection, experiment_tags, rows)


def _insert(connection: Connection, table: Table, rows: Iterable[dict[str, Any]]) -> None:
    values = list(rows)
    if values:
        connection.execute(insert(table), values)


def _run_row(key: int, state: RunState) -> dict[str, Any]:
    names = ("run_id", "user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri")
    plain = {name: getattr(state, name) for name in names}
    rest = {"started": 1, "dropped": 0, "status_stamp": "", "lifecycle_stamp": ""}
    return {"id": key, "name": state.run_name, "experiment_id": int(state.experiment_id), **plain, **rest}


def _tag_rows(tags_by_key: dict[str, Stamped]) -> list[dict[str, Any]]:
    return [{"key": key, "value": tag.value, "stamp": ""} for key, tag in tags_by_key.items()]


def _metric_row(item: MetricSummary) -> dict[str, Any]:
    row: dict[str, Any] = {"count": item.count, "non_finite": item.non_finite, "specials": 0}
    for shift, name in enumerate(("last", "first", "min", "max")):
        point = getattr(item, name)
        values = (_stored(point.value), point.step, point.timestamp) if point else (None, None, None)
        row |= dict(zip((f"{name}_value", f"{name}_step", f"{name}_time"), values, strict=True))
        row["specials"] |= _special(point.value) << 2 * shift if point else 0
    return row


def _stored(value: float) -> float:
    return 0.0 if math.isnan(value) else clamp(value)


def _special(value: float) -> int:
    if math.isnan(value):
        return 1
    return (2 if value > 0 else 3) if math.isinf(value) else 0
