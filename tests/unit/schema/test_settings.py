"""Settings that only make sense together are refused where they do not."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.sampling import check_interval, check_samples
from flightlog.schema.settings import VARIABLES, Settings


@pytest.mark.parametrize(("heartbeat", "lost_after"), [("30", "59.9"), ("200", ""), ("", "10")], ids=["just", "default", "heartbeat"])
def test_a_run_that_speaks_up_too_seldom_to_be_taken_for_lost_is_refused(heartbeat: str, lost_after: str) -> None:
    with pytest.raises(InvalidParameter, match="FLIGHTLOG_LOST_AFTER must be 0 or at least twice FLIGHTLOG_HEARTBEAT"):
        Settings.from_environ({"FLIGHTLOG_HEARTBEAT": heartbeat, "FLIGHTLOG_LOST_AFTER": lost_after})


@pytest.mark.parametrize(("heartbeat", "lost_after"), [("30", "60"), ("200", "0"), ("0", "1")])
def test_either_can_be_turned_off(heartbeat: str, lost_after: str) -> None:
    found = Settings.from_environ({"FLIGHTLOG_HEARTBEAT": heartbeat, "FLIGHTLOG_LOST_AFTER": lost_after})
    assert (found.heartbeat, found.lost_after) == (float(heartbeat), float(lost_after))


WRONG = [
    ("SYSTEM_METRICS_SAMPLING_INTERVAL", "0", "must be a number of seconds, at least 0.01, not '0'"),
    ("SYSTEM_METRICS_SAMPLING_INTERVAL", "nan", "must be a number of seconds"),
    ("SYSTEM_METRICS_SAMPLING_INTERVAL", "soon", "must be a number of seconds"),
    ("SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "0", "must be a whole number, at least 1, not '0'"),
    ("SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", "1.5", "must be a whole number"),
    ("SYSTEM_METRICS_NODE_ID", "a//b", "'a//b' cannot be part of a metric's name"),
    ("SYSTEM_METRICS_NODE_ID", "x" * 300, "cannot be part of a metric's name"),
    ("ENABLE_SYSTEM_METRICS_LOGGING", "perhaps", "must be true or false, not 'perhaps'"),
]


@pytest.mark.parametrize(("name", "value", "message"), WRONG)
@pytest.mark.parametrize("prefix", ["FLIGHTLOG", "MLFLOW"])
def test_what_cannot_be_said_of_system_metrics_is_refused_with_the_variable(prefix: str, name: str, value: str, message: str) -> None:
    with pytest.raises(InvalidParameter, match=f"{prefix}_{name} .*{message}"):
        Settings.from_environ({f"{prefix}_{name}": value})


def test_our_variable_wins_over_mlflows() -> None:
    found = Settings.from_environ({"FLIGHTLOG_SYSTEM_METRICS_NODE_ID": "ours", "MLFLOW_SYSTEM_METRICS_NODE_ID": "theirs"})
    assert found.system_metrics_node_id == "ours"


@pytest.mark.parametrize("value", [math.inf, None, [], True - 1, "x"])
def test_values_that_are_no_interval_are_refused(value: object) -> None:
    with pytest.raises(InvalidParameter, match="the sampling interval must be"):
        check_interval(value)


@pytest.mark.parametrize("value", [math.inf, math.nan, None, 0, 2.5, "2.0"])
def test_values_that_are_no_count_of_samples_are_refused(value: object) -> None:
    with pytest.raises(InvalidParameter, match="the samples before logging must be"):
        check_samples(value)


def test_numbers_of_any_kind_are_taken() -> None:
    assert (check_interval("2.5"), check_interval(1), check_samples("3"), check_samples(2.0)) == (2.5, 1.0, 3, 2)


LEVELS = [("NOTSET", 0), ("notset", 0), ("Warn", 30), ("warning", 30), ("FATAL", 50), ("15", 15), ("0", 0)]


@pytest.mark.parametrize(("name", "level"), LEVELS)
def test_a_level_of_logging_is_given_by_any_name_that_logging_knows_or_by_its_number(name: str, level: int) -> None:
    assert Settings.from_environ({"MLFLOW_LOGGING_LEVEL": name}).logging_level == level


@pytest.mark.parametrize("name", ["loud", "-1", "1.5", "\N{SUPERSCRIPT TWO}"])
def test_what_is_no_level_of_logging_is_refused(name: str) -> None:
    with pytest.raises(InvalidParameter, match="MLFLOW_LOGGING_LEVEL must be a level of logging"):
        Settings.from_environ({"MLFLOW_LOGGING_LEVEL": name})


def test_each_setting_has_its_variable_and_an_empty_one_says_nothing() -> None:
    assert list(VARIABLES) == [field.name for field in fields(Settings)]
    assert Settings.from_environ({name: "" for variable in VARIABLES.values() for name in variable.names}) == Settings()
    assert Settings.from_environ({"FLIGHTLOG_RUN_ID": "", "MLFLOW_RUN_ID": "theirs"}).run_id == "theirs"
