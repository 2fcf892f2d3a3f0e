"""The laws of a store and of its search, which the property tests hold on SQLite, on PostgreSQL and MariaDB with fewer examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from contracts.facts import block, everything
from databases import empty_store
from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.filters.order import EXPERIMENT_ID, RUN_ID
from flightlog.schema.filters.vocabulary import EXPERIMENTS, RUNS
from flightlog.schema.fold import ExperimentState, RunState
from flightlog.schema.ids import WriterId
from flightlog.stores import open_store
from flightlog.stores.base import Gap
from flightlog.stores.batches import experiment_of
from flightlog.stores.sql.engine import open_engine
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.sql.tables import experiments
from flightlog.stores.verify import verify
from property.test_search import CHOSEN, NEAR, Asked, check_experiments, check_runs, experiment_states, run_states, searches
from property.test_store_laws import SUBJECTS, deliveries, lasting, logs, times
from services import DatabaseServer

FEW = partial(settings, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(params=["postgres_server", "mariadb_server"], scope="module")
def server(request: pytest.FixtureRequest) -> DatabaseServer:
    """Give one server after the other."""
    found: DatabaseServer = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def engine(server: DatabaseServer) -> Iterator[Engine]:
    """Give an engine of an empty store, even without the experiment that always exists."""
    engine = open_engine(empty_store(server))
    with engine.begin() as connection:
        connection.execute(experiments.delete())
    yield engine
    engine.dispose()


PURGER = WriterId("4" * 32)


@st.composite
def purged_logs(draw: st.DrawFn) -> list[Block | Gap]:
    """Return blocks and gaps, and among them purges of some subjects: by chance alone they would be rare in a few examples."""
    items = draw(logs())
    for subject in draw(st.lists(st.sampled_from(SUBJECTS), min_size=1, max_size=3, unique=True)):
        purge = e.RunPurged if experiment_of(subject) is None else e.ExperimentPurged
        items.insert(draw(st.integers(0, len(items))), block(subject, purge(time=draw(times)), writer=PURGER))
    return items


@FEW(max_examples=25)
@given(st.data())
def test_however_events_are_delivered_a_server_shows_what_memory_shows(server: DatabaseServer, data: Any) -> None:
    items: list[Block | Gap] = data.draw(logs() | purged_logs())
    memory = open_store("memory:")
    for item in items:
        memory.apply([item])
    with closing(open_store(empty_store(server))) as store:
        for batch in data.draw(deliveries(items)):
            store.apply(batch)
        assert everything(store, SUBJECTS) == everything(memory, SUBJECTS)


@FEW(max_examples=12)
@given(purged_logs())
def test_verifying_repairing_and_rebuilding_change_nothing_on_a_server_where_nothing_is_wrong(
    server: DatabaseServer, items: list[Block | Gap]
) -> None:
    with closing(SqlStore(empty_store(server))) as store:
        store.apply(items)
        before = lasting(store)
        assert [item for item in verify(store) if item.differences or item.is_moving] == []
        store.repair(SUBJECTS)
        assert lasting(store) == before
        store.rebuild()
        assert lasting(store) == before


@FEW(max_examples=30)
@given(states=run_states(), asked=searches(RUNS, RUN_ID), size=st.integers(1, 4), near=NEAR, experiments=CHOSEN)
def test_a_server_finds_the_runs_that_evaluation_finds(
    engine: Engine, states: list[RunState], asked: Asked, size: int, near: int, experiments: list[str]
) -> None:
    check_runs(engine, states, asked, size, near=near, experiments=experiments)


@FEW(max_examples=20)
@given(states=experiment_states(), asked=searches(EXPERIMENTS, EXPERIMENT_ID), size=st.integers(1, 3))
def test_a_server_finds_the_experiments_that_evaluation_finds(
    engine: Engine, states: list[ExperimentState], asked: Asked, size: int
) -> None:
    check_experiments(engine, states, asked, size)
