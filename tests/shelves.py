"""Sources and stores in memory, for the loop between them."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from contracts.facts import RUN
from flightlog.schema.blocks import Block
from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.base import Applied, Gap
from flightlog.stores.memory import MemoryStore


class Shelf:
    """A source in memory: gives one block after the other until each is acknowledged."""

    def __init__(self, *blocks: Block) -> None:
        self._blocks = list(blocks)
        self._given = 0
        self.is_live = False
        self.has_lost_writers = False
        self.rewinds = 0

    def take(self, limit: int) -> list[Block | Gap]:
        items: list[Block | Gap] = list(self._blocks[self._given : self._given + 1])
        self._given += len(items)
        return items

    def acknowledge(self, applied: Applied) -> None:
        self._blocks = [item for item in self._blocks if item.end > applied.positions.get(item.writer, 0)]
        self._given = 0

    def rewind(self) -> None:
        self.rewinds += 1
        self._given = 0

    def wait(self, timeout: float) -> None:
        threading.Event().wait(min(timeout, 0.01))

    def living(self) -> list[str]:
        return [RUN] if self.is_live else []

    def close(self) -> None:
        pass


class Moody(MemoryStore):
    """A store that cannot be reached for the first few batches."""

    def __init__(self, failures: int) -> None:
        super().__init__()
        self._failures = failures

    def apply(self, items: Sequence[Block | Gap]) -> Applied:
        if self._failures:
            self._failures -= 1
            raise StoreUnavailable("not now")
        return super().apply(items)
