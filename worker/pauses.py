"""Growing pauses for places that cannot be used now: one for each, because what is wrong concerns all that is to go there."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass

FIRST, LAST = 1.0, 300.0
"""Seconds until the second attempt, and at most between two."""


@dataclass
class _Pause:
    attempts: int
    until: float
    since: float


class Pauses:
    """Which places are left alone for now. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pauses: dict[str, _Pause] = {}

    def is_open(self, place: str) -> bool:
        """Whether a place may be tried now."""
        pause = self._pauses.get(place)
        return pause is None or time.monotonic() >= pause.until

    def failed(self, place: str) -> tuple[int, float]:
        """Leave a place alone for a while; return how often it was tried in vain, and for how many seconds it is left alone.

        Of many that fail together only the first counts.
        """
        now = time.monotonic()
        with self._lock:
            pause = self._pauses.setdefault(place, _Pause(0, 0.0, now))
            if now >= pause.until:
                pause.attempts += 1
                pause.until = now + min(FIRST * 2 ** min(pause.attempts - 1, 20), LAST) * random.uniform(0.75, 1.0)
            return pause.attempts, max(pause.until - now, 0.0)

    def went_well(self, place: str) -> None:
        """Forget that a place could not be used."""
        if place in self._pauses:
            with self._lock:
                self._pauses.pop(place, None)

    def longest(self) -> float:
        """Return for how many seconds the place has failed that has failed for the longest time; 0 where none does."""
        with self._lock:
            return max((time.monotonic() - pause.since for pause in self._pauses.values()), default=0.0)
