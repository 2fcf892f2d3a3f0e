"""The jobs that RQ runs, by their dotted names in `schema.names`. They import no RQ, so that anything may call them.

What they work with is opened once a process: by `worker.queue`, which sets it, or from the environment when a plain `rq worker` runs them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.settings import Location, Settings, locate
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.worker.ingest import Ingest
from flightlog.worker.observers import SILENT, Observer
from flightlog.worker.queued_artifacts import Announcements
from flightlog.worker.sources.stream import StreamSource
from flightlog.worker.spool import stopped_by_signals
from flightlog.worker.streams import LEASE, Lease, Streams

log = logging.getLogger("flightlog.worker")

SLICE = 5.0
"""Seconds after which a drain lets others have their turn."""
LINGER = 0.03
"""Seconds that a drain waits for more, unless others wait for it: entries come in small numbers, close to each other."""
RENEW_EVERY = LEASE / 3000
LONGEST_PAUSE = 180.0
"""Seconds between two housekeeping jobs after which nobody counts as having looked after the queue."""
SCHEDULE_EVERY = 60.0
LATE = 30.0
"""Seconds that an entry may have waited for the queue to count as read."""
MAINTENANCE, BUSY_MAINTENANCE = 10.0, 0.5
"""Seconds that one housekeeping job may take to keep the store in order; fewer while drains wait for it to end."""


@dataclass(frozen=True)
class Filing:
    """What the jobs of a process work with."""

    streams: Streams
    store: Store
    ring: Callable[[list[int]], None]
    schedule_housekeeping: Callable[[], None]
    lost_after: float = 0.0
    observer: Observer = SILENT
    others_wait: Callable[[], bool] = lambda: False
    """Whether more drains are called for than workers have begun."""


class _Opened:
    """What is open in this process, and what to open. RQ calls plain functions; what they share lives as long as the process."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.location: Location | None = None
        self.streams: Streams | None = None
        self.observer = SILENT
        self.filing: Filing | None = None
        self.process = 0
        self.next_schedule = 0.0


_opened = _Opened()


def use(location: Location, observer: Observer = SILENT) -> None:
    """Have the jobs of this process work with this queue and store, and tell an observer. Opens nothing yet."""
    _opened.location, _opened.observer = location, observer


def queue() -> Streams:
    """Return the streams that the jobs read; a forked child opens its own. Raises `InvalidParameter`."""
    with _opened.lock:
        if _opened.process != os.getpid():
            _opened.streams, _opened.filing, _opened.process = None, None, os.getpid()
        if _opened.streams is None:
            _opened.streams = Streams(str(_location().queue_uri))
        return _opened.streams


def filing() -> Filing:
    """Return what the jobs work with; a forked child opens its own. Raises `InvalidParameter` or `StoreUnavailable`."""
    with _opened.lock:
        streams = queue()
        if _opened.filing is None:
            _opened.filing = _open(streams, _location())
        return _opened.filing


def _location() -> Location:
    location = _opened.location or locate(None, Settings.from_environ(os.environ))
    check(location)
    return location


def check(location: Location) -> None:
    """Raise `InvalidParameter` where queue or store is not named."""
    if location.queue_uri is None:
        raise InvalidParameter("a worker needs a queue to read; set FLIGHTLOG_QUEUE_URI, such as redis://localhost:6379/0")
    if not location.is_store_named:
        raise InvalidParameter(
            "a worker needs a store to file into; set FLIGHTLOG_TRACKING_URI, such as postgresql+psycopg://user@host/name"
        )


def _open(streams: Streams, location: Location) -> Filing:
    from flightlog.worker.rings import Rings  # noqa: PLC0415 - the jobs themselves need no RQ

    rings = Rings(streams)
    lost_after = Settings.from_environ(os.environ).lost_after
    store = open_store(location.database_url)
    return Filing(streams, store, rings.ring, rings.schedule_housekeeping, lost_after, _opened.observer, rings.has_unanswered)


def close() -> None:
    """Let go of what was opened."""
    work, streams = _opened.filing, _opened.streams
    _opened.filing, _opened.streams, _opened.location, _opened.observer = None, None, None, SILENT
    if work is not None:
        work.store.close()
    if streams is not None:
        streams.close()


