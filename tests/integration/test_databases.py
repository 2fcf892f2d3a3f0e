"""The SQL store keeps the contract on PostgreSQL and on MariaDB, each test in a database of its own."""

from __future__ import annotations

import os
import subprocess
import sys

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


SCRIPT = """
import flightlog
flightlog.set_experiment("parabola")
with flightlog.start_run() as run:
    for step in range(1000):
        flightlog.log_metric("loss", 1.0 / (step + 1), step=step)
    flightlog.set_tag("shape", "convex")
found = flightlog.get_run(run.info.run_id)
print(found.info.status, found.data.tags["shape"], len(flightlog.MlflowClient().get_metric_history(run.info.run_id, "loss")))
"""


@pytest.mark.parametrize("fixture", ["postgres_server", "mariadb_server"])
def test_a_script_logs_to_a_server_and_reads_back_what_its_worker_filed(fixture: str, request: pytest.FixtureRequest) -> None:
    url = empty_store(request.getfixturevalue(fixture))
    environment = {**os.environ, "FLIGHTLOG_TRACKING_URI": url}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("FINISHED convex 1000\n", "")
