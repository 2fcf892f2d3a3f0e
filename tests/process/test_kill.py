"""An event whose call has returned survives `kill -9` of whoever is killed, and is there once."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path

import pytest

from process.scripts import COUNTING, NO_WORKER, Flight, Script, assert_unbroken, calls_returned, run, wait_until

LOG_AND_DIE = """
import json, os, signal, sys
import flightlog


def log_and_die(count):
    flightlog.start_run(run_name=f"{count:08d}")
    for step in range(count):
        flightlog.log_metric("loss", step / 2, step=step)
    os.kill(os.getpid(), signal.SIGKILL)


for count in json.loads(sys.argv[1]):
    child = os.fork()
    if not child:
        log_and_die(count)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
"""

FIND_BOUNDARIES = """
import json
import flightlog

journal = flightlog.start_run(run_name=f"{0:08d}").recorder.journal
boundaries, step = [], 0
while len(boundaries) < 3:
    writes_to = journal._segment.number
    flightlog.log_metric("loss", step / 2, step=step)
    step += 1
    if journal._segment.number != writes_to:
        boundaries.append(step)
print(json.dumps(boundaries))
"""

LOG_FOR_EVER = f"""
{COUNTING}
import flightlog

flightlog.start_run()
print("ready", flush=True)
step = 0
while True:
    flightlog.log_metric("loss", step / 2, step=step)
    step += 1
    returned(step)
"""

LOG_MANY = """
import sys
import flightlog

with flightlog.start_run():
    for step in range(int(sys.argv[1])):
        flightlog.log_metric("loss", step / 2, step=step)
"""

DIE_BY_TURNS = """
import os, random, signal, sys, time
from pathlib import Path
from flightlog.schema.settings import Settings, locate
from flightlog.stores.sql import store
from flightlog.worker.spool import run_spool_worker

location = locate(None, Settings.from_environ(os.environ))
chance = random.Random(int(sys.argv[1]))
while not Path("stop").exists():
    worker = os.fork()
    if not worker:
        run_spool_worker(location, 60)
        os._exit(0)
    time.sleep(chance.uniform(0.02, 0.6))
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    print("killed", flush=True)
"""
"""Workers that are killed one after the other, each a little later or earlier in its work."""


@pytest.fixture
def chance() -> random.Random:
    """Return a source of random numbers whose seed is shown when the test fails."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - pytest shows it
    return random.Random(seed)


def _assert_as_named(flight: Flight, runs: int) -> None:
    """Check that each run has as many points as its name says."""
    found = flight.runs()
    assert len(found) == runs
    for item in found:
        assert_unbroken(flight.history(item.info.run_id), int(str(item.info.run_name)))
    assert flight.reasons() == []
    assert flight.segments == []


def test_every_call_that_returned_before_the_kill_is_there_at_random_counts(flight: Flight, chance: random.Random) -> None:
    counts = [0, 1, 2, *(chance.randrange(40_000) for _ in range(20))]
    assert run(LOG_AND_DIE, json.dumps(counts), **NO_WORKER).code == 0
    flight.drain()
    _assert_as_named(flight, len(counts))


def test_every_call_that_returned_before_the_kill_is_there_around_the_end_of_each_size_of_segment(flight: Flight, tmp_path: Path) -> None:
    scout = run(FIND_BOUNDARIES, FLIGHTLOG_TRACKING_URI=str(tmp_path / "scout"), **NO_WORKER)
    boundaries: list[int] = json.loads(scout.out)
    assert boundaries[0] < 64 << 10 < boundaries[1] * 46 < 2 << 20 < boundaries[2] * 46, "segments have 64 KiB, 1 MiB and 4 MiB"
    counts = [boundary + distance for boundary in boundaries for distance in (-2, -1, 0, 1)]
    assert run(LOG_AND_DIE, json.dumps(counts), **NO_WORKER).code == 0
    flight.drain()
    _assert_as_named(flight, len(counts))


def test_a_killed_run_reaches_the_store_through_the_worker_that_it_started_which_then_leaves(flight: Flight) -> None:
    with Script(LOG_FOR_EVER) as script:
        script.wait_for_line()
        wait_until(flight.workers, "the script has started a worker")
        script.send(signal.SIGKILL)
        script.finish()
    flight.wait_for_workers_to_leave()
    assert flight.segments == []
    history = flight.history(flight.only_run().info.run_id)
    assert len(history) in (calls_returned(), calls_returned() + 1)
    assert_unbroken(history, len(history))


@pytest.mark.parametrize("attempt", range(4))
def test_a_kill_at_a_random_moment_loses_at_most_the_call_in_hand(flight: Flight, chance: random.Random, attempt: int) -> None:
    stop_at = chance.randrange(150_000)
    with Script(LOG_FOR_EVER, **NO_WORKER) as script:
        script.wait_for_line()
        wait_until(lambda: calls_returned() >= stop_at, "enough calls have returned")
        script.send(signal.SIGKILL)
        script.finish()
    told = calls_returned()
    flight.drain()
    history = flight.history(flight.only_run().info.run_id)
    assert len(history) in (told, told + 1)
    assert_unbroken(history, len(history))
    assert set(flight.reasons()) <= {"corrupt"}, "a copy may be cut short by the kill, and is then told of"


@pytest.mark.parametrize("attempt", range(2))
def test_workers_killed_again_and_again_lose_and_double_nothing(flight: Flight, chance: random.Random, attempt: int) -> None:
    with Script(DIE_BY_TURNS, str(chance.randrange(1000))) as workers:
        assert run(LOG_MANY, "300000", FLIGHTLOG_EXIT_TIMEOUT="0", **NO_WORKER).code == 0
        for _ in range(5):
            workers.wait_for_line("killed")
        Path("stop").touch()
        assert workers.finish().code == 0
    flight.drain()
    assert_unbroken(flight.history(flight.only_run().info.run_id), 300_000)
    assert flight.reasons() == []
    assert flight.segments == []


def test_producer_and_workers_killed_at_random_moments_together_lose_and_double_nothing(flight: Flight, chance: random.Random) -> None:
    with Script(DIE_BY_TURNS, str(chance.randrange(1000))) as workers:
        with Script(LOG_FOR_EVER, **NO_WORKER) as script:
            script.wait_for_line()
            for _ in range(6):
                workers.wait_for_line("killed")
            script.send(signal.SIGKILL)
            script.finish()
        told = calls_returned()
        workers.wait_for_line("killed")
        Path("stop").touch()
        workers.finish()
    flight.drain()
    history = flight.history(flight.only_run().info.run_id)
    assert len(history) in (told, told + 1)
    assert_unbroken(history, len(history))
    assert flight.segments == []


def test_the_worker_of_a_script_is_replaced_when_it_is_killed(flight: Flight) -> None:
    with Script(LOG_FOR_EVER) as script:
        script.wait_for_line()
        for _ in range(2):
            wait_until(flight.workers, "a worker is there")
            for worker in flight.workers():
                worker.kill()
        wait_until(flight.workers, "another worker is there")
        script.send(signal.SIGKILL)
        script.finish()
    flight.wait_for_workers_to_leave()
    flight.drain()
    history = flight.history(flight.only_run().info.run_id)
    assert len(history) in (calls_returned(), calls_returned() + 1)
    assert_unbroken(history, len(history))
