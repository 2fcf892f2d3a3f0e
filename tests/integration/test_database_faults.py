"""What PostgreSQL and MariaDB do to a store when things go wrong: races, deadlocks, lost connections, values that they cannot hold."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, ForeignKeyConstraint, Index, create_engine, event, select, text
from sqlalchemy.exc import DBAPIError

from contracts.facts import OTHER_RUN, RUN, WRITER, block, created, everything, metric, param, reasons, started, tag
from databases import empty_store
from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.errors import InvalidParameter, StoreUnavailable
from flightlog.schema.ids import WriterId, experiment_subject
from flightlog.stores import open_store
from flightlog.stores.base import Gap, Store
from flightlog.stores.sql import engine as engines
from flightlog.stores.sql.engine import lock_subjects, open_engine, reading, write, writing
from flightlog.stores.sql.rows import insert_rows
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.sql.tables import metadata, tags
from flightlog.worker.poison import apply_around_poison
from services import DatabaseServer, MariaServer, PostgresServer, free_port

KILLS = {
    "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
    "mysql": ("SELECT CONNECTION_ID()", "KILL {}"),
}
UNCHECKED = ("ledger", "latest_metrics", "metric_chunks")


@pytest.fixture(params=["postgres_server", "mariadb_server"])
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """Give one server after the other."""
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def url(server: DatabaseServer) -> str:
    """Return the URL of an empty store."""
    return empty_store(server)


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    """Give an empty store."""
    with closing(SqlStore(url)) as store:
        yield store


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """Give an engine of that store's database."""
    engine = open_engine(url)
    yield engine
    engine.dispose()


def in_threads(*calls: Callable[[], object]) -> None:
    """Make calls at the same time and raise what any of them raised."""
    with ThreadPoolExecutor(len(calls)) as pool:
        for future in [pool.submit(call) for call in calls]:
            future.result()


# several workers


def journal(writer: int, runs: Sequence[str], seed: int) -> list[list[Block | Gap]]:
    """Return the batches of one writer that writes to all of the runs, cut and repeated at random."""
    draw = random.Random(seed)
    identity = WriterId(f"{writer:032x}")
    batches: list[list[Block | Gap]] = []
    for number in range(12):
        for run in draw.sample(runs, len(runs)):
            facts = [
                metric(f"m{draw.randrange(4)}", draw.choice([0.5, -0.0, float("nan"), float(number)]), number, 1000 + number),
                metric("shared", float(writer), number, 1000),
                tag(f"t{draw.randrange(3)}", f"{writer}-{number}", time=1000 + number),
                param(f"p{draw.randrange(5)}", "same"),
            ]
            item = block(
                run,
                *([started(f"{7 + number % 2}", f"e{number % 2}"), *facts[1:]] if number == 0 else facts),
                writer=identity,
                first=4 * number,
            )
            batches.append([item] * draw.choice([1, 1, 2]))
    return batches


@pytest.mark.parametrize("runs", [[RUN, OTHER_RUN], [f"{number:032x}" for number in range(6)]], ids=["the same runs", "many runs"])
def test_workers_that_file_at_the_same_time_lose_and_double_nothing(url: str, runs: list[str]) -> None:
    journals = [journal(writer, runs, writer) for writer in range(3)]

    def file(batches: list[list[Block | Gap]]) -> None:
        with closing(open_store(url)) as mine:
            for batch in batches:
                mine.apply(batch)

    in_threads(*(lambda batches=batches: file(batches) for batches in journals))
    memory = open_store("memory:")
    for batches in journals:
        for batch in batches:
            memory.apply(batch)
    with closing(open_store(url)) as store:
        assert comparable(store, runs) == comparable(memory, runs)


def test_writers_that_come_to_one_run_at_the_same_moment_lose_nothing(url: str) -> None:
    barrier = threading.Barrier(4)

    def file(number: int) -> None:
        with closing(open_store(url)) as mine:
            for turn in range(10):
                barrier.wait()
                mine.apply([block(RUN, metric("loss", 1.0), metric("loss", 2.0), writer=WriterId(f"{number}{turn}".rjust(32, "0")))])

    in_threads(*(lambda number=number: file(number) for number in range(4)))
    with closing(open_store(url)) as store:
        assert store.get_run(RUN).data.metric_summaries["loss"].count == len(store.metric_history(RUN, "loss")) == 80


