"""What readers ask. Each answer takes a constant number of queries, however many runs it holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np
from sqlalchemy import Connection, Select, and_, bindparam, exists, func, or_, select, update

from flightlog.schema.entities import Attempt, Experiment, MetricSummary, Run, RunData, RunInfo
from flightlog.schema.errors import NotFound
from flightlog.schema.fold import ArtifactState, hidden_steps
from flightlog.stores import series
from flightlog.stores.base import Envelope, History, Outcome, PendingArtifact
from flightlog.stores.experiments import is_experiment_id
from flightlog.stores.sql.attempts import later_attempts, visible_points
from flightlog.stores.sql.history import decode_all
from flightlog.stores.sql.inputs import InputsAndOutputs, read_inputs
from flightlog.stores.sql.rows import fetch
from flightlog.stores.sql.states import ARTIFACT_COLUMNS, artifact_of, load_experiments, path_hash, stamp_text
from flightlog.stores.sql.summaries import SUMMARY_COLUMNS, from_row, last_of
from flightlog.stores.sql.tables import (
    artifacts,
    dataset_inputs,
    experiments,
    latest_metrics,
    metric_chunks,
    metric_names,
    params,
    run_models,
    runs,
    tags,
)

INFO_COLUMNS = tuple(
    runs.c[name]
    for name in (
        "run_id",
        "experiment_id",
        "user_id",
        "status",
        "start_time",
        "end_time",
        "lifecycle_stage",
        "artifact_uri",
        "name",
        "status_reason",
    )
)

HAS_INPUTS = or_(*(exists().where(table.c.run == runs.c.id) for table in (dataset_inputs, run_models)))
INFOS = select(runs.c.id, *INFO_COLUMNS, HAS_INPUTS)
METRICS = select(latest_metrics.c.run, latest_metrics.c.metric, *SUMMARY_COLUMNS)
TEXTS = [(table, select(table.c.run, table.c.key, table.c.value).where(table.c.value.is_not(None))) for table in (params, tags)]


def get_run(connection: Connection, run_id: str) -> Run:
    """Return a run. Raises `NotFound`."""
    number = connection.execute(select(runs.c.id).where(runs.c.run_id == run_id)).scalar()
    if number is None:
        raise NotFound(f"no run has the id {run_id!r}")
    return load_runs(connection, [number])[0]


def load_runs(connection: Connection, numbers: Sequence[int]) -> list[Run]:
    """Return the runs of the given `runs.id`, in that order."""
    infos = {row[0]: row[1:] for row in fetch(connection, INFOS, runs.c.id, numbers)}
    metrics = _metric_rows(connection, numbers)
    texts = [_texts(connection, table.c.run, query, numbers) for table, query in TEXTS]
    inputs = read_inputs(connection, [number for number in numbers if infos[number][-1]])
    return [_run(infos[number][:-1], metrics[number], texts[0][number], texts[1][number], inputs.get(number)) for number in numbers]


MetricRows = dict[str, Sequence[Any]]
"""The `SUMMARY_COLUMNS` of each metric of a run, in order of the names."""


def _metric_rows(connection: Connection, numbers: Sequence[int]) -> dict[int, MetricRows]:
    rows = fetch(connection, METRICS, latest_metrics.c.run, numbers)
    names = names_of_metrics(connection, {row[1] for row in rows})
    found: dict[int, MetricRows] = {number: {} for number in numbers}
    for row in sorted(rows, key=lambda row: names[row[1]]):
        found[row[0]][names[row[1]]] = row[2:]
    return found


def names_of_metrics(connection: Connection, numbers: Collection[int]) -> dict[int, str]:
    """Return the names of metrics by their ids."""
    rows = fetch(connection, select(metric_names.c.id, metric_names.c.name), metric_names.c.id, sorted(numbers))
    return {row[0]: row[1] for row in rows}


def _texts(connection: Connection, owner: Any, query: Select[Any], numbers: Sequence[int]) -> dict[int, dict[str, Any]]:  # noqa: ANN401
    found: dict[int, dict[str, Any]] = {number: {} for number in numbers}
    for run, key, value in sorted(fetch(connection, query, owner, numbers), key=itemgetter(1)):
        found[run][key] = value
    return found


def _run(
    info: Sequence[Any], metrics: MetricRows, run_params: dict[str, str], run_tags: dict[str, str], used: InputsAndOutputs | None
) -> Run:
    run_id, experiment_id, *rest = info
    last = {key: last_of(row[0], row[-1]) if row[-1] else row[0] for key, row in metrics.items()}
    data = RunData.deferred(last, run_params, run_tags, partial(_summaries, metrics))
    return Run(RunInfo(run_id, str(experiment_id), *rest), data, *(used or ()))


def _summaries(rows: MetricRows) -> dict[str, MetricSummary]:
    return {key: from_row(key, row) for key, row in rows.items()}


def get_experiment(connection: Connection, experiment_id: str) -> Experiment:
    """Return an experiment. Raises `NotFound`."""
    found = load_experiments(connection, [int(experiment_id)] if is_experiment_id(experiment_id) else [])
    if not found:
        raise NotFound(f"no experiment has the id {experiment_id[:100]!r}")
    return found[int(experiment_id)].to_experiment()


def get_experiment_by_name(connection: Connection, name: str) -> Experiment | None:
    """Return the experiment of that name, or None."""
    number = connection.execute(select(experiments.c.experiment_id).where(experiments.c.name == name)).scalar()
    return None if number is None else load_experiments(connection, [number])[number].to_experiment()


def list_experiments(connection: Connection, numbers: Sequence[int]) -> list[Experiment]:
    """Return the experiments of the given ids, in that order."""
    found = load_experiments(connection, numbers)
    return [found[number].to_experiment() for number in numbers]


def metric_arrays(
    connection: Connection, run_id: str, key: str, start_step: int | None, end_step: int | None, attempt: int | None
) -> History:
    """Return the points of a metric with steps in a range, of one attempt or, for None, those that no later attempt hides."""
    later = later_attempts(connection, run_id) if attempt is None else []
    query = _chunks(select(metric_chunks.c.attempt, metric_chunks.c.body), run_id, key, start_step, end_step, attempt)
    rows = ((found, body) for found, body in connection.execute(query))
    return series.between(visible_points(rows, later), start_step, end_step)


COLUMNS = ("id", "min_step", "max_step", "count", "min_value", "max_value", "first_value", "last_value")


class Chunk(NamedTuple):
    """What `COLUMNS` say of the points of a chunk. `size` is their number."""

    id: int
    min_step: int
    max_step: int
    size: int
    min_value: float | None
    max_value: float | None
    first_value: float | None
    last_value: float | None


def envelope(
    connection: Connection, run_id: str, key: str, buckets: int, start_step: int | None, end_step: int | None, attempt: int | None
) -> Envelope:
    """Return the envelope of a metric. Chunks that lie within one bucket, beside all others, are not read: their columns say enough."""
    series.check_buckets(buckets)
    columns = tuple(metric_chunks.c[name] for name in (*COLUMNS, "attempt"))
    found = connection.execute(_chunks(select(*columns), run_id, key, start_step, end_step, attempt)).all()
    cuts = _cuts(connection, found, later_attempts(connection, run_id) if attempt is None else [])
    rows = _shown(found, cuts, start_step)
    if not rows or (start_step is not None and end_step is not None and start_step > end_step):
        return series.points(decode_all([]))
    low = min(row.min_step for row in rows) if start_step is None else start_step
    high = max(row.max_step for row in rows) if end_step is None else end_step
    widths = series.Buckets(buckets, low, high)
    whole = _whole(rows, widths, low, high)
    read = [row.id for row, skip in zip(rows, whole, strict=True) if not skip and row.id not in cuts]
    bodies = fetch(connection, select(metric_chunks.c.body), metric_chunks.c.id, read)
    history = series.merged([decode_all(body for (body,) in bodies), *cuts.values()])
    points = series.points(series.between(history, low, high))
    chunks = _summed([row for row, skip in zip(rows, whole, strict=True) if skip])
    return series.bucketed(series.joined(points, chunks), widths)


def _cuts(connection: Connection, rows: Sequence[Any], later: Sequence[Attempt]) -> dict[int, History]:
    """Return what stays visible of each chunk of which later attempts hide points, by its id. `rows` end with the attempt."""
    floors = hidden_steps(later)
    floor_of = {row.id: floors[row.attempt] for row in rows} if later else {}
    reached = {row.id: floor for row in rows if (floor := floor_of.get(row.id)) is not None and row.max_step >= floor}
    bodies = fetch(connection, select(metric_chunks.c.id, metric_chunks.c.body), metric_chunks.c.id, sorted(reached))
    return {number: series.before(decode_all([body]), reached[number]) for number, body in bodies}


def _shown(rows: Sequence[Any], cuts: dict[int, History], start_step: int | None) -> list[Chunk]:
    """Return the chunks that have visible points from a step on; one that is cut says nothing of its values, so it will be read."""
    chunks = (Chunk(*row[:-1]) for row in rows)
    shown = [_cut(item, cuts[item.id]) if item.id in cuts else item for item in chunks if item.id not in cuts or len(cuts[item.id])]
    return [item for item in shown if start_step is None or item.max_step >= start_step]


def _cut(item: Chunk, visible: History) -> Chunk:
    return Chunk(item.id, item.min_step, int(visible.step[-1]), len(visible), None, None, None, None)


def _chunks(query: Select[Any], run_id: str, key: str, start_step: int | None, end_step: int | None, attempt: int | None) -> Select[Any]:
    """Complete a query of chunks to those of one metric that may have steps in a range, in the order of their steps."""
    chunk = metric_chunks.c
    query = query.select_from(metric_chunks).join(runs).join(metric_names).where(runs.c.run_id == run_id, metric_names.c.name == key)
    if attempt is not None:
        query = query.where(chunk.attempt == attempt)
    if start_step is not None:
        query = query.where(chunk.max_step >= start_step)
    if end_step is not None:
        query = query.where(chunk.min_step <= end_step)
    return query.order_by(chunk.min_step, chunk.id)


def _whole(rows: Sequence[Any], widths: series.Buckets, low: int, high: int) -> list[bool]:
    """Say of each chunk, in the order of their steps, whether its columns can stand for its points."""
    first, last = (np.array([getattr(row, name) for row in rows], np.int64) for name in ("min_step", "max_step"))
    reach = np.maximum.accumulate(last)
    apart = np.ones(len(rows), np.bool_)
    apart[1:] &= first[1:] > reach[:-1]
    apart[:-1] &= last[:-1] < first[1:]
    finite = np.array([None not in row[4:] for row in rows])
    inside = (first >= low) & (last <= high) & (widths.of(first) == widths.of(last))
    whole: list[bool] = (apart & finite & inside).tolist()
    return whole


def _summed(rows: Sequence[Any]) -> Envelope:
    steps = np.array([row[1:4] for row in rows], np.int64).reshape(-1, 3).T
    values = np.array([row[4:] for row in rows], np.float64).reshape(-1, 4).T
    return Envelope(steps[0], steps[1], steps[2], values[0], values[1], values[2], values[3])


def list_artifacts(connection: Connection, run_id: str) -> list[ArtifactState]:
    """Return the artifacts of a run, in order of their paths."""
    query = select(*ARTIFACT_COLUMNS).join_from(artifacts, runs).where(runs.c.run_id == run_id)
    return sorted((artifact_of(row) for row in connection.execute(query)), key=lambda artifact: artifact.path)


def dropped(connection: Connection) -> dict[str, int]:
    """Return how many events each run has lost, for runs that have lost some."""
    query = select(runs.c.run_id, runs.c.dropped).where(runs.c.dropped > 0)
    return {row.run_id: row.dropped for row in connection.execute(query)}


def pending_artifacts(connection: Connection, limit: int, after: PendingArtifact | None) -> list[PendingArtifact]:
    """Return a page of the artifacts that wait to be stored, in the order of their primary key."""
    query = _pending()
    if after is not None:
        run = select(runs.c.id).where(runs.c.run_id == after[0]).scalar_subquery()
        later_path = and_(artifacts.c.run == run, artifacts.c.path_hash > path_hash(after[2].path))
        query = query.where(or_(artifacts.c.run > run, later_path))
    rows = connection.execute(query.order_by(artifacts.c.run, artifacts.c.path_hash).limit(limit))
    return [(row[0], row[1], artifact_of(row[2:])) for row in rows]


def pending_snapshots(connection: Connection, snapshots: Collection[str]) -> list[PendingArtifact]:
    """Return those of the artifacts that wait to be stored whose snapshots are given by name."""
    return [(row[0], row[1], artifact_of(row[2:])) for row in fetch(connection, _pending(), artifacts.c.snapshot, sorted(snapshots))]


def homeless_snapshots(connection: Connection, snapshots: Collection[str]) -> dict[str, str]:
    """Return those of the snapshots whose artifacts wait for their run to be started, each with the run's id."""
    query = select(artifacts.c.snapshot, runs.c.run_id).join_from(artifacts, runs)
    query = query.where(artifacts.c.state == "pending", runs.c.artifact_uri.is_(None))
    return {row.snapshot: row.run_id for row in fetch(connection, query, artifacts.c.snapshot, sorted(snapshots))}


