"""The recorder: checks, stamps and packs what a script logs about one subject, and hands it to the journal."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from time import time_ns
from typing import Any

from flightlog.producer.journal import Journal
from flightlog.schema.codec import INT64, MAX_POINTS, METRICS_HEAD, encode, pack_metric, pack_metrics
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.events import Event
from flightlog.schema.frames import MAX_PAYLOAD
from flightlog.schema.limits import as_metric_value, as_step, as_timestamp, check_key, check_mapping


class Recorder:
    """Writes events of one subject into a journal. Bad input raises `InvalidParameter` before anything is written."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._marker_of = journal.markers.get
        self._append = journal.append

    def metric(self, key: str, value: Any, step: Any = None, timestamp: Any = None) -> int:  # noqa: ANN401 - checked here
        """Record one metric and return its sequence. `step` is 0 and `timestamp` (ms since the epoch) is now when not given.

        This is the hot path: a float and an int at a known key go straight through.
        """
        try:
            marker = self._marker_of(key) or self._define(key)
        except TypeError:
            marker = self._define(key)
        if type(value) is not float:
            value = as_metric_value(key, value)
        if type(step) is not int:
            step = 0 if step is None else as_step(step)
        time = time_ns() // 1_000_000 if timestamp is None else as_timestamp(timestamp)
        try:
            payload = pack_metric(METRICS_HEAD, time, INT64, step, marker, value)
        except struct.error:
            raise InvalidParameter(f"step {step} does not fit into 64 bits") from None
        return self._append(payload)

    def metrics(self, metrics: Mapping[str, Any], step: Any = None, timestamp: Any = None) -> int:  # noqa: ANN401 - checked here
        """Record several metrics at one step and time as one event, or a few when there are very many; return the last sequence."""
        step = 0 if step is None else as_step(step)
        time = time_ns() // 1_000_000 if timestamp is None else as_timestamp(timestamp)
        flat: list[Any] = []
        markers = self.journal.markers
        try:
            items = metrics.items()
        except AttributeError:
            items = check_mapping("metrics", metrics).items()
        for key, value in items:
            marker = markers.get(key) or self._define(key)
            flat += (marker[3:], value if type(value) is float else as_metric_value(key, value))
        sequence = self.journal.sequence - 1
        for start in range(0, len(flat), 2 * MAX_POINTS):
            sequence = self.journal.append(pack_metrics(time, step, flat[start : start + 2 * MAX_POINTS]))
        return sequence

    def sample(self, metrics: Mapping[str, float], step: int, timestamp: int) -> int:
        """Record several metrics of the machine, as `metrics` does those of the script. Without room for them they are dropped and counted.

        Whatever the policy for a full spool: nobody's training waits or fails for them.
        """
        markers = [self._marker_of(key) or self._define(key) for key in metrics]
        flat = [part for marker, value in zip(markers, metrics.values(), strict=True) for part in (marker[3:], value)]
        return self.journal.append(pack_metrics(timestamp, step, flat), last=True)

    def _define(self, key: str) -> bytes:
        try:
            check_key("metric", key)
        except TypeError:
            raise InvalidParameter(f"a metric key must be a string, not {type(key).__name__} {key!r}") from None
        return self.journal.define(key)

    def event(self, event: Event) -> int:
        """Record any other event and return its sequence."""
        return self.journal.append(_checked(encode(event)))

    def last_event(self, event: Event) -> int:
        """Record the event that ends the run, for which there is room even when the disk is full."""
        return self.journal.append_last(_checked(encode(event)))


def _checked(payload: bytes) -> bytes:
    if len(payload) > MAX_PAYLOAD:
        raise InvalidParameter(f"an event of {len(payload)} bytes is too large, at most {MAX_PAYLOAD} are allowed; log it as an artifact")
    return payload
