"""The schema and every statement of the store compile for each database, also for those that no test has at hand."""

from __future__ import annotations

import inspect
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import Connection, Dialect, event, make_url
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlalchemy.sql import ClauseElement
from sqlalchemy.types import LargeBinary

from contracts.facts import OTHER_RUN, RUN, WRITER, block, metric, started
from contracts.store_contract import StoreContract
from flightlog.schema import events as e
from flightlog.schema.errors import InvalidParameter, StoreUnavailable
from flightlog.schema.ids import experiment_subject
from flightlog.schema.settings import without_password
from flightlog.stores.base import Gap
from flightlog.stores.purging import purge_block
from flightlog.stores.sql import drivers
from flightlog.stores.sql.drivers import connect_arguments, parse_url
from flightlog.stores.sql.postgres import _shape
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.sql.tables import metadata
from flightlog.stores.sql.texts import escape_nul, restore_nul

DIALECTS = ("mssql+pymssql", "mysql+pymysql", "postgresql+psycopg")
SEARCHES = ("params.a LIKE '%x%' AND tags.b ILIKE 'y'", "metrics.loss > 1 OR metrics.`loss.max` != 2", "NOT attributes.run_id IN ('x')")
KEPT_RUN = "c" * 32
ORDERS = (["metrics.loss DESC"], ["params.a ASC", "attributes.start_time DESC"], ["tags.b ASC"])


class Contract(StoreContract):
    """All that the contract asks of a store, one thing after the other."""

    def make_store(self) -> SqlStore:
        return SqlStore(f"sqlite:///{Path.cwd() / 'tracking.db'}")


def exercise(store: SqlStore) -> None:
    """Ask of a store what it can do. Whether it answers rightly is not asked here."""
    contract = Contract()
    for name, test in inspect.getmembers(Contract, inspect.isfunction):
        if name.startswith("test_") and list(inspect.signature(test).parameters) == ["self", "store"]:
            with suppress(Exception, pytest.fail.Exception):  # the store is not empty, as the contract takes it to be
                test(contract, store)
    store.apply([block(run, metric("loss", 1.0), metric("loss.max", 2.0), first=store.position(run, WRITER)) for run in (RUN, OTHER_RUN)])
    for text in SEARCHES:
        for order in ORDERS:
            page = store.search_runs(["0", "7"], text, order_by=order, max_results=1)
            store.search_runs(["0", "7"], text, order_by=order, max_results=1, page_token=page.token)


def keep_in_order(store: SqlStore, folder: Path) -> None:
    """Ask of a store all that is asked when somebody keeps it in order."""
    refused = block(KEPT_RUN, metric("loss", 3.0), first=1)
    store.apply([block(KEPT_RUN, started(experiment_id="77")), Gap(KEPT_RUN, WRITER, 1, 2, "refused", "no", refused.records.payload(0), 1)])
    store.apply([block(KEPT_RUN, e.RunEnded(time=2000, status="FINISHED", end_time=2000), e.RunDeleted(time=2000), first=2)])
    assert KEPT_RUN in store.ended_runs(3000)
    store.archive(KEPT_RUN, str(folder / "archives"))
    store.retry(store.dead_letters(KEPT_RUN))
    store.archive(KEPT_RUN, str(folder / "archives"))
    store.rebuild()
    store.drop_letters(store.dead_letters(RUN)[:1])
    with suppress(StoreUnavailable):  # SQLite has no function of this name
        store.deleted_runs(3000)
    store.deleted_experiments(3000)
    store.apply([purge_block(KEPT_RUN, 4000), purge_block(experiment_subject("77"), 4000)])
    store.apply([block(KEPT_RUN, metric("loss", 4.0), first=4)])
    assert store.remove_purged_archives()
    store.mark_lost(-1)
    assert store.tombstones()


@pytest.fixture(scope="module")
def statements(tmp_path_factory: pytest.TempPathFactory) -> list[ClauseElement]:
    """Return every statement that the store issues to a database that has no upsert of its own."""
    found: dict[str, ClauseElement] = {}
    folder = tmp_path_factory.mktemp("dialects")
    with closing(SqlStore(f"sqlite:///{folder / 'tracking.db'}")) as store:
        store._engine.dialect.name = "mssql"

        @event.listens_for(store._engine, "before_execute")
        def collect(_: Connection, statement: ClauseElement, *__: object) -> None:
            found.setdefault(str(statement), statement)

        exercise(store)
        keep_in_order(store, folder)
    return list(found.values())


