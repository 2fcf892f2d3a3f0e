"""The SQL search over SQLite: pages, tokens, bounds, plans, and what other databases are asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest
from sqlalchemy import Connection, event, make_url, select

from contracts.search_meanings import MEANINGS, ORDERED, ORDERS, RUN
from contracts.state_rows import insert_experiments, insert_runs, memory_engine, summary
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.filters.order import parse_experiment_order, parse_run_order
from flightlog.schema.filters.parser import MAX_COMPARISONS, MAX_DEPTH, MAX_PATTERN, MAX_VALUES, parse_experiment_filter, parse_run_filter
from flightlog.schema.fold import NEVER, ExperimentState, RunState, Stamped
from flightlog.stores.sql import search as search_module
from flightlog.stores.sql.conditions import RUNS, Context, condition
from flightlog.stores.sql.search import search_experiment_ids, search_run_ids
from flightlog.stores.sql.tables import runs


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = memory_engine()
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def search(
    connection: Connection, text: str = "", order: Sequence[str] = (), *, limit: int = 100, token: str | None = None, view: int = 1
) -> tuple[list[int], str | None]:
    return search_run_ids(connection, ["0"], parse_run_filter(text), parse_run_order(list(order)), view, limit, token)


def search_in(connection: Connection, ids: Sequence[str], *, view: int = 1, token: str | None = None) -> list[int]:
    return search_run_ids(connection, ids, None, parse_run_order(None), view, 100, token)[0]


@pytest.mark.parametrize(("text", "expected"), MEANINGS, ids=[text for text, _ in MEANINGS])
def test_a_run_matches_as_mlflow_says(connection: Connection, text: str, expected: bool) -> None:
    insert_runs(connection, [RUN])
    assert search(connection, text) == ([1] if expected else [], None)


@pytest.mark.parametrize(("clauses", "expected"), ORDERS, ids=[str(clauses) for clauses, _ in ORDERS])
def test_runs_are_sorted_as_mlflow_does(connection: Connection, clauses: list[str], expected: str) -> None:
    ids = insert_runs(connection, ORDERED)
    assert "".join(ids[key] for key in search(connection, order=clauses)[0]) == expected


METRICS = {1: 2.0, 2: math.nan, 3: None, 4: 1.0, 5: math.inf, 6: -math.inf, 7: None, 8: math.nan}
UPWARDS = [6, 4, 1, 5, 8, 2, 7, 3]
"""The keys of those runs by the metric; among NaN and among missing the latest start comes first."""


def runs_with_metrics() -> list[RunState]:
    metrics = {key: {} if value is None else {"loss": summary("loss", value)} for key, value in METRICS.items()}
    return [RunState(f"r{key}", start_time=key, metrics=metrics[key]) for key in METRICS]


@pytest.mark.parametrize("limit", range(1, 9))
def test_pages_cross_from_numbers_to_nan_to_missing(connection: Connection, limit: int) -> None:
    insert_runs(connection, runs_with_metrics())
    found, token = search(connection, order=["metrics.loss"], limit=limit)
    while token:
        more, token = search(connection, order=["metrics.loss"], limit=limit, token=token)
        found += more
    assert found == UPWARDS


def test_a_full_last_page_has_no_token(connection: Connection) -> None:
    insert_runs(connection, runs_with_metrics())
    assert search(connection, limit=8)[1] is None
    assert search(connection, limit=7)[1] is not None


def test_runs_that_come_in_between_shift_no_page(connection: Connection) -> None:
    states = [RunState(f"r{number}", start_time=number) for number in range(10, 14)]
    insert_runs(connection, states)
    first, token = search(connection, limit=2)
    connection.execute(runs.delete().where(runs.c.id == first[-1]))
    row = connection.execute(select(runs).limit(1)).mappings().one()
    connection.execute(runs.insert().values({**row, "id": 99, "run_id": "new", "start_time": 50}))
    assert search(connection, limit=2, token=token)[0] == [2, 1]


OTHER_SEARCHES: dict[str, Callable[[Connection, str | None], object]] = {
    "filter": lambda connection, token: search(connection, "metrics.loss > 1", token=token),
    "order": lambda connection, token: search(connection, order=["metrics.loss"], token=token),
    "view": lambda connection, token: search(connection, view=3, token=token),
    "experiments": lambda connection, token: search_in(connection, ["0", "1"], token=token),
}


@pytest.mark.parametrize("other", OTHER_SEARCHES)
def test_a_token_of_another_search_is_refused(connection: Connection, other: str) -> None:
    insert_runs(connection, runs_with_metrics())
    _, token = search(connection, limit=1)
    with pytest.raises(InvalidParameter, match="belongs to another search"):
        OTHER_SEARCHES[other](connection, token)


@pytest.mark.parametrize("limit", [0, 50_001])
def test_a_page_holds_1_to_50000_rows(connection: Connection, limit: int) -> None:
    with pytest.raises(InvalidParameter, match="max_results"):
        search(connection, limit=limit)
    with pytest.raises(InvalidParameter, match="max_results"):
        search_experiment_ids(connection, None, parse_experiment_order(None), 1, limit, None)


def test_only_the_given_experiments_and_stages_are_searched(connection: Connection) -> None:
    states = [RunState("a", "1"), RunState("b", "2"), RunState("c", "1", lifecycle_stage="deleted")]
    insert_runs(connection, states)
    assert search_in(connection, ["1"]) == [1]
    assert search_in(connection, ["1", "2"], view=3) == [1, 2, 3]
    assert search_in(connection, ["1"], view=2) == [3]
    assert search_in(connection, []) == []
    assert search_in(connection, [str(number) for number in range(50_000)]) == [1, 2]


@pytest.mark.parametrize(("view", "ids"), [(1, [2, 1]), (2, [3]), (3, [3, 2, 1])])
def test_experiments_are_searched_by_stage(connection: Connection, view: int, ids: list[int]) -> None:
    states = [ExperimentState(str(key), f"e{key}", "", creation_time=key) for key in (1, 2)]
    states.append(ExperimentState("3", "e3", "", lifecycle_stage="deleted", creation_time=3, tags={"k": Stamped("v", NEVER)}))
    insert_experiments(connection, states)
    assert search_experiment_ids(connection, None, parse_experiment_order(None), view, 10, None) == (ids, None)
    tagged = parse_experiment_filter("tags.k = 'v' AND experiment_id NOT IN ('1', '2')")
    assert search_experiment_ids(connection, tagged, parse_experiment_order(None), 3, 10, None) == ([3], None)


@pytest.mark.parametrize(
    ("text", "ids"), [("= '2'", [2]), ("= ' 02'", [2]), ("!= '2'", [1]), ("!= '-1'", [2, 1]), (f"IN ('{2**70}', '1')", [1])]
)
def test_experiment_ids_compare_as_numbers(connection: Connection, text: str, ids: list[int]) -> None:
    insert_experiments(connection, [ExperimentState(str(key), f"e{key}", "", creation_time=key) for key in (1, 2)])
    node = parse_experiment_filter(f"experiment_id {text}")
    assert search_experiment_ids(connection, node, parse_experiment_order(None), 1, 10, None)[0] == ids


def nested(depth: int) -> str:
    leaf = "metrics.loss.min != 1"
    text = leaf
    for level in range(depth // 2):
        text = f"NOT ({leaf} {'AND' if level % 2 else 'OR'} {text})"
    return text


GREATEST = {
    "depth": nested(MAX_DEPTH),
    "comparisons": " OR ".join(["metrics.loss.min != 1"] * MAX_COMPARISONS),
    "patterns": " OR ".join(["NOT params.a ILIKE '%x%'"] * MAX_COMPARISONS),
    "values": f"run_id IN ({','.join(map(repr, map(str, range(MAX_VALUES))))})",
    "pattern": f"params.a LIKE '{'é' * (MAX_PATTERN - 2)}'",
}


@pytest.mark.parametrize("name", GREATEST)
def test_the_greatest_filters_that_parse_can_be_run(connection: Connection, name: str) -> None:
    states = runs_with_metrics()
    states[0].metrics["loss.min"] = summary("loss.min", 1.0)
    insert_runs(connection, states)
    order = [f"metrics.m{number}.max DESC" for number in range(20)]
    assert search(connection, GREATEST[name], order)[1] is None


STATEMENTS = [
    ("", [], 1, 1),
    ("params.a = '1'", [], 1, 2),
    ("metrics.loss > 0", ["metrics.loss"], 1, 3),
    ("metrics.loss > 0", ["metrics.loss"], 10, 4),
    ("metrics.loss > 0", ["params.a"], 1, 2),
]
"""Ids of metrics, where the walk ends, what is near, all that match, what has no number: each asked for where it is needed."""


@pytest.mark.parametrize(("text", "order", "limit", "count"), STATEMENTS)
def test_a_search_takes_a_few_statements(connection: Connection, text: str, order: list[str], limit: int, count: int) -> None:
    insert_runs(connection, runs_with_metrics())
    seen: list[str] = []
    event.listen(connection, "before_cursor_execute", lambda _c, _u, statement, *_: seen.append(statement))
    search(connection, text, order, limit=limit)
    assert len(seen) == count


PLANS = [
    ("metrics.loss > 0", [], "SEARCH latest_metrics USING COVERING INDEX ix_latest_metrics_metric_last_value (metric=? AND last_value>?)"),
    ("params.lr = '1'", [], "SEARCH params USING COVERING INDEX ix_params_key_value_run (key=? AND value=?)"),
    ("tags.team LIKE '%1'", [], "SEARCH tags USING COVERING INDEX ix_tags_key_value_run (key=? AND value>?)"),
    ("", [], "SEARCH runs USING INDEX ix_runs_experiment_id_start_time (experiment_id=?)"),
    ("metrics.loss.min > 0", [], "SEARCH latest_metrics USING PRIMARY KEY (run=? AND metric=?)"),
    ("", ["metrics.loss"], "SEARCH order_0 USING COVERING INDEX ix_latest_metrics_metric_last_value (metric=?)"),
    ("", ["metrics.loss DESC"], "SEARCH order_0 USING COVERING INDEX ix_latest_metrics_metric_last_value (metric=?)"),
]


@contextmanager
def plan(connection: Connection) -> Iterator[list[str]]:
    """Collect the steps by which SQLite runs the searches inside the block."""
    steps: list[str] = []

    def explain(connection: Connection, _cursor: object, statement: str, parameters: tuple[object, ...], *_: object) -> None:
        if statement.startswith("SELECT runs.id"):
            rows = connection.connection.driver_connection.execute(f"EXPLAIN QUERY PLAN {statement}", parameters)  # type: ignore[union-attr]
            steps.extend(row[3] for row in rows)

    event.listen(connection, "before_cursor_execute", explain)
    yield steps
    event.remove(connection, "before_cursor_execute", explain)


@pytest.mark.parametrize(("text", "order", "step"), PLANS, ids=[f"{text or 'all'} {order}" for text, order, _ in PLANS])
def test_a_search_reads_indexes(connection: Connection, monkeypatch: pytest.MonkeyPatch, text: str, order: list[str], step: str) -> None:
    monkeypatch.setattr(search_module, "NEAR", 0)
    insert_runs(connection, runs_with_metrics())
    with plan(connection) as steps:
        search(connection, text, order, limit=1)
    assert step in steps


NEAR_PLANS = [
    ("metrics.acc > 0", "SEARCH latest_metrics USING PRIMARY KEY (run=? AND metric=?)"),
    ("NOT params.lr = '1'", "SEARCH params USING PRIMARY KEY (run=? AND key=?)"),
    ("tags.team LIKE '%1' OR tags.team IS NULL", "SEARCH tags USING PRIMARY KEY (run=? AND key=?)"),
]


@pytest.mark.parametrize(("text", "step"), NEAR_PLANS)
@pytest.mark.parametrize("order", [["metrics.loss DESC"], []])
def test_few_runs_in_order_are_tried_first(connection: Connection, text: str, step: str, order: list[str]) -> None:
    insert_runs(connection, runs_with_metrics())
    with plan(connection) as steps:
        search(connection, text, order, limit=1)
    walked = "order_0 USING COVERING INDEX ix_latest_metrics_metric_last_value" if order else "runs USING INDEX ix_runs_exp"
    assert walked in steps[0]
    assert step in steps


@pytest.mark.parametrize("near", [0, 1, 2, 20])
@pytest.mark.parametrize("order", [["metrics.loss"], ["metrics.loss DESC"], [], ["start_time"]])
def test_what_few_match_is_found_however_far_it_lies(
    connection: Connection, monkeypatch: pytest.MonkeyPatch, near: int, order: list[str]
) -> None:
    monkeypatch.setattr(search_module, "NEAR", near)
    insert_runs(connection, [RunState(f"r{n}", start_time=n // 3, metrics={"loss": summary("loss", n // 2)}) for n in range(40)])
    text = "run_id IN ('r3', 'r20', 'r21', 'r38')"
    whole = search(connection, text, order)[0]
    assert sorted(whole) == [4, 21, 22, 39]
    found, token = search(connection, text, order, limit=1)
    while token:
        more, token = search(connection, text, order, limit=1, token=token)
        found += more
    assert found == whole


@pytest.mark.parametrize(("direction", "bound"), [("ASC", ">"), ("DESC", "<")])
def test_a_later_page_starts_in_the_middle_of_the_index(connection: Connection, direction: str, bound: str) -> None:
    insert_runs(connection, runs_with_metrics())
    _, token = search(connection, order=[f"metrics.loss {direction}"], limit=1)
    with plan(connection) as steps:
        search(connection, order=[f"metrics.loss {direction}"], limit=1, token=token)
    index = "ix_latest_metrics_metric_last_value"
    assert steps[0] == f"SEARCH order_0 USING COVERING INDEX {index} (metric=? AND last_value{bound}?)"


PATTERNS = [
    ("sqlite", r"a\_[", "lower(params.value) LIKE lower("),
    ("postgresql", r"a\\_[", 'lower(params.value COLLATE "C") LIKE lower('),
    ("mysql", r"a\\_[", "replace(replace(params.value, "),
    ("mssql", r"a\_[[]", "lower(params.value) LIKE lower("),
]


@pytest.mark.parametrize(("name", "pattern", "ilike"), PATTERNS, ids=[item[0] for item in PATTERNS])
def test_patterns_have_no_escape_character_on_any_database(name: str, pattern: str, ilike: str) -> None:
    node = parse_run_filter(r"params.k ILIKE 'a\_['")
    compiled = condition(node, Context(RUNS, name, {})).compile(dialect=make_url(f"{name}://").get_dialect()())
    assert pattern in compiled.params.values()
    assert ilike in str(compiled)
