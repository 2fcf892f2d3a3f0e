"""Calling workers: one RQ job that drains a shard, when nobody reads it. Only this, `worker.queue` and `worker.traffic` know RQ.

A job's id holds the shard's turn, which moves on when a drain begins. So while a drain ends and RQ still refuses its id, the next one can
be queued already, and no wake-up is lost: an entry either comes while the lease is held, and whoever holds it looks again before it lets
go, or it finds the lease free and the id of the next turn unused.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import timedelta

from rq import Queue
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from flightlog.schema.names import DRAIN, HOUSEKEEP, QUEUE, SHARDS
from flightlog.worker.streams import Streams

SERIALIZER = JSONSerializer
"""A job's arguments are plain numbers: nobody needs to unpickle anything. RQ 2 does not know it by the name "json" here."""
JOB_TIMEOUT = 600
"""Seconds after which RQ ends a drain that hangs; it ends itself long before."""
FAILURE_TTL = 3_600
"""Seconds for which a failed job can be seen. While a store is away each shard leaves two a minute: these must not fill Redis."""
LATE = 5.0
"""Seconds after which a job that was taken from the queue and does not hold its shard's lease is taken for dead."""
OVER = (JobStatus.FAILED, JobStatus.FINISHED, JobStatus.STOPPED, JobStatus.CANCELED)
"""A job with the id of a turn to come that is over: Redis has forgotten how far the turns were."""
INTERVAL = 60
"""Seconds between housekeeping jobs."""


class Rings:
    """The bell of a queue's workers."""

    def __init__(self, streams: Streams) -> None:
        self._streams = streams
        self._queue = Queue(QUEUE, connection=streams.redis, serializer=SERIALIZER)
        self._refused: dict[int, tuple[int, float]] = {}

    def ring(self, shards: Iterable[int]) -> None:
        """Have shards drained, unless somebody is at it or about to be. Raises `QueueUnavailable`."""
        for shard, turn in self._streams.unattended(shards).items():
            if self._enqueue(shard, turn):
                self._refused.pop(shard, None)
            elif self._is_dead(shard, turn):
                self._enqueue(shard, self._streams.skip_turn(shard, turn))

    def ring_waiting(self) -> None:
        """Have every shard drained in which entries wait."""
        lengths = self._streams.lengths()
        self.ring(shard for shard in range(SHARDS) if lengths[shard])

    def has_unanswered(self) -> bool:
        """Whether jobs wait for a worker. Raises `QueueUnavailable`."""
        with self._streams.guarded():
            return self._queue.count > 0

    def _enqueue(self, shard: int, turn: int) -> bool:
        """Queue the drain of a turn; False when it is there already."""
        try:
            with self._streams.guarded():
                self._queue.enqueue(
                    DRAIN,
                    shard,
                    job_id=_job_id(shard, turn),
                    unique=True,
                    description=f"drain shard {shard} of {SHARDS}",
                    job_timeout=JOB_TIMEOUT,
                    result_ttl=0,
                    failure_ttl=FAILURE_TTL,
                )
        except DuplicateJobError:
            return False
        return True

    def _is_dead(self, shard: int, turn: int) -> bool:
        """Whether the drain of a turn will never be: it is over, or it was begun and has no lease for long, its worker killed just then."""
        known_turn, since = self._refused.get(shard, (-1, 0.0))
        if known_turn != turn:
            self._refused[shard] = (turn, time.monotonic())
            return self._status(_job_id(shard, turn)) in OVER
        return time.monotonic() - since > LATE and not self._is_queued(_job_id(shard, turn))

    def _is_queued(self, job_id: str) -> bool:
        with self._streams.guarded():
            return self._status(job_id) == JobStatus.QUEUED and self._queue.get_job_position(job_id) is not None

    def _status(self, job_id: str) -> JobStatus | None:
        try:
            with self._streams.guarded():
                return Job.fetch(job_id, connection=self._streams.redis, serializer=SERIALIZER).get_status()
        except NoSuchJobError:
            return None

    def schedule_housekeeping(self) -> None:
        """See that the next housekeeping is scheduled, once for all workers."""
        slot = int(time.time()) // INTERVAL + 1
        try:
            with self._streams.guarded():
                self._queue.enqueue_in(
                    timedelta(seconds=INTERVAL),
                    HOUSEKEEP,
                    job_id=f"flightlog-housekeep-{slot}",
                    unique=True,
                    description="housekeeping",
                    job_timeout=JOB_TIMEOUT,
                    result_ttl=0,
                    failure_ttl=FAILURE_TTL,
                )
        except DuplicateJobError:
            return


def _job_id(shard: int, turn: int) -> str:
    return f"flightlog-drain-{shard}-{turn}"
