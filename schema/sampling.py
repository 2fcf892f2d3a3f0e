"""What may be said about system metrics: how often, how many, and of which machine."""

from __future__ import annotations

import math

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.limits import check_key

SYSTEM_PREFIX = "system/"
"""What the names of all system metrics begin with."""
LONGEST_FIGURE = "gpu_00_memory_usage_percentage"
MIN_INTERVAL = 0.01
"""Seconds. A shorter one would have the machine do little else than be looked at."""


def check_interval(value: object, name: str = "the sampling interval") -> float:
    """Return the seconds between two samples. `name` says in the error whose value it is."""
    try:
        seconds = float(value)  # type: ignore[arg-type]  # whatever is no number raises
    except (TypeError, ValueError):
        seconds = math.nan
    if not MIN_INTERVAL <= seconds < math.inf:
        raise InvalidParameter(f"{name} must be a number of seconds, at least {MIN_INTERVAL}, not {value!r}")
    return seconds


def check_samples(value: object, name: str = "the samples before logging") -> int:
    """Return of how many samples a point is the mean."""
    try:
        count = int(value)  # type: ignore[call-overload]  # whatever is no number raises
        whole = isinstance(value, str) or count == value
    except (TypeError, ValueError, OverflowError):
        count, whole = 0, False
    if count < 1 or not whole:
        raise InvalidParameter(f"{name} must be a whole number, at least 1, not {value!r}")
    return int(count)


def check_node_id(value: object, name: str = "the node id of system metrics") -> str:
    """Return a machine's name if names of metrics may hold it."""
    try:
        check_key("metric", f"{SYSTEM_PREFIX}{value}/{LONGEST_FIGURE}")
    except InvalidParameter as error:
        raise InvalidParameter(f"{name} {value!r} cannot be part of a metric's name: {error}") from error
    return str(value)
