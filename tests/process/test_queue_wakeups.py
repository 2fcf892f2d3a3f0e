"""No wake-up is lost: single events against drains that are just ending, with nobody who would ring again."""

from __future__ import annotations

import random
import threading
import time

import pytest

from fleet import Fleet
from flightlog.schema.blocks import Block
from flightlog.schema.codec import encode
from flightlog.schema.events import TagSet
from flightlog.schema.ids import WriterId
from flightlog.schema.names import shard_of
from flightlog.schema.records import Records
from flightlog.worker.entries import encode_entry
from flightlog.worker.jobs import LINGER
from flightlog.worker.rings import Rings
from flightlog.worker.streams import Streams

EVENTS = 150
PATIENCE = 8.0


class Sender:
    """Sends single events of one run, each when the drain of the last is about to end, and rings once for each."""

    def __init__(self, fleet: Fleet, number: int) -> None:
        self.streams = Streams(fleet.server.url)
        self.rings = Rings(self.streams)
        self.subject, self.writer = f"{number:032x}", WriterId(f"{number + 100:032x}")
        self.filed = 0
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        """Send all, or stop at the first that nobody files."""
        for sequence in range(EVENTS):
            payload = encode(TagSet(time=1, key="sequence", value=str(sequence)))
            block = Block(self.subject, self.writer, sequence, {}, Records.of([payload]))
            self.streams.send([(self.subject, encode_entry(block))])
            self.rings.ring([shard_of(self.subject)])
            if not self._is_filed(sequence + 1):
                break
            self.filed = sequence + 1
            threading.Event().wait(random.uniform(0.8, 1.6) * LINGER)
        self.streams.close()

    def _is_filed(self, position: int) -> bool:
        deadline = time.monotonic() + PATIENCE
        pause = threading.Event()
        while time.monotonic() < deadline:
            if self.streams.progress([(self.subject, self.writer)])[0].committed >= position:
                return True
            pause.wait(0.002)
        return False


@pytest.mark.parametrize("workers", [2])
def test_no_wake_up_is_lost(fleet: Fleet, workers: int) -> None:
    """Nobody else rings: there is no shipper, and housekeeping comes once a minute."""
    for _ in range(workers):
        fleet.ready()
    senders = [Sender(fleet, number) for number in (1, 2)]
    for sender in senders:
        sender.thread.start()
    for sender in senders:
        sender.thread.join()
    assert [sender.filed for sender in senders] == [EVENTS, EVENTS]
