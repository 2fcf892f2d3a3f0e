"""What may happen to a queue, its Redis and its workers at any moment: training goes on, and everything arrives exactly once."""

from __future__ import annotations

import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest
from redis.exceptions import OutOfMemoryError

from databases import empty_store
from fleet import Fleet
from process.scripts import NO_WORKER, Script, assert_unbroken, run, wait_until
from services import PostgresServer, RedisServer, running

COUNT = 20_000

LOG = f"""
import flightlog

with flightlog.start_run() as run:
    print(run.info.run_id, flush=True)
    for step in range({COUNT}):
        flightlog.log_metric("loss", step / 2, step=step)
"""

SLOWLY = """
import sys, time
import flightlog

with flightlog.start_run() as run:
    print(run.info.run_id, flush=True)
    for step in range(400):
        flightlog.log_metric("loss", step / 2, step=step)
        time.sleep(0.005)
"""

KILLED = """
import os, signal, sys
from flightlog.stores.sql.store import SqlStore
from flightlog.worker import jobs
from flightlog.worker.streams import Streams

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def then_killed(call):
    return lambda *given: (call(*given), killed())

{place}
for shard in range(16):
    jobs.drain(shard)
"""

PLACES = {
    "before the commit": "SqlStore.apply = killed",
    "after the commit": "SqlStore.apply = then_killed(SqlStore.apply)",
    "while it tells the position": "Streams._publish_and_forget = killed",
    "after it acknowledged": "Streams.settle = then_killed(Streams.settle)",
}

IN_COPY = """
import psycopg
rows, write_row = [], psycopg.Copy.write_row

def write_and_be_killed(copy, row):
    write_row(copy, row)
    rows.append(row)
    if len(rows) == {number}:
        killed()

psycopg.Copy.write_row = write_and_be_killed
"""


def _assert_whole(fleet: Fleet, run_id: str, count: int = COUNT) -> None:
    """Check that all points arrive, once, and that the journals are freed."""
    wait_until(lambda: fleet.arrived(run_id) >= count, lambda: f"all points have arrived; the store has {fleet.known_of(run_id)}")
    wait_until(lambda: not fleet.segments, "the journals are freed")
    with fleet.store() as store:
        assert_unbroken(store.metric_arrays(run_id, "loss"), count)
        assert store.dead_letters() == []


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_worker_may_be_killed_anywhere(fleet: Fleet, place: str) -> None:
    _assert_survived(fleet, place)


@pytest.mark.parametrize("number", [2, 6], ids=["in the ledger", "in a history"])
def test_a_worker_may_be_killed_while_it_copies_rows_into_postgresql(fleet: Fleet, postgres_server: PostgresServer, number: int) -> None:
    fleet.store_url = empty_store(postgres_server)
    _assert_survived(fleet, IN_COPY.format(number=number))


def _assert_survived(fleet: Fleet, place: str) -> None:
    """Kill a worker at a place of the code, and check that all arrives with the next one."""
    run_id = run(LOG, **NO_WORKER).out.split()[0]
    shipper = fleet.start_shipper()
    wait_until(lambda: fleet.waiting() > 0, "entries wait")
    wait_until(lambda: fleet.waiting() == fleet.waiting_after(0.3), "all is sent")
    done = run(KILLED.format(place=place), FLIGHTLOG_TRACKING_URI=fleet.store_url)
    assert done.code == -signal.SIGKILL, done.err
    assert fleet.is_held()
    fleet.forget_leases()
    fleet.start()
    _assert_whole(fleet, run_id)
    shipper.terminate()


def test_the_shard_of_a_killed_worker_is_taken_over(fleet: Fleet) -> None:
    """No lease is forgotten here: it runs out."""
    run_id = run(LOG, **NO_WORKER).out.split()[0]
    fleet.start_shipper()
    wait_until(lambda: fleet.waiting() > 0, "entries wait")
    run(KILLED.format(place=PLACES["before the commit"]), FLIGHTLOG_TRACKING_URI=fleet.store_url)
    fleet.start()
    _assert_whole(fleet, run_id)


def test_a_worker_that_is_killed_between_its_job_and_its_lease_is_replaced(fleet: Fleet) -> None:
    script = """
    import os, signal
    from flightlog.schema.settings import Settings, locate
    from flightlog.worker import jobs, queue

    jobs.drain = lambda shard: os.kill(os.getpid(), signal.SIGKILL)
    queue.run_queue_worker(locate(None, Settings.from_environ(os.environ)))
    """
    run_id = run(LOG, **NO_WORKER).out.split()[0]
    fleet.start_shipper()
    assert run(script, FLIGHTLOG_TRACKING_URI=fleet.store_url).code == -signal.SIGKILL
    fleet.start()
    _assert_whole(fleet, run_id)


@contextmanager
def _killed(fleet: Fleet) -> Iterator[None]:
    fleet.server.kill()
    yield
    fleet.server.start()


@contextmanager
def _read_only(fleet: Fleet) -> Iterator[None]:
    fleet.client.replicaof("127.0.0.1", 1)
    yield
    fleet.client.replicaof("NO", "ONE")


@contextmanager
def _full(fleet: Fleet) -> Iterator[None]:
    """Fill Redis with what is not ours."""
    fleet.client.config_set("maxmemory", 64 << 20)
    with suppress(OutOfMemoryError):
        while True:
            fleet.client.rpush("theirs", b"x" * (1 << 20))
    yield
    fleet.client.delete("theirs")
    fleet.client.config_set("maxmemory", 0)


