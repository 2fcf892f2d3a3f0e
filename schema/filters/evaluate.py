"""What a filter and an order mean, said over the states of the fold. The SQL search is held equal to this.

A missing value matches nothing but IS NULL, not even `!=`. NaN matches `!=` alone. Infinities compare as the greatest finite number of
their sign. Texts compare by code point; LIKE knows `%` (any characters) and `_` (any one character), without an escape character; ILIKE
ignores the case of ASCII letters.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cmp_to_key, lru_cache, partial
from typing import Any, TypeVar

from flightlog.schema.entities import MetricSummary
from flightlog.schema.filters.nodes import Comparison, Conjunction, Disjunction, Field, Negation, Node, OrderKey, clamp, split_statistic
from flightlog.schema.filters.paging import (
    MISSING,
    NAN,
    PRESENT,
    TEXT_LENGTH,
    Position,
    SortValue,
    check_max_results,
    decode_token,
    digest,
    encode_token,
    is_text,
)
from flightlog.schema.fold import ExperimentState, RunState

State = RunState | ExperimentState
S = TypeVar("S", RunState, ExperimentState)
Scalar = str | int | float | None


def matches(node: Node | None, state: State) -> bool:
    """Say whether a run or experiment matches; everything matches None."""
    if node is None:
        return True
    if isinstance(node, Negation):
        return not matches(node.node, state)
    if isinstance(node, Conjunction):
        return all(matches(item, state) for item in node.nodes)
    if isinstance(node, Disjunction):
        return any(matches(item, state) for item in node.nodes)
    if node.field.kind == "dataset":
        return any(_compares(node, value) for value in _of_datasets(state, node.field.key))
    return _compares(node, value_of(state, node.field))


def _of_datasets(state: State, key: str) -> list[str | None]:
    """Return the name, digest or context of each dataset that a run used: a comparison holds where it does for any of them."""
    datasets = state.datasets.values() if isinstance(state, RunState) else ()
    return [item.context if key == "context" else getattr(item.dataset, key) for item in datasets]


def page(states: Iterable[S], order: Sequence[OrderKey], limit: int, token: str | None, query: object = None) -> tuple[list[S], str | None]:
    """Return one page of the states in order, and the token of the next page, None on the last.

    `query` is what else belongs to the search, such as its node: a token of another search is refused.
    """
    check_max_results(limit)
    name = digest(tuple(order), query)
    rows = [(position_of(state, order), state) for state in states]
    if token:
        start = decode_token(token, order, name)
        rows = [row for row in rows if _compare_positions(order, row[0], start) > 0]
    rank = cmp_to_key(partial(_compare_positions, order))
    rows.sort(key=lambda row: rank(row[0]))
    shown = rows[:limit]
    return [state for _, state in shown], encode_token(shown[-1][0], name) if len(rows) > limit else None


def position_of(state: State, order: Sequence[OrderKey]) -> Position:
    """Return what the order compares of a state."""
    return tuple(_sort_value(key.field, value_of(state, key.field)) for key in order)


def value_of(state: State, field: Field) -> Scalar:
    """Return a field's value, None if the state has none; of a deleted tag too."""
    if field.kind == "attribute":
        value: Scalar = getattr(state, field.key)
        return value
    if field.kind == "tag":
        tag = state.tags.get(field.key)
        return tag.value if tag else None
    if isinstance(state, ExperimentState) or field.kind == "dataset":
        return None
    if field.kind == "param":
        return state.params.get(field.key)
    return _metric(state.metrics, field.key)


def _metric(metrics: dict[str, MetricSummary], key: str) -> float | int | None:
    if key in metrics:
        return clamp(metrics[key].last.value)
    name, statistic = split_statistic(key) or ("", "last")
    if name not in metrics:
        return None
    if statistic == "count":
        return metrics[name].count
    point = getattr(metrics[name], statistic)
    return clamp(point.value) if point else None


def _compares(node: Comparison, value: Scalar) -> bool:
    if value is None:
        return node.operator == "IS NULL"
    return OPERATORS[node.operator](value, node.value)


def _like(text: str, pattern: str) -> bool:
    """Find the pattern's parts between `%` one after the other, each as early as it can be."""
    position = 0
    for part in _like_parts(pattern):
        found = part.search(text, position)
        if found is None:
            return False
        position = found.end()
    return True


@lru_cache(maxsize=256)
def _like_parts(pattern: str) -> list[re.Pattern[str]]:
    head, *rest = ("".join("." if char == "_" else re.escape(char) for char in part) for part in pattern.split("%"))
    parts = [r"\A" + head, *rest]
    parts[-1] += r"\Z"
    return [re.compile(part, re.DOTALL) for part in parts]


_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}


def _ilike(text: str, pattern: str) -> bool:
    return _like(text.translate(_ASCII_LOWER), pattern.translate(_ASCII_LOWER))


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "LIKE": _like,
    "ILIKE": _ilike,
    "IN": lambda value, values: value in values,
    "NOT IN": lambda value, values: value not in values,
    "IS NULL": lambda _, __: False,
    "IS NOT NULL": lambda _, __: True,
}


def _sort_value(field: Field, value: Scalar) -> SortValue:
    if value is None:
        return MISSING, "" if is_text(field) else 0
    if isinstance(value, float) and math.isnan(value):
        return NAN, 0
    if is_text(field):
        return PRESENT, str(value)[:TEXT_LENGTH]
    return PRESENT, int(value) if isinstance(value, str) else value


def _compare_positions(order: Sequence[OrderKey], a: Position, b: Position) -> int:
    for key, (rank_a, value_a), (rank_b, value_b) in zip(order, a, b, strict=True):
        if rank_a != rank_b:
            return -1 if rank_a < rank_b else 1
        if value_a != value_b:
            return -1 if (value_a < value_b) == key.ascending else 1  # type: ignore[operator]  # values of one key are of one type
    return 0
