"""The shipper: one process a machine that sends the journals of a spool to the queue, and frees them when the store has committed them.

What is sent stays in its journal until a worker has said that the store has it. So Redis may lose everything, refuse everything, or be away
for days: the shipper sees a position that stands still and an entry that is gone, and sends again from the position. A sender's entries
of one journal are in order; what arrives twice does nothing.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from itertools import islice

from flightlog.schema.blocks import Block
from flightlog.schema.errors import QueueUnavailable
from flightlog.schema.ids import WriterId
from flightlog.schema.names import shard_of
from flightlog.schema.settings import Location, without_password
from flightlog.stores.artifacts.base import Told
from flightlog.stores.base import Gap
from flightlog.worker.entries import encode_entry
from flightlog.worker.observers import SILENT, Observer
from flightlog.worker.presence import reporting_to_queue
from flightlog.worker.queued_artifacts import QueuedArtifacts
from flightlog.worker.rings import Rings
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.spool import raise_file_limit, spool_lock, stopped_by_signals
from flightlog.worker.streams import Progress, Sent, Streams
from flightlog.worker.upload_thread import UploadThread
from flightlog.worker.uploads import Uploads

log = logging.getLogger("flightlog.worker")

BATCH_EVENTS = 100_000
SEND_BYTES = 4 << 20
"""Bytes that are sent in one transaction."""
WINDOW = 256 << 20
"""Bytes that may be in the queue and not committed; the rest waits in the journals, where there is more room."""
PROMPT, PAUSE = 0.02, 0.25
"""Seconds between looks: while an answer is due soon, and when there is little to do."""
PATIENCE, LAST_PATIENCE = 1.0, 60.0
"""Seconds without progress after which the drain job is called again, and the entries are looked for; more where that was in vain."""
LOOKS = 100
"""Writers whose entries are looked for at a time: with many, each waits for its turn."""
FULL_LOOK = 0.25
"""Seconds between looks at how full the queue is."""
FIRST_RETRY, LAST_RETRY = 0.25, 15.0


@dataclass
class UnderWay:
    """What of one writer is in the queue. `since` is when its position last moved, or sending began; `looked` when we looked for it."""

    subject: str
    sent: deque[Sent] = field(default_factory=deque)
    since: float = 0.0
    looked: float = 0.0

    @property
    def seen(self) -> float:
        """When it was last known to be well."""
        return max(self.since, self.looked)


class Shipper:
    """Moves events from a spool to the queue until it is told to stop, or there is nothing to do for `idle` seconds."""

    def __init__(
        self,
        source: SpoolSource,
        streams: Streams,
        rings: Rings,
        uploads: UploadThread,
        idle: float | None = None,
        observer: Observer = SILENT,
    ) -> None:
        self._source, self._streams, self._rings, self._uploads = source, streams, rings, uploads
        self._idle = idle
        self._observer = observer
        self._stopping = False  # a plain word: an event's lock must not be taken in a signal handler
        self._under_way: dict[WriterId, UnderWay] = {}
        self._patience: dict[WriterId, float] = {}
        self._bytes = 0
        self._checked = 0.0
        self._is_full, self._looked = False, 0.0

    def stop(self) -> None:
        """Leave after the step in hand. Safe in a signal handler."""
        self._stopping = True

    def close(self) -> None:
        """See `UploadThread.close`."""
        self._uploads.close()

    def run(self) -> None:
        """Work until stopped or idle."""
        quiet_since = time.monotonic()
        while not self._stopping:
            began = time.monotonic()
            moved = self._step_until()
            if moved or self._is_busy():
                quiet_since = time.monotonic()
            elif self._idle is not None and time.monotonic() - quiet_since >= self._idle:
                return
            if moved < BATCH_EVENTS // 2:  # with many journals a look takes long: then half of the time is enough for it
                self._source.wait(max(PROMPT if self._is_answer_due() else PAUSE, min(time.monotonic() - began, PAUSE)))

    def _is_busy(self) -> bool:
        return bool(self._under_way) or self._source.is_live or self._uploads.is_waiting

    def _step_until(self) -> int:
        """Take a step, again and again with growing pauses while the queue cannot be used: the journals keep everything meanwhile."""
        pause = FIRST_RETRY
        while not self._stopping:
            try:
                moved = self.step()
            except QueueUnavailable as error:
                self._observer.unavailable(error, pause)
                log.log(logging.WARNING if pause == FIRST_RETRY else logging.DEBUG, "nothing can be shipped now: %s", error)
                self._pause(pause * random.uniform(0.5, 1.0))
                pause = min(2 * pause, LAST_RETRY)
            else:
                if pause > FIRST_RETRY:
                    log.info("shipping again to %s", self._streams.place)
                return moved
        return 0

    def _pause(self, seconds: float) -> None:
        """Wait, and no longer than `PAUSE` after `stop`. The bell counts not: many producers that ring must not make us ask more often."""
        deadline = time.monotonic() + seconds
        while not self._stopping and (left := deadline - time.monotonic()) > 0:
            threading.Event().wait(min(PAUSE, left))

    def drain(self) -> int:
        """Ship what is there now and wait until the store has it, artifacts included; return how many events were sent.

        Raises `QueueUnavailable`.
        """
        total = 0
        while (moved := self.step()) or self._under_way or self._uploads.finish():
            total += moved
            if not moved:
                self._source.wait(PROMPT)
        return total

    def step(self) -> int:
        """Send what is new, take in what is committed, see to what stands still; return how many events were sent."""
        moved = self._send(self._source.take(BATCH_EVENTS)) if self._has_room() else 0
        self._collect()
        self._uploads.look()
        if time.monotonic() - self._checked >= PATIENCE:
            self._checked = time.monotonic()
            self._see_to_late()
        self._observer.under_way(self._bytes)
        return moved

    def _has_room(self) -> bool:
        """Whether more may be sent: neither too much of ours is under way, nor is the queue nearly full."""
        if self._source.is_live and time.monotonic() - self._looked >= FULL_LOOK:
            was_full, self._is_full = self._is_full, self._streams.is_full()
            self._looked = time.monotonic()
            if self._is_full and not was_full:
                log.warning("the queue %s is nearly full; events wait in their journals", self._streams.place)
        return self._bytes < WINDOW and not self._is_full

    def _is_answer_due(self) -> bool:
        return any(time.monotonic() - item.since < PATIENCE for item in islice(self._under_way.values(), 8))

    def _send(self, items: Sequence[Block | Gap]) -> int:
        """Send items in order. What could not be sent is read again; what was sent in vain is sent twice, which does nothing."""
        unsent = deque(items)
        try:
            while unsent:
                self._send_some(unsent)
        except QueueUnavailable:
            self._read_again(unsent)
            raise
        self._rings.ring({shard_of(item.subject) for item in items})
        return sum(_events(item) for item in items)

    def _send_some(self, unsent: deque[Block | Gap]) -> None:
        chosen: list[tuple[Block | Gap, bytes]] = []
        taken, size = 0, 0
        for item in unsent:
            if size >= SEND_BYTES:
                break
            taken += 1
            entry = self._entry(item)
            if entry is not None:
                chosen.append((item, entry))
                size += len(entry)
        ids = self._streams.send([(item.subject, entry) for item, entry in chosen])
        self._observer.shipped(sum(_events(item) for item, _ in chosen), size)
        for (item, entry), entry_id in zip(chosen, ids, strict=True):
            self._note(item, Sent(entry_id, item.end if isinstance(item, Block) else item.next_sequence, len(entry)))
        for _ in range(taken):
            unsent.popleft()

    def _entry(self, item: Block | Gap) -> bytes | None:
        """Return an item as it travels; None where nobody would take it, and its journal is set aside."""
        try:
            return encode_entry(item)
        except ValueError as error:
            log.error("the journal of writer %s cannot be shipped and is left as it is: %s", item.writer, error)
            self._source.set_aside(item.writer)
            return None

    def _note(self, item: Block | Gap, sent: Sent) -> None:
        mine = self._under_way.setdefault(item.writer, UnderWay(item.subject))
        if not mine.sent:
            mine.since = time.monotonic()
        mine.sent.append(sent)
        self._bytes += sent.size

    def _read_again(self, unsent: Sequence[Block | Gap]) -> None:
        firsts: dict[WriterId, int] = {}
        for item in unsent:
            firsts.setdefault(item.writer, item.first_sequence if isinstance(item, Block) else item.sequence)
        for writer, first in firsts.items():
            self._source.rewind_writer(writer, first)

    def _collect(self) -> None:
        """Take in what the store has committed."""
        writers = [(mine.subject, writer) for writer, mine in self._under_way.items()]
        if not writers:
            return
        for (_, writer), progress in zip(writers, self._streams.progress(writers), strict=True):
            self._take_in(writer, progress)

    def _take_in(self, writer: WriterId, progress: Progress) -> None:
        mine = self._under_way[writer]
        if self._source.commit(writer, progress.committed, progress.rejected, progress.newest):
            mine.since = time.monotonic()
            self._patience.pop(writer, None)
        while mine.sent and mine.sent[0].end <= progress.committed:
            self._bytes -= mine.sent.popleft().size
        if not mine.sent:
            del self._under_way[writer]

    def _see_to_late(self) -> None:
        """Call the drain again for what stands still, and send again what is no longer in the queue."""
        late = self._late()
        if not late:
            return
        self._rings.ring({shard_of(mine.subject) for _, mine in late})
        looked_at = [(writer, mine, mine.sent[0]) for writer, mine in late[:LOOKS]]
        there = self._streams.are_there([(mine.subject, oldest.entry_id) for _, mine, oldest in looked_at])
        self._collect()  # what is no longer there may just have been committed
        for (writer, mine, oldest), is_there in zip(looked_at, there, strict=True):
            mine.looked = time.monotonic()
            if not is_there and self._under_way.get(writer) is mine and mine.sent[0] is oldest:
                self._send_again(writer, mine)

    def _late(self) -> list[tuple[WriterId, UnderWay]]:
        """Return the writers that stand still, longest first."""
        now = time.monotonic()
        late = [(writer, mine) for writer, mine in self._under_way.items() if now - mine.seen >= self._patience.get(writer, PATIENCE)]
        return sorted(late, key=lambda item: item[1].seen)

    def _send_again(self, writer: WriterId, mine: UnderWay) -> None:
        """Send a writer's events again from the store's position, each time in a row with more patience: the store may refuse them."""
        self._observer.resent(len(mine.sent))
        log.warning("the queue has lost events of %s, or could not use them; they are sent again", mine.subject)
        self._patience[writer] = min(2 * self._patience.get(writer, PATIENCE), LAST_PATIENCE)
        self._bytes -= sum(sent.size for sent in mine.sent)
        del self._under_way[writer]
        self._source.rewind_writer(writer)


def _events(item: Block | Gap) -> int:
    return len(item.records) if isinstance(item, Block) else 1


def run_shipper(location: Location, idle: float | None = None, observer: Observer = SILENT) -> bool:
    """Ship a spool's journals until stopped, or idle for so many seconds. False if another process is at the spool."""
    location.spool.mkdir(parents=True, exist_ok=True)
    with spool_lock(location) as mine:
        if not mine:
            return False
        raise_file_limit()
        with (
            reporting_to_queue(location, "shipper", observer) as told,
            _shipper(location, idle, told) as shipper,
            stopped_by_signals(shipper),
            closing(shipper),
        ):
            log.info("shipping %s to %s", location.spool, without_password(str(location.queue_uri)))
            shipper.run()
    return True


def ship_all(location: Location, told: Told | None = None) -> int | None:
    """Ship what a spool holds now and wait for the commit; return the number of events, None if another process is at the spool.

    `told` hears of how many more artifacts something became. Raises `QueueUnavailable`.
    """
    location.spool.mkdir(parents=True, exist_ok=True)
    with spool_lock(location) as mine:
        if not mine:
            return None
        with _shipper(location, None, SILENT, told) as shipper, closing(shipper):
            return shipper.drain()


@contextmanager
def _shipper(location: Location, idle: float | None, observer: Observer, told: Told | None = None) -> Iterator[Shipper]:
    streams = Streams(str(location.queue_uri))
    with ExitStack() as stack:
        stack.callback(streams.close)
        source = SpoolSource(location.spool, lambda subject, writer: streams.progress([(subject, writer)])[0].committed)
        stack.callback(source.close)
        uploads = UploadThread(Uploads(location.spool, QueuedArtifacts(streams, location.spool), told=told))
        yield Shipper(source, streams, Rings(streams), uploads, idle, observer)
