"""The search language: what parses and to what, what is rejected and why, and what nodes and orders mean."""

from __future__ import annotations

import math
from typing import Any

import pytest

from contracts.search_meanings import MEANINGS, ORDERED, ORDERS, RUN, stamped
from contracts.state_rows import summary
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.filters import evaluate, paging
from flightlog.schema.filters.nodes import MAX_FLOAT, Comparison, Conjunction, Disjunction, Field, Kind, Negation, Node, OrderKey
from flightlog.schema.filters.order import MAX_CLAUSES, parse_experiment_order, parse_run_order
from flightlog.schema.filters.parser import MAX_COMPARISONS, MAX_DEPTH, MAX_PATTERN, MAX_VALUES, parse_experiment_filter, parse_run_filter
from flightlog.schema.fold import ExperimentState, RunState


def compare(kind: Kind, key: str, operator: Any, value: Any) -> Comparison:
    return Comparison(Field(kind, key), operator, value)


A, B, C = (compare("param", key, "=", "1") for key in "abc")

COMPARISONS = [
    ("metrics.loss < 0.5", compare("metric", "loss", "<", 0.5)),
    ("metric.loss=1", compare("metric", "loss", "=", 1.0)),
    ("metrics.loss >= -1.5e-3", compare("metric", "loss", ">=", -0.0015)),
    ("metrics.loss != .5", compare("metric", "loss", "!=", 0.5)),
    ("metrics.loss>-5.", compare("metric", "loss", ">", -5.0)),
    ("metrics.loss <= 1e999", compare("metric", "loss", "<=", MAX_FLOAT)),
    ("metrics.loss.min < 1", compare("metric", "loss.min", "<", 1.0)),
    ("metrics.`val/loss 1` > 0", compare("metric", "val/loss 1", ">", 0.0)),
    ('metrics."a-b" > 0', compare("metric", "a-b", ">", 0.0)),
    ("metrics.größe > 0", compare("metric", "größe", ">", 0.0)),
    ("metrics.1x > 0", compare("metric", "1x", ">", 0.0)),
    ("metrics.'a b' > 0", compare("metric", "a b", ">", 0.0)),
    ("metrics.and > 0 ", compare("metric", "and", ">", 0.0)),
    ("params.lr = '0.1'", compare("param", "lr", "=", "0.1")),
    ('param.lr != "0.1"', compare("param", "lr", "!=", "0.1")),
    ("parameter.lr LIKE '0.%'", compare("param", "lr", "LIKE", "0.%")),
    ("parameters.lr ilike '0.%'", compare("param", "lr", "ILIKE", "0.%")),
    ("params.lr IS NULL", compare("param", "lr", "IS NULL", None)),
    ("params.lr is  not\nnull", compare("param", "lr", "IS NOT NULL", None)),
    ("params.`1 2/3.x` = ''", compare("param", "1 2/3.x", "=", "")),
    ("tags.d.o.t = 'x'", compare("tag", "d.o.t", "=", "x")),
    ("tag.`mlflow.user` = 'it''s'", compare("tag", "mlflow.user", "=", "it's")),
    ("tags.a = '\"quoted\"'", compare("tag", "a", "=", '"quoted"')),
    ('tags.a = "it\'s"', compare("tag", "a", "=", "it's")),
    ("tags.a = 'C:\\dir\\'", compare("tag", "a", "=", "C:\\dir\\")),
    ("tags.a = '; DROP TABLE runs --'", compare("tag", "a", "=", "; DROP TABLE runs --")),
    ("tags.a IS NULL", compare("tag", "a", "IS NULL", None)),
    ("run_id = 'abc'", compare("attribute", "run_id", "=", "abc")),
    ("attributes.run_id IN ('a','b')", compare("attribute", "run_id", "IN", ("a", "b"))),
    ("run_id not in ( \"a\" , 'b', )", compare("attribute", "run_id", "NOT IN", ("a", "b"))),
    ("attr.status = 'RUNNING'", compare("attribute", "status", "=", "RUNNING")),
    ("run.user_id LIKE 'a%'", compare("attribute", "user_id", "LIKE", "a%")),
    ("attribute.artifact_uri ILIKE 's3:%'", compare("attribute", "artifact_uri", "ILIKE", "s3:%")),
    ("run_name = 'x'", compare("attribute", "run_name", "=", "x")),
    ("`run name` = 'x'", compare("attribute", "run_name", "=", "x")),
    ("attributes.\"Run name\" = 'x'", compare("attribute", "run_name", "=", "x")),
    ("run.`Run Name` = 'x'", compare("attribute", "run_name", "=", "x")),
    ("attributes.`start_time` > 1700000000000", compare("attribute", "start_time", ">", 1700000000000)),
    ("created <= 12.5", compare("attribute", "start_time", "<=", 12.5)),
    ("Created = 9007199254740993", compare("attribute", "start_time", "=", 9007199254740993)),
    ("end_time != 0", compare("attribute", "end_time", "!=", 0)),
    ("end_time < " + "9" * 5000, compare("attribute", "end_time", "<", MAX_FLOAT)),
    ("dataset.name = 'mnist'", compare("dataset", "name", "=", "mnist")),
    ("datasets.digest IN ('a')", compare("dataset", "digest", "IN", ("a",))),
    ("dataset.context LIKE 'tr%'", compare("dataset", "context", "LIKE", "tr%")),
    ("`metrics`.loss > 1", compare("metric", "loss", ">", 1.0)),
]

