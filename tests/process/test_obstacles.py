"""Whatever stands in flightlog's way, the script runs to its own end, hears once what to do, and nothing that was recorded is lost."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

from process.scripts import NO_WORKER, Finished, Flight, Script, run, wait_until

BOUND = {"FLIGHTLOG_EXIT_TIMEOUT": "2"}

LOG = """
import sys
import flightlog

with flightlog.start_run():
    for step in range(1_000):
        flightlog.log_metric("loss", step / 2, step=step)
print("done", flush=True)
sys.exit(7)
"""


def _assert_unharmed(finished: Finished) -> None:
    """Check that the script ended as it wanted, in time, with one warning that says what to do."""
    assert finished.code == 7, finished.err
    assert finished.delay < 5
    assert "Traceback" not in finished.err
    assert len(finished.warnings) == 1, finished.err


def _assert_filed(flight: Flight) -> None:
    assert len(flight.history(flight.only_run().info.run_id)) == 1_000
    assert flight.only_run().info.status == "FINISHED"
    assert flight.reasons() == []


def test_a_locked_database_delays_the_commit_and_nothing_else(flight: Flight) -> None:
    with flight.store():
        pass
    other = sqlite3.connect(flight.database)
    other.execute("BEGIN EXCLUSIVE")
    finished = run(LOG, **BOUND)
    _assert_unharmed(finished)
    assert "flightlog worker --spool" in finished.warnings[0]
    other.rollback()
    other.close()
    flight.wait_for_workers_to_leave()
    flight.drain()
    _assert_filed(flight)


def test_a_database_file_of_garbage_is_left_alone_and_the_events_wait_in_the_journal(flight: Flight) -> None:
    flight.database.parent.mkdir()
    flight.database.write_bytes(b"this is no database " * 1000)
    finished = run(LOG, **BOUND)
    _assert_unharmed(finished)
    assert "flightlog worker --spool" in finished.warnings[0]
    flight.wait_for_workers_to_leave()
    assert flight.database.read_bytes() == b"this is no database " * 1000
    flight.database.unlink()
    flight.drain()
    _assert_filed(flight)


def test_a_database_that_is_a_folder_is_no_harm(flight: Flight) -> None:
    flight.database.mkdir(parents=True)
    _assert_unharmed(run(LOG, **BOUND))
    flight.wait_for_workers_to_leave()
    flight.database.rmdir()
    flight.drain()
    _assert_filed(flight)


@pytest.mark.parametrize("python", ["/nowhere/python", shutil.which("false") or "/bin/false"])
def test_a_worker_that_cannot_be_started_is_told_of_once_and_not_waited_for(flight: Flight, python: str) -> None:
    finished = run(f"import sys\nimport flightlog\nsys.executable = {python!r}\n{LOG}", FLIGHTLOG_EXIT_TIMEOUT="30")
    assert finished.code == 7
    assert finished.delay < 5
    assert any("no worker could be started" in line and "flightlog worker --spool" in line for line in finished.warnings)
    flight.drain()
    _assert_filed(flight)


def test_a_failing_worker_is_not_started_again_and_again_without_pause(flight: Flight) -> None:
    flight.database.mkdir(parents=True)
    run("import time, flightlog\nwith flightlog.start_run():\n    time.sleep(7)", FLIGHTLOG_EXIT_TIMEOUT="0")
    flight.wait_for_workers_to_leave()
    failures = (flight.location.spool / "worker.log").read_text().count("\nflightlog.schema.errors.StoreUnavailable")
    assert 1 <= failures <= 4, "after 1, 2 and 4 seconds"


def test_a_spool_that_cannot_be_written_drops_everything_and_says_so_once(flight: Flight, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finished = run(LOG, FLIGHTLOG_SPOOL=str(tmp_path / "file" / "journal"), **BOUND)
    assert finished.code == 7
    assert finished.delay < 5
    assert "Traceback" not in finished.err
    said = [line for line in finished.warnings if "FLIGHTLOG_SPOOL" in line]
    assert len(said) == 1, finished.err


ARTIFACTS = """
import io
import flightlog
import numpy as np
from matplotlib.figure import Figure