def comparable(store: Store, runs: list[str]) -> dict[str, object]:
    """Return what does not depend on who came first."""
    found = everything(store, runs)
    return found | {
        "experiments": sorted((item["experiment_id"], item["name"]) for item in found["experiments"]),
        "letters": sorted(found["letters"]),
    }


def test_workers_may_found_one_experiment_and_name_one_metric_at_the_same_time(url: str) -> None:
    barrier = threading.Barrier(4)

    def file(number: int) -> None:
        with closing(open_store(url)) as mine:
            for turn in range(5):
                barrier.wait()
                start = started(f"{turn + 10}", f"new-{turn}")
                mine.apply([block(f"{number}{turn}".rjust(32, "0"), start, *(metric(f"fresh-{turn}-{key}", 1.0) for key in range(20)))])

    in_threads(*(lambda number=number: file(number) for number in range(4)))
    with closing(open_store(url)) as store:
        assert sorted(item.name for item in store.search_experiments()) == ["Default", *(f"new-{turn}" for turn in range(5))]
        assert len(store.search_runs([str(turn + 10) for turn in range(5)])) == 20
        assert store.dead_letters() == []


def test_two_ids_that_claim_one_name_become_one_experiment(store: SqlStore) -> None:
    store.apply([block(RUN, started("7", "seven"))])
    store.apply([block(OTHER_RUN, started("8", "seven"))])
    assert [store.get_run(run).info.experiment_id for run in (RUN, OTHER_RUN)] == ["7", "7"]
    assert len(store.search_experiments()) == 2


def test_an_experiment_that_is_deleted_takes_the_runs_along_that_others_file_just_then(url: str) -> None:
    with closing(open_store(url)) as store, closing(open_store(url)) as other:
        store.apply([block(experiment_subject("7"), created("7", "seven")), *(block(f"{n:032x}", started("7")) for n in range(8))])
        runs = [block(f"{n:032x}", *(param(f"p{k}", "1") for k in range(20)), first=1) for n in range(8)]
        in_threads(
            lambda: [other.apply([item.part(k, k + 1)]) for k in range(20) for item in runs],
            lambda: store.apply([block(experiment_subject("7"), e.ExperimentDeleted(time=2000), first=1)]),
        )
        assert {run.info.lifecycle_stage for run in store.search_runs(["7"], run_view_type=3)} == {"deleted"}
        assert all(len(run.data.params) == 20 for run in store.search_runs(["7"], run_view_type=3))


@pytest.mark.parametrize(
    ("subject", "fact"),
    [(RUN, param("a", "1")), (experiment_subject("7"), created("7", "seven"))],
    ids=["its run", "any run of an experiment"],
)
def test_a_batch_waits_for_another_that_has(subject: str, fact: e.Event, store: SqlStore, engine: Engine) -> None:
    done = threading.Event()

    def file() -> None:
        store.apply([block(subject, fact)])
        done.set()

    thread = threading.Thread(target=file)
    with writing(engine) as connection:
        lock_subjects(connection, {RUN})
        thread.start()
        assert not done.wait(0.3)
    assert done.wait(10)
    thread.join()


# races that are repeated


def test_a_deadlock_is_settled_by_repeating_one_of_the_two(url: str, store: SqlStore) -> None:
    store.apply([block(RUN, tag("a", "0"), tag("b", "0"))])
    barrier = threading.Barrier(2, timeout=20)
    tries: list[str] = []

    def cross(first: str, second: str) -> None:
        engine = open_engine(url)

        def work(connection: Connection) -> None:
            tries.append(first)
            _set_tag(connection, first)
            with suppress(threading.BrokenBarrierError):
                barrier.wait(5 if len(tries) <= 2 else 0)
            _set_tag(connection, second)

        write(engine, work)
        engine.dispose()

    in_threads(lambda: cross("a", "b"), lambda: cross("b", "a"))
    assert len(tries) > 2