COMPOSITIONS: list[tuple[str | None, Node | None]] = [
    (None, None),
    ("", None),
    (" \n\t", None),
    ("params.a='1' AND params.b='1' and params.c='1'", Conjunction((A, B, C))),
    ("params.a='1' OR params.b='1' AND params.c='1'", Disjunction((A, Conjunction((B, C))))),
    ("(params.a='1' OR params.b='1') AND params.c='1'", Conjunction((Disjunction((A, B)), C))),
    ("NOT params.a='1' AND params.b='1'", Conjunction((Negation(A), B))),
    ("not (params.a='1' or params.b='1')", Negation(Disjunction((A, B)))),
    ("NOT NOT params.a='1'", Negation(Negation(A))),
    ("NOT(params.a='1')AND(params.b='1')", Conjunction((Negation(A), B))),
    ("((params.a='1'))", A),
    ("(" * MAX_DEPTH + "params.a='1'" + ")" * MAX_DEPTH, A),
    (" AND ".join(["(params.a='1')"] * (MAX_DEPTH + 1)), Conjunction((A,) * (MAX_DEPTH + 1))),
]

REJECTED = [
    ("metrics.loss = '1'", "expected a number without quotes, found \"'1'\""),
    ("metrics.loss > abc", "expected a number without quotes, found 'abc'"),
    ("metrics.loss > nan", "expected a number"),
    ("metrics.loss > +1", "expected a number"),
    ("metrics.loss > 0x10", "expected a number"),
    ("metrics.loss > 1.2.3", "expected a number"),
    ("metrics.loss > 12abc", "expected a number"),
    ("metrics.loss LIKE '1'", "metric 'loss' cannot be compared with LIKE; expected one of =, !=, >"),
    ("metrics.loss IN (1, 2)", "cannot be compared with IN"),
    ("metrics.loss IS NULL", "cannot be compared with IS NULL"),
    ("metrics.loss == 1", "cannot be compared with =="),
    ("metrics.loss <> 1", "cannot be compared with <>"),
    ("metrics.loss", "expected a comparison such as =, !=, <, LIKE or IN, found the end"),
    ("metrics.loss >", "expected a number without quotes, found the end"),
    ("metrics. > 1", "expected a key after the dot"),
    ("metrics.x/y > 1", "expected a comparison such as =, !=, <, LIKE or IN, found '/'"),
    ("metrics.x-y > 1", "expected a comparison"),
    ("metrics.a b > 1", "expected a comparison"),
    ("metrics.`` > 1", "expected a key after the dot"),
    ("metrics.`a > 1", "expected a key after the dot"),
    ("params.lr = 0.1", "expected a text in quotes, found '0.1'"),
    ("params.lr = abc", "expected a text in quotes"),
    ("params.lr = `abc`", "expected a text in quotes"),
    ("params.lr = 'abc", "expected a text in quotes"),
    ("params.lr < '1'", "param 'lr' cannot be compared with <"),
    ("params.lr IN ('1')", "param 'lr' cannot be compared with IN"),
    ("tags.a NOT IN ('1')", "tag 'a' cannot be compared with NOT IN"),
    ("tags.a >= '1'", "tag 'a' cannot be compared with >="),
    ("tags.a NOT LIKE '1'", "expected IN after NOT"),
    ("tags.a IS 'x'", "expected NULL or NOT NULL"),
    ("tags.a IS NOT 'x'", "expected NULL"),
    ("status IN ('RUNNING')", "attribute 'status' cannot be compared with IN"),
    ("status = RUNNING", "expected a text in quotes"),
    ("end_time IS NULL", "attribute 'end_time' cannot be compared with IS NULL"),
    ("start_time = '1'", "expected a number without quotes"),
    ("start_time LIKE '1'", "attribute 'start_time' cannot be compared with LIKE"),
    ("experiment_id = '1'", "unknown attribute 'experiment_id'; expected one of run_id, run_name"),
    ("lifecycle_stage = 'active'", "unknown attribute 'lifecycle_stage'"),
    ("attribute.foo = '1'", "unknown attribute 'foo'"),
    ("Run_id = '1'", "unknown attribute 'Run_id'"),
    ("foo.bar = '1'", "unknown prefix 'foo'; expected one of metric, metrics"),
    ("Metrics.loss > 1", "unknown prefix 'Metrics'"),
    ("dataset.size = '1'", "unknown field of a dataset; expected one of name, digest, context"),
    ("run_id IN ()", "expected a text in quotes, found ')'"),
    ("run_id IN (1)", "expected a text in quotes, found '1'"),
    ("run_id IN ('a'", "expected ',' or ')', found the end"),
    ("run_id IN ('a' 'b')", "expected ',' or ')'"),
    ("run_id IN 'a'", "expected a list such as ('a', 'b')"),
    ("run_id = ('a')", "expected a text in quotes"),
    ("params.a='1';", "expected AND, OR or the end, found ';'"),
    ("params.a='1' params.b='1'", "expected AND, OR or the end, found 'params.b'"),
    ("params.a='1' AND", "expected a field such as metrics.loss, params.lr, tags.team or an attribute, found the end"),
    ("AND params.a='1'", "unknown attribute 'AND'"),
    ("(params.a='1'", "expected AND, OR or ')', found the end"),
    ("params.a='1')", "expected AND, OR or the end, found ')'"),
    ("NOT", "expected a field"),
    ("'a' = params.a", "expected a field"),
    ("1 = 1", "expected a field such as"),
    ("params.a = 'x\0y'", "no database stores the character '\\x00'"),
    ("params.a = '\ud800'", "no database stores the character '\\ud800'"),
    ("(" * (MAX_DEPTH + 1) + "params.a='1'" + ")" * (MAX_DEPTH + 1), f"at most {MAX_DEPTH} levels of parentheses and NOT"),
    ("NOT " * 100_000 + "params.a='1'", f"at most {MAX_DEPTH} levels of parentheses and NOT"),
    (" OR ".join(["params.a='1'"] * (MAX_COMPARISONS + 1)), f"at most {MAX_COMPARISONS} comparisons"),
    ("run_id IN (" + ",".join(["'a'"] * (MAX_VALUES + 1)) + ")", f"at most {MAX_VALUES} values in lists"),
    (f"params.a LIKE '{'%' * MAX_PATTERN}'", f"at most {MAX_PATTERN} characters"),
    (5, "must be a string, not int 5"),
]

