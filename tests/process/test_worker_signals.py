"""A worker that is told to leave finishes what it has in hand; told twice, it leaves at once. Nothing is lost either way."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from flightlog.worker.spool import spool_lock
from process.scripts import NO_WORKER, Flight, Script, assert_unbroken, run, wait_until

LOG = """
import flightlog

with flightlog.start_run():
    for step in range(400_000):
        flightlog.log_metric("loss", step / 2, step=step)
"""


def _has_begun(flight: Flight) -> bool:
    """Whether a worker has committed something: the first segment is freed."""
    return flight.database.exists() and bool(flight.runs())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_finishes_its_batch_and_leaves_when_it_is_told_to(flight: Flight, number: signal.Signals) -> None:
    run(LOG, **NO_WORKER)
    worker = flight.start_worker(idle=60)
    wait_until(lambda: _has_begun(flight), "a batch is committed")
    worker.send_signal(number)
    assert worker.wait(20) == 0
    assert flight.drain() >= 0
    assert_unbroken(flight.history(flight.only_run().info.run_id), 400_000)
    assert flight.reasons() == []


def test_a_worker_that_is_told_again_leaves_in_the_middle_of_its_batch_and_nothing_is_lost(flight: Flight) -> None:
    run(LOG, **NO_WORKER)
    worker = flight.start_worker(idle=60)
    wait_until(flight.database.exists, "the worker is at work")
    wait_until(lambda: _has_left_when_told_again(worker), "the worker has left", 10)
    assert worker.returncode in (0, -signal.SIGTERM)
    flight.drain()
    assert_unbroken(flight.history(flight.only_run().info.run_id), 400_000)
    assert flight.reasons() == []


def _has_left_when_told_again(worker: subprocess.Popen[bytes]) -> bool:
    worker.terminate()
    return worker.poll() is not None


def test_a_second_worker_leaves_the_spool_to_the_first(flight: Flight) -> None:
    flight.location.spool.mkdir(parents=True)
    first = flight.start_worker(idle=60)
    wait_until((flight.location.spool / "doorbell").exists, "the first worker is at work")
    second = flight.start_worker(idle=60)
    second.wait(20)
    assert first.poll() is None
    first.terminate()
    assert first.wait(20) == 0


SLOW_WORKER = """
import sys
import time
from pathlib import Path
from flightlog.stores.artifacts.local import LocalArtifacts
from flightlog.worker import main, uploads

put = LocalArtifacts.put


def put_slowly(self, source, path, *given):
    print("ready", flush=True)
    time.sleep(3)
    put(self, source, path, *given)


LocalArtifacts.put = put_slowly
uploads._is_near = lambda uri: False
main.main(sys.argv[1:])
"""


def test_the_spool_belongs_to_a_worker_until_nothing_of_it_is_on_its_way_any_more(flight: Flight) -> None:
    run("import flightlog\nwith flightlog.start_run():\n    flightlog.log_text('text', 'a.txt')", **NO_WORKER)
    spool = str(flight.location.spool)
    with Script(SLOW_WORKER, "--spool", spool, "--tracking-uri", flight.location.tracking_uri, "--idle", "60") as worker:
        worker.wait_for_line()
        worker.send(signal.SIGTERM)
        wait_until(lambda: _is_free(flight), "the worker lets go of the spool")
        uri = flight.only_run().info.artifact_uri
        assert uri is not None
        assert (Path(uri) / "a.txt").read_text() == "text"


def _is_free(flight: Flight) -> bool:
    with spool_lock(flight.location) as mine:
        return mine
