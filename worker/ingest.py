"""The ingest loop: take blocks, apply, store artifacts, acknowledge. A crash anywhere repeats the batch, which then does nothing."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Protocol

from flightlog.schema.blocks import Block
from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.base import Applied, Gap, Sink
from flightlog.worker.observers import SILENT, Observer
from flightlog.worker.poison import apply_around_poison
from flightlog.worker.sources.base import Source
from flightlog.worker.watch import Watch

log = logging.getLogger("flightlog.worker")

BATCH_EVENTS = 50_000
PAUSE = 0.25
"""Seconds between looks when there is little to do: small batches are filed at most so late."""
FIRST_RETRY, LAST_RETRY = 0.5, 30.0
SWEEP = 60.0
"""Seconds between looks at all artifacts that wait."""
SEARCH = 60.0
"""Seconds between searches for lost runs, at least."""


class Artifacts(Protocol):
    """What sees to artifacts once their events are filed."""

    def run(self, items: Sequence[Block | Gap]) -> None:
        """See to those of a batch."""

    def sweep(self) -> None:
        """See to all that wait."""

    def look(self) -> None:
        """Try again what could not be seen to before. Does not wait for it."""

    @property
    def is_waiting(self) -> bool:
        """Whether something is under way, or to be tried again."""


class Ingest:
    """Moves events from a source into a store until it is told to stop, or there is nothing to do for `idle` seconds.

    Meanwhile it takes runs for lost of which nothing was heard for `lost_after` seconds, 0: never. Where a writer has died it stays at
    least so long, to see whether the run is heard of again.
    """

    def __init__(
        self,
        source: Source,
        sink: Sink,
        artifacts: Artifacts,
        idle: float | None = None,
        lost_after: float = 0.0,
        *,
        sweeps: bool = True,
        observer: Observer = SILENT,
        fields: Mapping[str, object] | None = None,
    ) -> None:
        """`fields` go with each line of the log."""
        self._source, self._sink, self._artifacts = source, sink, artifacts
        self._idle, self._lost_after = idle, lost_after
        self._sweeps = sweeps
        self._watch = Watch()
        self._next_search = 0.0
        self._observer = observer
        self._fields = fields or {}
        self._stopping = False  # a plain word: an event's lock must not be taken in a signal handler
        self._next_sweep = 0.0
        self._maintains = True

    def stop(self) -> None:
        """Leave after the batch in hand. Safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Work until stopped or idle."""
        quiet_since = time.monotonic()
        while not self._stopping:
            events = self.step_until()
            self._watch.look()
            is_at_work = bool(events) or self._artifacts.is_waiting
            if is_at_work or self._source.is_live:
                quiet_since = time.monotonic()
            if events < BATCH_EVENTS // 2:
                if not is_at_work and self._may_leave(time.monotonic() - quiet_since):
                    return
                if not events and self._maintain():
                    continue
                self._source.wait(PAUSE)

    def _may_leave(self, quiet: float) -> bool:
        """Whether nothing was heard for so long that no more need be expected. The last thing is to look once more for lost runs."""
        if self._idle is None or quiet < self._idle:
            return False
        if self._lost_after and self._source.has_lost_writers and quiet < self._lost_after + 2 * PAUSE:
            return False
        self._next_search = 0.0
        self._maintain()
        return True

    def step(self) -> int:
        """Move one batch; return how many events it had."""
        if self._sweeps and time.monotonic() >= self._next_sweep:
            self._artifacts.sweep()
            self._next_sweep = time.monotonic() + SWEEP
        self._artifacts.look()
        items = self._source.take(BATCH_EVENTS)
        if not items:
            return 0
        applied = self._apply(items)
        self._artifacts.run(items)
        self._source.acknowledge(applied)
        return applied.events or len(items)

    def _apply(self, items: Sequence[Block | Gap]) -> Applied:
        began = time.monotonic()
        applied = apply_around_poison(self._sink, items)
        seconds = time.monotonic() - began
        self._observer.filed(applied, seconds)
        log.debug(
            "filed %d events in %.3f s", applied.events, seconds, extra={**self._fields, "events": applied.events, "seconds": seconds}
        )
        return applied

    def step_until(self, deadline: float = math.inf) -> int:
        """Move one batch, again and again with growing pauses while the store cannot be reached: nothing is lost meanwhile.

        Raises `StoreUnavailable` when the monotonic clock has passed `deadline`.
        """
        pause = FIRST_RETRY
        while not self._stopping:
            try:
                return self.step()
            except StoreUnavailable as error:
                self._source.rewind()
                self._watch.begin_anew()
                self._observer.unavailable(error, pause)
                if time.monotonic() + pause > deadline:
                    raise
                log.warning(
                    "the store cannot take events now, trying again in %g s: %s", pause, error, extra={**self._fields, "seconds": pause}
                )
                self._pause(pause)
                pause = min(2 * pause, LAST_RETRY)
        return 0

    def _maintain(self) -> bool:
        """Do a piece of housekeeping; say whether there may be more. Events matter more: where it fails, they go on without it."""
        if not self._maintains:
            return False
        try:
            self._mark_lost()
            return self._sink.maintain()
        except StoreUnavailable as error:
            log.warning("the store cannot be kept in order now: %s", error)
        except Exception:
            log.exception("the store cannot be kept in order; this worker no longer tries")
            self._maintains = False
        return False

    def _mark_lost(self) -> None:
        """Take silent runs for lost, once in a while. Only who has filed all that there is, and has looked on for some time, may say so."""
        watched = self._lost_after if self._idle is None else min(self._lost_after, self._idle)
        if not self._lost_after or self._watch.look() < watched or time.monotonic() < self._next_search:
            return
        self._next_search = time.monotonic() + min(SEARCH, self._lost_after)
        while not self._stopping and (count := self._sink.mark_lost(int(1000 * self._lost_after), self._source.living())):
            log.warning("runs taken for lost, because nothing was heard of them for %g s: %d", self._lost_after, count)

    def _pause(self, seconds: float) -> None:
        """Wait, and no longer than `PAUSE` after `stop`."""
        deadline = time.monotonic() + seconds
        while not self._stopping and time.monotonic() < deadline:
            threading.Event().wait(min(PAUSE, seconds))

    def drain(self) -> int:
        """Move everything that is there now; return how many events there were. Raises `StoreUnavailable`."""
        total = 0
        while events := self.step():
            total += events
        self._artifacts.sweep()
        return total
