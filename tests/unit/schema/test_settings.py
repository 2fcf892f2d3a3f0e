"""Settings that only make sense together are refused where they do not."""

from __future__ import annotations

import pytest

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.settings import Settings


@pytest.mark.parametrize(("heartbeat", "lost_after"), [("30", "59.9"), ("200", ""), ("", "10")], ids=["just", "default", "heartbeat"])
def test_a_run_that_speaks_up_too_seldom_to_be_taken_for_lost_is_refused(heartbeat: str, lost_after: str) -> None:
    with pytest.raises(InvalidParameter, match="FLIGHTLOG_LOST_AFTER must be 0 or at least twice FLIGHTLOG_HEARTBEAT"):
        Settings.from_environ({"FLIGHTLOG_HEARTBEAT": heartbeat, "FLIGHTLOG_LOST_AFTER": lost_after})


@pytest.mark.parametrize(("heartbeat", "lost_after"), [("30", "60"), ("200", "0"), ("0", "1")])
def test_either_can_be_turned_off(heartbeat: str, lost_after: str) -> None:
    found = Settings.from_environ({"FLIGHTLOG_HEARTBEAT": heartbeat, "FLIGHTLOG_LOST_AFTER": lost_after})
    assert (found.heartbeat, found.lost_after) == (float(heartbeat), float(lost_after))
