"""Repair: the rows of a run or an experiment are replaced by those that its ledger gives, in one transaction each.

The ledger is replayed into a scratch database, with the experiments around it as they were, and the rows are copied from there. The keys
`runs.id` and `metric_names.id` are those of the database that is repaired; whether an artifact is stored is not in the ledger and stays
known.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, Table, delete, insert, select, update

from flightlog.schema.entities import DeadLetter
from flightlog.stores.batches import experiment_of
from flightlog.stores.sql import ledger
from flightlog.stores.sql.ledger import Letter
from flightlog.stores.sql.rows import Values, insert_rows, numbered, upsert_rows
from flightlog.stores.sql.tables import (
    artifacts,
    attempts,
    dead_letters,
    experiment_tags,
    experiments,
    latest_metrics,
    metric_chunks,
    metric_names,
    params,
    runs,
    tags,
    writers,
)

PARTS = (params, tags, artifacts, attempts, latest_metrics, metric_chunks)
"""The tables that hold what belongs to a run, by the column `run`."""
PAGE = 500
"""Rows that are copied at a time."""


def replace_subject(connection: Connection, fresh: Connection, subject: str) -> None:
    """Replace the rows and dead letters of a subject by those of another database, where it was projected anew."""
    experiment_id = experiment_of(subject)
    if experiment_id is None:
        _replace_run(connection, fresh, subject)
    else:
        _replace_experiment(connection, fresh, int(experiment_id))
    _replace_letters(connection, fresh, subject)


def _replace_run(connection: Connection, fresh: Connection, run_id: str) -> None:
    settled = _settled(connection, run_id)
    delete_parts(connection, run_id)
    row = fresh.execute(select(runs).where(runs.c.run_id == run_id)).mappings().first()
    if row is None:
        connection.execute(delete(runs).where(runs.c.run_id == run_id))
        return
    number = _put_run(connection, _without(row, "id"))
    metrics = _metric_keys(connection, fresh, row["id"])
    for table in PARTS:
        for page in _pages(fresh, table, row["id"]):
            insert_rows(connection, table, [_owned(item, number, metrics, settled) for item in page])


def _settled(connection: Connection, run_id: str) -> dict[tuple[str, str], Values]:
    """Return, by path and stamp, what is known of the artifacts of a run besides their events."""
    columns = (artifacts.c.path_hash, artifacts.c.stamp, artifacts.c.state, artifacts.c.reason, artifacts.c.sha256)
    rows = connection.execute(select(*columns).join_from(artifacts, runs).where(runs.c.run_id == run_id))
    return {(row.path_hash, row.stamp): {"state": row.state, "reason": row.reason, "sha256": row.sha256} for row in rows}


def delete_parts(connection: Connection, run_id: str) -> None:
    """Delete all rows that belong to a run, but for its own."""
    number = select(runs.c.id).where(runs.c.run_id == run_id).scalar_subquery()
    for table in PARTS:
        connection.execute(delete(table).where(table.c.run == number))


def _put_run(connection: Connection, row: Values) -> int:
    """Insert or overwrite a run's row; return its key."""
    found = connection.execute(update(runs).where(runs.c.run_id == row["run_id"]).values(row))
    if not found.rowcount:
        connection.execute(insert(runs), [row])
    return int(connection.execute(select(runs.c.id).where(runs.c.run_id == row["run_id"])).scalar_one())


def _metric_keys(connection: Connection, fresh: Connection, run: int) -> dict[int, int]:
    """Return the key of each metric of a run in the one database by that in the other."""
    query = select(metric_names).join_from(metric_names, latest_metrics).where(latest_metrics.c.run == run)
    chunks = select(metric_names).where(metric_names.c.id.in_(select(metric_chunks.c.metric).where(metric_chunks.c.run == run)))
    names = {row.id: row.name for statement in (query, chunks) for row in fresh.execute(statement)}
    known = numbered(connection, metric_names.c.name, set(names.values()))
    return {number: known[name] for number, name in names.items()}


def _pages(fresh: Connection, table: Table, run: int) -> Iterator[Sequence[Any]]:
    rows = fresh.execution_options(yield_per=PAGE).execute(select(table).where(table.c.run == run)).mappings()
    return rows.partitions(PAGE)


def _owned(row: Any, run: int, metrics: dict[int, int], settled: dict[tuple[str, str], Values]) -> Values:  # noqa: ANN401
    values = {**_without(row, "id"), "run": run}
    if "metric" in values:
        values["metric"] = metrics[values["metric"]]
    return values | settled.get((values.get("path_hash", ""), values.get("stamp", "")), {})


def _without(row: Any, name: str) -> Values:  # noqa: ANN401 - a row as a mapping
    return {key: value for key, value in row.items() if key != name}


def _replace_experiment(connection: Connection, fresh: Connection, experiment_id: int) -> None:
    connection.execute(delete(experiment_tags).where(experiment_tags.c.experiment_id == experiment_id))
    row = fresh.execute(select(experiments).where(experiments.c.experiment_id == experiment_id)).mappings().first()
    if row is None:
        connection.execute(delete(experiments).where(experiments.c.experiment_id == experiment_id))
        return
    is_other = (experiments.c.name == row["name"]) & (experiments.c.experiment_id != experiment_id)
    connection.execute(update(experiments).where(is_other).values(name=f"replaced-{uuid.uuid4().hex}"))
    upsert_rows(connection, experiments, [dict(row)])
    found = fresh.execute(select(experiment_tags).where(experiment_tags.c.experiment_id == experiment_id)).mappings()
    insert_rows(connection, experiment_tags, [dict(tag) for tag in found])


def _replace_letters(connection: Connection, fresh: Connection, subject: str) -> None:
    """Replace the dead letters; one that was there keeps its time. The attempts of the writers follow from the ledger as well."""
    numbers = {row.writer: row.id for row in connection.execute(select(writers.c.writer, writers.c.id).where(writers.c.subject == subject))}
    times = {(letter.writer, letter.sequence, letter.reason): letter.time for letter in ledger.letters(connection, subject, None)}
    connection.execute(delete(dead_letters).where(dead_letters.c.writer_id.in_(list(numbers.values()))))
    for row in fresh.execute(select(writers.c.writer, writers.c.attempt).where(writers.c.subject == subject)):
        if row.writer in numbers:
            connection.execute(update(writers).where(writers.c.id == numbers[row.writer]).values(attempt=row.attempt))
    letters = [letter for letter in ledger.letters(fresh, subject, None) if letter.writer in numbers]
    kept = [Letter(numbers[item.writer], _timed(item, times.get((item.writer, item.sequence, item.reason)))) for item in letters]
    ledger.keep_letters(connection, kept)


def _timed(letter: DeadLetter, time: int | None) -> DeadLetter:
    return letter if time is None else replace(letter, time=time)
