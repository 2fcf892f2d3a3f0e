"""What a shipper says of its spool, and how often it looks."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.worker import presence
from flightlog.worker.presence import SpoolFacts
from flightlog.worker.status import Lag


def test_a_look_at_a_spool_that_takes_long_is_taken_seldom(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clock, looks = [100.0], [0]

    def look(*_: object) -> Lag:
        looks[0] += 1
        clock[0] += 2.0
        return Lag(looks[0], 0.5, 10, 0)

    monkeypatch.setattr(presence, "lag_of", look)
    monkeypatch.setattr("flightlog.worker.presence.time.monotonic", lambda: clock[0])
    facts = SpoolFacts(tmp_path)
    assert facts.now()["lag_events"] == 1
    clock[0] += 2.0 / presence.LOOKING - 0.1
    assert facts.now() == {"spool": str(tmp_path), "lag_events": 1, "lag_seconds": 0.5, "spool_bytes": 10}
    clock[0] += 0.2
    assert facts.now()["lag_events"] == 2
