"""What an asynchronous call returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flightlog.producer.client import Producer
    from flightlog.producer.journal import Journal


class RunOperations:
    """Events that are in the journal and on their way to the store."""

    def __init__(self, events: Sequence[tuple[Producer, Journal, int]]) -> None:
        self._events = tuple(events)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the store has committed them.

        Raises what the store said of an event that it could not project, or `NotCommitted` after `timeout` seconds
        (`FLIGHTLOG_SYNC_TIMEOUT` by default).
        """
        for producer, journal, sequence in self._events:
            if sequence >= 0:
                producer.wait(journal, sequence, timeout)

    def __add__(self, other: RunOperations) -> RunOperations:
        return RunOperations(self._events + other._events)


NOTHING = RunOperations(())
