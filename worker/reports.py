"""What a worker or shipper says of itself while it works: to its log once a minute, and every few seconds to whoever wants to know."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from flightlog.worker.observers import Observer, Several, Summary, Tally

log = logging.getLogger("flightlog.worker")

REPORT_EVERY = 5.0
"""Seconds between reports to whoever wants to know."""
SUMMARY_EVERY = 60.0
"""Seconds between lines in the log; where nothing happened there is none."""

GRACE = 1.0

Publish = Callable[[Summary], None]


class Reports:
    """A thread that tells of a tally until it is stopped."""

    def __init__(self, tally: Tally, publish: Publish | None) -> None:
        """`publish` takes the summary every few seconds."""
        self._tally, self._publish = tally, publish
        self._logged = Summary()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="flightlog-reports", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, with the last line of the log."""
        self._stopping.set()
        self._thread.join(GRACE)  # one that waits for a queue that does not answer keeps nobody from leaving
        self.log_summary()

    def _run(self) -> None:
        rounds = round(SUMMARY_EVERY / REPORT_EVERY)
        while True:
            for _ in range(rounds):
                if self._publish is not None:
                    self._publish(self._tally.summary())
                if self._stopping.wait(REPORT_EVERY):
                    return
            self.log_summary()

    def log_summary(self) -> None:
        """Log what has happened since the last time, if anything has."""
        now, before = self._tally.summary(), self._logged
        self._logged = now
        if now.batches > before.batches:
            events, batches = now.events - before.events, now.batches - before.batches
            times = {"p50": now.p50, "p99": now.p99}
            shown = ", ".join(f"{name} {value:.3f} s" for name, value in times.items() if value is not None)
            log.info(
                "filed %d events in %d batches; commits %s", events, batches, shown, extra={"events": events, "batches": batches, **times}
            )
        if now.shipped_events > before.shipped_events:
            events, size = now.shipped_events - before.shipped_events, now.shipped_bytes - before.shipped_bytes
            log.info("shipped %d events in %d bytes", events, size, extra={"events": events, "bytes": size})


@contextmanager
def reporting(observer: Observer, publish: Publish | None = None) -> Iterator[Observer]:
    """Give the observer that a process tells what it does, which tells the given one too; report meanwhile."""
    tally = Tally()
    reports = Reports(tally, publish)
    reports.start()
    try:
        yield Several(tally, observer)
    finally:
        reports.stop()
