"""Opening a SQLite store: by several processes at once, of any age, and while another writes."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import QueuePool, create_engine, text

from contracts.facts import OTHER_RUN, RUN, WRITER, block, dataset, exact_history, metric, param, started
from flightlog.schema.errors import InvalidParameter, StoreUnavailable
from flightlog.stores import open_store
from flightlog.stores.sql.engine import open_engine, reading, writing
from flightlog.stores.sql.migrations import HEAD
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.sql.tables import metadata

OPEN_ON_COMMAND = """
import sys
from flightlog.stores import open_store
import flightlog.stores.sql.store, alembic.command
print("ready", flush=True)
sys.stdin.readline()
store = open_store(sys.argv[1])
print(store.get_experiment("0").name, flush=True)
store.close()
"""
MAINTAIN_FOR_EVER = """
import sys
from flightlog.stores import open_store
store = open_store(sys.argv[1])
while True:
    store.maintain()
    print("step", flush=True)
"""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Return the URL of a database that does not exist yet."""
    return f"sqlite:///{tmp_path / 'deep' / 'folder' / 'tracking.db'}"


def _python(code: str, url: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", code, url], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    """Give a list whose processes are ended after the test."""
    started_here: list[subprocess.Popen[str]] = []
    yield started_here
    for process in started_here:
        process.kill()
        process.communicate()


def test_processes_may_open_one_fresh_store_at_the_same_moment(url: str, processes: list[subprocess.Popen[str]]) -> None:
    processes += [_python(OPEN_ON_COMMAND, url) for _ in range(4)]
    assert [_line(process) for process in processes] == ["ready"] * 4
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [_line(process) for process in processes] == ["Default"] * 4
    assert [process.wait() for process in processes] == [0] * 4


def test_a_store_that_does_not_exist_yet_reads_as_empty(url: str) -> None:
    with closing(open_store(url)) as store:
        assert store.search_runs(["0"]) == []
        assert [item.name for item in store.search_experiments()] == ["Default"]


def test_what_was_applied_is_there_after_opening_again(url: str) -> None:
    with closing(open_store(url)) as store:
        store.apply([block(RUN, started(), metric("loss", 1.0))])
    with closing(open_store(url)) as store:
        assert store.get_run(RUN).data.metrics == {"loss": 1.0}
        assert store.position(RUN, WRITER) == 2


def test_a_store_that_nobody_holds_any_more_closes_its_connections(url: str) -> None:
    store = SqlStore(url)
    store.get_experiment("0")
    engine = store._engine
    assert isinstance(engine.pool, QueuePool)
    assert engine.pool.checkedin() == 1
    del store
    gc.collect()
    assert engine.pool.checkedin() == 0


def test_a_reader_sees_the_last_commit_while_another_writes(url: str) -> None:
    with closing(open_store(url)) as store:
        store.apply([block(RUN, param("lr", "1"))])
        engine = open_engine(url)
        with writing(engine) as connection:
            connection.execute(text("UPDATE params SET value = '2'"))
            assert store.get_run(RUN).data.params == {"lr": "1"}
        assert store.get_run(RUN).data.params == {"lr": "2"}
        engine.dispose()


def test_a_read_transaction_sees_one_state_throughout(url: str) -> None:
    with closing(open_store(url)) as store:
        engine = open_engine(url)
        with reading(engine) as connection:
            before = connection.execute(text("SELECT count(*) FROM runs")).scalar()
            store.apply([block(RUN, param("lr", "1"))])
            assert connection.execute(text("SELECT count(*) FROM runs")).scalar() == before == 0
        engine.dispose()


def test_a_batch_that_fails_leaves_nothing_behind(url: str) -> None:
    with closing(open_store(url)) as store:
        store.apply([block(RUN, param("lr", "1"))])
        engine = open_engine(url)
        with writing(engine) as connection:
            connection.execute(text("DROP TABLE metric_chunks"))
        with pytest.raises(StoreUnavailable, match=r"tracking\.db"):
            store.apply([block(RUN, param("depth", "1"), metric("loss", 1.0), first=1)])
        assert (store.position(RUN, WRITER), store.get_run(RUN).data.params, len(list(store.ledger()))) == (1, {"lr": "1"}, 1)
        engine.dispose()


def test_a_database_that_is_newer_than_the_code_asks_for_an_upgrade(url: str) -> None:
    open_store(url).close()
    engine = open_engine(url)
    with writing(engine) as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    engine.dispose()
    with pytest.raises(StoreUnavailable, match=r"9999.*upgrade flightlog"):
        open_store(url)


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "notes.db").write_text("this is not a database, although its name says so; " * 100)
    with pytest.raises(StoreUnavailable, match="not a database"):
        open_store(f"sqlite:///{tmp_path / 'notes.db'}")


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="folder"):
        open_store(f"sqlite:///{tmp_path / 'file' / 'tracking.db'}")


@pytest.mark.parametrize("database_url", ["", "tracking.db", "oracle://host/name", "sqlite+nonsense:///x.db"])
def test_a_url_that_names_no_store_is_refused(database_url: str) -> None:
    with pytest.raises(InvalidParameter):
        open_store(database_url)


def test_the_migrations_make_exactly_the_tables(url: str) -> None:
    open_store(url).close()
    engine = create_engine(url)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection, opts={"compare_type": True}), metadata) == []
    engine.dispose()


def test_a_database_of_the_version_before_datasets_keeps_its_runs_and_takes_datasets(url: str) -> None:
    with closing(open_store(url)) as store:
        store.apply([block(RUN, started(), param("lr", "0.1"), dataset("digits"))])
    engine = open_engine(url)
    config = Config()
    config.set_main_option("script_location", "flightlog.stores.sql:migrations")
    with writing(engine) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "0002")
    engine.dispose()
    with closing(SqlStore(url)) as store:
        assert (store.get_run(RUN).data.params, store.get_run(RUN).inputs.dataset_inputs) == ({"lr": "0.1"}, [])
        store.apply([block(RUN, dataset("words"), first=3)])
        assert [item.dataset.name for item in store.search_runs(["0"], "dataset.name = 'words'")[0].inputs.dataset_inputs] == ["words"]
        store.repair([RUN])
        assert [item.dataset.name for item in store.get_run(RUN).inputs.dataset_inputs] == ["digits", "words"]


def test_the_newest_version_is_the_one_that_opening_expects() -> None:
    config = Config()
    config.set_main_option("script_location", "flightlog.stores.sql:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_a_worker_that_is_killed_while_it_merges_chunks_loses_and_doubles_nothing(url: str, processes: list[subprocess.Popen[str]]) -> None:
    keys = [f"m{number:03d}" for number in range(200)]
    with closing(open_store(url)) as store:
        for first in range(0, 1200, 200):
            store.apply([block(OTHER_RUN, *(metric(key, float(first), first, place) for place, key in enumerate(keys)), first=first)])
        before = [exact_history(store.metric_arrays(OTHER_RUN, key)) for key in keys]
        process = _python(MAINTAIN_FOR_EVER, url)
        processes.append(process)
        assert _line(process) == "step"
        process.kill()
        process.wait()
        assert [exact_history(store.metric_arrays(OTHER_RUN, key)) for key in keys] == before
        while store.maintain():
            pass
        assert [exact_history(store.metric_arrays(OTHER_RUN, key)) for key in keys] == before
        assert _chunks(url) == 200


def _chunks(url: str) -> int:
    engine = open_engine(url)
    with reading(engine) as connection:
        count: int = connection.execute(text("SELECT count(*) FROM metric_chunks")).scalar_one()
    engine.dispose()
    return count