EXPERIMENT_FILTERS = [
    ("name = 'x'", compare("attribute", "name", "=", "x")),
    ("attribute.name ILIKE '%x'", compare("attribute", "name", "ILIKE", "%x")),
    ("experiment_id IN ('1', '2')", compare("attribute", "experiment_id", "IN", ("1", "2"))),
    ("experiment_id != '1'", compare("attribute", "experiment_id", "!=", "1")),
    ("creation_time > 5", compare("attribute", "creation_time", ">", 5)),
    ("last_update_time <= 5", compare("attribute", "last_update_time", "<=", 5)),
    ("tags.team = 'a'", compare("tag", "team", "=", "a")),
    ("tag.`a b` IS NOT NULL", compare("tag", "a b", "IS NOT NULL", None)),
    ("experiment_id IN (' 01', '-0')", compare("attribute", "experiment_id", "IN", ("1", "0"))),
]

EXPERIMENT_REJECTED = [
    ("experiment_id LIKE '1'", "cannot be compared with LIKE; expected one of =, !=, IN, NOT IN"),
    ("experiment_id = 1", "expected a text in quotes"),
    *((f"experiment_id = '{wrong}'", "an experiment id is a whole number in quotes") for wrong in ("x", "", "1.0", "²", "1" * 101)),
    ("experiment_id IN ('1', 'x')", "an experiment id is a whole number in quotes"),
    ("name IN ('x')", "attribute 'name' cannot be compared with IN"),
    ("metrics.loss > 1", "unknown prefix 'metrics'; expected one of tag, tags, attribute, attributes, attr"),
    ("params.lr = '1'", "unknown prefix 'params'"),
    ("run.name = 'x'", "unknown prefix 'run'"),
    ("run_id = 'x'", "unknown attribute 'run_id'"),
    ("creation_time > '5'", "expected a number without quotes"),
]


