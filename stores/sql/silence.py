"""Runs that are under way and of which nothing has been heard for long."""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from flightlog.stores.sql.tables import runs, writers

MOST = 500
"""Runs that are marked in one transaction."""


def silent_runs(connection: Connection, before: int, living: Collection[str]) -> list[tuple[str, int]]:
    """Return runs that were last heard of before a time, and when: some of them if there are many, and none of the living."""
    last_seen = func.max(writers.c.updated)
    query = select(runs.c.run_id, last_seen).join_from(runs, writers, runs.c.run_id == writers.c.subject)
    query = query.where(runs.c.status.in_(("RUNNING", "SCHEDULED")), runs.c.started == 1).group_by(runs.c.run_id)
    rows = connection.execute(query.having(last_seen < before).order_by(runs.c.run_id))
    return [(run_id, seen) for run_id, seen in rows if run_id not in living][:MOST]
