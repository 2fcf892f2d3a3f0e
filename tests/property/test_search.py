"""The SQL search finds what the evaluation of nodes over states finds, in the same order, in one page or in many."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine

from contracts.state_rows import insert_experiments, insert_runs, memory_engine, summary
from flightlog.schema.entities import Dataset, ViewType
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.filters import evaluate
from flightlog.schema.filters.nodes import MAX_FLOAT, Comparison, Conjunction, Disjunction, Field, Negation, Node, OrderKey
from flightlog.schema.filters.order import EXPERIMENT_ID, RUN_ID, parse_experiment_order, parse_run_order
from flightlog.schema.filters.paging import is_text, lifecycle_stages
from flightlog.schema.filters.parser import parse_experiment_filter, parse_run_filter
from flightlog.schema.filters.vocabulary import DATASET_KEYS, EXPERIMENT_ORDER, EXPERIMENTS, LISTS, NULLS, RUN_ORDER, RUNS, Vocabulary
from flightlog.schema.fold import NEVER, DatasetState, ExperimentState, RunState, Stamped
from flightlog.schema.names import CONTEXT_TAG, RUN_NAME_TAG
from flightlog.stores.run_columns import columns_of, joined
from flightlog.stores.sql import search as search_module
from flightlog.stores.sql.queries import load_runs
from flightlog.stores.sql.run_columns import load_columns
from flightlog.stores.sql.search import search_experiment_ids, search_run_ids

T = TypeVar("T")
Search = Callable[[int, "str | None"], tuple[list[T], "str | None"]]
Asked = list[tuple["Node | None", tuple[OrderKey, ...], int]]
NEAR = st.sampled_from([0, 1, 20])
CHOSEN = st.sampled_from([["1"], ["1", "2"]])

TEXTS = st.sampled_from(["", "a", "A", "ab", "a%", "a_b", "É", "é", "\\", "10", "x" * 250 + "1", "x" * 250 + "2", "a\nb", "🙂"])
PATTERNS = st.text(st.sampled_from("%_aAbBé\\1x"), max_size=4)
FLOATS = st.sampled_from([0.0, -0.0, 0.5, 2.0, MAX_FLOAT, math.inf, -math.inf, math.nan])
NUMBERS = st.sampled_from([0.0, 0.5, 2.0, MAX_FLOAT, -MAX_FLOAT])
WHOLES = NUMBERS | st.integers(-1, 4) | st.just(10**19)
TIMES = st.integers(0, 4)
METRICS = st.sampled_from(["loss", "loss.min", "loss.max", "loss.first", "loss.count", "loss.min.last"])
KEYS = st.sampled_from(["lr", "a b", "missing"])
STAGES = st.sampled_from(lifecycle_stages(ViewType.ALL))
VIEWS = st.sampled_from([ViewType.ACTIVE_ONLY, ViewType.DELETED_ONLY, ViewType.ALL])
TAGS = st.dictionaries(KEYS, st.builds(Stamped, TEXTS | st.none(), st.just(NEVER)), max_size=3)

DATASETS = st.builds(
    lambda name, digest, tags: DatasetState(Dataset(name, digest, "code", "{}"), tags, NEVER),
    TEXTS,
    st.sampled_from(["1", "a"]),
    st.dictionaries(st.sampled_from([CONTEXT_TAG, "other"]), TEXTS, max_size=2),
)


@st.composite
def run_states(draw: st.DrawFn) -> list[RunState]:
    ids = draw(st.lists(st.integers(0, 30).map("{:032x}".format), max_size=8, unique=True))
    return [draw(_run(run_id)) for run_id in ids]


def _run(run_id: str) -> st.SearchStrategy[RunState]:
    points = st.dictionaries(METRICS, st.lists(FLOATS, min_size=1, max_size=3), max_size=4)
    no_name: st.SearchStrategy[dict[str, Stamped]] = st.just({})
    names = no_name | st.builds(lambda name: {RUN_NAME_TAG: Stamped(name, NEVER)}, TEXTS | st.none())
    return st.builds(
        RunState,
        st.just(run_id),
        experiment_id=st.sampled_from(["1", "2", "3"]),
        user_id=TEXTS,
        status=st.sampled_from(["RUNNING", "FINISHED"]),
        start_time=TIMES,
        end_time=TIMES | st.none(),
        lifecycle_stage=STAGES,
        artifact_uri=TEXTS | st.none(),
        params=st.dictionaries(KEYS, TEXTS, max_size=2),
        tags=st.builds(lambda tags, name: {**tags, **name}, TAGS, names),
        datasets=st.lists(DATASETS, max_size=2).map(lambda found: {(item.dataset.name, item.dataset.digest): item for item in found}),
        metrics=points.map(lambda metrics: {key: summary(key, *values) for key, values in metrics.items()}),
    )


@st.composite
def experiment_states(draw: st.DrawFn) -> list[ExperimentState]:
    ids = draw(st.lists(st.sampled_from([0, 1, 9, 10, 2**63 - 1]), max_size=5, unique=True))
    names = draw(st.lists(TEXTS, min_size=len(ids), max_size=len(ids), unique=True))
    return [draw(_experiment(str(key), name)) for key, name in zip(ids, names, strict=True)]


def _experiment(experiment_id: str, name: str) -> st.SearchStrategy[ExperimentState]:
    ids = (st.just(experiment_id), st.just(name), st.just(""))
    return st.builds(ExperimentState, *ids, lifecycle_stage=STAGES, creation_time=TIMES, last_update_time=TIMES, tags=TAGS)


def fields(vocabulary: Vocabulary) -> st.SearchStrategy[Field]:
    keys: dict[str, st.SearchStrategy[str]] = {
        "attribute": st.sampled_from(sorted(vocabulary.attributes)),
        "metric": METRICS,
        "param": KEYS,
        "tag": KEYS,
        "dataset": st.sampled_from(DATASET_KEYS),
    }
    kinds = sorted(set(vocabulary.kinds.values()))
    return st.sampled_from(kinds).flatmap(lambda kind: st.builds(Field, st.just(kind), keys[kind]))


@st.composite
def comparisons(draw: st.DrawFn, vocabulary: Vocabulary) -> Comparison:
    field = draw(fields(vocabulary))
    operator = draw(st.sampled_from(vocabulary.operators(field)))
    text = TEXTS
    if field.key in ("run_id", "experiment_id"):
        text = st.integers(0, 30).map("{:032x}".format) | st.sampled_from(["0", "1", "01", "10", "x", str(2**63 - 1), str(2**70)])
    value: Any = text if is_text(field) or field.kind == "dataset" or LISTS[0] in vocabulary.operators(field) else WHOLES
    if operator in NULLS:
        value = st.none()
    elif operator in LISTS:
        value = st.lists(text, min_size=1, max_size=3).map(tuple)
    elif operator in ("LIKE", "ILIKE"):
        value = PATTERNS
    elif field.kind == "metric":
        value = NUMBERS
    return Comparison(field, operator, draw(value))


def nodes(vocabulary: Vocabulary) -> st.SearchStrategy[Node | None]:
    def combine(node: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
        several = st.lists(node, min_size=2, max_size=3).map(tuple)
        return st.builds(Negation, node) | st.builds(Conjunction, several) | st.builds(Disjunction, several)

    single = comparisons(vocabulary)
    return st.none() | single | st.recursive(single, combine, max_leaves=4)


def orders(vocabulary: Vocabulary, last: Field) -> st.SearchStrategy[tuple[OrderKey, ...]]:
    order_kinds = set((RUN_ORDER if vocabulary is RUNS else EXPERIMENT_ORDER).kinds.values())
    sortable = fields(vocabulary).filter(lambda field: field.kind in order_kinds)
    keys = st.lists(st.builds(OrderKey, sortable, st.booleans()), max_size=2, unique_by=lambda key: key.field)
    ends = st.builds(OrderKey, st.just(last), st.booleans())
    return st.builds(lambda some, end: (*(key for key in some if key.field != last), end), keys, ends)


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    engine = memory_engine()
    yield engine
    engine.dispose()


def in_pages(search: Search[T], limit: int) -> list[T]:
    found, token = search(limit, None)
    while token:
        more, token = search(limit, token)
        assert more
        found += more
    return found


def searches(vocabulary: Vocabulary, last: Field) -> st.SearchStrategy[list[tuple[Node | None, tuple[OrderKey, ...], int]]]:
    return st.lists(st.tuples(nodes(vocabulary), orders(vocabulary, last), VIEWS), min_size=1, max_size=8)


def check_runs(engine: Engine, states: list[RunState], asked: Asked, size: int, *, near: int, experiments: list[str]) -> None:
    """Put searches in some experiments to a database, with a walk of so many steps for each row wanted."""
    with engine.connect() as connection, connection.begin() as transaction, patch.object(search_module, "NEAR", near):
        ids = insert_runs(connection, states)
        for node, order, view in asked:
            shown = [state for state in states if state.experiment_id in experiments and state.lifecycle_stage in lifecycle_stages(view)]
            matching = [state for state in shown if evaluate.matches(node, state)]
            expected = [state.run_id for state in evaluate.page(matching, order, 100, None)[0]]
            search = partial(search_run_ids, connection, experiments, node, order, view)
            found = in_pages(search, 100)
            assert [ids[key] for key in found] == expected
            assert [ids[key] for key in in_pages(search, size)] == expected
            check_columns(connection, found, size)
        transaction.rollback()


def check_columns(connection: Connection, keys: list[int], size: int) -> None:
    """Read runs into columns, whole and in parts put together: as if they were made of the runs."""
    expected = repr(columns_of(load_runs(connection, keys)))
    parts = [load_columns(connection, keys[start : start + size]) for start in range(0, len(keys), size)]
    assert repr(load_columns(connection, keys)) == expected
    assert repr(joined(parts or [columns_of([])])) == expected


@settings(max_examples=150)
@given(states=run_states(), asked=searches(RUNS, RUN_ID), size=st.integers(1, 4), near=NEAR, experiments=CHOSEN)
def test_sql_finds_the_runs_that_evaluation_finds(
    engine: Engine, states: list[RunState], asked: Asked, size: int, near: int, experiments: list[str]
) -> None:
    check_runs(engine, states, asked, size, near=near, experiments=experiments)


@settings(max_examples=150)
@given(states=experiment_states(), asked=searches(EXPERIMENTS, EXPERIMENT_ID), size=st.integers(1, 3))
def test_sql_finds_the_experiments_that_evaluation_finds(engine: Engine, states: list[ExperimentState], asked: Asked, size: int) -> None:
    check_experiments(engine, states, asked, size)


def check_experiments(engine: Engine, states: list[ExperimentState], asked: Asked, size: int) -> None:
    """Put searches to a database."""
    with engine.connect() as connection, connection.begin() as transaction:
        insert_experiments(connection, states)
        for node, order, view in asked:
            matching = [state for state in states if state.lifecycle_stage in lifecycle_stages(view) and evaluate.matches(node, state)]
            expected = [int(state.experiment_id) for state in evaluate.page(matching, order, 100, None)[0]]
            search = partial(search_experiment_ids, connection, node, order, view)
            assert in_pages(search, 100) == in_pages(search, size) == expected
        transaction.rollback()


@given(states=run_states(), order=orders(RUNS, RUN_ID), limit=st.integers(1, 4))
def test_pages_of_states_put_together_are_the_whole(states: list[RunState], order: tuple[OrderKey, ...], limit: int) -> None:
    whole, token = evaluate.page(states, order, 100, None)
    assert token is None
    assert in_pages(lambda limit, token: evaluate.page(states, order, limit, token), limit) == whole


PIECES = st.sampled_from(
    [
        "metrics.",
        "run_id",
        "loss",
        "`a b`",
        '"a"',
        "'x'",
        "= ",
        "<",
        "1e9",
        "-",
        " AND ",
        " or ",
        "NOT ",
        "(",
        ")",
        " IN ",
        ",",
        " IS ",
        "null",
        "\0",
    ]
)
SOURCES = st.text() | st.lists(PIECES, max_size=12).map("".join)


@settings(max_examples=500)
@given(source=SOURCES)
def test_the_parsers_raise_nothing_but_invalid_parameter(source: str) -> None:
    for parse in (parse_run_filter, parse_experiment_filter):
        with suppress(InvalidParameter):
            parse(source)
    for parse_order in (parse_run_order, parse_experiment_order):
        with suppress(InvalidParameter):
            parse_order([source])


@given(text=st.text(st.sampled_from("ab\nA_%"), max_size=8), pattern=st.text(st.sampled_from("ab\nA_%"), max_size=6))
def test_like_is_the_plain_recursive_definition(text: str, pattern: str) -> None:
    def like(text: str, pattern: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "%":
            return any(like(text[start:], pattern[1:]) for start in range(len(text) + 1))
        return bool(text) and pattern[0] in ("_", text[0]) and like(text[1:], pattern[1:])

    state = RunState("1", params={"k": text})
    assert evaluate.matches(Comparison(Field("param", "k"), "LIKE", pattern), state) == like(text, pattern)
