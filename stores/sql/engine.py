"""Opening a database, and the one way to a transaction on it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, NoSuchModuleError, ProgrammingError

from flightlog.schema.errors import InvalidParameter, StoreUnavailable

BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process to finish writing."""
PAGE_SIZE = 8192
SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout={int(BUSY_TIMEOUT * 1000)}",
    f"PRAGMA page_size={PAGE_SIZE}",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA case_sensitive_like=ON",
    "PRAGMA journal_size_limit=67108864",
)
FAULTS_OF_THE_STATEMENT = (DataError, IntegrityError, ProgrammingError)
"""Errors that trying again later does not cure; they keep their type."""


def open_engine(database_url: str) -> Engine:
    """Return an engine for a database URL; the folder of a SQLite file is made. Raises `InvalidParameter` or `StoreUnavailable`."""
    try:
        url = make_url(database_url)
        engine = create_engine(url)
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise InvalidParameter(f"database URL {database_url!r} cannot be used: {error}") from error
    if engine.dialect.name == "sqlite":
        _make_folder(url)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    return engine


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one state of the database throughout. Raises `StoreUnavailable`."""
    with _translated(engine), engine.begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction that writes: committed at the end, rolled back on an error. Raises `StoreUnavailable`."""
    with _translated(engine), engine.execution_options(flightlog_writes=True).begin() as connection:
        yield connection


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except FAULTS_OF_THE_STATEMENT:
        raise
    except DBAPIError as error:
        place = engine.url.render_as_string(hide_password=True)
        raise StoreUnavailable(f"the database {place} cannot be used now: {error.orig}") from error


def _make_folder(url: URL) -> None:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return
    folder = Path(url.database).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreUnavailable(f"the folder {str(folder)!r} of the database cannot be made: {error}") from error


def _prepare_sqlite(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None
    for pragma in SQLITE_PRAGMAS:
        connection.execute(pragma)
    _enter_wal(connection)


def _enter_wal(connection: sqlite3.Connection) -> None:
    """Switch to a write-ahead log, once in the life of a file. SQLite does not wait by itself when two processes do so at once."""
    deadline = time.monotonic() + BUSY_TIMEOUT
    while True:
        try:
            if connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.005)
        else:
            return


def _begin_sqlite(connection: Connection) -> None:
    """Take the write lock at once where it will be needed: a reader that became a writer could not wait for it."""
    options: dict[str, Any] = dict(connection.get_execution_options())
    connection.exec_driver_sql("BEGIN IMMEDIATE" if options.get("flightlog_writes") else "BEGIN")
