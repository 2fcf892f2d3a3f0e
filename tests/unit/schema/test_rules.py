"""Every rule of the table, by values that obey it and values that break it."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.rule_examples import EXAMPLES
from flightlog.schema.errors import FlightlogException
from flightlog.schema.rules import RULES, Rule

GOOD = [(rule, number, value) for rule in RULES for number, value in enumerate(EXAMPLES[rule.item].good)]
BAD = [(rule, number, value) for rule in RULES for number, value in enumerate(EXAMPLES[rule.item].bad)]


def named(cases: list[tuple[Rule, int, Any]]) -> list[Any]:
    return [pytest.param(rule, value, id=f"{rule.item} {number}") for rule, number, value in cases]


def test_every_rule_is_in_the_table_once_and_has_examples() -> None:
    assert [rule.item for rule in RULES] == list(EXAMPLES)


@pytest.mark.parametrize(("rule", "value"), named(GOOD))
def test_a_good_value_passes(rule: Rule, value: Any) -> None:
    rule.check(value)


@pytest.mark.parametrize(("rule", "value"), named(BAD))
def test_a_bad_value_is_refused_with_the_code_of_the_rule(rule: Rule, value: Any) -> None:
    with pytest.raises(FlightlogException) as caught:
        rule.check(value)
    assert caught.value.error_code == rule.error_code
    assert len(caught.value.message) < 1000