def named(cases: list[Any]) -> list[Any]:
    return [pytest.param(*case, id=f"{number}-{str(case[0])[:40]!a}") for number, case in enumerate(cases)]


@pytest.mark.parametrize(("text", "node"), named(COMPARISONS + COMPOSITIONS))
def test_a_filter_of_runs_becomes_nodes(text: str | None, node: Node | None) -> None:
    assert parse_run_filter(text) == node


@pytest.mark.parametrize(("text", "node"), named(EXPERIMENT_FILTERS))
def test_a_filter_of_experiments_becomes_nodes(text: str, node: Node) -> None:
    assert parse_experiment_filter(text) == node


@pytest.mark.parametrize(("text", "message"), named(REJECTED))
def test_a_wrong_filter_of_runs_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_run_filter(text)
    assert message in caught.value.message
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"


@pytest.mark.parametrize(("text", "message"), named(EXPERIMENT_REJECTED))
def test_a_wrong_filter_of_experiments_says_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_experiment_filter(text)
    assert message in caught.value.message


CARETS = [
    ("metrics.loss < 0.5;", "    metrics.loss < 0.5;\n                      ^"),
    ("params.a = 'x' AND foo = 'y'", "    params.a = 'x' AND foo = 'y'\n                       ^^^"),
    ("metrics.loss >", "    metrics.loss >\n                  ^"),
    ("tags.a =\n5", "    tags.a = 5\n             ^"),
    ("params.a = '" + "x" * 80 + "' ; params.b", "    ..." + "x" * 58 + "' ; params.b\n" + " " * 67 + "^"),
]


