"""The versions of the schema, for Alembic, and the step that brings a database to the newest."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, inspect, text

from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.sql.engine import reading, writing

HEAD = "0002"
"""The newest version. Kept here so that opening a database that is up to date does not load Alembic; a test holds it true."""
LOCKS = {"postgresql": "SELECT pg_advisory_xact_lock(7308606371)"}
"""How to wait for another process that migrates. SQLite's write transaction is such a lock by itself."""


def migrate(engine: Engine) -> None:
    """Bring a database to the newest version, under a lock. Raises `StoreUnavailable` for one that is newer still."""
    with reading(engine) as connection:
        if version_of(connection) == HEAD:
            return
    with writing(engine) as connection:
        if engine.dialect.name in LOCKS:
            connection.execute(text(LOCKS[engine.dialect.name]))
        if version_of(connection) != HEAD:
            _upgrade(connection)


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
        place = connection.engine.url.render_as_string(hide_password=True)
        raise StoreUnavailable(
            f"the database {place} has schema version {version}, unknown here where {HEAD} is the newest; upgrade flightlog"
        )
    command.upgrade(config, "head")
