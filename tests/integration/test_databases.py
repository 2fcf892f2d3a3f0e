"""The SQL store keeps the contract on PostgreSQL and on MariaDB, each test in a database of its own."""

from __future__ import annotations

import pytest

from contracts.store_contract import StoreContract
from databases import empty_store
from flightlog.stores import open_store
from flightlog.stores.base import Store
from services import MariaServer, PostgresServer


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_server: PostgresServer) -> None:
        self.url = empty_store(postgres_server)

    def make_store(self) -> Store:
        return open_store(self.url)


class TestMariaStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, mariadb_server: MariaServer) -> None:
        self.url = empty_store(mariadb_server)

    def make_store(self) -> Store:
        return open_store(self.url)
