"""How long a worker has been looking on without a break: one that was away itself has no right to call others silent."""

from __future__ import annotations

import time
from collections.abc import Callable

LONGEST_PAUSE = 30.0
"""Seconds between two looks after which the watch counts as broken: the machine slept, say, or its clock was set."""


class Watch:
    """Counts seconds since the watch began or was last broken."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """`clock` must go on while the machine sleeps, as that of the day does and a monotonic one may not."""
        self._clock = clock
        self.begin_anew()

    def begin_anew(self) -> None:
        """Forget how long it has been: the store could not be reached, so nobody was heard."""
        self._since = self._latest = self._clock()

    def look(self) -> float:
        """Note that the worker looks, and return for how long it has done so."""
        now = self._clock()
        if not 0 <= now - self._latest <= LONGEST_PAUSE:
            self._since = now
        self._latest = now
        return now - self._since
