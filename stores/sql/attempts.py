"""Attempts in the database: to which one a writer and a chunk of history belong, and what stays visible beside the later ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, bindparam, delete, select, update

from flightlog.schema.entities import Attempt
from flightlog.schema.fold import hidden_steps
from flightlog.stores import series
from flightlog.stores.base import History
from flightlog.stores.sql.history import decode_all
from flightlog.stores.sql.points import Groups, Series
from flightlog.stores.sql.rows import Values, fetch, insert_rows
from flightlog.stores.sql.summaries import summarise, to_row
from flightlog.stores.sql.tables import attempts, latest_metrics, metric_chunks, runs, writers

chunk = metric_chunks.c

WriterAttempts = dict[int, int | None]
"""The attempt of each writer by `writers.id`; None for one of whom no event has come."""


def load_writer_attempts(connection: Connection, writer_ids: Iterable[int]) -> WriterAttempts:
    """Return the attempts of writers."""
    rows = fetch(connection, select(writers.c.id, writers.c.attempt), writers.c.id, sorted(set(writer_ids)))
    return {row.id: row.attempt for row in rows}


def save_writer_attempts(connection: Connection, before: WriterAttempts, after: WriterAttempts) -> None:
    """Write those of the attempts that have changed."""
    changed = [{"number": number, "now": attempt} for number, attempt in sorted(after.items()) if before[number] != attempt]
    if changed:
        connection.execute(update(writers).where(writers.c.id == bindparam("number")).values(attempt=bindparam("now")), changed)


def load_attempts(connection: Connection, numbers: Sequence[int]) -> dict[int, list[Attempt]]:
    """Return the attempts after the first of each of the runs (`runs.id`) that has any, in order."""
    found: dict[int, list[Attempt]] = {}
    query = select(attempts).order_by(attempts.c.run, attempts.c.attempt)
    for run, *fields in fetch(connection, query, attempts.c.run, numbers):
        found.setdefault(run, []).append(Attempt(*fields))
    return found


def attempt_rows(number: int, added: Iterable[Attempt]) -> list[Values]:
    """Return attempts of a run as rows."""
    return [{"run": number, **attempt.to_dictionary()} for attempt in added]


def later_attempts(connection: Connection, run_id: str) -> list[Attempt]:
    """Return the attempts of a run after the first; an unknown run has none."""
    query = select(attempts.c.attempt, attempts.c.time, attempts.c.from_step).join_from(attempts, runs).where(runs.c.run_id == run_id)
    return [Attempt(*row) for row in connection.execute(query.order_by(attempts.c.attempt))]


def list_attempts(connection: Connection, run_id: str) -> list[Attempt]:
    """Return all attempts of a run; an unknown run has none."""
    start = connection.execute(select(runs.c.start_time).where(runs.c.run_id == run_id)).scalar()
    return [] if start is None else [Attempt(0, start), *later_attempts(connection, run_id)]


def visible_points(chunks: Iterable[tuple[int, bytes]], later: Sequence[Attempt]) -> History:
    """Return the points of chunks, each given by its attempt and body, that no later attempt hides, in order."""
    bodies: dict[int | None, list[bytes]] = {None: []}
    floors = hidden_steps(later) if later else None
    for attempt, body in chunks:
        bodies.setdefault(floors[attempt] if floors else None, []).append(body)
    return series.merged([series.before(decode_all(items), floor) for floor, items in bodies.items()])


def summarise_anew(connection: Connection, run: int, later: Sequence[Attempt], from_step: int) -> None:
    """Make the summaries of a run those of what stays visible, for the metrics of which an attempt from that step on may hide points."""
    touched = select(chunk.metric).where(chunk.run == run, chunk.max_step >= from_step).distinct().order_by(chunk.metric)
    for metric in connection.execute(touched).scalars().all():
        mine: Mapping[str, Any] = {"run": run, "metric": metric}
        rows = connection.execute(select(chunk.attempt, chunk.body).where(chunk.run == run, chunk.metric == metric))
        history = visible_points(((attempt, body) for attempt, body in rows), later)
        connection.execute(delete(latest_metrics).where(latest_metrics.c.run == run, latest_metrics.c.metric == metric))
        insert_rows(connection, latest_metrics, [{**mine, **to_row(summary)} for summary in summarise(_one_group(history))])


def _one_group(history: History) -> Groups:
    only = [Series("", "")] if len(history) else []
    return Groups(only, np.array([0, len(history)][: len(only) + 1], np.int64), history.step, history.timestamp, history.value)
