"""Who hears what workers and shippers do: counts for people (`Tally`), for Prometheus (`metrics.Instruments`), or nobody.

The calls come once a batch, from the thread that works. They neither fail nor wait.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Protocol

from flightlog.schema.errors import QueueUnavailable
from flightlog.stores.base import Applied

WINDOW = 60.0
"""Seconds that rates and percentiles look back."""
REMEMBERED = 4096
"""Batches that are remembered at the most for that."""


class Observer(Protocol):
    """Is told what happens."""

    def filed(self, applied: Applied, seconds: float) -> None:
        """A batch was committed, which took so long."""

    def unavailable(self, error: Exception, seconds: float) -> None:
        """Store or queue could not be used, which costs so many seconds until the next attempt."""

    def shipped(self, events: int, size: int) -> None:
        """Events were sent to the queue, in entries of so many bytes together."""

    def resent(self, entries: int) -> None:
        """The queue has lost so many entries, which are sent again."""

    def under_way(self, size: int) -> None:
        """So many bytes are in the queue now and not committed."""


class Several:
    """Tells several observers."""

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def filed(self, applied: Applied, seconds: float) -> None:
        """See `Observer.filed`."""
        for observer in self._observers:
            observer.filed(applied, seconds)

    def unavailable(self, error: Exception, seconds: float) -> None:
        """See `Observer.unavailable`."""
        for observer in self._observers:
            observer.unavailable(error, seconds)

    def shipped(self, events: int, size: int) -> None:
        """See `Observer.shipped`."""
        for observer in self._observers:
            observer.shipped(events, size)

    def resent(self, entries: int) -> None:
        """See `Observer.resent`."""
        for observer in self._observers:
            observer.resent(entries)

    def under_way(self, size: int) -> None:
        """See `Observer.under_way`."""
        for observer in self._observers:
            observer.under_way(size)


SILENT: Observer = Several()
"""Tells nobody."""


@dataclass(frozen=True)
class Summary:
    """What a process has done since it began, and per second within the last minute. Sizes are bytes, durations seconds.

    `p50` and `p99` are those of the commits within the last minute, None where there were none.
    """

    events: int = 0
    batches: int = 0
    dead_letters: Mapping[str, int] = field(default_factory=dict)
    shipped_events: int = 0
    shipped_bytes: int = 0
    resent: int = 0
    under_way_bytes: int = 0
    unavailable_seconds: float = 0.0
    events_per_second: float = 0.0
    batches_per_second: float = 0.0
    p50: float | None = None
    p99: float | None = None


@dataclass(frozen=True)
class _Commit:
    time: float
    seconds: float
    events: int


class Tally:
    """Counts, and remembers the commits of the last minute. Any thread may ask for its summary."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds that never run backwards."""
        self._clock = clock
        self._lock = threading.Lock()
        self._commits: deque[_Commit] = deque(maxlen=REMEMBERED)
        self._counts: Counter[str] = Counter()
        self._letters: Counter[str] = Counter()
        self._unavailable = 0.0
        self._under_way = 0
        self._began = clock()

    def filed(self, applied: Applied, seconds: float) -> None:
        """See `Observer.filed`."""
        with self._lock:
            self._commits.append(_Commit(self._clock(), seconds, applied.events))
            self._counts["events"] += applied.events
            self._counts["batches"] += 1
            self._letters.update(letter.reason for letter in applied.letters)

    def unavailable(self, error: Exception, seconds: float) -> None:  # noqa: ARG002 - what was away is no matter here
        """See `Observer.unavailable`."""
        with self._lock:
            self._unavailable += seconds

    def shipped(self, events: int, size: int) -> None:
        """See `Observer.shipped`."""
        with self._lock:
            self._counts["shipped_events"] += events
            self._counts["shipped_bytes"] += size

    def resent(self, entries: int) -> None:
        """See `Observer.resent`."""
        with self._lock:
            self._counts["resent"] += entries

    def under_way(self, size: int) -> None:
        """See `Observer.under_way`."""
        self._under_way = size

    def summary(self) -> Summary:
        """Return what was counted until now."""
        now = self._clock()
        with self._lock:
            recent = list(takewhile(lambda commit: now - commit.time < WINDOW, reversed(self._commits)))
            counts, letters, unavailable = dict(self._counts), dict(self._letters), self._unavailable
        span = _span(recent, now, now - self._began)
        return Summary(
            **counts,
            dead_letters=letters,
            under_way_bytes=self._under_way,
            unavailable_seconds=unavailable,
            events_per_second=sum(commit.events for commit in recent) / span,
            batches_per_second=len(recent) / span,
            p50=percentile((commit.seconds for commit in recent), 0.5),
            p99=percentile((commit.seconds for commit in recent), 0.99),
        )


def _span(recent: Sequence[_Commit], now: float, age: float) -> float:
    """Return over how many seconds the commits that are remembered, newest first, are spread."""
    reach = now - recent[-1].time if len(recent) == REMEMBERED else min(WINDOW, age)
    return max(reach, 1.0)


def percentile(values: Iterable[float], share: float) -> float | None:
    """Return the value that a share of all does not exceed, None of no values."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else None


def what_is_away(error: Exception) -> str:
    """Return "queue" or "store"."""
    return "queue" if isinstance(error, QueueUnavailable) else "store"
