"""The spool worker: one process that files what the journals of one spool hold. Held together by a lock file."""

from __future__ import annotations

import errno
import logging
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Protocol

from flightlog.schema.names import WORKER_LOCK
from flightlog.schema.settings import Location, without_password
from flightlog.stores import open_store
from flightlog.stores.artifacts.base import Told
from flightlog.stores.base import Store
from flightlog.worker.ingest import Ingest
from flightlog.worker.observers import SILENT, Observer
from flightlog.worker.reports import reporting
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.upload_thread import UploadThread
from flightlog.worker.uploads import Uploads

try:
    import fcntl
except ImportError:  # Windows: nothing keeps a second worker away, and the store's positions keep the data right
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("flightlog.worker")

TAKEN = (errno.EAGAIN, errno.EACCES)
"""What a lock says that somebody else has."""


class Stoppable(Protocol):
    """Work that can be told to end."""

    def stop(self) -> None:
        """Leave after what is in hand. Safe in a signal handler."""


def run_spool_worker(location: Location, idle: float | None = None, lost_after: float = 0.0, observer: Observer = SILENT) -> bool:
    """File events until stopped, or idle for so many seconds; see `Ingest`. False if another worker is at it."""
    location.spool.mkdir(parents=True, exist_ok=True)
    with spool_lock(location) as mine:
        if not mine:
            return False
        raise_file_limit()
        store = open_store(location.database_url)
        try:
            with reporting(observer) as told:
                _run(location, store, idle, lost_after, told)
        finally:
            store.close()
    return True


def _run(location: Location, store: Store, idle: float | None, lost_after: float, observer: Observer) -> None:
    source = SpoolSource(location.spool, store.position)
    uploads = UploadThread(Uploads(location.spool, store, store), announced=0)
    ingest = Ingest(source, store, uploads, idle, lost_after, observer=observer)
    with closing(source), stopped_by_signals(ingest), closing(uploads):
        log.info("filing %s into %s", location.spool, without_password(location.tracking_uri))
        ingest.run()


def drain_spool(location: Location, store: Store, told: Told | None = None) -> int | None:
    """File what a spool holds now, in this process; return the number of events, or None if a worker is at it already.

    `told` hears of how many more artifacts something became.
    """
    location.spool.mkdir(parents=True, exist_ok=True)
    with spool_lock(location) as mine:
        if not mine:
            return None
        source = SpoolSource(location.spool, store.position)
        try:
            return Ingest(source, store, Uploads(location.spool, store, store, told)).drain()
        finally:
            source.close()


@contextmanager
def spool_lock(location: Location) -> Iterator[bool]:
    """Hold the right to file a spool; gives False when somebody else has it. Freed by the system when its holder dies.

    Raises `OSError` where the spool's file system has no locks.
    """
    path = location.spool / WORKER_LOCK
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        yield _lock(descriptor, path)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> bool:
    if fcntl is None:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in TAKEN:
            raise OSError(error.errno, f"the spool cannot be locked: {error.strerror}; put it on a local disk", str(path)) from error
        return False
    return True


@contextmanager
def stopped_by_signals(work: Stoppable, *, passed_on: bool = False) -> Iterator[None]:
    """SIGTERM or SIGINT: finish the batch in hand and leave. A second one: leave now; nothing is lost either way.

    With `passed_on`, whoever saw to signals before gets the signal once the work has ended. Only the main thread can see to signals;
    a worker in another thread is left to whoever started it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    received: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        received.append(number)
        work.stop()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    if passed_on and received:
        signal.raise_signal(received[0])


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us: one for each writer."""
    try:
        import resource  # noqa: PLC0415 - not on Windows
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):  # macOS says that there is no hard limit, and refuses it as a limit
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