def drain(shard: int) -> int:
    """File what waits in a shard, until it is empty or the time slice is over; return the number of events.

    Raises `StoreUnavailable` when the store could not be reached all that time: the job is then among RQ's failed ones, for operators to
    see, and the senders call another after a while. After any other error as well: nobody knows how long its cause lasts.
    """
    lease = Lease(queue(), shard)
    if not lease.take():
        return 0
    try:
        return _drain(shard, lease)
    except Exception as error:
        log.error("shard %d could not be drained now: %s", shard, error)
        lease.hold()
        raise
    except BaseException:
        lease.free()
        raise


def _drain(shard: int, lease: Lease) -> int:
    work = filing()
    _keep_housekeeping(work)
    drained = Drain(work, shard, lease)
    with stopped_by_signals(drained, passed_on=True):
        return drained.run()


def _keep_housekeeping(work: Filing) -> None:
    """See now and then that housekeeping is scheduled: each schedules the next, and Redis may have forgotten it."""
    if time.monotonic() >= _opened.next_schedule:
        work.schedule_housekeeping()
        _opened.next_schedule = time.monotonic() + SCHEDULE_EVERY


class Drain:
    """One turn of reading a shard."""

    def __init__(self, work: Filing, shard: int, lease: Lease) -> None:
        self._work, self._shard, self._lease = work, shard, lease
        source = StreamSource(work.streams, shard, work.store.position)
        announcements = Announcements(work.streams, work.store)
        self._ingest = Ingest(source, work.store, announcements, sweeps=False, observer=work.observer, fields={"shard": shard})
        self._source = source
        self._renewed = time.monotonic()
        self._stopping = False

    def stop(self) -> None:
        """Leave after the batch in hand. Safe in a signal handler."""
        self._stopping = True
        self._ingest.stop()

    def run(self) -> int:
        """File until there is nothing, or time is up."""
        deadline = time.monotonic() + SLICE
        total = 0
        while not self._stopping and time.monotonic() < deadline and self._keeps_lease():
            events = self._ingest.step_until(deadline)
            total += events
            if events:
                continue
            if not self._work.others_wait():
                self._source.wait(LINGER)
            late = self._ingest.step_until(deadline)
            total += late
            if not late and self._lease.free_if_empty():
                self._lease.note_success()
                return total
        self._lease.free()
        self._lease.note_success()
        self._work.ring([self._shard])
        return total

    def _keeps_lease(self) -> bool:
        """Renew the lease when it is time; False when somebody else may have it by now, and goes on in our place."""
        if time.monotonic() - self._renewed <= RENEW_EVERY:
            return True
        self._renewed = time.monotonic()
        return self._lease.renew()


def housekeep() -> None:
    """Keep the store in order, announce artifacts that wait, call for shards in which something was left, and see that this goes on."""
    work = filing()
    work.schedule_housekeeping()
    waiting = [shard for shard, length in enumerate(work.streams.lengths()) if length]
    work.ring(waiting)
    Announcements(work.streams, work.store).sweep()
    _mark_lost(work)
    _maintain(work)


def _maintain(work: Filing) -> None:
    began = time.monotonic()
    while work.store.maintain():
        taken = time.monotonic() - began
        if taken > MAINTENANCE or (taken > BUSY_MAINTENANCE and work.others_wait()):
            return


def _mark_lost(work: Filing) -> None:
    """Take silent runs for lost, where the queue has been looked after for long enough to know that it is they who are silent."""
    now = time.time()
    oldest = work.streams.oldest()
    if oldest is not None and now - oldest > LATE:
        return  # what they have said may still be on its way
    watched = work.streams.watched(now, LONGEST_PAUSE)
    if not work.lost_after or watched < work.lost_after:
        return
    while count := work.store.mark_lost(int(1000 * work.lost_after)):
        log.warning("%d runs are lost: nothing was heard of them for %g s", count, work.lost_after)


def relieve() -> None:
    """File what waits in all shards, without RQ and leases: where Redis is full, they need memory, and only this frees some.

    Raises `StoreUnavailable`.
    """
    work = filing()
    for shard, length in enumerate(work.streams.lengths()):
        if length:
            log.warning("shard %d of the queue is drained without RQ, which cannot be used now", shard)
            source = StreamSource(work.streams, shard, work.store.position)
            Ingest(source, work.store, Announcements(work.streams, work.store), sweeps=False).drain()
