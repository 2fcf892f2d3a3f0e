"""Nodes as conditions: what stands in the WHERE of a search. `schema.filters.evaluate` says what they mean.

A comparison of a metric, param or tag is `id IN (SELECT run ...)`, which an index of that table answers alone, so a search costs a few
index scans whatever it selects. Where few runs are looked at it is `EXISTS (SELECT ...)`, which costs a look into that table for each.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any

from sqlalchemy import Column, ColumnElement, Select, Table, and_, collate, exists, false, func, literal, not_, or_, select, true
from sqlalchemy.sql import FromClause

from flightlog.schema.filters.nodes import Comparison, Conjunction, Disjunction, Negation, Node, Statistic, split_statistic
from flightlog.schema.filters.paging import is_text
from flightlog.stores.sql.tables import dataset_inputs, experiment_tags, experiments, latest_metrics, params, runs, tags
from flightlog.stores.sql.texts import ExactText

Expression = ColumnElement[Any]
Condition = ColumnElement[bool]

NO_METRIC = -1
"""The id of a name that no run has logged."""
NAN_BITS: dict[Statistic, tuple[int, int]] = {"last": (0b11, 0b01), "first": (0b1100, 0b0100)}
"""Mask and value of `specials` for the statistics that can be NaN."""
LIKE_ESCAPES = dict.fromkeys(("postgresql", "mysql", "mariadb"), (("\\", "\\\\"),)) | {"mssql": (("[", "[[]"),)}
MIN_WHOLE, MAX_WHOLE = -(2**63), 2**63 - 1


@dataclass(frozen=True)
class Catalog:
    """Where the fields of one kind of object are."""

    table: Table
    id: Column[int]
    attributes: Mapping[str, Column[Any]]
    tags: Table
    tag_owner: Column[int]


RUNS = Catalog(
    runs,
    runs.c.id,
    {name: runs.c[name] for name in ("run_id", "status", "artifact_uri", "user_id", "start_time", "end_time")} | {"run_name": runs.c.name},
    tags,
    tags.c.run,
)
EXPERIMENTS = Catalog(
    experiments,
    experiments.c.experiment_id,
    {name: experiments.c[name] for name in ("name", "experiment_id", "creation_time", "last_update_time")},
    experiment_tags,
    experiment_tags.c.experiment_id,
)


@dataclass(frozen=True)
class Context:
    """What translating needs to know: the catalog, the database, and the ids of the metrics that the search names.

    `near` is the column that names the rows, where few will be looked at, one after the other.
    """

    catalog: Catalog
    dialect: str
    metric_ids: Mapping[str, int]
    near: ColumnElement[int] | None = None

    def is_among(self, owner: Column[int], rows: Select[Any]) -> Condition:
        """Say whether what is searched for is the owner of one of the rows.

        PostgreSQL makes a join of an EXISTS without OFFSET, and looks at all rows again.
        """
        if self.near is None:
            return self.catalog.id.in_(rows)
        own = rows.where(owner == self.near)
        return (own.offset(0) if self.dialect == "postgresql" else own).exists()

    def by_code_point(self, text: Expression) -> Expression:
        """Return a text that the database compares, sorts and lowers by code point."""
        return collate(text, "C") if self.dialect == "postgresql" else text

    def lowered(self, text: Expression) -> Expression:
        """Return a text with small letters for the capital ones of ASCII, and for no others."""
        if self.dialect not in ("mysql", "mariadb"):
            return func.lower(self.by_code_point(text))
        for letter in ascii_uppercase:
            text = func.replace(text, letter, letter.lower(), type_=ExactText())
        return text

    def pattern(self, text: str) -> str:
        """Return a LIKE pattern in which only `%` and `_` have a meaning to the database."""
        for char, escaped in LIKE_ESCAPES.get(self.dialect, ()):
            text = text.replace(char, escaped)
        return text


def statistic_id(key: str, context: Context) -> tuple[int, Statistic] | None:
    """Return the metric and the statistic that a key may stand for, None if no run has such a metric."""
    name, statistic = split_statistic(key) or ("", "last")
    return (context.metric_ids[name], statistic) if name in context.metric_ids else None


def statistic_column(table: FromClause, statistic: Statistic) -> Column[Any]:
    """Return the column of `latest_metrics`, or of an alias of it, that holds a statistic."""
    return table.c["count" if statistic == "count" else f"{statistic}_value"]  # type: ignore[return-value]  # columns of a table


def is_nan(table: FromClause, statistic: Statistic) -> Condition:
    """Say whether a statistic is NaN; the least and the greatest value never are."""
    if statistic not in NAN_BITS:
        return false()
    mask, value = NAN_BITS[statistic]
    return table.c.specials.bitwise_and(mask) == value


def condition(node: Node | None, context: Context) -> Condition:
    """Return a node as a condition that is true or false for every row, never NULL."""
    if node is None:
        return true()
    if isinstance(node, Negation):
        return not_(condition(node.node, context))
    if isinstance(node, Conjunction):
        return and_(*(condition(item, context) for item in node.nodes))
    if isinstance(node, Disjunction):
        return or_(*(condition(item, context) for item in node.nodes))
    return COMPARISONS[node.field.kind](node, context)


def _attribute_condition(node: Comparison, context: Context) -> Condition:
    column = context.catalog.attributes[node.field.key]
    if column is experiments.c.experiment_id:
        return _experiment_id_condition(node)
    compared = _compare_text(column, node, context) if is_text(node.field) else _compare_whole(column, node.operator, node.value)
    return and_(column.is_not(None), compared) if column.nullable else compared


def _experiment_id_condition(node: Comparison) -> Condition:
    values = (node.value,) if isinstance(node.value, str) else node.value
    keys = [int(value) for value in values if value.isdecimal() and str(int(value)) == value] if isinstance(values, tuple) else []
    found = experiments.c.experiment_id.in_([key for key in keys if key <= MAX_WHOLE])
    return found if node.operator in ("=", "IN") else not_(found)


def _param_condition(node: Comparison, context: Context) -> Condition:
    return _text_row_condition(params, params.c.run, node, context)


def _tag_condition(node: Comparison, context: Context) -> Condition:
    return _text_row_condition(context.catalog.tags, context.catalog.tag_owner, node, context)


def _text_row_condition(table: Table, owner: Column[int], node: Comparison, context: Context) -> Condition:
    rows = select(owner).where(table.c.key == node.field.key, table.c.value.is_not(None))
    if node.operator == "IS NULL":
        return not_(context.is_among(owner, rows))
    if node.operator != "IS NOT NULL":
        rows = rows.where(_compare_text(table.c.value, node, context))
    return context.is_among(owner, rows)


def _metric_condition(node: Comparison, context: Context) -> Condition:
    metric_id = context.metric_ids.get(node.field.key, NO_METRIC)
    rows = select(latest_metrics.c.run).where(latest_metrics.c.metric == metric_id)
    found = context.is_among(latest_metrics.c.run, rows.where(_compare_metric("last", node)))
    split = statistic_id(node.field.key, context)
    if split is None:
        return found
    statistic = _statistic_condition(*split, node)
    return statistic if metric_id == NO_METRIC else or_(found, and_(statistic, not_(context.is_among(latest_metrics.c.run, rows))))


def _statistic_condition(metric_id: int, statistic: Statistic, node: Comparison) -> Condition:
    """Look at the row of each run, since only the last value has an index."""
    row = and_(latest_metrics.c.run == runs.c.id, latest_metrics.c.metric == metric_id)
    return exists().where(row, _compare_metric(statistic, node))


def _compare_metric(statistic: Statistic, node: Comparison) -> Condition:
    column = statistic_column(latest_metrics, statistic)
    if statistic == "count":
        return _compare_whole(column, node.operator, node.value)
    compared, nan = NUMBERS[node.operator](column, node.value), is_nan(latest_metrics, statistic)
    return or_(compared, nan) if node.operator == "!=" else and_(compared, not_(nan))


def _dataset_condition(node: Comparison, context: Context) -> Condition:
    column = dataset_inputs.c[node.field.key]
    return runs.c.id.in_(select(dataset_inputs.c.run).where(column.is_not(None), _compare_text(column, node, context)))


COMPARISONS: dict[str, Callable[[Comparison, Context], Condition]] = {
    "attribute": _attribute_condition,
    "param": _param_condition,
    "tag": _tag_condition,
    "metric": _metric_condition,
    "dataset": _dataset_condition,
}

NUMBERS: dict[str, Callable[[Any, Any], Condition]] = {
    "=": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
}


def _compare_text(column: Expression, node: Comparison, context: Context) -> Condition:
    """Compare a text. LIKE in SQLite ends where the code point 0 is: to look for that in each row would cost every search more than it."""
    if node.operator == "LIKE":
        return column.like(context.pattern(str(node.value)))
    if node.operator == "ILIKE":
        return context.lowered(column).like(context.lowered(literal(context.pattern(str(node.value)), ExactText())))
    if isinstance(node.value, tuple):
        return column.in_(node.value) if node.operator == "IN" else column.not_in(node.value)
    return NUMBERS[node.operator](column, node.value)


def _compare_whole(column: Expression, name: str, value: Any) -> Condition:  # noqa: ANN401 - a number, says the parser
    """Compare a column of whole numbers exactly, also with a fraction or a number that 64 bits cannot hold."""
    if name in ("=", "!="):
        found = column == int(value) if value == int(value) and MIN_WHOLE <= value <= MAX_WHOLE else false()
        return found if name == "=" else not_(found)
    if name in ("<", "<="):
        most = math.floor(value) if name == "<=" else math.ceil(value) - 1
        return column <= min(most, MAX_WHOLE) if most >= MIN_WHOLE else false()
    least = math.ceil(value) if name == ">=" else math.floor(value) + 1
    return column >= max(least, MIN_WHOLE) if least <= MAX_WHOLE else false()
