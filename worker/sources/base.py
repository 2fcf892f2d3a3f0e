"""The face of a source: it gives items and is told what became of them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

from flightlog.schema.blocks import Block
from flightlog.stores.base import Applied, Gap


class Source(Protocol):
    """Gives blocks, in order for each writer. What was given and not acknowledged comes again after `rewind` or a restart."""

    def take(self, limit: int) -> Sequence[Block | Gap]:
        """Return what is there now, about `limit` events at the most; empty when there is nothing."""

    def acknowledge(self, applied: Applied) -> None:
        """Free what the store has committed, and tell the producers."""

    def rewind(self) -> None:
        """Give everything again that has not been acknowledged."""

    def wait(self, timeout: float) -> None:
        """Wait for something new, at most `timeout` seconds."""

    @property
    def is_live(self) -> bool:
        """Whether a producer may still write to what this source reads."""

    @property
    def has_lost_writers(self) -> bool:
        """Whether a writer has died here without saying that it ends, so that its run may be lost."""

    def living(self) -> Collection[str]:
        """Return the subjects of which a writer is known to live, or is not known to have died, whatever was heard of it."""

    def close(self) -> None:
        """Let go of everything that the source opened."""
