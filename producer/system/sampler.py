"""The thread that reads counters at a steady pace and hands the points on, and how it is stopped."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue

from flightlog.producer.lifecycle import warn_once
from flightlog.producer.system.counters import Counter
from flightlog.schema.ids import now_ms

FIRST_SPAN = 0.1
"""Seconds after which the first sample is taken: it takes a while to tell how busy a processor is."""

PATIENCE = 0.25
"""Seconds that `stop` waits for a point that is being handed on."""

Sink = Callable[[Mapping[str, float], int, int], object]
"""Takes a point: its figures, step and time (ms since the epoch). Never waits."""


@dataclass(frozen=True)
class Pace:
    """Seconds between samples, and of how many of them a point is made."""

    interval: float
    samples: int


@dataclass
class Window:
    """The samples of which the next point is made."""

    time: int = 0
    """When the last of them was taken, in ms since the epoch."""
    count: int = 0
    figures: dict[str, tuple[Counter, list[float]]] = field(default_factory=dict)

    def add(self, sample: Sequence[tuple[Counter, Mapping[str, float]]]) -> None:
        """Take in what the counters said."""
        self.time = now_ms()
        self.count += 1
        for counter, figures in sample:
            for name, value in figures.items():
                self.figures.setdefault(name, (counter, []))[1].append(value)

    def point(self) -> dict[str, float]:
        """Return each figure as its counter makes it of its samples."""
        return {name: counter.combine(values) for name, (counter, values) in self.figures.items()}


class Sampler:
    """Takes samples in a daemon thread from `start` until `stop`, and gives the sink a point when enough of them are there.

    The first sample makes a point at once, so that short runs have one as well. Nothing reaches the sink once `stop` has returned, unless
    the thread was held up in the sink for longer than `PATIENCE`. `stop` may be called in a signal handler, hence an `RLock` and a queue
    instead of a lock and an event; and that handler may have interrupted a thread that holds what the sink waits for, hence the patience.
    """

    def __init__(self, counters: Callable[[ExitStack], Sequence[Counter]], pace: Pace, sink: Sink, first_step: int = 0) -> None:
        """Read nothing yet. `counters` is called in the thread: a driver may take its time."""
        self._counters = counters
        self._pace = pace
        self._sink = sink
        self._step = first_step
        self._lock = threading.RLock()
        """Held for an append to the journal at most, never while a counter is read: those may hang."""
        self._window = Window()
        self._stopped = False
        self._leave: SimpleQueue[None] = SimpleQueue()
        self._failed: set[str] = set()

    def start(self) -> None:
        """Begin, if the system lets us."""
        try:
            threading.Thread(target=self._run, name="flightlog-system-metrics", daemon=True).start()
        except RuntimeError as error:  # the interpreter is shutting down, or the system allows no more threads
            warn_once(f"there are no system metrics: {error}")

    def stop(self) -> None:
        """Have the thread leave, without waiting for what it reads, and hand on what it has gathered."""
        self._stopped = True
        self._leave.put(None)
        if self._lock.acquire(timeout=PATIENCE):
            try:
                self._hand_on()
            finally:
                self._lock.release()

    def _run(self) -> None:
        try:
            with ExitStack() as stack:
                self._sample_by_the_clock(self._counters(stack))
        except Exception as error:  # noqa: BLE001 - a fault here must never stop training; it is said once
            warn_once(f"there are no more system metrics in this run: {type(error).__name__}: {error}")

    def _sample_by_the_clock(self, counters: Sequence[Counter]) -> None:
        self._read_all(counters)  # some measure from one reading to the next: the first says nothing
        due = time.monotonic()
        wanted = 1
        pause = min(FIRST_SPAN, self._pace.interval)
        while not self._is_leaving(pause):
            self._take_sample(counters, wanted)
            wanted = self._pace.samples
            due = next_beat(due, self._pace.interval, time.monotonic())
            pause = due - time.monotonic()

    def _is_leaving(self, seconds: float) -> bool:
        """Wait so long, or until it is time to leave; say which."""
        try:
            self._leave.get(timeout=max(seconds, 0.0))
        except Empty:
            return self._stopped
        return True

    def _take_sample(self, counters: Sequence[Counter], wanted: int) -> None:
        sample = self._read_all(counters)
        with self._lock:
            if not self._stopped:
                self._window.add(sample)
                if self._window.count >= wanted:
                    self._hand_on()

    def _read_all(self, counters: Sequence[Counter]) -> list[tuple[Counter, Mapping[str, float]]]:
        return [(counter, self._read(counter)) for counter in counters]

    def _read(self, counter: Counter) -> Mapping[str, float]:
        try:
            return {name: float(value) for name, value in counter.read().items()}
        except Exception as error:  # noqa: BLE001 - whatever a driver or a system says; the other counters go on
            if counter.name not in self._failed:
                self._failed.add(counter.name)
                warn_once(f"system metrics lack {counter.name}: {type(error).__name__}: {error}")
            return {}

    def _hand_on(self) -> None:
        window, self._window = self._window, Window()
        point = window.point()
        if not point:
            return
        step, self._step = self._step, self._step + 1
        try:
            self._sink(point, step, window.time)
        except Exception as error:  # noqa: BLE001 - neither the thread nor the end of a run stops at that
            warn_once(f"system metrics were not logged: {type(error).__name__}: {error}")


def next_beat(due: float, interval: float, now: float) -> float:
    """Return when the next sample is due: on the beat that began with `due`. Beats that have passed meanwhile are left out."""
    return due + interval * max(1, int((now - due) / interval) + 1)