def _set_tag(connection: Connection, key: str) -> None:
    connection.execute(tags.update().where(tags.c.key == key).values(value=key))


def test_a_serialization_failure_is_repeated(postgres_server: PostgresServer) -> None:
    url = empty_store(postgres_server)
    with closing(open_store(url)) as store:
        store.apply([block(RUN, tag("a", "0"))])
    engine = open_engine(url)
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(len(tries))
        if len(tries) == 1:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
            connection.execute(select(tags)).all()
            with closing(open_store(url)) as other:
                other.apply([block(RUN, tag("a", "1", time=2000), first=1)])
        _set_tag(connection, "a")

    write(engine, work)
    engine.dispose()
    assert tries == [0, 1]


def test_a_race_that_does_not_end_is_given_up(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "PAUSES", (0.0, 0.0))
    tries: list[int] = []

    def work(connection: Connection) -> None:
        tries.append(0)
        connection.execute(text("INSERT INTO experiments SELECT * FROM experiments"))

    with pytest.raises(DBAPIError, match=r"(?i)duplicate"):
        write(engine, work)
    assert len(tries) == 3


# connections that end


def kill_connection(server: DatabaseServer, connection: Connection) -> None:
    """End a connection from outside."""
    ask, kill = KILLS[connection.dialect.name]
    server.execute(kill.format(connection.execute(text(ask)).scalar()))


def test_a_connection_that_is_killed_in_mid_transaction_leaves_nothing_and_is_not_used_again(server: DatabaseServer, url: str) -> None:
    with closing(SqlStore(url)) as store:
        store.apply([block(RUN, param("a", "1"))])
        victims: list[str] = []

        @event.listens_for(store._engine, "before_cursor_execute")
        def kill(connection: Connection, _: object, statement: str, *__: object) -> None:
            if "params" in statement and not victims:
                victims.append(statement)
                kill_connection(server, connection)

        with pytest.raises(StoreUnavailable, match="cannot be used now"):
            store.apply([block(RUN, param("b", "1"), metric("loss", 1.0), first=1)])
        assert victims
        assert store.position(RUN, WRITER) == 1
        store.apply([block(RUN, param("b", "1"), metric("loss", 1.0), first=1)])
        assert store.get_run(RUN).data.params == {"a": "1", "b": "1"}


