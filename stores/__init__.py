"""Facts at rest: stores that take events in and give runs back. `open_store(url)` chooses one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from flightlog.schema.errors import InvalidParameter
from flightlog.stores.base import Store

STORES = {
    "memory": "flightlog.stores:open_memory_store",
    "sqlite": "flightlog.stores.sql.store:SqlStore",
    "postgresql": "flightlog.stores.sql.store:SqlStore",
    "mysql": "flightlog.stores.sql.store:SqlStore",
    "mariadb": "flightlog.stores.sql.store:SqlStore",
    "mssql": "flightlog.stores.sql.store:SqlStore",
}
"""The scheme of a URL -> what opens it. It is imported when it is needed."""


def open_store(database_url: str) -> Store:
    """Open the store that a database URL names: `memory:`, `sqlite:///...`, `postgresql+psycopg://...` and so on.

    The caller closes it. Raises `InvalidParameter` for a URL that names none, `StoreUnavailable` when it cannot be opened.
    """
    scheme = database_url.partition(":")[0].partition("+")[0]
    if ":" not in database_url or scheme not in STORES:
        known = ", ".join(f"{name}:" for name in STORES)
        shown = f"{scheme[:40]}:" if ":" in database_url else database_url[:200]  # what follows may hold a password
        raise InvalidParameter(f"database URL {shown!r} names no store; it must start with one of {known}")
    module, _, name = STORES[scheme].partition(":")
    opener: Callable[[str], Store] = getattr(import_module(module), name)
    return opener(database_url)


def open_memory_store(_: str) -> Store:
    """Return a new store in memory."""
    from flightlog.stores.memory import MemoryStore  # noqa: PLC0415 - whoever opens another store does not need it

    return MemoryStore()
