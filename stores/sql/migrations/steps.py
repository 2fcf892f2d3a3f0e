"""Steps of a migration that may be taken again: MySQL commits each at once, so a migration that was killed begins anew on what it left."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from alembic import op
from sqlalchemy import Column, Connection, Table, inspect, select

from flightlog.stores.sql.rows import Values


def create_tables(connection: Connection, tables: Sequence[Table]) -> None:
    """Create tables and their indexes, those that are missing."""
    for table in tables:
        table.create(connection, checkfirst=True)
        for index in table.indexes:
            index.create(connection, checkfirst=True)


def add_columns(connection: Connection, table: str, *columns: Column[Any]) -> None:
    """Add columns to a table, those that are missing."""
    present = {column["name"] for column in inspect(connection).get_columns(table)}
    for column in columns:
        if column.name not in present:
            op.add_column(table, column)


def seed(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, those whose first column is missing."""
    key = next(iter(table.primary_key))
    present = set(connection.execute(select(key)).scalars())
    missing = [row for row in rows if row[key.name] not in present]
    if missing:
        op.bulk_insert(table, missing)
