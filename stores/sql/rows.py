"""Rows by the thousand: statements in parts that every dialect can bind, and an upsert for each."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Insert, Select, Table, and_, delete, insert, select
from sqlalchemy.dialects import mysql, postgresql, sqlite

T = TypeVar("T")
Values = dict[str, Any]

MAX_LIST = 500
"""Values in one IN list: all dialects can bind that many, and some plan worse with more."""


def in_parts(items: Iterable[T], size: int = MAX_LIST) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    every = list(items)
    return (every[start : start + size] for start in range(0, len(every), size))


def fetch(connection: Connection, query: Select[Any], column: ColumnElement[Any], keys: Iterable[Any]) -> list[Any]:
    """Return the rows of a query whose `column` is one of the keys."""
    return [row for part in in_parts(keys) for row in connection.execute(query.where(column.in_(part)))]


def insert_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, which all have the same columns."""
    if rows:
        connection.execute(insert(table), rows)


def upsert_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, or overwrite those that have their primary key. All rows have the same columns."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    others = [name for name in rows[0] if name not in keys]
    statement = _upsert(connection.dialect.name, table, keys, others)
    if statement is not None:
        connection.execute(statement, rows)
        return
    for row in rows:
        connection.execute(delete(table).where(and_(*(table.c[key] == row[key] for key in keys))))
    insert_rows(connection, table, rows)


def _upsert(dialect: str, table: Table, keys: list[str], others: list[str]) -> Insert | None:
    """Return the one statement for it, None where the dialect has none."""
    if dialect == "sqlite":
        lite = sqlite.insert(table)
        return lite.on_conflict_do_update(index_elements=keys, set_={name: lite.excluded[name] for name in others})
    if dialect == "postgresql":
        postgres = postgresql.insert(table)
        return postgres.on_conflict_do_update(index_elements=keys, set_={name: postgres.excluded[name] for name in others})
    if dialect in ("mysql", "mariadb"):
        maria = mysql.insert(table)
        return maria.on_duplicate_key_update({name: maria.inserted[name] for name in others})
    return None


def numbered(connection: Connection, column: Column[str], names: Collection[str]) -> dict[str, int]:
    """Return the `id` of each name in a column, inserting in order the rows that are missing."""
    found = find_numbers(connection, column, names)
    missing = sorted(set(names) - found.keys())
    if missing:
        insert_rows(connection, column.table, [{column.name: name} for name in missing])
        found |= find_numbers(connection, column, missing)
    return found


def find_numbers(connection: Connection, column: Column[str], names: Collection[str]) -> dict[str, int]:
    """Return the `id` of each name that a column holds."""
    return {row[0]: row[1] for row in fetch(connection, select(column, column.table.c.id), column, sorted(names))}
