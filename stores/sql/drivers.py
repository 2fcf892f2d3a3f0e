"""The drivers: which one a database URL means, how it connects, and what its connections are told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from flightlog.schema import settings
from flightlog.schema.errors import InvalidParameter

CONNECT_TIMEOUT = 10
"""Seconds to wait for a server to take a connection."""
PACKET_TOO_LARGE = 1153
"""MySQL's number for it."""
UNBOUNDED = 1 << 62
READ_TIMEOUT = 600
"""Seconds after which a server that says nothing is taken for lost, where the driver cannot ask the network."""


@dataclass(frozen=True)
class Driver:
    """A driver of a kind of database. `extra` installs it; `options` are arguments of its connections that a URL may overrule."""

    name: str
    module: str
    extra: str
    options: Mapping[str, Any] = field(default_factory=dict)


_PYMYSQL = Driver("pymysql", "pymysql", "mysql", {"connect_timeout": CONNECT_TIMEOUT, "read_timeout": READ_TIMEOUT, "charset": "utf8mb4"})
DRIVERS = {
    "postgresql": Driver(
        "psycopg",
        "psycopg",
        "postgres",
        {"connect_timeout": CONNECT_TIMEOUT, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 6},
    ),
    "mysql": _PYMYSQL,
    "mariadb": _PYMYSQL,
    "mssql": Driver("pymssql", "pymssql", "mssql", {"login_timeout": CONNECT_TIMEOUT}),
}
"""The driver that a scheme means. No other is known to work: a store copies rows in ways that are the driver's own."""


def parse_url(database_url: str) -> URL:
    """Return a URL with its driver: `postgresql:` means psycopg 3. Raises `InvalidParameter`, which never shows a password."""
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError) as error:
        scheme = database_url.partition(":")[0][:40]
        raise InvalidParameter(f"the database URL that begins {scheme!r} cannot be read; write it as scheme://user@host/name") from error
    kind, _, named = url.drivername.partition("+")
    driver = DRIVERS.get(kind)
    if driver is None:
        return url
    if named not in ("", driver.name):
        raise InvalidParameter(f"database URL {shown(url)!r} asks for the driver {named!r}; use {kind}+{driver.name}:")
    _check_installed(url, driver)
    return url.set(drivername=f"{kind}+{driver.name}")


def shown(url: URL) -> str:
    """Return a URL as messages show it, without its password."""
    return settings.shown(url.render_as_string(hide_password=True))


def connect_arguments(url: URL) -> dict[str, Any]:
    """Return what a connection is opened with beside what the URL says."""
    driver = DRIVERS.get(url.get_backend_name())
    arguments = {} if driver is None else {name: value for name, value in driver.options.items() if name not in url.query}
    if driver is _PYMYSQL:
        arguments["cursorclass"] = _measuring_cursor()
    return arguments


def _check_installed(url: URL, driver: Driver) -> None:
    try:
        import_module(driver.module)
    except ImportError as error:
        message = f"database URL {shown(url)!r} needs {driver.module}, which is not installed: pip install 'flightlog[{driver.extra}]'"
        raise InvalidParameter(message) from error


def learn_packet_size(connection: Any) -> None:  # noqa: ANN401 - PyMySQL's connection
    """Ask a MySQL server how long a statement may be, for the cursors of the connection."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@max_allowed_packet")
        connection.flightlog_packet_size = int(cursor.fetchone()[0])
    connection.rollback()


def _measuring_cursor() -> type[Any]:
    """Return PyMySQL's cursor, made to refuse a statement that the server would answer by closing the connection."""
    from pymysql import cursors, err  # noqa: PLC0415 - an optional dependency

    class MeasuringCursor(cursors.Cursor):
        """A cursor that knows how long a statement may be."""

        def _query(self, q: Any) -> Any:  # noqa: ANN401 - a text or bytes
            most: int = getattr(self.connection, "flightlog_packet_size", UNBOUNDED)
            size = len(q.encode()) if isinstance(q, str) and 4 * len(q) > most else len(q)
            if size >= most:
                raise err.DataError(PACKET_TOO_LARGE, f"a statement of {size} bytes reaches the server's max_allowed_packet of {most}")
            return super()._query(q)  # type: ignore[misc]  # the types of PyMySQL leave it out

    return MeasuringCursor
