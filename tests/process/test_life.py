"""Runs whose processes die are lost, those that only think are not, and whatever is heard later counts."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from process.scripts import NO_WORKER, Flight, Script, run, wait_until

HEARTBEAT, LOST_AFTER = 0.5, 2.5

SILENT = """
import time
import flightlog

with flightlog.start_run():
    flightlog.log_metric("loss", 1.0)
    print("ready", flush=True)
    time.sleep(60)
"""

FORKING = """
import os, time
import flightlog

flightlog.start_run()
flightlog.log_metric("loss", 1.0)
if not os.fork():
    os.close(1), os.close(2)
    time.sleep(60)
    os._exit(0)
print("ready", flush=True)
time.sleep(60)
"""

LATE = """
import sys
import flightlog

flightlog.attach(sys.argv[1])
flightlog.log_metric("loss", 0.5, step=1)
"""

TWO_ATTEMPTS = """
import os, signal, sys
import flightlog


def train(steps, shift):
    for step in steps:
        flightlog.log_metric("loss", step + shift, step=step)


if len(sys.argv) == 1:
    run = flightlog.start_run()
    train(range(100), 0.0)
    print(run.info.run_id, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
with flightlog.attach(sys.argv[1]):
    flightlog.rewind(50)
    train(range(50, 120), 0.5)
"""


@pytest.fixture(autouse=True)
def impatient(clean_environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTLOG_HEARTBEAT", str(HEARTBEAT))
    monkeypatch.setenv("FLIGHTLOG_LOST_AFTER", str(LOST_AFTER))


@contextmanager
def a_worker(flight: Flight) -> Iterator[None]:
    """Run a worker beside the block, and wait until it leaves."""
    worker = flight.start_worker(idle=0.5)
    try:
        yield
        worker.wait(60)
    finally:
        worker.kill()
        worker.wait()


def _status(flight: Flight) -> tuple[str, str | None]:
    info = flight.only_run().info
    return info.status, info.status_reason


def test_a_run_whose_process_was_killed_is_lost_and_a_late_journal_revives_it(flight: Flight) -> None:
    with Script(SILENT, **NO_WORKER) as script:
        script.wait_for_line()
        script.send(signal.SIGKILL)
        script.finish()
    with a_worker(flight):
        pass
    lost = flight.only_run().info
    assert (lost.status, lost.status_reason) == ("FAILED", "lost")
    with flight.store() as store:
        assert lost.end_time in [writer.updated for writer in store.writers(lost.run_id)]
    run(LATE, lost.run_id, **NO_WORKER)
    flight.drain()
    assert (_status(flight), flight.only_run().info.end_time) == (("RUNNING", None), None)
    assert flight.history(lost.run_id).value.tolist() == [1.0, 0.5]


def test_a_process_that_is_silent_and_lives_keeps_its_run_alive(flight: Flight) -> None:
    with Script(SILENT, **NO_WORKER) as script:
        script.wait_for_line()
        with a_worker(flight):
            wait_until(lambda: flight.database.exists() and flight.runs(), "the run is filed")
            (first,) = _updates(flight)
            wait_until(lambda: _updates(flight)[0] - first > 1000 * (LOST_AFTER + 1), "the writer was heard of for long enough")
            with flight.store() as store:
                assert store.mark_lost(int(1000 * LOST_AFTER)) == 0, "its heartbeats alone keep it"
            assert _status(flight) == ("RUNNING", None)
            script.send(signal.SIGTERM)
            script.finish()
        assert _status(flight) == ("KILLED", "SIGTERM")


def _updates(flight: Flight) -> list[int]:
    with flight.store() as store:
        return [writer.updated for writer in store.writers(flight.only_run().info.run_id)]


def test_a_forked_child_keeps_no_run_of_its_parent_alive(flight: Flight) -> None:
    with Script(FORKING, **NO_WORKER) as script:
        script.wait_for_line()
        (child,) = psutil.Process(script.process.pid).children()
        try:
            script.send(signal.SIGKILL)
            script.finish()
            with a_worker(flight):
                pass
            assert child.is_running()
        finally:
            child.kill()
    assert _status(flight) == ("FAILED", "lost")
    with flight.store() as store:
        assert len(store.writers()) == 2, "the parent's, and the one that says that the run is lost"


def test_a_run_that_was_killed_and_goes_back_shows_each_step_once_whatever_is_filed_when(flight: Flight) -> None:
    first = run(TWO_ATTEMPTS, **NO_WORKER)
    run_id = first.out.strip()
    second = run(TWO_ATTEMPTS, run_id, **NO_WORKER)
    assert (first.code, second.code) == (-signal.SIGKILL, 0)
    flight.drain()
    history = flight.history(run_id)
    assert history.step.tolist() == list(range(120))
    assert history.value.tolist() == [step + 0.5 * (step >= 50) for step in range(120)]
    with flight.store() as store:
        assert store.metric_arrays(run_id, "loss", attempt=0).value.tolist() == list(range(100))
        assert [item.from_step for item in store.attempts(run_id)] == [None, 50]
    assert flight.only_run().data.metric_summaries["loss"].count == 120
