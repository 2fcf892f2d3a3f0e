"""The one background thread: prepares segments, writes journals to disk, sees that a worker is there. Started on first use."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from queue import SimpleQueue
from typing import Protocol

log = logging.getLogger("flightlog")

INTERVAL = 1.0
"""Seconds between rounds: what a power loss can cost at most."""


class Tended(Protocol):
    """Whatever needs slow work done beside the training loop."""

    def prepare(self) -> None:
        """Do what the training loop will soon wait for; called soon after `wake`."""

    def tend(self) -> None:
        """Do the rest, which may wait for the disk; called about once a second."""


class Caretaker:
    """Looks after everything that was given to it, in two daemon threads: one that must be prompt and one that may wait for the disk."""

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._tended: weakref.WeakSet[Tended] = weakref.WeakSet()
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # this and the queue, unlike a lock or an event, may be used in a signal handler
        self._wakeups: SimpleQueue[None] = SimpleQueue()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._said: set[str] = set()

    def tend(self, tended: Tended) -> None:
        """Look after this from now on, for as long as somebody else holds it."""
        with self._lock:
            self._tended.add(tended)
            if not self._threads:
                self._start()
        self.wake()

    def _start(self) -> None:
        loops = {"flightlog-prepare": self._prepare_on_wakeup, "flightlog-tend": self._tend_by_the_clock}
        self._threads = [threading.Thread(target=loop, name=name, daemon=True) for name, loop in loops.items()]
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError:  # the interpreter is shutting down: the journal is safe without us
            log.debug("flightlog: no background threads any more")

    @property
    def is_at_work(self) -> bool:
        """Whether its threads run in this process."""
        return any(thread.is_alive() for thread in self._threads)

    def wake(self) -> None:
        """Ask for `prepare` soon."""
        if self._wakeups.empty():
            self._wakeups.put(None)

    def _prepare_on_wakeup(self) -> None:
        while not self._stopping.is_set():
            self._wakeups.get()
            for item in self._all():
                self._do(item.prepare)

    def _tend_by_the_clock(self) -> None:
        while not self._stopping.wait(self._interval):
            for item in self._all():
                self._do(item.tend)

    def _all(self) -> list[Tended]:
        with self._lock:
            return list(self._tended)

    def _do(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - a fault here must never stop training; it is said once
            if str(error) not in self._said:
                self._said.add(str(error))
                log.warning("flightlog: background work failed and will be tried again: %s: %s", type(error).__name__, error)

    def stop(self) -> None:
        """End the threads and wait for them, at most for the work in their hands."""
        self._stopping.set()
        self.wake()
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(timeout=5.0)
        self._begin()

    def abandon(self) -> None:
        """Start anew after a fork: the threads stayed with the parent."""
        self._tended = weakref.WeakSet(list(self._tended))
        self._begin()