@contextmanager
def _slow_to_load(fleet: Fleet) -> Iterator[None]:
    fleet.client.client_pause(3000)
    yield


OBSTACLES = {"dead": _killed, "read-only": _read_only, "full": _full, "silent": _slow_to_load}


@pytest.mark.parametrize("obstacle", OBSTACLES.values(), ids=OBSTACLES)
def test_training_goes_on_while_redis_cannot_be_used_and_everything_arrives_afterwards(
    fleet: Fleet, obstacle: Callable[[Fleet], Iterator[None]]
) -> None:
    fleet.ready()
    with obstacle(fleet):  # type: ignore[attr-defined]  # a context manager's function
        done = run(LOG, FLIGHTLOG_EXIT_TIMEOUT="0.2", FLIGHTLOG_WORKER_IDLE="30")
        assert done.code == 0
        assert "Traceback" not in done.err
    _assert_whole(fleet, done.out.split()[0])


def test_what_was_sent_before_redis_was_full_is_filed_although_rq_cannot_work(fleet: Fleet) -> None:
    run_id = run(LOG, **NO_WORKER).out.split()[0]
    fleet.start_shipper()
    wait_until(lambda: fleet.waiting() > 0, "entries wait")
    with _full(fleet):
        fleet.start()
        wait_until(lambda: fleet.folder.joinpath("store").exists() and fleet.arrived(run_id) > 0, "some points have arrived")
    _assert_whole(fleet, run_id)


def test_redis_may_lose_everything_at_any_time(fleet: Fleet) -> None:
    fleet.ready()
    with Script(SLOWLY, FLIGHTLOG_WORKER_IDLE="30") as script:
        assert script.process.stdout is not None
        run_id = script.process.stdout.readline().strip()
        for _ in range(4):
            wait_until(lambda: script.process.poll() is not None or fleet.waiting() > 0, "entries wait")
            fleet.client.flushall()
        assert script.finish().code == 0
    _assert_whole(fleet, run_id, 400)


def test_redis_may_come_back_empty(fleet: Fleet) -> None:
    run_id = run(LOG, **NO_WORKER).out.split()[0]
    fleet.start_shipper()
    wait_until(lambda: fleet.waiting() > 0, "entries wait")
    fleet.restart_empty()
    fleet.start()
    _assert_whole(fleet, run_id)


def test_a_replica_that_lacks_the_newest_entries_may_take_over(fleet: Fleet) -> None:
    """The replica gets the address of the server that it replaces, as behind a name or a proxy."""
    first = run(LOG, **NO_WORKER).out.split()[0]
    fleet.start_shipper()
    wait_until(lambda: fleet.waiting() > 0 and fleet.waiting() == fleet.waiting_after(0.3), "all is sent")
    with running(RedisServer) as behind:
        fleet.replicate(fleet.server, behind)
        known = fleet.waiting()
        second = run(LOG, **NO_WORKER).out.split()[0]
        wait_until(lambda: fleet.waiting() > known and fleet.waiting() == fleet.waiting_after(0.3), "the second run is sent")
        fleet.restart_empty()
        fleet.replicate(behind, fleet.server)
    assert fleet.waiting() == known
    fleet.start()
    for run_id in (first, second):
        _assert_whole(fleet, run_id)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_leave_finishes_its_batch(fleet: Fleet, number: signal.Signals) -> None:
    run_id = run(LOG.replace(str(COUNT), "300_000"), **NO_WORKER).out.split()[0]
    fleet.start_shipper()
    worker = fleet.start()
    wait_until(lambda: fleet.folder.joinpath("store", "tracking.db").exists() and fleet.arrived(run_id) > 0, "a batch is committed")
    worker.send_signal(number)
    assert worker.wait(20) == 0
    assert not fleet.is_held()
    assert "Traceback" not in (fleet.folder / "workers.log").read_text()
    fleet.start()
    _assert_whole(fleet, run_id, 300_000)


def test_a_worker_that_is_told_again_leaves_at_once(fleet: Fleet) -> None:
    run_id = run(LOG.replace(str(COUNT), "300_000"), **NO_WORKER).out.split()[0]
    fleet.start_shipper()
    worker = fleet.start()
    wait_until(fleet.is_held, "a shard is read")
    wait_until(lambda: _has_left_when_told_again(worker), "the worker has left", 10)
    fleet.forget_leases()
    fleet.start()
    _assert_whole(fleet, run_id, 300_000)


def _has_left_when_told_again(worker: subprocess.Popen[bytes]) -> bool:
    worker.terminate()
    return worker.poll() is not None


def test_an_idle_worker_and_one_whose_redis_is_away_leave_when_told_to(fleet: Fleet) -> None:
    idle, waiting = fleet.ready(), fleet.ready()
    idle.terminate()
    assert idle.wait(20) == 0
    fleet.server.kill()
    waiting.terminate()
    assert waiting.wait(30) == 0
    fleet.server.start()


def test_the_scheduler_of_a_killed_worker_ends_by_itself(fleet: Fleet) -> None:
    worker = fleet.ready()
    wait_until(lambda: fleet.keys("rq:scheduler:*"), "the scheduler runs")
    worker.kill()
    worker.wait()
    wait_until(lambda: not fleet.keys("rq:scheduler:*"), "the scheduler has left", 10)
    shutil.rmtree(fleet.folder / "store")