@pytest.fixture(params=DIALECTS)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    """Give one database after the other."""
    found: Dialect = make_url(f"{request.param}://").get_dialect()()
    return found


def test_every_statement_compiles(statements: list[ClauseElement], dialect: Dialect) -> None:
    assert len(statements) > 100
    for statement in statements:
        assert str(statement.compile(dialect=dialect))


def test_the_size_of_bytes_is_asked_for_in_the_words_of_each_database(statements: list[ClauseElement], dialect: Dialect) -> None:
    [found] = {str(statement.compile(dialect=dialect)) for statement in statements if "(ledger.body)" in str(statement)}
    assert ("sum(datalength(ledger.body))" in found) == (dialect.name == "mssql")
    assert ("sum(length(ledger.body))" in found) == (dialect.name != "mssql")


def test_the_whole_schema_compiles(dialect: Dialect) -> None:
    for table in metadata.sorted_tables:
        assert table.name in str(CreateTable(table).compile(dialect=dialect))
        for index in table.indexes:
            assert str(index.name) in str(CreateIndex(index).compile(dialect=dialect))


def test_no_text_is_left_to_the_collation_of_a_database() -> None:
    dialect = make_url("mssql+pymssql://").get_dialect()()
    for table in metadata.sorted_tables:
        ddl = str(CreateTable(table).compile(dialect=dialect))
        assert ddl.count("VARCHAR") == ddl.count("COLLATE Latin1_General_100_BIN2")


def test_every_column_has_a_type_that_can_be_copied() -> None:
    for table in metadata.sorted_tables:
        shape = _shape(table, tuple(column.name for column in table.columns))
        assert all(
            (name == "bytea") == isinstance(column.type, LargeBinary) for name, column in zip(shape.types, table.columns, strict=True)
        )


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("postgresql://h/n", "postgresql+psycopg"),
        ("mysql://h/n", "mysql+pymysql"),
        ("mariadb://h/n", "mariadb+pymysql"),
        ("mssql://h/n", "mssql+pymssql"),
        ("sqlite:///n", "sqlite"),
    ],
)
def test_a_scheme_means_a_driver(given: str, meant: str) -> None:
    assert parse_url(given).drivername == meant


def test_a_driver_that_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(drivers.DRIVERS, "postgresql", drivers.Driver("psycopg", "no_such_module", "postgres"))
    with pytest.raises(InvalidParameter, match=r"pip install 'flightlog\[postgres\]'") as refused:
        parse_url("postgresql://ada:hunter2@host/name")
    assert "hunter2" not in str(refused.value)


def test_a_url_overrules_how_connections_are_opened() -> None:
    assert connect_arguments(parse_url("postgresql://h/n"))["connect_timeout"] == drivers.CONNECT_TIMEOUT
    assert "connect_timeout" not in connect_arguments(parse_url("postgresql://h/n?connect_timeout=3"))


@pytest.mark.parametrize("text", ["", "plain", "\0", "a\0\0b", "\ufffe", "\ufffe0", "\ufffe1", "\0\ufffe0\ufffe1\0"])
def test_a_text_without_its_nul_gives_it_back(text: str) -> None:
    assert "\0" not in escape_nul(text)
    assert restore_nul(escape_nul(text)) == text


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("postgresql://ada:hunter2@host/name", "postgresql://ada:***@host/name"),
        ("mysql://ada:hu/nt@er2@host/name", "mysql://ada:***@host/name"),
        ("postgresql://host/name?user=ada&password=hunter2&x=1", "postgresql://host/name?user=ada&password=***&x=1"),
        ("sqlite:///folder/a.db", "sqlite:///folder/a.db"),
    ],
)
def test_a_uri_is_shown_without_its_password(uri: str, expected: str) -> None:
    assert without_password(uri) == expected


def test_drivers_show_no_password_either() -> None:
    assert "hunter2" not in drivers.shown(parse_url("postgresql://host/name?user=ada&password=hunter2"))
