"""Rows by the thousand: statements in parts that every database can bind, and an upsert for each.

On PostgreSQL rows are copied in. PyMySQL makes INSERTs of many rows, of about 1 MB each, from a statement and its rows.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import Column, ColumnElement, Connection, Integer, Select, Table, Text, and_, bindparam, func, insert, select, update
from sqlalchemy.dialects import mysql, sqlite

from flightlog.stores.sql import postgres

T = TypeVar("T")
Values = postgres.Values
KEYS = postgres.KEYS

MAX_LIST = 500
"""Values in one IN list: all dialects can bind that many, and some plan worse with more."""


def in_parts(items: Iterable[T], size: int = MAX_LIST) -> Iterator[list[T]]:
    """Yield the items in lists of at most `size`."""
    every = list(items)
    return (every[start : start + size] for start in range(0, len(every), size))


def fetch(connection: Connection, query: Select[Any], column: ColumnElement[Any], keys: Iterable[Any]) -> list[Any]:
    """Return the rows of a query whose `column` is one of the keys."""
    every = list(keys)
    if not every:
        return []
    if connection.dialect.name == "postgresql":
        return list(connection.execute(query.where(postgres.among(column)), {KEYS: every}).all())
    if connection.dialect.name == "sqlite" and isinstance(column.type, Integer):
        return list(connection.execute(query.where(_in_json(column)), {KEYS: json.dumps(every)}).all())
    return [row for part in in_parts(every) for row in connection.execute(query.where(column.in_(part))).all()]


@cache
def _in_json(column: ColumnElement[int]) -> ColumnElement[bool]:
    """Return the condition that a column is in a JSON array. A parameter for each key would take longer to bind than SQLite to look."""
    return column.in_(select(func.json_each(bindparam(KEYS, type_=Text)).table_valued("value").c.value))


def insert_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, which all have the same columns."""
    if rows and connection.dialect.name == "postgresql":
        postgres.copy_rows(connection, table, rows)
    elif rows:
        connection.execute(insert(table), rows)


def upsert_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, or overwrite those that have their primary key. All rows have the same columns and different keys."""
    if not rows:
        return
    keys = [column.name for column in table.primary_key]
    others = [name for name in rows[0] if name not in keys]
    if connection.dialect.name == "postgresql":
        postgres.upsert_rows(connection, table, rows, keys)
    elif connection.dialect.name == "sqlite":
        lite = sqlite.insert(table)
        connection.execute(lite.on_conflict_do_update(index_elements=keys, set_={name: lite.excluded[name] for name in others}), rows)
    elif connection.dialect.name in ("mysql", "mariadb"):
        maria = mysql.insert(table)
        connection.execute(maria.on_duplicate_key_update({name: maria.inserted[name] for name in others}), rows)
    else:
        for row in rows:
            put_row(connection, table, row)


def put_row(connection: Connection, table: Table, row: Values) -> None:
    """Overwrite the row that has the primary key of a row, or insert one. Never touches another row that has one of its unique names."""
    keys = [column.name for column in table.primary_key]
    others = {name: value for name, value in row.items() if name not in keys}
    found = update(table).where(and_(*(table.c[key] == row[key] for key in keys)))
    if connection.execute(found.values(others)).rowcount == 0:
        connection.execute(insert(table), [row])


def _insert_missing(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, but for those that another transaction has inserted meanwhile; where the database cannot, that is a race."""
    if connection.dialect.name == "postgresql":
        postgres.insert_missing(connection, table, rows)
    elif connection.dialect.name in ("mysql", "mariadb"):
        connection.execute(mysql.insert(table).on_duplicate_key_update(id=table.c.id), rows)
    else:
        insert_rows(connection, table, rows)


def numbered(connection: Connection, column: Column[str], names: Collection[str]) -> dict[str, int]:
    """Return the `id` of each name in a column, inserting in order the rows that are missing."""
    found = find_numbers(connection, column, names)
    missing = sorted(set(names) - found.keys())
    if missing:
        _insert_missing(connection, column.table, [{column.name: name} for name in missing])
        found |= find_numbers(connection, column, missing)
    return found


def find_numbers(connection: Connection, column: Column[str], names: Collection[str]) -> dict[str, int]:
    """Return the `id` of each name that a column holds."""
    return {row[0]: row[1] for row in fetch(connection, select(column, column.table.c.id), column, sorted(names))}
