"""Opening a database, and the one way to a transaction on it."""

from __future__ import annotations

import os
import random
import sqlite3
import time
import weakref
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, DisconnectionError, NoSuchModuleError, TimeoutError  # noqa: A004 - what a pool raises
from sqlalchemy.pool import ConnectionPoolEntry

from flightlog.schema.errors import InvalidParameter, StoreUnavailable
from flightlog.stores.batches import experiment_of
from flightlog.stores.sql import postgres
from flightlog.stores.sql.drivers import connect_arguments, learn_packet_size, parse_url, shown
from flightlog.stores.sql.faults import is_fault_of_statement, is_race
from flightlog.stores.sql.tables import STRIPES, stripes

T = TypeVar("T")

BUSY_TIMEOUT = 30.0
"""Seconds to wait for another process to finish writing."""
PAGE_SIZE = 8192
CACHE_KIB = 32 << 10
"""Of the database, so much stays in the memory of a connection: with SQLite's own 2 MiB the pages of a search are read anew each time."""
SQLITE_PRAGMAS = (
    f"PRAGMA busy_timeout={int(BUSY_TIMEOUT * 1000)}",
    f"PRAGMA page_size={PAGE_SIZE}",
    f"PRAGMA cache_size=-{CACHE_KIB}",
    "PRAGMA synchronous=NORMAL",
    "PRAGMA foreign_keys=ON",
    "PRAGMA case_sensitive_like=ON",
    "PRAGMA journal_size_limit=67108864",
)
MYSQL = ("mysql", "mariadb")
ONE_STATE_ANYWAY = ("sqlite", "mssql")
"""Where a transaction sees one state without being told, or can be told only in a way that makes writers wait."""
POOL_SIZE = 5
"""Connections that one process holds at most: only workers and servers have any."""
IDLE = 1.0
"""Seconds without use after which a connection is asked whether it is still there."""
RETURNED = "flightlog_returned"
POOL_TIMEOUT = 30.0
"""Seconds to wait for one of them."""
PAUSES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Seconds, about, between the repetitions of a transaction that met another."""


def open_engine(database_url: str) -> Engine:
    """Return an engine for a database URL; the folder of a SQLite file is made. Raises `InvalidParameter` or `StoreUnavailable`."""
    url = parse_url(database_url)
    try:
        engine = create_engine(url, connect_args=connect_arguments(url), **_pooled(url))
    except (ArgumentError, NoSuchModuleError, ModuleNotFoundError) as error:
        raise InvalidParameter(f"database URL {shown(url)!r} cannot be used: {error}") from error
    if engine.dialect.name == "sqlite":
        _make_folder(url)
        event.listen(engine, "connect", _prepare_sqlite)
        event.listen(engine, "begin", _begin_sqlite)
    else:
        event.listen(engine, "checkin", _note_return)
        event.listen(engine, "checkout", partial(_check_idle, engine.dialect))
    if engine.dialect.name in MYSQL:
        event.listen(engine, "connect", _prepare_mysql)
    elif engine.dialect.name == "postgresql":
        event.listen(engine, "before_cursor_execute", postgres.ask_for_bytes)
    return engine


def close_with(owner: object, engine: Engine) -> None:
    """See that the connections of an engine are closed when its owner is gone: a cache of readers drops those that were not asked for long.

    A forked child leaves those of its parent alone.
    """
    weakref.finalize(owner, _dispose, engine, os.getpid())


def _dispose(engine: Engine, process: int) -> None:
    if os.getpid() == process:
        engine.dispose()


def _pooled(url: URL) -> dict[str, Any]:
    """Return the options of a server's pool."""
    kind = url.get_backend_name()
    if kind == "sqlite":
        return {}
    pool: dict[str, Any] = {"pool_size": POOL_SIZE, "max_overflow": 0, "pool_timeout": POOL_TIMEOUT}
    return pool | ({"isolation_level": "READ COMMITTED"} if kind in MYSQL else {})


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """Give a connection that sees one state of the database throughout. Raises `StoreUnavailable`."""
    with _translated(engine), engine.connect() as connection:
        if engine.dialect.name not in ONE_STATE_ANYWAY:
            connection.execution_options(isolation_level="REPEATABLE READ", **{postgres.READS: True})
        with connection.begin():
            yield connection


@contextmanager
def reading_once(engine: Engine) -> Iterator[Connection]:
    """Give a connection for a single query, with as few messages to the server as there can be. Raises `StoreUnavailable`."""
    level = {"isolation_level": "AUTOCOMMIT"} if engine.dialect.name == "postgresql" else {}
    with _translated(engine), engine.execution_options(**level).begin() as connection:
        yield connection


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Give a connection in a transaction that writes: committed at the end, rolled back on an error. Raises `StoreUnavailable`."""
    with _translated(engine), _write_transaction(engine) as connection:
        yield connection


def write(engine: Engine, work: Callable[[Connection], T]) -> T:
    """Return what some work in a transaction that writes comes to. Where another transaction was in the way, all of it is repeated.

    So the work must change nothing but the database. Raises `StoreUnavailable`, or the database's error where the statement is at fault.
    """
    with _translated(engine):
        for pause in PAUSES:
            try:
                with _write_transaction(engine) as connection:
                    return work(connection)
            except DBAPIError as error:
                if not is_race(error):
                    raise
                time.sleep(pause * random.uniform(0.5, 1.5))
        with _write_transaction(engine) as connection:
            return work(connection)


def _write_transaction(engine: Engine) -> AbstractContextManager[Connection]:
    return engine.execution_options(flightlog_writes=True).begin()


def lock_subjects(connection: Connection, subjects: Collection[str]) -> None:
    """Keep other workers from changing these subjects until the transaction ends: what is read now will still be so when it is written.

    An experiment takes its runs along, so a batch that holds events of one waits for all others. SQLite has one writer at a time anyway.
    """
    if connection.dialect.name == "sqlite":
        return
    numbers = {zlib.crc32(subject.encode()) % STRIPES for subject in subjects}
    if any(experiment_of(subject) is not None for subject in subjects):
        numbers = set(range(STRIPES))
    query = select(stripes.c.id).where(stripes.c.id.in_(sorted(numbers))).order_by(stripes.c.id)
    connection.execute(query.with_for_update().with_hint(stripes, "WITH (UPDLOCK)", "mssql")).all()


@contextmanager
def _translated(engine: Engine) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise StoreUnavailable(f"the database {shown(engine.url)} has no connection to spare: {error}") from error
    except DBAPIError as error:
        if is_fault_of_statement(error):
            raise
        raise StoreUnavailable(f"the database {shown(engine.url)} cannot be used now: {error.orig}") from error


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


def _note_return(_: object, record: ConnectionPoolEntry) -> None:
    record.info[RETURNED] = time.monotonic()


def _check_idle(dialect: Dialect, connection: DBAPIConnection, record: ConnectionPoolEntry, _: object) -> None:
    """Ask whether a connection is still there that nobody has used for a while. The pool replaces one that is not.

    To ask each time would double the messages of a short query, and would not find what breaks in mid-transaction either.
    """
    if time.monotonic() - record.info.get(RETURNED, time.monotonic()) < IDLE:
        return
    try:
        dialect.do_ping(connection)
    except dialect.loaded_dbapi.Error as error:
        raise DisconnectionError(f"the connection is gone: {error}") from error


def _prepare_mysql(connection: Any, _: object) -> None:  # noqa: ANN401 - PyMySQL's connection
    learn_packet_size(connection)


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
