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

from flightlog.schema.errors import InvalidParameter, StoreUnavailable
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
"""Seconds that a drain waits for more before it gives its shard back: entries come in small numbers, close to each other."""
RENEW_EVERY = LEASE / 3000
MAINTENANCE = 10.0
"""Seconds that one housekeeping job may take."""


@dataclass(frozen=True)
class Filing:
    """What the jobs of a process work with."""

    streams: Streams
    store: Store
    ring: Callable[[list[int]], None]
    schedule_housekeeping: Callable[[], None]
    observer: Observer = SILENT


class _Opened:
    """What is open in this process, and what to open. RQ calls plain functions; what they share lives as long as the process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.location: Location | None = None
        self.observer = SILENT
        self.filing: Filing | None = None
        self.process = 0


_opened = _Opened()


def use(location: Location, observer: Observer = SILENT) -> None:
    """Have the jobs of this process work with this queue and store, and tell an observer. Opens nothing yet."""
    _opened.location, _opened.observer = location, observer


def filing() -> Filing:
    """Return what the jobs work with; a forked child opens its own. Raises `InvalidParameter` or `StoreUnavailable`."""
    with _opened.lock:
        if _opened.filing is None or _opened.process != os.getpid():
            location = _opened.location or locate(None, Settings.from_environ(os.environ))
            _opened.filing, _opened.process = _open(location), os.getpid()
        return _opened.filing


def check(location: Location) -> None:
    """Raise `InvalidParameter` where queue or store is not named."""
    if location.queue_uri is None:
        raise InvalidParameter("a worker needs a queue to read; set FLIGHTLOG_QUEUE_URI, such as redis://localhost:6379/0")
    if not location.is_store_named:
        raise InvalidParameter(
            "a worker needs a store to file into; set FLIGHTLOG_TRACKING_URI, such as postgresql+psycopg://user@host/name"
        )


def _open(location: Location) -> Filing:
    from flightlog.worker.rings import Rings  # noqa: PLC0415 - the jobs themselves need no RQ

    check(location)
    store = open_store(location.database_url)
    streams = Streams(str(location.queue_uri))
    rings = Rings(streams)
    return Filing(streams, store, rings.ring, rings.schedule_housekeeping, _opened.observer)


def close() -> None:
    """Let go of what was opened."""
    work, _opened.filing, _opened.location, _opened.observer = _opened.filing, None, None, SILENT
    if work is not None:
        work.store.close()
        work.streams.close()


def drain(shard: int) -> int:
    """File what waits in a shard, until it is empty or the time slice is over; return the number of events.

    Raises `StoreUnavailable` when the store could not be reached all that time: the job is then among RQ's failed ones, for operators to
    see, and the senders call another after a while.
    """
    work = filing()
    lease = Lease(work.streams, shard)
    if not lease.take():
        return 0
    drained = Drain(work, shard, lease)
    try:
        with stopped_by_signals(drained):
            return drained.run()
    except StoreUnavailable:
        lease.hold()
        raise
    except BaseException:
        lease.free()
        raise


class Drain:
    """One turn of reading a shard."""

    def __init__(self, work: Filing, shard: int, lease: Lease) -> None:
        self._work, self._shard, self._lease = work, shard, lease
        source = StreamSource(work.streams, shard, work.store.position)
        announcements = Announcements(work.streams, work.store)
        self._ingest = Ingest(source, work.store, announcements, sweeps=False, observer=work.observer, fields={"shard": shard})
        self._source = source
        self._stopping = False

    def stop(self) -> None:
        """Leave after the batch in hand. Safe in a signal handler."""
        self._stopping = True
        self._ingest.stop()

    def run(self) -> int:
        """File until there is nothing, or time is up."""
        deadline, renewed = time.monotonic() + SLICE, time.monotonic()
        total = 0
        while not self._stopping and time.monotonic() < deadline:
            events = self._ingest.step_until(deadline)
            total += events
            if time.monotonic() - renewed > RENEW_EVERY:
                self._lease.renew()
                renewed = time.monotonic()
            if not events:
                self._source.wait(LINGER)
                if not self._ingest.step_until(deadline) and self._lease.free_if_empty():
                    return total
        self._lease.free()
        self._work.ring([self._shard])
        return total


def housekeep() -> None:
    """Keep the store in order, announce artifacts that wait, call for shards in which something was left, and see that this goes on."""
    work = filing()
    work.schedule_housekeeping()
    lengths = work.streams.lengths()
    work.ring([shard for shard, length in enumerate(lengths) if length])
    Announcements(work.streams, work.store).sweep()
    deadline = time.monotonic() + MAINTENANCE
    while time.monotonic() < deadline and work.store.maintain():
        pass