def unnamed_snapshots(connection: Connection, snapshots: Collection[str]) -> set[str]:
    """Return those of the snapshots that no artifact which waits or failed names."""
    query = select(artifacts.c.snapshot).where(artifacts.c.state.in_(("pending", "failed")))
    return set(snapshots) - {row.snapshot for row in fetch(connection, query, artifacts.c.snapshot, sorted(snapshots))}


def _pending() -> Select[Any]:
    query = select(runs.c.run_id, runs.c.artifact_uri, *ARTIFACT_COLUMNS).join_from(artifacts, runs)
    return query.where(artifacts.c.state == "pending", runs.c.artifact_uri.is_not(None))


def settle_artifacts(connection: Connection, outcomes: Sequence[Outcome]) -> None:
    """Say what became of artifacts, unless newer ones at their paths have come."""
    known = fetch(connection, select(runs.c.run_id, runs.c.id), runs.c.run_id, {outcome.run_id for outcome in outcomes})
    numbers = {row.run_id: row.id for row in known}
    rows = sorted((_settled(numbers[item.run_id], item) for item in outcomes if item.run_id in numbers), key=itemgetter("of", "hash"))
    mine = and_(artifacts.c.run == bindparam("of"), artifacts.c.path_hash == bindparam("hash"), artifacts.c.stamp == bindparam("when"))
    new: dict[str, Any] = {
        "state": bindparam("to"),
        "reason": bindparam("why"),
        "sha256": func.coalesce(bindparam("sum"), artifacts.c.sha256),
    }
    if rows:
        connection.execute(update(artifacts).where(mine).values(new), rows)


def _settled(run: int, outcome: Outcome) -> dict[str, Any]:
    artifact = outcome.artifact
    return {
        "of": run,
        "hash": path_hash(artifact.path),
        "when": stamp_text(artifact.stamp),
        "to": outcome.state,
        "why": outcome.reason,
        "sum": artifact.sha256,
    }
