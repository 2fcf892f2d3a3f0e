"""The versions of the schema, for Alembic, and the step that brings a database to the newest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine, inspect, text

from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.sql.drivers import shown
from flightlog.stores.sql.engine import MYSQL, reading, writing

HEAD = "0003"
"""The newest version. Kept here so that opening a database that is up to date does not load Alembic; a test holds it true."""
POSTGRES_LOCK = "SELECT pg_advisory_xact_lock(7308606371)"
MYSQL_LOCK = "SELECT GET_LOCK(SHA1(CONCAT('flightlog ', DATABASE())), 600)"
MYSQL_UNLOCK = "SELECT RELEASE_LOCK(SHA1(CONCAT('flightlog ', DATABASE())))"
"""A lock of the session, since MySQL commits with each change of the schema; such a name counts for all databases of a server."""


def migrate(engine: Engine) -> None:
    """Bring a database to the newest version, under a lock. Raises `StoreUnavailable` for one that is newer still.

    A migration that is killed changes nothing, or, on MySQL, is finished by the next that opens the database.
    """
    with reading(engine) as connection:
        if version_of(connection) == HEAD:
            return
    with writing(engine) as connection, _locked(connection):
        if version_of(connection) != HEAD:
            _upgrade(connection)


@contextmanager
def _locked(connection: Connection) -> Iterator[None]:
    """Wait for another process that migrates, and keep others away. SQLite's write transaction is such a lock by itself."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(POSTGRES_LOCK))
    if connection.dialect.name not in MYSQL:
        yield
        return
    if connection.execute(text(MYSQL_LOCK)).scalar() != 1:
        raise StoreUnavailable(f"the database {shown(connection.engine.url)} has been migrated by another process for ten minutes")
    try:
        yield
    finally:
        if not connection.invalidated:
            connection.execute(text(MYSQL_UNLOCK))


def version_of(connection: Connection) -> str | None:
    """Return the version of a database, None for one that has no tables yet."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    version: str | None = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    return version


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415 - only a database that is not up to date needs Alembic
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", "flightlog.stores.sql:migrations")
    config.attributes["connection"] = connection
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    version = version_of(connection)
    if version is not None and version not in known:
        place = shown(connection.engine.url)
        raise StoreUnavailable(
            f"the database {place} has schema version {version}, unknown here where {HEAD} is the newest; upgrade flightlog"
        )
    command.upgrade(config, "head")
