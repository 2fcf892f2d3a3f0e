"""`flightlog sync` without a folder where a queue is set: the spool is shipped, and the command ends when a store has it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from fleet import Fleet
from flightlog.__main__ import main
from process.scripts import NO_WORKER, PATIENCE, Script, assert_unbroken, run, wait_until

COUNT = 2000
LOG = f"""
import flightlog

with flightlog.start_run() as run:
    for step in range({COUNT}):
        flightlog.log_metric("loss", step / 2, step=step)
    flightlog.log_text("hello", "result.txt")
    print(run.info.run_id)
"""
LOG_FOR_EVER = f"""
import flightlog

with flightlog.start_run() as run:
    for step in range({COUNT}):
        flightlog.log_metric("loss", step / 2, step=step)
    print(run.info.run_id, flush=True)
    input()
"""


@pytest.fixture
def run_id(fleet: Fleet) -> str:
    """Log a run that nobody ships."""
    return run(LOG, **NO_WORKER).out.split()[0]


@contextmanager
def syncing() -> Iterator[subprocess.Popen[str]]:
    """Give `flightlog sync` in a process of its own, and end it."""
    command = [sys.executable, "-m", "flightlog", "sync", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> Any:
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    return json.loads(out)


def is_over_after(process: subprocess.Popen[str], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def assert_here(fleet: Fleet, run_id: str) -> None:
    """Check that the store has the run whole, and that its journals are freed."""
    assert fleet.segments == []
    with fleet.store() as store:
        assert_unbroken(store.metric_arrays(run_id, "loss"), COUNT)
        assert [item.path for item in store.artifacts(run_id)] == ["result.txt"]


def test_the_spool_is_shipped_once(fleet: Fleet, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.start()
    assert main(["sync", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["events"], done["runs"], done["complete"], done["artifacts"]) == (COUNT + 3, [run_id], True, 1)
    assert (done["tracking_uri"], done["queue_uri"]) == (None, fleet.server.url)
    assert_here(fleet, run_id)
    assert main(["sync", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["events"], again["runs"], again["complete"], again["artifacts"]) == (0, [], True, 0)
    assert main(["sync"]) == 0
    assert capsys.readouterr().out.startswith("0 events of 0 runs, 0 artifacts in ")


def test_it_waits_for_a_worker(fleet: Fleet, run_id: str) -> None:
    with syncing() as process:
        wait_until(lambda: fleet.waiting() > 0, "entries wait")
        assert not is_over_after(process, 1.5)
        fleet.start()
        assert told(process)["events"] == COUNT + 3
    assert_here(fleet, run_id)


def test_where_a_shipper_is_at_it_already_it_waits_for_that(fleet: Fleet, run_id: str) -> None:
    fleet.start_shipper()
    wait_until(lambda: fleet.waiting() > 0, "entries wait")
    with syncing() as process:
        assert not is_over_after(process, 1.5)
        fleet.start()
        done = told(process)
    assert fleet.arrived(run_id) == COUNT
    assert (done["events"], done["runs"], done["complete"]) == (COUNT + 3, [run_id], True)
    wait_until(lambda: not fleet.segments, "the journals are freed")
    assert_here(fleet, run_id)


def test_a_shipper_that_dies_meanwhile_is_replaced(fleet: Fleet, run_id: str) -> None:
    shipper = fleet.start_shipper()
    wait_until(lambda: fleet.waiting() > 0, "entries wait")
    with syncing() as process:
        assert not is_over_after(process, 1.5)
        shipper.kill()
        shipper.wait()
        fleet.client.flushall()
        fleet.start()
        assert told(process)["events"] == COUNT + 3
    assert_here(fleet, run_id)


def test_a_run_that_goes_on_is_brought_as_far_as_it_is(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.start()
    with Script(LOG_FOR_EVER, **NO_WORKER) as script:
        assert script.process.stdout is not None
        run_id = script.process.stdout.readline().strip()
        assert main(["sync", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["events"] > COUNT
        assert fleet.arrived(run_id) == COUNT


def test_a_queue_that_is_away_is_said_and_nothing_is_lost(fleet: Fleet, run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.server.kill()
    try:
        assert main(["sync"]) != 0
        assert "cannot be used now" in capsys.readouterr().err
    finally:
        fleet.server.start()
    fleet.start()
    assert main(["sync"]) == 0
    assert_here(fleet, run_id)
