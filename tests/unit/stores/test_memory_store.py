"""The memory store keeps the contract."""

from __future__ import annotations

from contracts.store_contract import StoreContract
from flightlog.stores import open_store
from flightlog.stores.base import Store


class TestMemoryStore(StoreContract):
    def make_store(self) -> Store:
        return open_store("memory:")