with flightlog.start_run() as run:
    flightlog.log_text("text", "a.txt")
    flightlog.log_dict({}, "a.json")
    flightlog.log_stream(io.BytesIO(b"bytes"), "a.bin")
    flightlog.log_figure(Figure(), "figure.png")
    flightlog.log_image(np.zeros((4, 4)), "image.png")
    flightlog.log_image(np.zeros((4, 4)), key="image", step=1)
    flightlog.log_artifact(__file__)
    flightlog.log_table({"a": [1]}, "table.json")
    flightlog.MlflowClient().log_text(run.info.run_id, "text", "b.txt")
print("done", flush=True)
raise SystemExit(7)
"""


def test_a_flight_folder_that_cannot_be_written_drops_artifacts_of_every_kind(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    finished = run(ARTIFACTS, FLIGHTLOG_TRACKING_URI=str(tmp_path / "file" / "flight"), **BOUND)
    assert finished.code == 7, finished.err
    assert "Traceback" not in finished.err
    assert len([line for line in finished.warnings if "training goes on" in line]) == 1, finished.err


def test_a_table_is_logged_and_its_later_rows_are_dropped_while_nobody_stores_it(flight: Flight) -> None:
    source = """
import flightlog

with flightlog.start_run():
    flightlog.log_table({"a": [1]}, "one.json")
    flightlog.log_table({"a": [1]}, "two.json")
    flightlog.log_table({"a": [2]}, "two.json")
print("done")
"""
    finished = run(source, **NO_WORKER)
    assert finished.code == 0, finished.err
    assert any("'two.json'" in line and "training goes on" in line for line in finished.warnings), finished.err
    flight.drain()
    found = flight.only_run()
    assert json.loads(found.data.tags["mlflow.loggedArtifacts"]) == [{"path": f"{name}.json", "type": "table"} for name in ("one", "two")]
    with flight.store() as store:
        assert store.dropped() == {found.info.run_id: 1}


def test_a_command_that_finds_no_room_for_an_artifact_fails(flight: Flight) -> None:
    run("import flightlog\nflightlog.start_run()", FLIGHTLOG_TRACKING_URI=flight.location.tracking_uri)
    flight.wait_for_workers_to_leave()
    Path("spool").touch()
    command = f"artifacts log-artifact -r {flight.only_run().info.run_id} -l {__file__}"
    finished = run("from flightlog.__main__ import main\nraise SystemExit(main())", *command.split(), FLIGHTLOG_SPOOL="spool/deeper")
    assert finished.code == 4, finished.err
    assert "not all was logged" in finished.err


def test_a_spool_folder_that_is_removed_during_a_run_stops_nobody(flight: Flight) -> None:
    remove = f"    __import__('shutil').rmtree({str(flight.location.spool)!r})\n"
    begin, loop, rest = LOG.partition("    for step")
    finished = run(begin + remove + loop + rest, **NO_WORKER)
    assert finished.code == 7, finished.err


@pytest.mark.parametrize("attempt", range(5))
def test_two_scripts_and_two_workers_that_start_at_once_on_a_fresh_folder_share_it(flight: Flight, attempt: int) -> None:
    workers = [flight.start_worker(), flight.start_worker()]
    with Script(LOG) as one, Script(LOG) as other:
        for finished in (one.finish(), other.finish()):
            assert (finished.code, finished.err) == (7, "")
    wait_until(lambda: len(flight.workers()) <= 1, "one worker stays at most")
    for worker in workers:
        assert worker.wait(60) in (0, 6)
    flight.wait_for_workers_to_leave()
    wait_until(lambda: not flight.segments, "everything is filed", 1)
    runs = flight.runs()
    assert [item.info.status for item in runs] == ["FINISHED", "FINISHED"]
    assert [len(flight.history(item.info.run_id)) for item in runs] == [1_000, 1_000]
    assert flight.reasons() == []
