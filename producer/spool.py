"""The spool folder as the producer sees it: where journals go, how much they may take, and what happens when that is used up."""

from __future__ import annotations

import os
import time
from pathlib import Path

from flightlog.producer.segments import Segment
from flightlog.schema import frames
from flightlog.schema.ids import WriterId
from flightlog.schema.settings import FullPolicy

MEASURE_EVERY = 30.0
"""Seconds between measurements of the folder: each looks at every file, and each look lets go of the GIL."""

ROOM_ADVICE = "free some space, make the folder writable, or set FLIGHTLOG_SPOOL to another one"


class SpoolFull(OSError):
    """The spool's limit does not allow another segment."""


class Spool:
    """A folder of journals with a limit in bytes, and a policy for when it, or the disk, is full."""

    def __init__(self, folder: Path, limit: int, when_full: FullPolicy) -> None:
        self.folder = folder
        self.limit = limit
        self.when_full = when_full
        self._used = 0
        self._measured: float | None = None

    def create(self, writer: WriterId, number: int, capacity: int) -> Segment:
        """Create a segment. Raises `SpoolFull`, or another `OSError` such as that of a full disk."""
        if self._measured is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._measure()
        if self._used + capacity > self.limit and self._measure() + capacity > self.limit:
            used = f"the spool {self.folder} holds {self._used} bytes and its limit is {self.limit}"
            raise SpoolFull(f"{used}; raise FLIGHTLOG_SPOOL_LIMIT or start a worker")
        try:
            segment = Segment(self.folder / frames.segment_name(writer, number), number, capacity)
        except FileNotFoundError:  # somebody removed the folder: make it anew the next time
            self._measured = None
            raise
        self._used += capacity
        return segment

    def holds(self, subject: str) -> bool:
        """Say whether a journal of a run or experiment lies here. Reads the head of every segment."""
        return any(_subject(path) == subject for path in self.folder.glob(f"*{frames.SUFFIX}"))

    def tend(self) -> None:
        """Measure the folder once in a while: workers free what the store has."""
        if self._measured is not None and time.monotonic() - self._measured > MEASURE_EVERY:
            self._measure()

    def _measure(self) -> int:
        self._used = sum(_size(entry) for entry in os.scandir(self.folder) if entry.name.endswith(frames.SUFFIX))
        self._measured = time.monotonic()
        return self._used


def _subject(path: Path) -> str | None:
    try:
        return frames.read_header(path)[0].subject
    except (OSError, frames.NotASegment, frames.NewerVersion):  # freed just now, or a worker's business
        return None


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError:  # a worker has just freed it
        return 0