def test_a_connection_that_dies_in_a_copy_makes_the_store_unavailable(postgres_server: PostgresServer) -> None:
    engine = open_engine(empty_store(postgres_server))

    def work(connection: Connection) -> None:
        kill_connection(postgres_server, connection)
        insert_rows(connection, tags, [{"run": 1, "key": "k", "value": "v", "stamp": ""}])

    with pytest.raises(StoreUnavailable, match="cannot be used now"):
        write(engine, work)
    with reading(engine) as connection:
        assert connection.execute(text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_a_store_whose_server_is_killed_and_started_again_goes_on(server: DatabaseServer, url: str) -> None:
    with closing(open_store(url)) as store:
        store.apply([block(RUN, param("a", "1"))])
        server.kill()
        with pytest.raises(StoreUnavailable):
            store.apply([block(RUN, param("b", "1"), first=1)])
        server.start()
        store.apply([block(RUN, param("b", "1"), first=1)])
        assert store.get_run(RUN).data.params == {"a": "1", "b": "1"}


def test_no_connection_to_spare_is_unavailable_and_no_dead_letter(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "POOL_TIMEOUT", 0.05)
    monkeypatch.setattr(engines, "POOL_SIZE", 1)
    engine = open_engine(url)
    with reading(engine), pytest.raises(StoreUnavailable, match="connection to spare"), writing(engine):
        pass
    engine.dispose()


# whose fault it is

UNAVAILABLE = {
    "a table that somebody dropped": ("SELECT * FROM nowhere", "SELECT * FROM nowhere"),
    "a right that is missing": ("SET ROLE pg_monitor; SELECT * FROM runs", "SET ROLE nobody"),
    "a read-only transaction": ("SET TRANSACTION READ ONLY; DELETE FROM runs", None),
    "a statement that takes too long": (
        "SET LOCAL statement_timeout = 20; SELECT pg_sleep(5)",
        "SET STATEMENT max_statement_time=0.02 FOR SELECT SLEEP(5) FROM (SELECT 1 UNION SELECT 2) AS t",
    ),
    "a full disk": (
        "DO $$ BEGIN RAISE EXCEPTION 'no space' USING ERRCODE = '53100'; END $$",
        "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1021",
    ),
    "too many connections": (
        "DO $$ BEGIN RAISE EXCEPTION 'full' USING ERRCODE = '53300'; END $$",
        "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1040",
    ),
}
FAULTS = {
    "a number out of range": ("SELECT 9223372036854775807 + 1", "SELECT 9223372036854775807 + 1"),
    "a key that is too long": (
        "INSERT INTO metric_names (name) VALUES (repeat('x', 300))",
        "INSERT INTO metric_names (name) VALUES (repeat('x', 300))",
    ),
    "NULL where it must not be": ("INSERT INTO metric_names (name) VALUES (NULL)", "INSERT INTO metric_names (name) VALUES (NULL)"),
    "a limit of the program": (
        "DO $$ BEGIN RAISE EXCEPTION 'wide' USING ERRCODE = '54011'; END $$",
        "SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1118",
    ),
}


def execute_each(engine: Engine, statements: str) -> None:
    """Execute statements in one transaction."""
    with writing(engine) as connection:
        for statement in statements.split("; ") if not statements.startswith("DO") else [statements]:
            connection.exec_driver_sql(statement)


@pytest.mark.parametrize("case", UNAVAILABLE)
def test_what_is_nobodys_fault_is_tried_again(engine: Engine, case: str) -> None:
    statements = UNAVAILABLE[case][engine.dialect.name != "postgresql"]
    if statements is not None:
        with pytest.raises(StoreUnavailable):
            execute_each(engine, statements)


@pytest.mark.parametrize("case", FAULTS)
def test_what_no_repetition_cures_is_the_statements_fault(engine: Engine, case: str) -> None:
    with pytest.raises(DBAPIError):
        execute_each(engine, FAULTS[case][engine.dialect.name != "postgresql"])


def test_an_event_that_is_too_large_for_mysql_becomes_a_dead_letter_and_the_others_are_filed(mariadb_server: MariaServer) -> None:
    with closing(open_store(empty_store(mariadb_server))) as store:
        large = "x" * (20 << 20)
        applied = apply_around_poison(store, [block(RUN, tag("a", "1"), tag("large", large), tag("b", "1"))])
        assert reasons(applied.letters) == ["refused"]
        assert "max_allowed_packet" in store.dead_letters()[0].message or "DataError" in store.dead_letters()[0].message
        assert store.get_run(RUN).data.tags == {"a": "1", "b": "1"}


def test_a_text_of_20_mib_comes_back_from_postgres(postgres_server: PostgresServer) -> None:
    with closing(open_store(empty_store(postgres_server))) as store:
        store.apply([block(RUN, tag("large", "x" * (20 << 20)))])
        assert len(store.get_run(RUN).data.tags["large"]) == 20 << 20


# texts


def test_keys_compare_exactly(store: SqlStore) -> None:
    keys = ["a", "A", "a ", " a", "á", "a\u0301", "á ", "ss", "ß"]
    store.apply([block(RUN, *(param(key, key) for key in keys), *(metric(key, float(place)) for place, key in enumerate(keys)))])
    data = store.get_run(RUN).data
    assert data.params == {key: key for key in keys}
    assert data.metrics == {key: float(place) for place, key in enumerate(keys)}


@pytest.mark.parametrize("value", ["a\0b", "\0", "\ufffe", "\ufffe0", "\ufffe1\0", "\0\ufffe\ufffe", "\U0010ffff\uffff"])
def test_every_text_comes_back_as_it_was(store: SqlStore, value: str) -> None:
    store.apply([block(RUN, started(tags={value: value}, run_name=value), param(value, value), metric(value, 1.0))])
    run = store.get_run(RUN)
    assert (run.info.run_name, run.data.params, run.data.metrics) == (value, {value: value}, {value: 1.0})
    assert run.data.tags[value] == value
    if "\0" not in value:  # a filter cannot hold one
        assert len(store.search_runs(["0"], f"params.`{value}` = '{value}'")) == 1


# opening


def differences(engine: Engine) -> list[object]:
    """Return in what a database differs from the tables, but for the indexes and references that only some kinds have."""
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": _is_wanted(engine)})
        return list(compare_metadata(context, metadata))


def _is_wanted(engine: Engine) -> Callable[..., bool]:
    def wanted(item: object, *_: object) -> bool:
        if isinstance(item, ForeignKeyConstraint):
            return str(item.table) not in UNCHECKED
        return not (isinstance(item, Index) and engine.dialect.name == "postgresql" and "value" in item.columns)

    return wanted


def test_the_migrations_make_exactly_the_tables(engine: Engine) -> None:
    assert differences(engine) == []


def test_several_may_open_a_fresh_database_at_the_same_moment(server: DatabaseServer) -> None:
    with server.database() as fresh:
        barrier = threading.Barrier(3)

        def open_it() -> None:
            barrier.wait()
            with closing(open_store(fresh)) as store:
                assert store.get_experiment("0").name == "Default"

        in_threads(open_it, open_it, open_it)


def test_a_migration_that_was_killed_is_finished_by_the_next(mariadb_server: MariaServer) -> None:
    with mariadb_server.database() as fresh:
        open_store(fresh).close()
        engine = create_engine(fresh)
        for statement in ("DROP TABLE tombstones", "DELETE FROM stripes WHERE id > 5", "ALTER TABLE metric_chunks DROP COLUMN attempt"):
            with engine.begin() as connection:
                connection.execute(text(statement))
        for statement in (
            "ALTER TABLE runs DROP COLUMN lost_status",
            "DROP INDEX ix_params_key_value_run ON params",
            "DELETE FROM alembic_version",
        ):
            with engine.begin() as connection:
                connection.execute(text(statement))
        open_store(fresh).close()
        assert differences(engine) == []
        with engine.connect() as connection:
            assert connection.execute(text("SELECT COUNT(*) FROM stripes")).scalar() == 64
        engine.dispose()


@pytest.mark.parametrize("scheme", ["postgresql", "postgresql+psycopg", "mysql", "mysql+pymysql", "mariadb", "mariadb+pymysql"])
def test_every_scheme_opens_its_server(scheme: str, request: pytest.FixtureRequest) -> None:
    server = request.getfixturevalue("postgres_server" if scheme.startswith("postgresql") else "mariadb_server")
    with closing(open_store(f"{scheme}:{empty_store(server).partition(':')[2]}")) as store:
        store.apply([block(RUN, param("a", "1"))])
        assert store.get_run(RUN).data.params == {"a": "1"}


@pytest.mark.parametrize(
    "database_url",
    [
        "postgres://ada:hunter2@host/name",
        "postgresql+psycopg2://ada:hunter2@host/name",
        "mysql+aiomysql://ada:hunter2@host/name",
        "sqlite+x://ada:hunter2@h/n",
        "postgresql://ada:hunter2@host:port/name",
    ],
)
def test_a_url_that_is_refused_does_not_show_its_password(database_url: str) -> None:
    with pytest.raises(InvalidParameter) as refused:
        open_store(database_url)
    assert "hunter2" not in str(refused.value)


def test_a_server_that_is_away_is_unavailable_and_shows_no_password() -> None:
    unused_port = free_port()
    for scheme in ("postgresql", "mysql"):
        with pytest.raises(StoreUnavailable) as refused:
            open_store(f"{scheme}://ada:hunter2@127.0.0.1:{unused_port}/name")
        assert "hunter2" not in str(refused.value)
