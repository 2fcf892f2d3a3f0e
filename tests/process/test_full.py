"""A full disk or spool never stops training: what is dropped is counted, and the end of the run still fits."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flightlog.schema.settings import Settings, locate
from process.scripts import NO_WORKER, Finished, Flight, Script, run, wait_until

LIMIT = str(100 << 10)
"""Bytes of spool that hold the first segment, of 64 KiB, and no second."""
FEW = {"FLIGHTLOG_SPOOL_LIMIT": LIMIT, **NO_WORKER}

LOG = """
from pathlib import Path
import time
import flightlog
from flightlog.producer.context import context

with flightlog.start_run():
    for step in range(3_000):
        flightlog.log_metric("loss", step / 2, step=step)
print(context.producer.dropped())
"""


def _assert_rest_is_counted(flight: Flight, finished: Finished, logged: int) -> None:
    """Check that points and dropped events add up, and that the run's end is there."""
    assert finished.code == 0, finished.err
    found = flight.only_run()
    history = flight.history(found.info.run_id)
    with flight.store() as store:
        dropped = store.dropped()[found.info.run_id]
    assert dropped == int(finished.out.splitlines()[-1]) > 0
    assert len(history) + dropped == logged
    assert np.array_equal(history.value, history.step / 2)
    assert found.info.status == "FINISHED"
    assert flight.reasons() == []


def test_at_the_spool_limit_training_goes_on_and_the_dropped_events_are_counted_in_the_run(flight: Flight) -> None:
    finished = run(LOG, **FEW)
    said = [line for line in finished.warnings if "FLIGHTLOG_SPOOL_LIMIT" in line]
    assert len(said) == 1, "one warning says what to do"
    flight.drain()
    _assert_rest_is_counted(flight, finished, 3_000)


def test_logging_resumes_when_a_worker_has_made_room_and_the_gap_is_recorded(flight: Flight) -> None:
    source = f"""
{LOG.partition("with")[0]}
with flightlog.start_run():
    for step in range(3_000):
        flightlog.log_metric("loss", step / 2, step=step)
    journal = flightlog.active_run().recorder.journal
    print("ready", flush=True)
    while journal._full:
        time.sleep(0.01)
    for step in range(3_000, 6_000):
        flightlog.log_metric("loss", step / 2, step=step)
print(context.producer.dropped())
"""
    ballast = flight.location.spool / f"{'0' * 32}-00000000.seg"
    ballast.parent.mkdir(parents=True)
    ballast.write_bytes(bytes(2 << 20))
    with Script(source, FLIGHTLOG_SPOOL_LIMIT=str((2 << 20) + (100 << 10)), **NO_WORKER) as script:
        script.wait_for_line()
        ballast.unlink()
        finished = script.finish()
    flight.drain()
    _assert_rest_is_counted(flight, finished, 6_000)
    steps = flight.history(flight.only_run().info.run_id).step
    assert set(range(3_000, 6_000)) <= set(steps.tolist()), "all that came after there was room again"


def test_the_policy_block_waits_for_room_and_drops_nothing(flight: Flight) -> None:
    with Script(
        LOG.replace("3_000", "30_000"), FLIGHTLOG_SPOOL_FULL="block", FLIGHTLOG_SPOOL_LIMIT=str((1 << 20) + (100 << 10)), **NO_WORKER
    ) as script:
        wait_until(lambda: flight.segments, "the journal is there")
        assert script.process.poll() is None
        worker = flight.start_worker(idle=20)
        finished = script.finish()
        worker.terminate()
        worker.wait()
    assert (finished.code, finished.out.strip()) == (0, "0"), finished.err
    flight.drain()
    found = flight.only_run()
    assert len(flight.history(found.info.run_id)) == 30_000
    assert found.info.status == "FINISHED"


def test_the_policy_raise_raises_at_the_call_and_the_end_is_recorded(flight: Flight) -> None:
    finished = run(LOG, FLIGHTLOG_SPOOL_FULL="raise", **FEW)
    assert finished.code == 1
    assert "JournalFull: the event was not recorded" in finished.err
    flight.drain()
    assert flight.only_run().info.status == "FAILED"
    assert len(flight.history(flight.only_run().info.run_id)) > 1_000


def test_a_name_that_finds_no_room_never_lends_its_id_to_another_metric(flight: Flight) -> None:
    finished = run(
        """
import flightlog

with flightlog.start_run():
    for number in range(2_000):
        flightlog.log_metric(f"{number:0240d}", number)
""",
        **FEW,
    )
    assert finished.code == 0
    flight.drain()
    metrics = flight.only_run().data.metrics
    assert len(metrics) > 100
    assert all(value == int(name) for name, value in metrics.items())
    assert flight.reasons() == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a file system of its own, where the system lets us mount one; else one with a limit would be a different test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=640k", "tmpfs", str(folder)], check=False, capture_output=True).returncode == 0
    )
    yield folder
    if mounted:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_drops_events_and_takes_them_again_when_there_is_space(
    flight: Flight, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTLOG_SPOOL", str(small_disk))
    limit = {} if small_disk.is_mount() else {"FLIGHTLOG_SPOOL_LIMIT": str(640 << 10)}
    finished = run(LOG.replace("3_000", "30_000"), **limit, **NO_WORKER)
    said = [line for line in finished.warnings if "training goes on" in line]
    assert len(said) == 1, finished.err
    disk = Flight(locate(flight.location.tracking_uri, Settings(spool=str(small_disk))))
    disk.drain()
    _assert_rest_is_counted(disk, finished, 30_000)
    assert disk.segments == []
    again = run("import flightlog\nwith flightlog.start_run(): flightlog.log_metric('loss', 1.0)", **NO_WORKER)
    assert again.code == 0
    assert disk.drain() == 3
