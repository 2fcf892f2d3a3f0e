"""The jobs that RQ runs, called directly."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from contracts import facts
from flightlog.schema.blocks import Block
from flightlog.schema.errors import InvalidParameter, StoreUnavailable
from flightlog.schema.events import ArtifactLogged
from flightlog.schema.names import shard_key
from flightlog.schema.settings import Settings, locate
from flightlog.stores.base import Applied, Gap
from flightlog.stores.memory import MemoryStore
from flightlog.worker import jobs
from flightlog.worker.jobs import Filing, drain, housekeep, relieve
from flightlog.worker.streams import FIELD, Lease, Streams
from journals import RUN, WRITER
from queues import SHARD, block, send, waiting

RAN_OUT = "the lease of a worker that took too long"
LOST_AFTER = 300
"""Seconds of silence after which a run is lost, by the clock of `Hearing`."""
SHORT = 0.1
"""The same, by a real clock."""


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


def wait_since(streams: Streams, time: float) -> None:
    """Have an entry wait in the queue since a time, in seconds."""
    streams.redis.xadd(shard_key(SHARD, "blocks"), {FIELD: b"an entry"}, id=f"{int(1000 * time)}-0")


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
        logged = ArtifactLogged(time=1, path="a", size=1, snapshot="c" * 32)
        broken.setattr("flightlog.worker.queued_artifacts.logged_in", lambda _: [("a", logged)])
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


class Untidy(MemoryStore):
    """A store that always has something to put in order."""

    turns = 0

    def maintain(self) -> bool:
        self.turns += 1
        return self.turns < 100


@pytest.mark.parametrize("others_wait", [True, False])
def test_housekeeping_makes_way_for_drains(streams: Streams, called: Called, monkeypatch: pytest.MonkeyPatch, *, others_wait: bool) -> None:
    untidy = Untidy()
    monkeypatch.setattr(jobs, "BUSY_MAINTENANCE", 0.0)
    jobs._opened.filing = Filing(streams, untidy, called.shards.extend, called.schedule, others_wait=lambda: others_wait)
    housekeep()
    assert untidy.turns == (1 if others_wait else 100)


@pytest.mark.parametrize("others_wait", [True, False])
def test_a_drain_lingers_only_where_nobody_waits(
    streams: Streams, store: MemoryStore, called: Called, monkeypatch: pytest.MonkeyPatch, *, others_wait: bool
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("flightlog.worker.sources.stream.StreamSource.wait", lambda _, timeout: waits.append(timeout))
    jobs._opened.filing = Filing(streams, store, called.shards.extend, called.schedule, others_wait=lambda: others_wait)
    send(streams, block("a"))
    assert drain(SHARD) == 1
    assert waits == ([] if others_wait else [jobs.LINGER])


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


class Hearing:
    """When a store was asked to take silent runs for lost, with the silence that it takes, ms."""

    def __init__(self, streams: Streams, store: MemoryStore, called: Called, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[int] = []
        self.now = 1_000_000.0
        monkeypatch.setattr("time.time", lambda: self.now)
        monkeypatch.setattr(store, "mark_lost", self.mark_lost)
        jobs._opened.filing = Filing(streams, store, called.shards.extend, called.schedule, LOST_AFTER)

    def mark_lost(self, silent_ms: int) -> int:
        """Take nothing for lost."""
        self.asked.append(silent_ms)
        return 0

    def look_on(self, *pauses: float) -> list[int]:
        """Do the housekeeping after each pause; return what was asked of the store."""
        for pause in pauses:
            self.now += pause
            housekeep()
        return self.asked


@pytest.fixture
def hearing(streams: Streams, store: MemoryStore, called: Called, monkeypatch: pytest.MonkeyPatch) -> Hearing:
    """Give a queue that is looked after by a clock of its own."""
    return Hearing(streams, store, called, monkeypatch)


def test_runs_are_lost_only_after_the_queue_was_looked_after_for_as_long_as_they_may_be_silent(hearing: Hearing) -> None:
    assert hearing.look_on(0, 60, 60, 60, 60, 59) == []
    assert hearing.look_on(1) == [1000 * LOST_AFTER]


def test_no_run_is_lost_while_what_it_said_may_still_be_in_the_queue(hearing: Hearing, streams: Streams) -> None:
    hearing.look_on(0, 150, 149)
    wait_since(streams, hearing.now - jobs.LATE)
    assert hearing.look_on(1) == []
    streams.redis.delete(shard_key(SHARD, "blocks"))
    assert hearing.look_on(1) == [1000 * LOST_AFTER]


def test_an_entry_that_has_just_come_is_none_that_waits(hearing: Hearing, streams: Streams) -> None:
    hearing.look_on(0, 150, 149)
    wait_since(streams, hearing.now)
    assert hearing.look_on(1) == [1000 * LOST_AFTER]


def test_while_entries_wait_for_long_nobody_counts_as_having_listened(hearing: Hearing, streams: Streams) -> None:
    hearing.look_on(0, 100)
    wait_since(streams, hearing.now)
    hearing.look_on(100, 100)
    streams.redis.delete(shard_key(SHARD, "blocks"))
    assert hearing.look_on(1) == []


@pytest.mark.parametrize("pause", [jobs.LONGEST_PAUSE + 1, -1.0], ids=["nobody was there", "the clock was set back"])
def test_after_a_pause_the_watch_begins_anew(hearing: Hearing, pause: float) -> None:
    hearing.look_on(0, 150, 149)
    assert hearing.look_on(pause, 150, 149) == []
    assert hearing.look_on(1) == [1000 * LOST_AFTER]


def test_a_redis_that_forgot_the_watch_begins_it_anew(hearing: Hearing, streams: Streams) -> None:
    hearing.look_on(0, 150)
    streams.redis.flushall()
    assert hearing.look_on(150, 150, 149) == []
    assert hearing.look_on(1) == [1000 * LOST_AFTER]


def test_a_worker_that_is_told_never_to_take_a_run_for_lost_does_not(hearing: Hearing) -> None:
    jobs._opened.filing = replace(jobs.filing(), lost_after=0.0)
    assert hearing.look_on(0, 150, 150, 150) == []


def test_all_silent_runs_are_lost_in_as_many_calls_as_it_takes(
    hearing: Hearing, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [3, 2, 0]
    monkeypatch.setattr(store, "mark_lost", lambda _: found.pop(0))
    hearing.look_on(0, 150, 150)
    assert found == []


def test_a_run_that_fell_silent_is_lost_and_comes_back_when_it_is_heard(streams: Streams, store: MemoryStore, called: Called) -> None:
    jobs._opened.filing = Filing(streams, store, called.shards.extend, called.schedule, SHORT)
    send(streams, facts.block(RUN, facts.started(), writer=WRITER))
    drain(SHARD)
    housekeep()
    assert store.get_run(RUN).info.status == "RUNNING"
    threading.Event().wait(1.5 * SHORT)
    housekeep()
    assert store.get_run(RUN).info.status == "FAILED"
    send(streams, block("b", first=1))
    drain(SHARD)
    assert store.get_run(RUN).info.status == "RUNNING"


@pytest.mark.parametrize(
    ("queue", "store", "missing"), [(None, "sqlite:///x.db", "FLIGHTLOG_QUEUE_URI"), ("redis://fake", None, "TRACKING")]
)
def test_a_worker_must_be_told_queue_and_store(queue: str | None, store: str | None, missing: str) -> None:
    with pytest.raises(InvalidParameter, match=missing):
        jobs.check(locate(store, Settings(queue_uri=queue)))
