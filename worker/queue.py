"""`flightlog worker`: an RQ worker on our queue, in one process that does not fork for a job, with RQ's scheduler beside it."""

from __future__ import annotations

import logging
import os
import threading
import time

from redis.exceptions import RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.scheduler import RQScheduler

from flightlog.schema.errors import QueueUnavailable, StoreUnavailable
from flightlog.schema.names import QUEUE
from flightlog.schema.settings import Location, without_password
from flightlog.stores import open_store
from flightlog.worker import jobs
from flightlog.worker.memory import collect_rarely
from flightlog.worker.observers import SILENT, Observer
from flightlog.worker.presence import reporting_to_queue
from flightlog.worker.rings import SERIALIZER, Rings
from flightlog.worker.streams import Streams, connect

log = logging.getLogger("flightlog.worker")

FIRST_RETRY, LAST_RETRY = 0.5, 15.0
LONGEST_WAIT = 5.0
"""Seconds between attempts to reach Redis at the most."""


class Scheduler(RQScheduler):
    """RQ's scheduler, a child of the worker, which leaves when the worker was killed."""

    parent = 0

    def heartbeat(self) -> None:
        """Leave as an orphan: nobody would ever tell it to."""
        if os.getppid() != self.parent:
            self.request_stop()  # type: ignore[no-untyped-call]  # RQ leaves it without types
        super().heartbeat()  # type: ignore[no-untyped-call]  # the same


class QueueWorker(SimpleWorker):
    """RQ's worker, which remembers that it was told to stop: its loop also ends for other reasons, after which it is started again."""

    stopping = False
    max_connection_wait_time = LONGEST_WAIT

    def _start_scheduler(self, *_: object, **__: object) -> None:
        """Start our scheduler, unless another worker has one."""
        self.scheduler = Scheduler(self.queues, connection=self.connection, logging_level=logging.WARNING, serializer=self.serializer)
        self.scheduler.parent = os.getpid()
        if self.scheduler.acquire_locks():  # type: ignore[no-untyped-call]  # RQ leaves it without types
            self.scheduler.start()  # type: ignore[no-untyped-call]  # the same

    def handle_warm_shutdown_request(self) -> None:
        """Note the first SIGTERM or SIGINT."""
        self.stopping = True
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]  # RQ leaves it without types


def run_queue_worker(location: Location, *, burst: bool = False, observer: Observer = SILENT) -> None:
    """Run jobs until stopped by SIGTERM or SIGINT; with `burst`, until the queue is empty. Raises `InvalidParameter`.

    Queue and store may be away, also at the beginning: the worker waits for them.
    """
    jobs.check(location)
    collect_rarely()
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
    """Start RQ's worker, again when it ends because Redis went away, or took nothing."""
    pause = FIRST_RETRY
    while True:
        began = time.monotonic()
        worker = _new_worker(str(location.queue_uri))
        _work_once(worker, rings, burst=burst)
        if worker.stopping or burst:
            return
        pause = FIRST_RETRY if time.monotonic() - began > LAST_RETRY else min(2 * pause, LAST_RETRY)
        if _is_told_to_stop(worker, pause):
            return


def _work_once(worker: QueueWorker, rings: Rings, *, burst: bool) -> None:
    """Run RQ's worker until it ends, for whatever reason."""
    try:
        rings.schedule_housekeeping()
        rings.ring_waiting()
        worker.work(burst=burst, with_scheduler=not burst, logging_level="WARNING")
    except (RedisError, QueueUnavailable) as error:
        log.warning("the queue cannot be used now: %s", error)


def _is_told_to_stop(worker: QueueWorker, seconds: float) -> bool:
    """Do without RQ what can be done, and wait; True when RQ's handler of signals, which is still set, was called meanwhile."""
    try:
        _relieve()
        threading.Event().wait(seconds)
    except StopRequested:
        return True
    return worker.stopping


def _relieve() -> None:
    try:
        jobs.relieve()
    except StoreUnavailable as error:
        log.debug("nothing can be filed now: %s", error)


def _new_worker(queue_uri: str) -> QueueWorker:
    connection = connect(queue_uri, timeout=None)
    return QueueWorker([Queue(QUEUE, connection=connection, serializer=SERIALIZER)], connection=connection, serializer=SERIALIZER)
