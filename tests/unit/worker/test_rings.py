"""Calling workers: no wake-up is lost, and none is made twice."""

from __future__ import annotations

import pytest
from rq import Queue
from rq.job import Job, JobStatus

from flightlog.worker import rings as module
from flightlog.worker.rings import SERIALIZER, Rings
from flightlog.worker.streams import Lease, Streams
from queues import SHARD, block, send

QUEUED = f"flightlog-drain-{SHARD}-"


@pytest.fixture
def rings(streams: Streams) -> Rings:
    return Rings(streams)


def _queued(streams: Streams) -> list[str]:
    return Queue("flightlog", connection=streams.redis, serializer=SERIALIZER).get_job_ids()


def _take_job(streams: Streams) -> Job:
    """Take the next job as a worker does: it is out of the queue, and RQ refuses its id until it has ended."""
    job_id = _queued(streams)[0]
    streams.redis.lpop("rq:queue:flightlog")
    return Job.fetch(job_id, connection=streams.redis, serializer=SERIALIZER)


def test_a_shard_that_nobody_reads_is_called_once(rings: Rings, streams: Streams) -> None:
    for _ in range(3):
        rings.ring([SHARD])
    assert _queued(streams) == [QUEUED + "0"]


def test_it_is_known_whether_somebody_waits_for_a_worker(rings: Rings, streams: Streams) -> None:
    assert not rings.has_unanswered()
    rings.ring([SHARD])
    assert rings.has_unanswered()
    _take_job(streams)
    assert not rings.has_unanswered()


def test_a_shard_that_is_read_is_not_called(rings: Rings, streams: Streams) -> None:
    Lease(streams, SHARD).take()
    rings.ring([SHARD])
    assert _queued(streams) == []


def test_the_next_drain_can_be_called_while_rq_still_refuses_the_last(rings: Rings, streams: Streams) -> None:
    rings.ring([SHARD])
    _take_job(streams).set_status(JobStatus.STARTED)
    lease = Lease(streams, SHARD)
    lease.take()
    assert lease.free_if_empty()
    rings.ring([SHARD])
    assert _queued(streams) == [QUEUED + "1"]


def test_a_drain_whose_worker_was_killed_before_it_began_is_given_up_after_a_while(
    rings: Rings, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    rings.ring([SHARD])
    _take_job(streams)
    rings.ring([SHARD])
    assert _queued(streams) == []
    monkeypatch.setattr(module, "LATE", -1.0)
    rings.ring([SHARD])
    assert _queued(streams) == [QUEUED + "1"]


def test_a_drain_that_waits_behind_others_is_not_given_up(rings: Rings, streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LATE", -1.0)
    for _ in range(5):
        rings.ring([SHARD])
    assert _queued(streams) == [QUEUED + "0"]


def test_many_that_give_up_on_a_drain_call_one(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [Rings(streams) for _ in range(10)]
    for rings in machines:
        rings.ring([SHARD])
    _take_job(streams)
    monkeypatch.setattr(module, "LATE", -1.0)
    with monkeypatch.context() as at_once:
        at_once.setattr(streams, "unattended", lambda _: {SHARD: 0})  # all have looked before the first gave up
        for rings in machines:
            rings.ring([SHARD])
    assert _queued(streams) == [QUEUED + "1"]


def test_failed_drains_of_a_time_that_redis_forgot_are_passed_over_at_once(rings: Rings, streams: Streams) -> None:
    for turn in range(3):
        rings.ring([SHARD])
        _take_job(streams).set_status(JobStatus.FAILED)
        streams.redis.set(f"flightlog:{{{SHARD}}}:turn", turn + 1)
    streams.redis.delete(f"flightlog:{{{SHARD}}}:turn")
    for _ in range(4):
        rings.ring([SHARD])
    assert _queued(streams) == [QUEUED + "3"]


def test_waiting_entries_are_called_for(rings: Rings, streams: Streams) -> None:
    send(streams, block("a"))
    rings.ring_waiting()
    assert _queued(streams) == [QUEUED + "0"]


def test_the_next_housekeeping_is_scheduled_once(streams: Streams) -> None:
    for _ in range(3):
        Rings(streams).schedule_housekeeping()
    assert streams.redis.zcard("rq:scheduled:flightlog") in (1, 2)  # two when a minute began just then
