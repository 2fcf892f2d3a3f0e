"""One shard of the queue as a source: every entry in its stream is one that no store has committed."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable

from flightlog.schema.blocks import Block
from flightlog.schema.ids import WriterId
from flightlog.stores.base import Applied, Gap
from flightlog.worker.entries import NoEntry, decode_entry
from flightlog.worker.sources.joining import join_small
from flightlog.worker.streams import Streams

log = logging.getLogger("flightlog.worker")

BATCH_BYTES = 64 << 20
"""A batch ends with the entry that brings its payloads to this size."""
PAGE, PAGE_BYTES = 16, 16 << 20
"""Entries that are fetched at once, fewer after a page of more bytes: most have kilobytes, but each may have 65 MiB."""
BEFORE_ALL = b"0"
EXCERPT = 1 << 20


class StreamSource:
    """Reads a shard from its beginning. Whoever drains it holds its lease."""

    def __init__(self, streams: Streams, shard: int, position: Callable[[str, WriterId], int]) -> None:
        """`position` tells where the store is with a writer."""
        self._streams, self._shard, self._position = streams, shard, position
        self._last = BEFORE_ALL
        self._page: deque[tuple[bytes, bytes]] = deque()
        self._page_size = 1
        self._damaged = 0

    def take(self, limit: int) -> list[Block | Gap]:
        """Return what is there now, about `limit` events or `BATCH_BYTES` at the most."""
        items: list[Block | Gap] = []
        events, size = limit, BATCH_BYTES
        while events > 0 and size > 0 and self._fetch():
            self._last, entry = self._page.popleft()
            item = self._item(entry)
            items.append(item)
            events, size = events - _events(item), size - _bytes(item)
        return join_small(items)

    def _fetch(self) -> bool:
        if not self._page:
            found = self._streams.read(self._shard, self._last, self._page_size)
            is_small = sum(len(entry) for _, entry in found) < PAGE_BYTES
            self._page_size = min(4 * self._page_size, PAGE) if is_small else 1
            self._page.extend(found)
        return bool(self._page)

    def _item(self, entry: bytes) -> Block | Gap:
        try:
            return decode_entry(entry)
        except NoEntry as error:
            log.error("shard %d of the queue: %s; if it was one of ours, its sender will send it again", self._shard, error)
            return self._unaddressed(entry, str(error))

    def _unaddressed(self, entry: bytes, message: str) -> Gap:
        """Return what makes a dead letter of an entry that no writer can be named for: the shard itself stands for one."""
        subject, writer = f"queue:{self._shard}", WriterId(f"{self._shard:032x}")
        sequence = self._position(subject, writer) + self._damaged
        self._damaged += 1
        return Gap(subject, writer, sequence, sequence + 1, "corrupt", message, entry[:EXCERPT], None)

    def acknowledge(self, applied: Applied) -> None:
        """Tell the senders what the store has, and forget what was read."""
        self._damaged = 0
        if self._last != BEFORE_ALL:
            self._streams.settle(self._shard, self._last, applied.positions, applied.letters)

    def rewind(self) -> None:
        """Read again from the beginning."""
        self._last = BEFORE_ALL
        self._page.clear()
        self._damaged = 0

    def wait(self, timeout: float) -> None:
        """Wait a moment: a drain that finds nothing more ends, so this is short."""
        threading.Event().wait(timeout)

    @property
    def is_live(self) -> bool:
        """Whether entries may come: always."""
        return True

    has_lost_writers = False

    def living(self) -> tuple[str, ...]:
        """Nobody is known to live but by what is heard: the writers are on other machines."""
        return ()

    def close(self) -> None:
        """Let go of nothing: the connection is its owner's."""


def _events(item: Block | Gap) -> int:
    return len(item.records) if isinstance(item, Block) else 1


def _bytes(item: Block | Gap) -> int:
    return int(item.records.lengths.sum()) if isinstance(item, Block) else len(item.payload)
