"""The spool folder as a source: all journals of this machine, tailed side by side."""

from __future__ import annotations

import logging
import os
import select
import time
from collections.abc import Callable
from pathlib import Path

from flightlog.schema import frames
from flightlog.schema.blocks import Block
from flightlog.schema.ids import WriterId
from flightlog.schema.names import DOORBELL
from flightlog.stores.base import Applied, Gap
from flightlog.worker.sources.tail import Tail

log = logging.getLogger("flightlog.worker")

STALE = 60.0
"""A file that a producer was creating and that nobody finished is deleted after so many seconds."""


class SpoolSource:
    """Tails the journals of a folder. Only one may be at work on a folder; see `worker.spool`."""

    def __init__(self, folder: Path, position: Callable[[str, WriterId], int]) -> None:
        """`position` tells where the store is with a writer."""
        self._folder = folder
        self._position = position
        self._tails: dict[WriterId, Tail] = {}
        self._bell = _open_bell(folder / DOORBELL)

    def take(self, limit: int) -> list[Block | Gap]:
        """Return what is there now, about `limit` events at the most. Whoever was served last waits longest the next time.

        A writer is read to its end, or to half the limit, before the next: the more points of a metric come together, the larger the
        chunks of its history.
        """
        self._find_segments()
        items: list[Block | Gap] = []
        for writer, tail in list(self._tails.items()):
            if limit <= 0:
                break
            if self._is_ready(tail):
                limit -= _read(tail, max(limit // 2, 1), items)
                self._tails[writer] = self._tails.pop(writer)
        return items

    def _is_ready(self, tail: Tail) -> bool:
        """Whether the tail knows where to begin; asks the store the first time."""
        if tail.subject is None:
            subject = tail.identify()
            if subject is None:
                return False
            tail.start_at(self._position(subject, tail.writer))
        return True

    def _find_segments(self) -> None:
        found: dict[WriterId, list[int]] = {}
        for entry in os.scandir(self._folder):
            parsed = frames.parse_segment_name(entry.name)
            if parsed is not None:
                found.setdefault(parsed[0], []).append(parsed[1])
            elif entry.name.endswith(frames.NEW_SUFFIX):
                _delete_stale(entry)
        for writer, numbers in found.items():
            tail = self._tails.get(writer)
            if tail is None:
                tail = self._tails[writer] = Tail(self._folder, writer)
            tail.segments = sorted(set(numbers) - tail.kept)
        for writer in [writer for writer, tail in self._tails.items() if not tail.segments and writer not in found]:
            self._tails.pop(writer).close()

    def acknowledge(self, applied: Applied) -> None:
        """Write the positions into the journals' headers and delete the segments that the store has whole."""
        rejections: dict[WriterId, list[tuple[int, str, str]]] = {}
        for letter in applied.letters:
            rejections.setdefault(WriterId(letter.writer), []).append((letter.sequence, letter.reason, letter.message))
        for writer, position in applied.positions.items():
            tail = self._tails.get(writer)
            if tail is not None:
                tail.acknowledge(position, rejections.get(writer, []))

    def rewind(self) -> None:
        """Read again from what the store has."""
        for tail in self._tails.values():
            tail.rewind()

    def wait(self, timeout: float) -> None:
        """Wait for the bell, at most `timeout` seconds; a write to a memory map rings none, so whoever waits must not wait long."""
        if self._bell is None:
            time.sleep(timeout)
            return
        ready, _, _ = select.select([self._bell], [], [], timeout)
        if ready:
            os.read(self._bell, 4096)

    @property
    def is_live(self) -> bool:
        """Whether there are journals that are not read to their end."""
        return any(tail.segments for tail in self._tails.values())

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails.values():
            tail.close()
        if self._bell is not None:
            os.close(self._bell)


def _read(tail: Tail, limit: int, items: list[Block | Gap]) -> int:
    """Append what a tail has, about `limit` events, and return how many there were."""
    events = 0
    while events < limit:
        item = tail.read()
        if item is None:
            break
        items.append(item)
        events += len(item.records) if isinstance(item, Block) else 1
    tail.free_committed()
    return events


def _open_bell(path: Path) -> int | None:
    """Open the named pipe for reading, creating it. Opened for writing as well, so that it never reads as closed."""
    if not hasattr(os, "mkfifo"):
        return None
    try:
        path.unlink(missing_ok=True)
        os.mkfifo(path, 0o600)
        return os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError as error:
        log.warning("no named pipe can be made at %s (%s); new events are found by looking, a little later", path, error)
        return None


def _delete_stale(entry: os.DirEntry[str]) -> None:
    try:
        if time.time() - entry.stat().st_mtime > STALE:
            Path(entry.path).unlink()
    except OSError as error:
        log.debug("%s: %s", entry.path, error)
