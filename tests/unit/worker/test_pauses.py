"""How long a place is left alone that cannot be used."""

from __future__ import annotations

from flightlog.worker.pauses import LAST, Pauses


def test_a_place_that_fails_for_days_is_still_tried_again() -> None:
    pauses, seconds = Pauses(), 0.0
    for _ in range(2_000):
        _, seconds = pauses.failed("s3://bucket")
        pauses._pauses["s3://bucket"].until = 0.0
    assert 0 < seconds <= LAST
