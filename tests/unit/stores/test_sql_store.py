"""The SQL store keeps the contract on SQLite."""

from __future__ import annotations

from pathlib import Path

from contracts.store_contract import StoreContract
from flightlog.stores import open_store
from flightlog.stores.base import Store


class TestSqliteStore(StoreContract):
    def make_store(self) -> Store:
        return open_store(f"sqlite:///{Path.cwd() / 'tracking.db'}")
