"""The jobs that RQ runs, called directly."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from flightlog.schema.blocks import Block
from flightlog.schema.errors import InvalidParameter, StoreUnavailable
from flightlog.schema.names import shard_key
from flightlog.schema.settings import Settings, locate
from flightlog.stores.base import Applied, Gap
from flightlog.stores.memory import MemoryStore
from flightlog.worker import jobs
from flightlog.worker.jobs import Filing, drain, housekeep, relieve
from flightlog.worker.streams import Lease, Streams
from journals import RUN, WRITER
from queues import SHARD, block, send, waiting

RAN_OUT = "the lease of a worker that took too long"


class Called:
    """Which shards were called, and how often housekeeping was scheduled."""

    def __init__(self) -> None:
        self.shards: list[int] = []
        self.schedules = 0

    def schedule(self) -> None:
        self.schedules += 1


@pytest.fixture
def called() -> Called:
    return Called()


@pytest.fixture(autouse=True)
def opened(streams: Streams, store: MemoryStore, called: Called) -> Iterator[None]:
    """Have the jobs work with a queue in no Redis and a store in memory."""
    jobs._opened.streams, jobs._opened.process, jobs._opened.next_schedule = streams, os.getpid(), 0.0
    jobs._opened.filing = Filing(streams, store, called.shards.extend, called.schedule)
    yield
    jobs._opened.streams, jobs._opened.filing, jobs._opened.location, jobs._opened.process = None, None, None, 0


def _lease_left(streams: Streams) -> int:
    left: Any = streams.redis.pttl(shard_key(SHARD, "lease"))
    return int(left)


def test_a_drain_files_what_waits_and_gives_its_shard_back(streams: Streams, store: MemoryStore, called: Called) -> None:
    send(streams, block("a"), block("b", first=1))
    assert drain(SHARD) == 2
    assert store.position(RUN, WRITER) == 2
    assert (waiting(streams), streams.unattended([SHARD]), called.shards) == ([], {SHARD: 1}, [])


def test_a_shard_that_somebody_reads_is_left_to_them(streams: Streams, store: MemoryStore) -> None:
    Lease(streams, SHARD).take()
    send(streams, block("a"))
    assert drain(SHARD) == 0
    assert waiting(streams) == [(0, 1)]


def test_an_entry_that_comes_while_a_drain_ends_is_filed_by_it(
    streams: Streams, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = Lease.free_if_empty
    late = [block("b", first=1)]

    def free_late(lease: Lease) -> bool:
        if late:
            send(streams, late.pop())
        return free(lease)

    monkeypatch.setattr(Lease, "free_if_empty", free_late)
    send(streams, block("a"))
    assert drain(SHARD) == 2
    assert store.position(RUN, WRITER) == 2


def test_a_drain_whose_time_is_over_calls_the_next(streams: Streams, called: Called, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "SLICE", 0.0)
    send(streams, block("a"))
    assert drain(SHARD) == 0
    assert called.shards == [SHARD]
    assert streams.unattended([SHARD]) == {SHARD: 1}


def test_a_drain_that_lost_its_lease_leaves_the_shard_to_the_next(
    streams: Streams, store: MemoryStore, called: Called, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "RENEW_EVERY", -1.0)
    apply = store.apply

    def slow(items: Sequence[Block | Gap]) -> Applied:
        streams.redis.set(shard_key(SHARD, "lease"), RAN_OUT)
        return apply(items)

    monkeypatch.setattr(store, "apply", slow)
    monkeypatch.setattr("flightlog.worker.ingest.BATCH_EVENTS", 1)
    send(streams, block("a"), block("b", first=1))
    assert drain(SHARD) == 1
    assert called.shards == [SHARD]
    assert streams.redis.get(shard_key(SHARD, "lease")) == RAN_OUT.encode()


@pytest.mark.parametrize("error", [StoreUnavailable("it is away"), ValueError("something is wrong")])
def test_after_an_error_the_shard_rests_and_nothing_is_lost(
    streams: Streams, store: MemoryStore, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "SLICE", 0.1)
    send(streams, block("a"))

    def refuse(*_: object) -> list[object]:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(store, "apply" if isinstance(error, StoreUnavailable) else "pending_snapshots", refuse)
        broken.setattr("flightlog.worker.queued_artifacts._snapshots", lambda _: ["c" * 32])
        with pytest.raises(type(error)):
            drain(SHARD)
    assert 0 < _lease_left(streams) <= 1000
    assert waiting(streams) == [(0, 1)]
    streams.redis.delete(shard_key(SHARD, "lease"))
    assert drain(SHARD) == 1
    assert store.position(RUN, WRITER) == 1


def test_a_store_that_cannot_be_opened_lets_the_shard_rest(streams: Streams, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs._opened.filing = None
    (tmp_path / "file").touch()
    monkeypatch.setenv("FLIGHTLOG_TRACKING_URI", f"sqlite:///{tmp_path / 'file' / 'inside' / 'tracking.db'}")
    monkeypatch.setenv("FLIGHTLOG_QUEUE_URI", "redis://fake")
    send(streams, block("a"))
    with pytest.raises(StoreUnavailable):
        drain(SHARD)
    assert 0 < _lease_left(streams) <= 1000


def test_signals_go_to_rq_once_the_batch_is_filed(streams: Streams, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, int]] = []
    previous = signal.signal(signal.SIGTERM, lambda number, _: seen.append((number, store.position(RUN, WRITER))))
    apply = store.apply

    def applied_while_told_to_stop(items: Sequence[Block | Gap]) -> Applied:
        os.kill(os.getpid(), signal.SIGTERM)
        return apply(items)

    monkeypatch.setattr(store, "apply", applied_while_told_to_stop)
    monkeypatch.setattr("flightlog.worker.ingest.BATCH_EVENTS", 1)
    send(streams, block("a"), block("b", first=1))
    try:
        drain(SHARD)
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, previous)
    assert seen == [(signal.SIGTERM, 1)]
    assert waiting(streams) == [(1, 2)]
    assert streams.unattended([SHARD]) == {SHARD: 1}


def test_a_drain_sees_now_and_then_that_housekeeping_goes_on(streams: Streams, called: Called) -> None:
    for _ in range(3):
        drain(SHARD)
    assert called.schedules == 1


def test_housekeeping_calls_for_what_was_left(streams: Streams, called: Called) -> None:
    send(streams, block("a"))
    housekeep()
    assert (called.shards, called.schedules) == ([SHARD], 1)


def test_what_waits_can_be_filed_without_a_lease(streams: Streams, store: MemoryStore) -> None:
    Lease(streams, SHARD).take()
    send(streams, block("a"), block("b", subject="b" * 32))
    relieve()
    assert (store.position(RUN, WRITER), store.position("b" * 32, WRITER)) == (1, 1)
    assert sum(streams.lengths()) == 0


@pytest.mark.parametrize(
    ("queue", "store", "missing"), [(None, "sqlite:///x.db", "FLIGHTLOG_QUEUE_URI"), ("redis://fake", None, "TRACKING")]
)
def test_a_worker_must_be_told_queue_and_store(queue: str | None, store: str | None, missing: str) -> None:
    with pytest.raises(InvalidParameter, match=missing):
        jobs.check(locate(store, Settings(queue_uri=queue)))
