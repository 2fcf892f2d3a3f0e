"""A watch lasts as long as somebody looks, and begins anew where nobody did."""

from __future__ import annotations

from flightlog.worker.watch import LONGEST_PAUSE, Watch


def test_a_watch_lasts_while_somebody_looks() -> None:
    times = iter([100.0, 101.0, 100 + LONGEST_PAUSE, 120 + LONGEST_PAUSE])
    watch = Watch(lambda: next(times))
    assert [watch.look() for _ in range(3)] == [1.0, LONGEST_PAUSE, 20 + LONGEST_PAUSE]


def test_a_machine_that_slept_or_whose_clock_was_set_begins_anew() -> None:
    times = iter([100.0, 110.0, 9_000.0, 9_001.0, 50.0, 52.0])
    watch = Watch(lambda: next(times))
    assert [watch.look() for _ in range(5)] == [10.0, 0.0, 1.0, 0.0, 2.0]
