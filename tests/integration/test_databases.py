"""The SQL store keeps the contract on PostgreSQL and on MariaDB, each test in a database of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from contracts.store_contract import StoreContract
from flightlog.stores import open_store
from flightlog.stores.base import Store
from services import MariaServer, PostgresServer


class TestPostgresStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_server: PostgresServer) -> Iterator[None]:
        with postgres_server.database() as self.url:
            yield

    def make_store(self) -> Store:
        return open_store(self.url)


class TestMariaStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _database(self, mariadb_server: MariaServer) -> Iterator[None]:
        with mariadb_server.database() as self.url:
            yield

    def make_store(self) -> Store:
        return open_store(self.url)
