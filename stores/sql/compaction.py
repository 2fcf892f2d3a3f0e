"""Housekeeping: the small chunks that batches leave become full ones, each attempt's for itself.

A step changes rows in one transaction: some chunks are read and deleted, and their points written as one. So a step that is killed
changes nothing, and a reader sees the points before or after it, never twice. A step looks at few metrics, and the next goes on there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, delete, func, select

from flightlog.stores.sql.engine import reading, write
from flightlog.stores.sql.history import CHUNK, Key, decode_all, save_points
from flightlog.stores.sql.points import Groups, Series
from flightlog.stores.sql.rows import fetch, in_parts
from flightlog.stores.sql.tables import metric_chunks

SMALL = CHUNK // 2
"""Chunks of fewer points are worth merging."""
SERIES_A_STEP = 64

chunk = metric_chunks.c


@dataclass
class Compaction:
    """Merges chunks, metric by metric. `after` is the last key that was looked at."""

    after: Key = (-1, -1, -1)

    def step(self, engine: Engine) -> bool:
        """Merge the chunks of some metrics; say whether there may be more to merge."""
        with reading(engine) as connection:
            found = _fragmented(connection, self.after)
        if found:
            write(engine, partial(_merge_all, keys=found))
        self.after = found[-1] if len(found) == SERIES_A_STEP else (-1, -1, -1)
        return len(found) == SERIES_A_STEP


def _fragmented(connection: Connection, after: Key) -> list[Key]:
    """Return the next metrics that have several small chunks."""
    run, metric, attempt = after
    key = (chunk.run, chunk.metric, chunk.attempt)
    later_metric = (chunk.metric > metric) | ((chunk.metric == metric) & (chunk.attempt > attempt))
    later = (chunk.run > run) | ((chunk.run == run) & later_metric)
    query = select(*key).where(later, chunk.run >= run, chunk["count"] < SMALL)
    query = query.group_by(*key).having(func.count() > 1).order_by(*key)
    return [(row[0], row[1], row[2]) for row in connection.execute(query.limit(SERIES_A_STEP))]


def _merge_all(connection: Connection, keys: Sequence[Key]) -> None:
    for key in keys:
        _merge_series(connection, key)


def _merge_series(connection: Connection, key: Key) -> None:
    """Merge neighbours, in the order of their steps, as long as they fit into one chunk."""
    query = select(chunk.id, chunk["count"]).where(chunk.run == key[0], chunk.metric == key[1], chunk.attempt == key[2])
    for rows in _neighbours(connection.execute(query.order_by(chunk.min_step, chunk.id)).all()):
        _merge(connection, key, rows)


def _neighbours(rows: Sequence[Any]) -> list[list[int]]:
    """Return the keys of chunks that become one."""
    found: list[list[int]] = []
    room = 0
    for number, count in rows:
        if count > room:
            found.append([])
            room = CHUNK
        found[-1].append(number)
        room -= count
    return [numbers for numbers in found if len(numbers) > 1]


def _merge(connection: Connection, key: Key, numbers: list[int]) -> None:
    bodies = fetch(connection, select(chunk.body).with_for_update(), chunk.id, numbers)
    if len(bodies) < len(numbers):
        return  # another worker was faster
    history = decode_all(body for (body,) in bodies)
    for part in in_parts(numbers):
        connection.execute(delete(metric_chunks).where(chunk.id.in_(part)))
    bounds = np.array([0, len(history)], np.int64)
    save_points(connection, [key], Groups([Series("", "")], bounds, history.step, history.timestamp, history.value))
