"""The spool folder as a source: all journals of this machine, tailed side by side."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from flightlog.schema import frames
from flightlog.schema.blocks import Block
from flightlog.schema.errors import StoreUnavailable
from flightlog.schema.ids import WriterId
from flightlog.schema.names import DOORBELL
from flightlog.stores.base import Applied, Gap
from flightlog.worker.sources.tail import Tail

log = logging.getLogger("flightlog.worker")

BATCH_BYTES = 64 << 20
"""A batch ends with the block that brings its payloads to this size."""
MAX_SETBACKS = 3
STALE = 60.0
"""A file that a producer was creating and that nobody finished is deleted after so many seconds."""


class NoProgress(Exception):
    """The store does not take what comes next in a journal, and says not why."""


class SpoolSource:
    """Tails the journals of a folder. Only one may be at work on a folder; see `worker.spool`.

    A journal that cannot be followed, whatever the cause, is set aside until the next worker comes: it must not stop the others.
    """

    def __init__(self, folder: Path, position: Callable[[str, WriterId], int]) -> None:
        """`position` tells where the store is with a writer."""
        self._folder = folder
        self._position = position
        self._tails: dict[WriterId, Tail] = {}
        self._aside: dict[WriterId, str | None] = {}
        self._has_lost_writers = False
        self._bell = self._hang_bell()

    def _hang_bell(self) -> int | None:
        return _open_bell(self._folder / DOORBELL)

    def _tail(self, writer: WriterId) -> Tail:
        return Tail(self._folder, writer)

    def _pass_over(self, entry: os.DirEntry[str]) -> None:
        """Look at a file of the folder that is no segment."""
        if entry.name.endswith(frames.NEW_SUFFIX):
            _delete_stale(entry)

    def take(self, limit: int) -> list[Block | Gap]:
        """Return what is there now, about `limit` events or `BATCH_BYTES` at the most. Whoever was served last waits longest the next time.

        A writer is read to its end, or to half the limit, before the next: the more points of a metric come together, the larger the
        chunks of its history.
        """
        self._find_segments()
        items: list[Block | Gap] = []
        events, size = limit, BATCH_BYTES
        for writer, tail in list(self._tails.items()):
            if events <= 0 or size <= 0:
                break
            try:
                is_ready = self._is_ready(tail)
            except StoreUnavailable:
                if items:
                    break  # what has been read must not be lost with the error, which comes again
                raise
            if is_ready:
                self._tails[writer] = self._tails.pop(writer)
                with self._guarded(tail):
                    for item in _read(tail, max(events // 2, 1), size):
                        items.append(item)
                        events, size = events - _events(item), size - _bytes(item)
        return items

    @contextmanager
    def _guarded(self, tail: Tail) -> Iterator[None]:
        """Set a journal aside when it cannot be followed."""
        try:
            yield
        except StoreUnavailable:
            raise
        except frames.NewerVersion as error:
            log.warning("the journal of writer %s is left for a newer worker: %s", tail.writer, error)
            self.set_aside(tail.writer)
        except Exception:
            log.exception("the journal of writer %s cannot be followed and is left as it is until the next worker comes", tail.writer)
            self.set_aside(tail.writer)

    def set_aside(self, writer: WriterId) -> None:
        """Leave a journal as it is until the next worker comes."""
        tail = self._tails.pop(writer, None)
        self._aside[writer] = None if tail is None else tail.subject
        if tail is not None:
            tail.close()

    def _is_ready(self, tail: Tail) -> bool:
        """Whether the tail knows where to begin; asks the store until it has said so. Raises `StoreUnavailable`."""
        if not tail.is_placed:
            with self._guarded(tail):
                subject = tail.identify()
                if subject is not None:
                    tail.start_at(self._position(subject, tail.writer))
        return tail.is_placed

    def _find_segments(self) -> None:
        found: dict[WriterId, list[int]] = {}
        for entry in os.scandir(self._folder):
            parsed = frames.parse_segment_name(entry.name)
            if parsed is not None and parsed[0] in self._aside:
                continue
            if parsed is not None:
                found.setdefault(parsed[0], []).append(parsed[1])
            else:
                self._pass_over(entry)
        for writer, numbers in sorted(found.items(), key=self._age):
            tail = self._tails.get(writer)
            if tail is None:
                tail = self._tails[writer] = self._tail(writer)
            tail.segments = sorted(set(numbers) - tail.kept)
        for writer in [writer for writer, tail in self._tails.items() if not tail.segments and writer not in found]:
            tail = self._tails.pop(writer)
            self._has_lost_writers |= tail.abandoned
            tail.close()

    def _age(self, found: tuple[WriterId, list[int]]) -> int:
        """Return when a journal that is new here began, ms: the store should hear of an earlier attempt before it hears of a later one."""
        writer, numbers = found
        if writer in self._tails:
            return 0
        try:
            header, _ = frames.read_header(self._folder / frames.segment_name(writer, min(numbers)))
        except (OSError, frames.NotASegment):
            return 0  # whoever reads it will say why
        return header.created

    def acknowledge(self, applied: Applied) -> None:
        """Write the positions into the journals' headers and delete the segments that the store has whole."""
        rejections: dict[WriterId, list[tuple[int, str, str]]] = {}
        for letter in applied.letters:
            rejections.setdefault(WriterId(letter.writer), []).append((letter.sequence, letter.reason, letter.message))
        for writer, position in applied.positions.items():
            tail = self._tails.get(writer)
            if tail is not None:
                with self._guarded(tail):
                    tail.acknowledge(position, rejections.get(writer, []))
                    if tail.setbacks >= MAX_SETBACKS:
                        raise NoProgress(f"the store stays at sequence {position}, however often what follows is given to it")

    def commit(self, writer: WriterId, position: int, rejected: int, newest: tuple[int, str, str] | None) -> bool:
        """Take over how far the store is with a writer, of whom more is under way; say whether it has moved."""
        tail = self._tails.get(writer)
        if tail is None or (position <= tail.committed and rejected <= tail.rejected):
            return False
        with self._guarded(tail):
            tail.commit(max(position, tail.committed), max(rejected, tail.rejected), newest)
            if tail.committed > tail.sequence:
                tail.rewind()
        return True

    def rewind_writer(self, writer: WriterId, sequence: int | None = None) -> None:
        """Read a writer again from an event on, by default from what the store has."""
        tail = self._tails.get(writer)
        if tail is not None:
            tail.rewind(sequence)

    def rewind(self) -> None:
        """Read again from what the store has."""
        for tail in self._tails.values():
            tail.rewind()

    def wait(self, timeout: float) -> None:
        """Wait for the bell, at most `timeout` seconds; a write to a memory map rings none, so whoever waits must not wait long."""
        if self._bell is None:
            threading.Event().wait(timeout)
            return
        ready, _, _ = select.select([self._bell], [], [], timeout)
        if ready:
            os.read(self._bell, 4096)

    @property
    def is_live(self) -> bool:
        """Whether there are journals that are not read to their end."""
        return any(tail.segments for tail in self._tails.values())

    @property
    def has_lost_writers(self) -> bool:
        """See `Source.has_lost_writers`: the lock of a journal that was not closed was free."""
        return self._has_lost_writers or any(tail.abandoned for tail in self._tails.values())

    def living(self) -> set[str]:
        """See `Source.living`. When there is nothing to take, what is left of a journal belongs to a living writer."""
        subjects = {tail.subject for tail in self._tails.values() if tail.segments}
        return {subject for subject in (*subjects, *self._aside.values()) if subject is not None}

    def close(self) -> None:
        """Close all files."""
        for tail in self._tails.values():
            tail.close()
        if self._bell is not None:
            os.close(self._bell)


def _read(tail: Tail, limit: int, size: int) -> Iterator[Block | Gap]:
    """Yield what a tail has, about `limit` events or `size` bytes."""
    while limit > 0 and size > 0:
        item = tail.read()
        if item is None:
            break
        yield item
        limit, size = limit - _events(item), size - _bytes(item)
    tail.free_committed()


def _events(item: Block | Gap) -> int:
    return len(item.records) if isinstance(item, Block) else 1


def _bytes(item: Block | Gap) -> int:
    return int(item.records.lengths.sum()) if isinstance(item, Block) else len(item.payload)


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