@pytest.mark.parametrize(("text", "end"), named(CARETS))
def test_an_error_shows_the_place_with_a_caret(text: str, end: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_run_filter(text)
    assert caught.value.message.partition("\n")[2] == end


def keys(*names: str) -> list[tuple[str, str, bool]]:
    """Return order keys that are written as `kind.key` or `-kind.key`."""
    return [(*name.lstrip("-").split(".", 1), not name.startswith("-")) for name in names]  # type: ignore[misc]  # there is a dot in each


TIES = ("-attribute.start_time", "attribute.run_id")

RUN_ORDERS = [
    (None, TIES),
    ([], TIES),
    (["metrics.loss"], ("metric.loss", *TIES)),
    (["metric.loss DESC"], ("-metric.loss", *TIES)),
    (["metrics.`a b/c` asc"], ("metric.a b/c", *TIES)),
    (['params."a b" Desc', "tags.d.o.t"], ("-param.a b", "tag.d.o.t", *TIES)),
    (["metrics.loss.min"], ("metric.loss.min", *TIES)),
    (["start_time"], ("attribute.start_time", "attribute.run_id")),
    (["Created DESC"], ("-attribute.start_time", "attribute.run_id")),
    (["attributes.end_time"], ("attribute.end_time", *TIES)),
    (["run_id desc"], ("-attribute.run_id", "-attribute.start_time")),
    ([" status  ASC "], ("attribute.status", *TIES)),
    (["run_name", "metrics.run_name"], ("attribute.run_name", "metric.run_name", *TIES)),
]

RUN_ORDERS_REJECTED = [
    (["metrics.loss UP"], "expected ASC, DESC or the end, found 'UP'"),
    (["metrics.loss DESC DESC"], "expected the end"),
    (["metrics.loss, metrics.acc"], "expected ASC, DESC or the end, found ','"),
    (["metrics.a b"], "expected ASC, DESC or the end"),
    ([""], "expected a field"),
    (["experiment_id"], "unknown attribute 'experiment_id'"),
    (["`Run Name`"], "unknown attribute 'Run Name'"),
    (["dataset.name"], "unknown prefix 'dataset'"),
    (["DESC"], "unknown attribute 'DESC'"),
    (["start_time", "metrics.a", "created DESC"], "names the field 'start_time' twice"),
    (["metrics.a", "metric.`a` desc"], "names the field 'a' twice"),
    (["metrics.a\0"], "no database stores"),
    ([None], "must be a string, not NoneType"),
    ("metrics.loss", "order_by must be a list"),
    ([f"metrics.m{number}" for number in range(MAX_CLAUSES + 1)], "at most 20 clauses"),
]

EXPERIMENT_ORDERS = [
    (None, ("-attribute.creation_time", "attribute.experiment_id")),
    (["name"], ("attribute.name", "-attribute.experiment_id")),
    (["attribute.last_update_time DESC", "experiment_id ASC"], ("-attribute.last_update_time", "attribute.experiment_id")),
]


@pytest.mark.parametrize(("clauses", "expected"), named(RUN_ORDERS))
def test_an_order_of_runs_becomes_keys_that_end_in_ties(clauses: list[str] | None, expected: tuple[str, ...]) -> None:
    assert [(key.field.kind, key.field.key, key.ascending) for key in parse_run_order(clauses)] == keys(*expected)


@pytest.mark.parametrize(("clauses", "expected"), named(EXPERIMENT_ORDERS))
def test_an_order_of_experiments_becomes_keys_that_end_in_ties(clauses: list[str] | None, expected: tuple[str, ...]) -> None:
    assert [(key.field.kind, key.field.key, key.ascending) for key in parse_experiment_order(clauses)] == keys(*expected)


@pytest.mark.parametrize(("clauses", "message"), named(RUN_ORDERS_REJECTED))
def test_a_wrong_order_of_runs_is_an_error(clauses: list[str], message: str) -> None:
    with pytest.raises(InvalidParameter) as caught:
        parse_run_order(clauses)
    assert message in caught.value.message


def test_a_field_that_stands_twice_in_an_order_of_experiments_counts_where_it_stands_first() -> None:
    clauses = ["creation_time", "name", "creation_time DESC", "attribute.name"]
    assert parse_experiment_order(clauses) == parse_experiment_order(["creation_time", "name"])


@pytest.mark.parametrize("clause", ["tags.a", "metrics.a", "run_id"])
def test_experiments_are_sorted_by_their_attributes_alone(clause: str) -> None:
    with pytest.raises(InvalidParameter, match="unknown"):
        parse_experiment_order([clause])


@pytest.mark.parametrize(("text", "expected"), named(MEANINGS))
def test_a_run_matches_as_mlflow_says(text: str, expected: bool) -> None:
    assert evaluate.matches(parse_run_filter(text), RUN) is expected


def test_experiments_match_by_attributes_and_tags() -> None:
    state = ExperimentState("7", "digits", "", creation_time=5, tags=stamped(team="a", gone=None))
    text = "name LIKE 'dig%' AND experiment_id IN ('7') AND creation_time > 4 AND tags.team = 'a' AND tags.gone IS NULL"
    assert evaluate.matches(parse_experiment_filter(text), state)
    assert evaluate.matches(parse_experiment_filter("experiment_id = '07'"), state)


@pytest.mark.parametrize(("clauses", "expected"), named(ORDERS))
def test_runs_are_sorted_as_mlflow_does(clauses: list[str], expected: str) -> None:
    assert "".join(ids(ORDERED, *clauses)) == expected


def runs_with(values: dict[str, float | None]) -> list[RunState]:
    return [RunState(name, metrics={} if value is None else {"m": summary("m", value)}) for name, value in values.items()]


def ids(states: list[RunState], *clauses: str) -> list[str]:
    return [state.run_id for state in evaluate.page(states, parse_run_order(clauses), 100, None)[0]]


def test_metrics_sort_numbers_first_then_nan_then_missing_both_ways() -> None:
    states = runs_with({"none": None, "nan": math.nan, "two": 2.0, "up": math.inf, "down": -math.inf, "one": 1.0})
    assert ids(states, "metrics.m") == ["down", "one", "two", "up", "nan", "none"]
    assert ids(states, "metrics.m DESC") == ["up", "two", "one", "down", "nan", "none"]
    assert ids(states, "metrics.m.min DESC") == ["up", "two", "one", "down", "nan", "none"]


def test_missing_params_tags_and_attributes_sort_last_both_ways() -> None:
    states = [RunState("none"), RunState("b", params={"p": "b"}, end_time=2), RunState("a", params={"p": "a"}, end_time=1)]
    for field in ("params.p", "end_time"):
        assert ids(states, field) == ["a", "b", "none"]
        assert ids(states, f"{field} DESC") == ["b", "a", "none"]


def test_ties_are_broken_by_the_latest_start_then_the_run_id() -> None:
    states = [RunState("b", start_time=1), RunState("a", start_time=1), RunState("c", start_time=2)]
    assert ids(states) == ids(states, "metrics.m") == ["c", "a", "b"]
    assert ids(states, "start_time") == ["a", "b", "c"]


def test_experiment_ids_sort_as_numbers() -> None:
    states = [ExperimentState(key, key, "") for key in ("10", "9", "100")]
    found, _ = evaluate.page(states, parse_experiment_order(["experiment_id"]), 10, None)
    assert [state.experiment_id for state in found] == ["9", "10", "100"]


ORDER = parse_run_order(["metrics.m", "params.p"])


def test_a_page_token_leads_to_the_next_page_though_its_row_is_gone() -> None:
    states = runs_with({"a": 1.0, "b": 2.0, "c": math.nan, "d": None})
    first, token = evaluate.page(states, ORDER, 2, None)
    second, end = evaluate.page(states[2:], ORDER, 2, token)
    assert [state.run_id for state in first + second] == ["a", "b", "c", "d"]
    assert end is None


def test_a_token_of_another_search_is_refused() -> None:
    _, token = evaluate.page(runs_with({"a": 1.0, "b": 2.0}), ORDER, 1, None, query=A)
    with pytest.raises(InvalidParameter, match="belongs to another search"):
        evaluate.page([], ORDER, 1, token, query=B)
    with pytest.raises(InvalidParameter, match="belongs to another search"):
        evaluate.page([], parse_run_order(["metrics.m DESC", "params.p"]), 1, token, query=A)


def forged(*values: tuple[Any, Any]) -> str:
    return paging.encode_token(values, paging.digest("search"))


GOOD = ((0, 1.5), (0, "x"), (0, 5), (0, "r"))

WRONG_TOKENS = [
    "nonsense",
    "ä",
    "AA",
    "!!!!",
    "wA",
    forged(),
    forged(*GOOD[:3]),
    forged((0, "1"), *GOOD[1:]),
    forged(GOOD[0], (0, 5), *GOOD[2:]),
    forged((0, math.nan), *GOOD[1:]),
    forged((0, 2**63), *GOOD[1:]),
    forged((0, None), *GOOD[1:]),
    forged((3, 1.5), *GOOD[1:]),
    forged((True, 1.5), *GOOD[1:]),
    forged((0, True), *GOOD[1:]),
    5,
]


@pytest.mark.parametrize("token", named([(token,) for token in WRONG_TOKENS]))
def test_what_is_no_token_is_refused(token: str) -> None:
    with pytest.raises(InvalidParameter, match="is no page token"):
        paging.decode_token(token, ORDER, paging.digest("search"))


def test_a_token_gives_its_row_back() -> None:
    assert paging.decode_token(forged(*GOOD), ORDER, paging.digest("search")) == GOOD


def test_a_token_stays_short_though_texts_are_long() -> None:
    states = [RunState(str(number), params={"p": "x" * 10_000 + str(number)}) for number in range(2)]
    _, token = evaluate.page(states, ORDER, 1, None)
    assert token is not None
    assert len(token) < 600


@pytest.mark.parametrize("limit", [0, -1, 50_001, True, "5", 5.0, None])
def test_a_page_holds_1_to_50000_rows(limit: Any) -> None:
    with pytest.raises(InvalidParameter, match="max_results must be an integer from 1 to 50000"):
        paging.check_max_results(limit)
    with pytest.raises(InvalidParameter, match="max_results"):
        evaluate.page([], ORDER, limit, None)


@pytest.mark.parametrize("limit", [1, 50_000])
def test_the_bounds_of_a_page_are_allowed(limit: int) -> None:
    assert paging.check_max_results(limit) == limit


def test_a_view_type_is_one_of_three() -> None:
    assert [paging.lifecycle_stages(view) for view in (1, 2, 3)] == [("active",), ("deleted",), ("active", "deleted")]
    with pytest.raises(InvalidParameter, match="a view type must be 1"):
        paging.lifecycle_stages(4)


@pytest.mark.parametrize("wrong", [["x"], ["-1"], [""], ["1.0"], ["²"], [str(2**63)], [1], "12"])
def test_experiment_ids_are_decimal_strings_in_a_list(wrong: Any) -> None:
    with pytest.raises(InvalidParameter, match="experiment id"):
        paging.experiment_keys(wrong)


def test_experiment_ids_become_distinct_numbers() -> None:
    assert paging.experiment_keys(["10", "0", "10", str(2**63 - 1)]) == [0, 10, 2**63 - 1]


def test_an_order_key_is_ascending_unless_told() -> None:
    assert OrderKey(Field("metric", "m")) == ORDER[0]
