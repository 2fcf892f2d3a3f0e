"""Blocks that come from an iterator, such as a ledger that is read, as a source."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from flightlog.schema.blocks import Block
from flightlog.stores.base import Applied, Gap

BATCH_BYTES = 64 << 20
"""A batch ends with the block that brings its payloads to this size."""


class ItemSource:
    """A `Source` that can be read once: after a failure, make another that begins where the store is."""

    def __init__(self, items: Iterator[Block | Gap]) -> None:
        self._items = items

    def take(self, limit: int) -> list[Block | Gap]:
        """See `Source.take`."""
        taken: list[Block | Gap] = []
        size = BATCH_BYTES
        while limit > 0 and size > 0 and (item := next(self._items, None)) is not None:
            taken.append(item)
            limit -= len(item.records) if isinstance(item, Block) else 1
            size -= int(item.records.lengths.sum()) if isinstance(item, Block) else len(item.payload)
        return taken

    def acknowledge(self, applied: Applied) -> None:
        """Do nothing: what was read is not ours to free."""

    def rewind(self) -> None:
        """Refuse: an iterator does not go back."""
        raise RuntimeError(f"{type(self).__name__} can be read once; make another that begins where the store is")

    def wait(self, timeout: float) -> None:
        """Return at once: all there is can be had now."""

    @property
    def is_live(self) -> bool:
        """Nobody writes to what this source reads."""
        return False

    has_lost_writers = False

    def living(self) -> tuple[str, ...]:
        """Nobody is known to live: who wrote what is read here is not looked at."""
        return ()

    def close(self) -> None:
        """Let go of what is left."""
        self._items = chain[Block | Gap]()
