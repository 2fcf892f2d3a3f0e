"""Durations as people write them: 90s, 15min, 12h, 7d."""

from __future__ import annotations

import re

from flightlog.schema.errors import InvalidParameter

UNITS = {"s": 1_000, "min": 60_000, "h": 3_600_000, "d": 86_400_000}


def milliseconds(text: str) -> int:
    """Return a duration in milliseconds. Raises `InvalidParameter`."""
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(s|min|h|d)", text.strip(), re.ASCII)
    if found is None:
        raise InvalidParameter(f"{text!r} is no duration; write a number and one of {', '.join(UNITS)}, such as 7d")
    return int(float(found[1]) * UNITS[found[2]])
