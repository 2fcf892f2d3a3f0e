"""Searches: nodes become the WHERE of a SELECT, an order its ORDER BY. `schema.filters.evaluate` says what they mean.

An order by a metric reads the index of its values and stops when the page is full; the runs whose value
is NaN or missing come last in every order and are asked for only when the page has room for them.

Where an index has the order, a filter is tried first on as many runs as the page is likely to need: a filter that many match has its page
then, and one that few match has lost little before all that match are collected.

Ranks of NaN and missing values are written out, since databases sort NULL differently; so is the collation where it is not by code point.
ILIKE ignores the case of ASCII letters on SQLite and PostgreSQL, of all letters on MySQL.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sqlalchemy import Column, Connection, Executable, and_, bindparam, case, false, func, literal, not_, or_, select, true
from sqlalchemy.sql import FromClause

from flightlog.schema.filters.nodes import Comparison, Field, Negation, Node, OrderKey, split_statistic
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
    experiment_keys,
    is_text,
    lifecycle_stages,
)
from flightlog.stores.sql.conditions import (
    EXPERIMENTS,
    NO_METRIC,
    RUNS,
    Condition,
    Context,
    Expression,
    condition,
    is_nan,
    statistic_column,
    statistic_id,
)
from flightlog.stores.sql.tables import experiments, latest_metrics, metric_names, params, runs
from flightlog.stores.sql.texts import ExactText

NEAR = 20
"""How many rows in order are looked at for each that is wanted, before all rows that match are collected."""
MAX_STEPS = 10_000


def search_run_ids(
    connection: Connection,
    experiment_ids: Sequence[str],
    node: Node | None,
    order: Sequence[OrderKey],
    view_type: int,
    limit: int,
    page_token: str | None,
) -> tuple[list[int], str | None]:
    """Return the keys (`runs.id`) of one page of the runs that match, in order, and the token of the next page, None on the last."""
    keys = experiment_keys(experiment_ids)
    context = Context(RUNS, connection.dialect.name, _metric_ids(connection, node, order))
    chosen = runs.c.experiment_id.in_(bindparam("experiments", keys, expanding=True, literal_execute=True))
    scope = and_(chosen, runs.c.lifecycle_stage.in_(lifecycle_stages(view_type)))
    by_start = Walk(runs.c.start_time, runs.c.experiment_id == keys[0], runs.c.id) if len(keys) == 1 else None
    search = Search(context, scope, node, tuple(order), digest(tuple(order), node, keys, view_type), by_start)
    return _page(connection, search, limit, page_token)


def search_experiment_ids(
    connection: Connection, node: Node | None, order: Sequence[OrderKey], view_type: int, limit: int, page_token: str | None
) -> tuple[list[int], str | None]:
    """Return the ids of one page of the experiments that match, in order, and the token of the next page, None on the last."""
    context = Context(EXPERIMENTS, connection.dialect.name, {})
    scope = experiments.c.lifecycle_stage.in_(lifecycle_stages(view_type))
    return _page(connection, Search(context, scope, node, tuple(order), digest(tuple(order), node, view_type)), limit, page_token)


@dataclass(frozen=True)
class Walk:
    """An index that has rows in order: the column that it is ordered by, which part of it is meant, and what names the rows."""

    column: Column[Any]
    part: Condition
    id: Column[int]


@dataclass(frozen=True)
class Search:
    """What all pages of a search share. `by_start` is the index that has its runs in the order of their starts, if there is one."""

    context: Context
    scope: Condition
    node: Node | None
    order: tuple[OrderKey, ...]
    query: bytes
    by_start: Walk | None = None


@dataclass(frozen=True)
class SortColumn:
    """One key of an order. A rank of None stands for PRESENT, a value of None for nothing to compare; `where` limits the rows."""

    rank: Expression | None
    value: Expression | None
    joins: tuple[tuple[FromClause, Condition], ...] = ()
    where: Condition | None = None
    outer: bool = True
    walk: Walk | None = None


def _metric_ids(connection: Connection, node: Node | None, order: Sequence[OrderKey]) -> dict[str, int]:
    fields = {*_fields(node), *(key.field for key in order)}
    names = {field.key for field in fields if field.kind == "metric"}
    names |= {split[0] for split in map(split_statistic, names) if split}
    if not names:
        return {}
    rows = connection.execute(select(metric_names.c.name, metric_names.c.id).where(metric_names.c.name.in_(sorted(names))))
    return {row.name: row.id for row in rows}


def _fields(node: Node | None) -> Iterator[Field]:
    if isinstance(node, Comparison):
        yield node.field
    elif isinstance(node, Negation):
        yield from _fields(node.node)
    elif node is not None:
        for item in node.nodes:
            yield from _fields(item)


def _page(connection: Connection, search: Search, limit: int, page_token: str | None) -> tuple[list[int], str | None]:
    wanted = check_max_results(limit) + 1
    start = decode_token(page_token, search.order, search.query) if page_token else None
    rows: list[Any] = []
    for columns in _segments(search):
        rows += _rows(connection, search, columns, start, wanted - len(rows))
        if len(rows) == wanted:
            break
    token = encode_token(_position(rows[limit - 1], search.order), search.query) if len(rows) == wanted else None
    return [row[0] for row in rows[:limit]], token


def _rows(connection: Connection, search: Search, columns: Sequence[SortColumn], start: Position | None, limit: int) -> Sequence[Any]:
    walk, steps = columns[0].walk, min(NEAR * limit, MAX_STEPS)
    if walk is not None and search.node is not None and limit <= steps:
        end = _end_of_walk(connection, search.order[0], walk, start, steps)
        near = replace(search, context=replace(search.context, near=walk.id), scope=and_(search.scope, *end))
        found = connection.execute(_statement(near, columns, start, limit)).all()
        if len(found) == limit or not end:
            return found
    return connection.execute(_statement(search, columns, start, limit)).all()


def _end_of_walk(connection: Connection, key: OrderKey, walk: Walk, start: Position | None, steps: int) -> list[Condition]:
    """Return what holds for the rows before the one that so many steps lead to; nothing where the index ends before."""
    begin = [] if start is None else [_not_before(SortColumn(None, walk.column), key, start[0])]
    value = walk.column if key.ascending else walk.column.desc()
    bound = connection.execute(select(walk.column).where(walk.part, *begin).order_by(value).offset(steps).limit(1)).scalar()
    if bound is None:
        return []
    return [walk.column < bound if key.ascending else walk.column > bound]


def _position(row: Sequence[Any], order: Sequence[OrderKey]) -> Position:
    pairs = zip(row[1::2], row[2::2], strict=True)
    nothing = ("" if is_text(key.field) else 0 for key in order)
    return tuple((rank, value if rank == PRESENT else none) for (rank, value), none in zip(pairs, nothing, strict=True))


def _statement(search: Search, columns: Sequence[SortColumn], start: Position | None, limit: int) -> Executable:
    """Select the id, then rank and value of each key of the order."""
    source: FromClause = search.context.catalog.table
    for column in columns:
        for table, on in column.joins:
            source = source.join(table, on, isouter=column.outer)
    shown = [part for column in columns for part in (_or_literal(column.rank, PRESENT), _or_literal(column.value, 0))]
    labelled = (part.label(f"sort_{index}") for index, part in enumerate(shown))
    conditions = [search.scope, condition(search.node, search.context)]
    conditions += [column.where for column in columns if column.where is not None]
    if start is not None:
        conditions += [_not_before(columns[0], search.order[0], start[0]), _after(columns, search.order, start)]
    chosen = select(search.context.catalog.id, *labelled).select_from(source).where(*conditions)
    return chosen.order_by(*_order_by(columns, search.order)).limit(limit)


def _or_literal(expression: Expression | None, value: int) -> Expression:
    return literal(value) if expression is None else expression


def _order_by(columns: Sequence[SortColumn], order: Sequence[OrderKey]) -> Iterator[Expression]:
    for column, key in zip(columns, order, strict=True):
        if column.rank is not None:
            yield column.rank
        if column.value is not None:
            yield column.value if key.ascending else column.value.desc()


def _after(columns: Sequence[SortColumn], order: Sequence[OrderKey], start: Position) -> Condition:
    """Return what holds for the rows that come after a position: a later first key, or an equal one and a later second, and so on.

    The alternatives stand side by side: SQLite cannot parse twenty that are nested.
    """
    equal: list[Condition] = []
    after: list[Condition] = [false()]
    for column, key, (rank, value) in zip(columns, order, start, strict=True):
        compare = operator.gt if key.ascending else operator.lt
        same_rank, later_rank = _compare_rank(column.rank, rank)
        after.append(and_(*equal, later_rank))
        equal.append(same_rank)
        if column.value is not None and rank == PRESENT:
            after.append(and_(*equal, compare(column.value, value)))
            equal.append(column.value == value)
    return or_(*after)


def _not_before(column: SortColumn, key: OrderKey, start: SortValue) -> Condition:
    """Repeat what `_after` says of the first key, in a form for which an index can be used."""
    rank, value = start
    if column.rank is not None or column.value is None or rank != PRESENT:
        return true()
    return column.value >= value if key.ascending else column.value <= value


def _compare_rank(column: Expression | None, rank: int) -> tuple[Condition, Condition]:
    """Return the conditions that the rank is the same, and that it is later."""
    if column is None:
        return (true() if rank == PRESENT else false()), false()
    return column == rank, column > rank


def _segments(search: Search) -> Iterator[list[SortColumn]]:
    """Yield the columns of the SELECTs whose rows, one after the other, are in order."""
    columns = [_sort_column(key.field, search.context, number) for number, key in enumerate(search.order)]
    first = search.order[0].field
    if first.kind == "metric" and statistic_id(first.key, search.context) is None:
        yield [_present_metric(columns[0], search.context.metric_ids.get(first.key, NO_METRIC)), *columns[1:]]
        columns[0] = _absent_metric(columns[0])
    elif columns[0].value is runs.c.start_time:
        columns[0] = replace(columns[0], walk=search.by_start)
    yield columns


def _present_metric(column: SortColumn, metric_id: int) -> SortColumn:
    table, _ = column.joins[0]
    value: Any = table.c.last_value
    run: Any = table.c.run
    walk = Walk(value, table.c.metric == metric_id, run)
    return SortColumn(None, value, column.joins, not_(is_nan(table, "last")), outer=False, walk=walk)


def _absent_metric(column: SortColumn) -> SortColumn:
    return SortColumn(column.rank, None, column.joins, _or_literal(column.rank, PRESENT) != PRESENT)


def _sort_column(field: Field, context: Context, number: int) -> SortColumn:
    """Return the key of an order that has a number among the others."""
    if field.kind == "attribute":
        return _sort_by_column(context.catalog.attributes[field.key], (), context)
    if field.kind == "metric":
        return _sort_by_metric(field.key, context, number)
    table, owner = (params.alias(), "run") if field.kind == "param" else (context.catalog.tags.alias(), context.catalog.tag_owner.name)
    on = and_(table.c[owner] == context.catalog.id, table.c.key == field.key)
    return _sort_by_column(table.c.value, ((table, on),), context)


def _sort_by_column(column: Column[Any], joins: tuple[tuple[FromClause, Condition], ...], context: Context) -> SortColumn:
    value: Expression = (
        context.by_code_point(func.substr(column, 1, TEXT_LENGTH, type_=column.type)) if isinstance(column.type, ExactText) else column
    )
    if not joins and not column.nullable:
        return SortColumn(None, value)
    return SortColumn(case((column.is_(None), MISSING), else_=PRESENT), value, joins)


def _sort_by_metric(key: str, context: Context, number: int) -> SortColumn:
    whole, join = _joined_metric(context.metric_ids.get(key, NO_METRIC), f"order_{number}")
    rank = [(is_nan(whole, "last"), NAN), (whole.c.run.is_not(None), PRESENT)]
    split = statistic_id(key, context)
    if split is None:
        return SortColumn(case(*rank, else_=MISSING), func.coalesce(whole.c.last_value, 0), (join,))
    metric_id, statistic = split
    part, part_join = _joined_metric(metric_id, f"statistic_{number}")
    value = statistic_column(part, statistic)
    rank += [(is_nan(part, statistic), NAN), (value.is_not(None), PRESENT)]
    return SortColumn(case(*rank, else_=MISSING), func.coalesce(whole.c.last_value, value, 0), (join, part_join))


def _joined_metric(metric_id: int, name: str) -> tuple[FromClause, tuple[FromClause, Condition]]:
    table = _metrics_named(name)
    return table, (table, and_(table.c.run == runs.c.id, table.c.metric == metric_id))


@cache
def _metrics_named(name: str) -> FromClause:
    """Return the table of metrics under another name: to copy its columns each time takes longer than the rest of a statement."""
    return latest_metrics.alias(name)
