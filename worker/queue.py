"""`flightlog worker`: an RQ worker on our queue, in one process that does not fork for a job, with RQ's scheduler beside it."""

from __future__ import annotations

import logging
import threading

from redis.exceptions import RedisError
from rq import Queue, SimpleWorker

from flightlog.schema.errors import QueueUnavailable, StoreUnavailable
from flightlog.schema.names import QUEUE
from flightlog.schema.settings import Location, without_password
from flightlog.stores import open_store
from flightlog.worker import jobs
from flightlog.worker.observers import SILENT, Observer
from flightlog.worker.presence import reporting_to_queue
from flightlog.worker.rings import SERIALIZER, Rings
from flightlog.worker.streams import Streams, connect

log = logging.getLogger("flightlog.worker")

FIRST_RETRY, LAST_RETRY = 0.5, 15.0


class QueueWorker(SimpleWorker):
    """RQ's worker, which remembers that it was told to stop: its loop also ends for other reasons, after which it is started again."""

    stopping = False

    def handle_warm_shutdown_request(self) -> None:
        """Note the first SIGTERM or SIGINT."""
        self.stopping = True
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]  # RQ leaves it without types


def run_queue_worker(location: Location, *, burst: bool = False, observer: Observer = SILENT) -> None:
    """Run jobs until stopped by SIGTERM or SIGINT; with `burst`, until the queue is empty. Raises `InvalidParameter`.

    Queue and store may be away, also at the beginning: the worker waits for them.
    """
    jobs.check(location)
    logging.getLogger("rq").setLevel(logging.WARNING)
    log.info("filing %s into %s", without_password(str(location.queue_uri)), without_password(location.tracking_uri))
    _await_store(location)
    streams = Streams(str(location.queue_uri))
    try:
        with reporting_to_queue(location, "worker", observer) as told:
            jobs.use(location, told)  # opened by the first job: RQ's scheduler, forked before, must have no connection to the store
            _work(location, Rings(streams), burst=burst)
    finally:
        jobs.close()
        streams.close()


def _await_store(location: Location) -> None:
    """Make or bring up to date the store's tables, as soon as it can be reached."""
    pause = FIRST_RETRY
    while True:
        try:
            open_store(location.database_url).close()
        except StoreUnavailable as error:
            log.warning("the store cannot be opened now, trying again in %g s: %s", pause, error)
            threading.Event().wait(pause)
            pause = min(2 * pause, LAST_RETRY)
        else:
            return


def _work(location: Location, rings: Rings, *, burst: bool) -> None:
    """Start RQ's worker, again when it ends because Redis went away."""
    pause = FIRST_RETRY
    while True:
        worker = _new_worker(str(location.queue_uri))
        try:
            rings.schedule_housekeeping()
            rings.ring_waiting()
            worker.work(burst=burst, with_scheduler=not burst, logging_level="WARNING")
            pause = FIRST_RETRY
        except (RedisError, QueueUnavailable) as error:
            log.warning("the queue cannot be used now, trying again in %g s: %s", pause, error)
        if worker.stopping or burst:
            return
        threading.Event().wait(pause)
        pause = min(2 * pause, LAST_RETRY)


def _new_worker(queue_uri: str) -> QueueWorker:
    connection = connect(queue_uri, timeout=None)
    return QueueWorker([Queue(QUEUE, connection=connection, serializer=SERIALIZER)], connection=connection, serializer=SERIALIZER)
