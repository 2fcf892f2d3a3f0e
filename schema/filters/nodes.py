"""What the parser makes: a tree of frozen nodes, and the keys of an order."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Kind = Literal["metric", "param", "tag", "attribute", "dataset"]
Operator = Literal["=", "!=", ">", ">=", "<", "<=", "LIKE", "ILIKE", "IN", "NOT IN", "IS NULL", "IS NOT NULL"]
Statistic = Literal["last", "first", "min", "max", "count"]
Value = str | int | float | tuple[str, ...] | None

STATISTICS: dict[str, Statistic] = {"last": "last", "first": "first", "min": "min", "max": "max", "count": "count"}
MAX_FLOAT = 1.7976931348623157e308
"""Infinities compare and sort as this number of their sign, in values and in literals."""


@dataclass(frozen=True)
class Field:
    """Something of a run or experiment that has a value. The key of an attribute is its proper name, never an alias."""

    kind: Kind
    key: str


@dataclass(frozen=True)
class Comparison:
    """A field compared with a value: a number, a text, several texts for IN, None for IS NULL. A missing field matches IS NULL alone."""

    field: Field
    operator: Operator
    value: Value


@dataclass(frozen=True)
class Negation:
    """Matches what its node does not."""

    node: Node


@dataclass(frozen=True)
class Conjunction:
    """Matches what all its nodes match."""

    nodes: tuple[Node, ...]


@dataclass(frozen=True)
class Disjunction:
    """Matches what any of its nodes matches."""

    nodes: tuple[Node, ...]


Node = Comparison | Negation | Conjunction | Disjunction


@dataclass(frozen=True)
class OrderKey:
    """One key of an order. Numbers come first, then NaN, then what is missing, whichever the direction."""

    field: Field
    ascending: bool = True


def split_statistic(key: str) -> tuple[str, Statistic] | None:
    """Split `loss.min` into the metric `loss` and its statistic `min`; None if the key does not end like that."""
    name, _, suffix = key.rpartition(".")
    return (name, STATISTICS[suffix]) if name and suffix in STATISTICS else None


def clamp(value: float) -> float:
    """Return the number that a float compares as; NaN stays."""
    return value if math.isnan(value) else min(max(value, -MAX_FLOAT), MAX_FLOAT)
