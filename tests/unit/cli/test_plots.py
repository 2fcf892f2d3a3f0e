"""Plots in the terminal: whatever was logged can be drawn, within the width, and no peak is lost."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flightlog.cli import plots
from flightlog.cli.run_compare import guess, short_ids
from flightlog.stores import series
from flightlog.stores.base import Envelope, History

steps = st.sampled_from([0, 1, 1000, 2**63 - 1, -(2**63)]) | st.integers(-5, 5)
values = st.sampled_from([0.0, -0.0, 1.0, 1.0000000000000002, 5e-324, 1e308, -1e308, math.nan, math.inf, -math.inf]) | st.floats()
histories = st.lists(st.tuples(steps, values), min_size=1, max_size=6)


def envelope(points: list[tuple[int, float]], buckets: int = 40) -> Envelope:
    step = np.array([step for step, _ in points], np.int64)
    history = series.ordered(History(step, np.zeros(len(step), np.int64), np.array([value for _, value in points], np.float64)))
    return series.envelope_of(history, buckets, None, None)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(histories, min_size=1, max_size=3), st.sampled_from([20, 80]))
def test_whatever_was_logged_can_be_drawn_within_the_width(found: list[list[tuple[int, float]]], width: int) -> None:
    lines = [plots.Line(f"run {number}", envelope(points)) for number, points in enumerate(found)]
    drawable = [line for line in lines if plots.is_drawable(line.envelope)]
    if drawable:
        printed = plots.plot("loss", drawable, width)
        assert max(map(len, printed.splitlines())) <= width + plots.MARGIN
        assert plots.in_ascii(printed).isascii()


def test_a_peak_of_one_point_in_a_long_history_is_drawn() -> None:
    values = np.zeros(100_000)
    values[54_321] = 1.0
    points = list(enumerate(values.tolist()))
    top = plots.plot("loss", [plots.Line("run", envelope(points))], 40).splitlines()[2]
    assert top.strip("\u2800 ").endswith(tuple(chr(plots.BRAILLE + bits) for bits in range(1, 256)))


def test_what_a_script_logged_as_a_name_cannot_steer_the_terminal() -> None:
    lines = [plots.Line(f"\x1b[2J{number}", envelope([(0, 1.0), (1, 2.0)])) for number in range(2)]
    assert "\x1b" not in plots.plot("\x1b[2Jloss", lines, 40)


@pytest.mark.parametrize(
    ("value", "length", "shown"),
    [(0.25, 1.0, "0.25"), (1000.0, 5000.0, "1000"), (1.23456e-7, 1e-6, "1.23e-07"), (1e300, 1e300, "1e+300"), (0.0, 0.0, "0")],
    ids=str,
)
def test_a_number_on_an_axis_has_the_digits_that_it_needs(value: float, length: float, shown: str) -> None:
    assert plots._label(value, 10, length) == shown.rjust(10)


@pytest.mark.parametrize(
    ("key", "better"),
    [
        ("loss", "lower"),
        ("val/accuracy", "higher"),
        ("validation_loss_total", "lower"),
        ("trainLoss", "lower"),
        ("accuracy_error", "lower"),
        ("top5.acc", "higher"),
        ("glossy", None),
        ("step", None),
    ],
)
def test_the_name_of_a_metric_says_whether_lower_is_better(key: str, better: str | None) -> None:
    assert guess(key) == better


def test_runs_are_called_by_as_many_digits_as_they_need() -> None:
    assert short_ids(["a" * 32, "b" * 32]) == ["a" * 8, "b" * 8]
    assert short_ids(["a" * 32, "a" * 10 + "b" * 22]) == ["a" * 11, "a" * 10 + "b"]
    assert short_ids(["short", "other"]) == ["short", "other"]
