"""What an asynchronous call returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flightlog.producer.client import Producer
    from flightlog.producer.journal import Journal


class RunOperations:
    """Events that are in the journal and on their way to the store, and the artifacts that they speak of."""

    def __init__(self, events: Sequence[tuple[Producer, Journal, int]], snapshots: Sequence[tuple[Producer, Sequence[str]]] = ()) -> None:
        self._events = tuple(events)
        self._snapshots = tuple(snapshots)

    def wait(self, timeout: float | None = None) -> None:
        """Wait until the store has committed them, and until the artifacts are stored.

        Raises what the store said of an event that it could not project, or why an artifact could not be stored. Raises `NotCommitted`
        after `timeout` seconds (`FLIGHTLOG_SYNC_TIMEOUT` by default, which an artifact may exceed while a worker is at it).
        """
        for producer, journal, sequence in self._events:
            if sequence >= 0:
                producer.wait(journal, sequence, timeout)
        for producer, snapshots in self._snapshots:
            producer.wait_stored(snapshots, timeout)

    def __add__(self, other: RunOperations) -> RunOperations:
        return RunOperations(self._events + other._events, self._snapshots + other._snapshots)


NOTHING = RunOperations(())
