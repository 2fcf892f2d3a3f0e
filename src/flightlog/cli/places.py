"""Where the state is that a command is about, and opening it without making anything."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from flightlog.schema.errors import NotFound
from flightlog.schema.settings import Location, Settings, locate, without_password
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.stores.sql.engine import open_engine, reading
from flightlog.stores.sql.migrations import version_of
from flightlog.stores.sql.store import SqlStore

FOLDER_SPOOL = "journal"
"""The name of the spool in a flight folder."""


def find(tracking_uri: str | None = None, spool: str | None = None, artifact_root: str | None = None, queue: str | None = None) -> Location:
    """Return the place that arguments and environment name. Raises `InvalidParameter`.

    A spool that is named alone and lies in a flight folder is filed into that folder.
    """
    settings = Settings.from_environ(os.environ)
    settings = replace(settings, artifact_root=artifact_root or settings.artifact_root, queue_uri=queue or settings.queue_uri)
    named = tracking_uri or settings.tracking_uri
    if named is None and spool and Path(spool).name == FOLDER_SPOOL:
        named = str(Path(spool).parent)
    location = locate(named, settings)
    return replace(location, spool=Path(spool).resolve()) if spool else location


def database_file(location: Location) -> Path | None:
    """Return the file of a SQLite database, None for one that is elsewhere."""
    scheme, _, path = location.database_url.partition(":///")
    if scheme.partition("+")[0] != "sqlite" or not path or path.startswith(":memory:"):
        return None
    return Path(path.partition("?")[0])


def revision_of(location: Location) -> str | None:
    """Return the schema revision of a place's database, None for one that is missing or has no tables. Raises `StoreUnavailable`."""
    file = database_file(location)
    if file is not None and not file.exists():
        return None
    engine = open_engine(location.database_url)
    try:
        with reading(engine) as connection:
            return version_of(connection)
    finally:
        engine.dispose()


def check_exists(location: Location) -> None:
    """Raise `NotFound` when there is neither a database nor a spool."""
    file = database_file(location)
    if file is not None and not file.exists() and not location.spool.exists():
        uri = without_password(location.tracking_uri)
        raise NotFound(f"nothing has been logged to {uri}: there is no {file.name}, and no spool {location.spool}")


@contextmanager
def opened(location: Location) -> Iterator[Store]:
    """Give the store of a place and close it. Raises `NotFound` instead of making one, and `StoreUnavailable`."""
    _check_filed(location)
    store = open_store(location.database_url)
    try:
        yield store
    finally:
        store.close()


@contextmanager
def opened_database(location: Location) -> Iterator[SqlStore]:
    """Give the store of a place as the database that it is, and close it. Raises as `opened` does."""
    _check_filed(location)
    with closing(SqlStore(location.database_url)) as store:
        yield store


def _check_filed(location: Location) -> None:
    check_exists(location)
    if revision_of(location) is None:
        place = without_password(location.database_url)
        raise NotFound(f"nothing has been filed at {place} yet; to file what waits in the spool: {worker_command(location)}")


def worker_command(location: Location) -> str:
    """Return the command that files a place's journals, or sends them to its queue."""
    if location.queue_uri is not None:
        return f"flightlog ship --spool {location.spool} --idle 5"
    return f"flightlog worker --spool {location.spool} --tracking-uri {without_password(location.tracking_uri)} --idle 5"


def local_path(uri: str) -> Path | None:
    """Return the path of an artifact root on this machine, None for another."""
    if ("://" in uri and not uri.startswith("file:")) or uri.startswith("memory:"):
        return None
    return Path(unquote(urlsplit(uri).path) if uri.startswith("file:") else uri)
