"""Reading many histories at once: few statements, and no more memory than a batch takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import event, update

from contracts.facts import OTHER_RUN, RUN, WRITER, block, exact_history, metric, started
from flightlog.histories import stream_from
from flightlog.schema.blocks import Block
from flightlog.schema.columns import join_metrics
from flightlog.schema.errors import DecodeError
from flightlog.schema.ids import WriterId
from flightlog.stores import sampling
from flightlog.stores.base import History, Portion, RunReader
from flightlog.stores.sql import bulk
from flightlog.stores.sql.engine import writing
from flightlog.stores.sql.history import CHUNK
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.sql.tables import metric_chunks

POINTS = 100 * CHUNK
KEYS = 4


@pytest.fixture
def store() -> Iterator[SqlStore]:
    """Give a store with one run of long histories."""
    with closing(SqlStore(f"sqlite:///{Path.cwd() / 'tracking.db'}")) as store:
        store.apply([block(RUN, started())])
        values = np.random.default_rng(0).random(POINTS)
        records = join_metrics(np.arange(POINTS) % KEYS, np.arange(POINTS) // KEYS, np.arange(POINTS), values)
        store.apply([Block(RUN, WRITER, 1, {number: f"metric_{number}" for number in range(KEYS)}, records)])
        yield store


def test_the_memory_that_a_stream_takes_is_that_of_its_batches(store: SqlStore) -> None:
    whole = POINTS * 24
    tracemalloc.start()
    count = sum(len(batch.points) for batch in store.metric_histories([RUN], batch_points=5 * CHUNK))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == POINTS
    assert peak < whole / 3


def test_a_batch_takes_one_statement_and_all_together_take_few_more(store: SqlStore) -> None:
    statements: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
    batches = sum(1 for _ in store.metric_histories([RUN, *(f"{number:032x}" for number in range(100))]))
    assert (batches, len(statements)) == (1, 7)  # BEGIN, runs, their chunks, attempts, chunks, names, bodies


def stream(store: SqlStore, keys: list[str] | None = None) -> Any:
    """Return a stream whose batches are small."""
    in_chunks = partial(store.metric_histories, batch_points=CHUNK)
    return stream_from(
        cast("RunReader", SimpleNamespace(metric_histories=in_chunks, metric_keys=store.metric_keys)), [RUN], keys, Portion()
    )


@pytest.mark.parametrize("keys", [None, ["metric_2", "metric_0", "nothing"]], ids=["all", "some"])
def test_a_stream_can_be_grouped_and_written_into_every_format(store: SqlStore, keys: list[str] | None) -> None:
    table = stream(store, keys).read_all()
    assert table["key"].num_chunks > 1
    groups = table.group_by(["run_id", "key"]).aggregate([("value", "count")]).to_pylist()
    wanted = [f"metric_{number}" for number in range(KEYS)] if keys is None else keys[:2]
    assert groups == [{"run_id": RUN, "key": key, "value_count": POINTS // KEYS} for key in wanted]
    with pa.ipc.new_file("points.arrow", table.schema) as file, pq.ParquetWriter("points.parquet", table.schema) as parquet:
        for batch in stream(store, keys):
            file.write_batch(batch)
            parquet.write_batch(batch)
    with pa.ipc.open_file("points.arrow") as written:
        assert written.read_all().equals(table)
    assert pq.read_table("points.parquet").equals(table)


def test_a_stream_that_is_let_go_of_gives_its_connection_back(store: SqlStore) -> None:
    reader = stream(store)
    assert reader.read_next_batch().num_rows == CHUNK
    del reader
    assert "Current Checked out connections: 0" in store._engine.pool.status()


def test_histories_of_one_point_come_in_batches_that_are_no_larger_for_it(store: SqlStore) -> None:
    keys = [f"single_{number:03}" for number in range(300)]
    store.apply([block(OTHER_RUN, started(), *(metric(key, 1.0) for key in keys))])
    batches = [batch.owners for batch in store.metric_histories([OTHER_RUN], batch_points=100 * bulk.CHUNK_COST)]
    assert [owner for owners in batches for owner in owners] == [(OTHER_RUN, key) for key in keys]
    assert max(map(len, batches)) < 100


def test_so_many_chunks_are_planned_at_once_and_no_more(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    run_ids = [f"{number:032x}" for number in range(6)]
    for run_id in run_ids:
        store.apply([block(run_id, started(), metric("a", 1.0), metric("b", 2.0), writer=WriterId(run_id))])
    whole = [(batch.owners, exact_history(batch.points)) for batch in store.metric_histories(run_ids[::-1])]
    monkeypatch.setattr(bulk, "CHUNKS_AT_ONCE", 5)
    queries: list[str] = []
    event.listen(store._engine, "before_cursor_execute", lambda *args: queries.append(args[2]))
    assert [(batch.owners, exact_history(batch.points)) for batch in store.metric_histories(run_ids[::-1])] == whole
    assert sum("min_step" in query for query in queries) == 3


def test_a_sample_is_the_same_however_many_points_are_looked_at_together(monkeypatch: pytest.MonkeyPatch) -> None:
    value = np.random.default_rng(0).integers(0, 50, 5000).astype(np.float64)
    value[1000:1400] = np.nan
    history = History(np.arange(5000), np.arange(5000), value)
    whole = [exact_history(sampling.sampled(history, sample)) for sample in (4, 7, 100, 999, 4999)]
    for most in (1, 17, 600):
        monkeypatch.setattr(sampling, "AT_ONCE", most)
        assert [exact_history(sampling.sampled(history, sample)) for sample in (4, 7, 100, 999, 4999)] == whole


def test_a_sample_takes_little_more_memory_than_the_points(store: SqlStore) -> None:
    points = 3_000_000
    history = History(np.arange(points), np.arange(points), np.random.default_rng(0).random(points))
    tracemalloc.start()
    assert len(sampling.sampled(history, 1000)) == 1000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < points * 24


def test_a_chunk_that_does_not_hold_what_its_row_says_is_an_error(store: SqlStore) -> None:
    with writing(store._engine) as connection:
        connection.execute(update(metric_chunks).values({"count": metric_chunks.c["count"] - 1}))
    with pytest.raises(DecodeError, match="should have"):
        list(store.metric_histories([RUN]))
