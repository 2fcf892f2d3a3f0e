"""Rows by the thousand on PostgreSQL: one COPY to insert them, one statement to upsert them, one array for a list of keys."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import ARRAY, BigInteger, ColumnElement, Connection, Double, LargeBinary, SmallInteger, Table, any_, bindparam
from sqlalchemy.exc import DBAPIError
from sqlalchemy.types import Integer, TypeEngine

from flightlog.stores.sql.texts import ExactText, escape_nul

Values = dict[str, Any]
TYPES: tuple[tuple[type[TypeEngine[Any]], str], ...] = (
    (SmallInteger, "int2"),
    (BigInteger, "int8"),
    (Integer, "int4"),
    (Double, "float8"),
    (LargeBinary, "bytea"),
    (ExactText, "text"),
)
"""The server's names of the types that the tables use, the narrower first."""
BINARY = 1
"""The protocol's number of the format."""
KEYS = "keys"
READS = "flightlog_reads"
"""The option of a connection on which nothing is asked but what readers ask."""


@dataclass(frozen=True)
class Shape:
    """Some columns of a table as statements name them, their types, and which of them are texts."""

    table: str
    names: tuple[str, ...]
    columns: str
    types: tuple[str, ...]
    texts: tuple[bool, ...]

    def stored(self, rows: Sequence[Values]) -> list[list[Any]]:
        """Return the values column by column, as they are stored."""
        columns = [[row[name] for row in rows] for name in self.names]
        return [_stored_texts(column) if is_text else column for column, is_text in zip(columns, self.texts, strict=True)]


def _stored_texts(column: list[str | None]) -> list[str | None]:
    return [text and escape_nul(text) for text in column]


@lru_cache(maxsize=64)
def _shape(table: Table, names: tuple[str, ...]) -> Shape:
    columns = [table.c[name] for name in names]
    quoted = ", ".join(_quoted(name) for name in names)
    texts = tuple(isinstance(column.type, ExactText) for column in columns)
    return Shape(_quoted(table.name), names, quoted, tuple(_type_name(column.type) for column in columns), texts)


def _type_name(type_: TypeEngine[Any]) -> str:
    return next(name for kind, name in TYPES if isinstance(type_, kind))


def _quoted(name: str) -> str:
    return f'"{name}"'


def copy_rows(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, which all have the same columns."""
    shape = _shape(table, tuple(rows[0]))
    statement = f"COPY {shape.table} ({shape.columns}) FROM STDIN (FORMAT BINARY)"
    with _wrapped(connection) as driver, driver.cursor() as cursor, cursor.copy(statement) as copy:
        copy.set_types(shape.types)
        for row in zip(*shape.stored(rows), strict=True):
            copy.write_row(row)


def upsert_rows(connection: Connection, table: Table, rows: Sequence[Values], keys: Sequence[str]) -> None:
    """Insert rows, or overwrite those that have the keys. All rows have the same columns."""
    changes = ", ".join(f"{_quoted(name)} = excluded.{_quoted(name)}" for name in rows[0] if name not in keys)
    _insert(connection, _shape(table, tuple(rows[0])), rows, f"({', '.join(map(_quoted, keys))}) DO UPDATE SET {changes}")


def insert_missing(connection: Connection, table: Table, rows: Sequence[Values]) -> None:
    """Insert rows, but for those that another transaction has inserted."""
    _insert(connection, _shape(table, tuple(rows[0])), rows, "DO NOTHING")


def _insert(connection: Connection, shape: Shape, rows: Sequence[Values], on_conflict: str) -> None:
    arrays = ", ".join(f"%b::{name}[]" for name in shape.types)
    statement = f"INSERT INTO {shape.table} ({shape.columns}) SELECT * FROM unnest({arrays}) ON CONFLICT {on_conflict}"  # noqa: S608 - names of ours
    connection.exec_driver_sql(statement, tuple(shape.stored(rows)))


@cache
def among(column: ColumnElement[Any]) -> ColumnElement[bool]:
    """Return the condition that a column is one of those that the parameter `KEYS` lists, however many."""
    return column == any_(bindparam(KEYS, type_=ARRAY(column.type)))


def ask_for_bytes(connection: Connection, cursor: Any, *_: object) -> None:  # noqa: ANN401 - psycopg's cursor
    """Have a reader's numbers and bytes sent as they are: as texts they take longer to write and to read.

    Others get texts, for SQLAlchemy reads those where it asks which tables and indexes there are.
    """
    if READS in connection.get_execution_options():
        cursor.format = BINARY


@contextmanager
def _wrapped(connection: Connection) -> Iterator[Any]:
    """Give the driver's own connection, in the same transaction, and wrap its errors as SQLAlchemy does."""
    fairy = connection.connection
    dialect = connection.dialect
    errors: type[Exception] = dialect.loaded_dbapi.Error
    try:
        yield fairy.driver_connection
    except errors as error:
        is_lost = dialect.is_disconnect(error, fairy, None)  # type: ignore[arg-type]  # a psycopg error is one of the DBAPI's
        if is_lost:
            connection.invalidate(error)
        raise DBAPIError.instance("COPY", None, error, errors, connection_invalidated=is_lost, dialect=dialect) from error
