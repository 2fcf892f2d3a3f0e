"""MLflow's tables are read from the servers that teams keep them on."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Boolean, Column, Double, Float, MetaData, Table, create_engine, insert, inspect, select, text

from contracts.facts import everything
from flightlog.cli.imports import open_history
from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.memory import MemoryStore
from flightlog.stores.mlflow_import import import_mlflow
from flightlog.stores.sql.mlflow_database import DEFAULTS, MlflowDatabase
from services import DatabaseServer

DUMP = Path(__file__).resolve().parents[1] / "fixtures" / "mlflow" / "3.17" / "mlflow.sql"


@pytest.fixture(params=["postgres_server", "mariadb_server"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def lite(tmp_path: Path) -> str:
    file = tmp_path / "mlflow.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(DUMP.read_text(encoding="utf-8"))
    return f"sqlite:///{file}"


@pytest.fixture
def url(server: DatabaseServer, lite: str) -> Iterator[str]:
    """Give a database of the server's into which MLflow's tables were copied."""
    with server.database() as url:
        copy_tables(lite, url)
        yield url


def copy_tables(lite: str, url: str) -> None:
    source, target = create_engine(lite), create_engine(url)
    found, made = MetaData(), MetaData()
    found.reflect(source, only=list(DEFAULTS))
    for table in found.sorted_tables:
        columns = [Column(column.name, Double() if isinstance(column.type, Float) else column.type) for column in table.columns]
        Table(table.name, made, *columns, mysql_charset="utf8mb4", mariadb_charset="utf8mb4")
    made.create_all(target)
    assert isinstance(made.tables["metrics"].c.is_nan.type, Boolean)
    with source.connect() as reading, target.begin() as writing:
        for table in made.tables.values():
            rows = [dict(row) for row in reading.execute(select(found.tables[table.name])).mappings()]
            if rows:
                writing.execute(insert(table), rows)
    source.dispose()
    target.dispose()


def bring(url: str) -> MemoryStore:
    store = MemoryStore()
    with closing(open_history(url)) as history:
        imported = import_mlflow(history, store, store.apply)
        assert (imported.is_complete, imported.left_out) == (True, {})
        assert import_mlflow(history, store, store.apply).events == 0
    return store


def test_a_servers_tables_give_the_same_as_those_of_a_file(url: str, lite: str) -> None:
    there, here = everything(bring(url), []), everything(bring(lite), [])
    assert (there["runs"], there["experiments"]) == (here["runs"], here["experiments"])


def test_a_servers_tables_are_opened_so_that_nothing_can_be_written(url: str) -> None:
    with closing(MlflowDatabase(url)) as history, pytest.raises(Exception, match=r"(?i)read.only"), history._engine.begin() as connection:
        connection.execute(text("DELETE FROM params"))
    with closing(MlflowDatabase(url)) as history:
        assert inspect(history._engine).has_table("params")


def test_a_server_that_is_away_is_said_to_be(server: DatabaseServer) -> None:
    with pytest.raises(StoreUnavailable):
        open_history(server.url_of("nothing_here"))
