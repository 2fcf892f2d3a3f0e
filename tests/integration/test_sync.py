"""What was logged without a network comes whole to where it is wanted, from folders that are only read."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.__main__ import main
from flightlog.cli import exits, places
from flightlog.producer import lifecycle
from flightlog.stores import open_store
from flightlog.worker.spool import drain_spool, spool_lock
from services import absent

Captured = pytest.CaptureFixture[str]
OFFLINE = Path("flightlogs")
TARGET = "central"
LOG_FOR_EVER = """
import flightlog
with flightlog.start_run(run_name="living"):
    for step in range(1000):
        flightlog.log_metric("loss", 1.0, step=step)
    print("logged", flush=True)
    input()
    flightlog.log_metric("loss", 2.0, step=1000)
"""


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch, fresh_flightlog: None) -> None:
    """Keep runs from starting workers: the tests say when events are filed."""
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")


def log_run(steps: int = 10) -> str:
    flightlog.set_experiment("offline")
    with flightlog.start_run() as run:
        for step in range(steps):
            flightlog.log_metric("loss", 1 / (step + 1), step=step)
        flightlog.log_text("text", "notes/a.txt")
    lifecycle.finish()
    return run.info.run_id


def file_here(folder: Path = OFFLINE) -> None:
    """Do what a worker of the folder's own does."""
    location = places.find(str(folder))
    with closing(open_store(location.database_url)) as store:
        drain_spool(location, store)


def sync(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    capsys.readouterr()
    assert main(["sync", *arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def state(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"") for path in folder.rglob("*")}


def shown(capsys: Captured, run_id: str, target: str = TARGET) -> Any:
    capsys.readouterr()
    assert main(["runs", "show", run_id, "--tracking-uri", target, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("is_filed", [False, True], ids=["journals alone", "filed by its own worker"])
def test_a_flight_folder_comes_whole_and_is_left_as_it_was(is_filed: bool, capsys: Captured, fresh_flightlog: None) -> None:
    run_id = log_run()
    if is_filed:
        file_here()
    lifecycle.finish()
    before = state(OFFLINE)
    first = sync(capsys, str(OFFLINE), "--to", TARGET)
    second = sync(capsys, str(OFFLINE), "--to", TARGET)
    assert state(OFFLINE) == before
    assert (first["runs"], first["complete"], first["artifacts"]) == ([run_id], True, 1)
    assert (second["events"], second["complete"], second["artifacts"]) == (0, True, 0)
    run = shown(capsys, run_id)
    assert run["metrics"]["loss"]["count"] == 10
    assert [item["state"] for item in run["artifacts"]] == ["stored"]
    assert Path(run["info"]["artifact_uri"]).is_relative_to(Path(TARGET).resolve())
    assert Path(run["info"]["artifact_uri"], "notes/a.txt").read_text() == "text"


def test_a_folder_can_be_synced_at_any_time_while_its_worker_files_it(capsys: Captured) -> None:
    run_ids = [log_run()]
    counts = [sync(capsys, str(OFFLINE), "--to", TARGET)["events"]]
    file_here()
    counts.append(sync(capsys, str(OFFLINE), "--to", TARGET)["events"])
    run_ids.append(log_run())
    file_here()
    run_ids.append(log_run())
    counts.append(sync(capsys, str(OFFLINE), "--to", TARGET)["events"])
    assert (counts[0] > 0, counts[1], counts[2]) == (True, 0, 2 * counts[0])
    assert [shown(capsys, run_id)["metrics"]["loss"]["count"] for run_id in run_ids] == [10, 10, 10]


def test_a_database_with_a_log_that_is_open_elsewhere_is_read_and_not_touched(capsys: Captured) -> None:
    run_id = log_run()
    location = places.find(str(OFFLINE))
    with closing(open_store(location.database_url)) as store:
        drain_spool(location, store)
        wal = OFFLINE / "tracking.db-wal"
        assert wal.stat().st_size > 0
        before = state(OFFLINE)
        assert sync(capsys, str(OFFLINE), "--to", TARGET)["runs"] == [run_id]
        assert state(OFFLINE) == before


def test_a_ledger_alone_is_enough(capsys: Captured) -> None:
    run_id = log_run()
    file_here()
    copied = Path("copied")
    copied.mkdir()
    shutil.copy(OFFLINE / "tracking.db", copied)
    document = sync(capsys, "copied", "--to", TARGET, code=exits.PROBLEMS)
    assert (document["runs"], document["missing"], document["artifacts_missing"]) == ([run_id], [], 1)
    sync(capsys, str(OFFLINE), "--to", TARGET)
    assert sync(capsys, "copied", "--to", TARGET)["complete"]


def test_a_hole_in_a_ledger_comes_along_with_its_reason(capsys: Captured) -> None:
    run_id = log_run()
    (segment,) = [path for path in (OFFLINE / "journal").glob("*.seg") if run_id.encode() in path.read_bytes()[:2000]]
    content = bytearray(segment.read_bytes())
    place = 4096 + 600
    content[place : place + 4] = b"\xff\xff\xff\xff"
    segment.write_bytes(content)
    file_here()
    document = sync(capsys, str(OFFLINE), "--to", TARGET, code=exits.PROBLEMS)
    (letter,) = document["dead_letters"]
    (there,) = shown(capsys, run_id, str(OFFLINE))["dead_letters"]
    assert (letter["reason"], letter["sequence"], letter["message"]) == (there["reason"], there["sequence"], there["message"])
    assert sync(capsys, str(OFFLINE), "--to", TARGET)["events"] == 0


@pytest.fixture
def living() -> Iterator[subprocess.Popen[str]]:
    """A script that has logged 1,000 points and waits for a line."""
    process = subprocess.Popen([sys.executable, "-c", LOG_FOR_EVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "logged\n"
    yield process
    process.kill()
    process.communicate()


def test_a_run_is_synced_while_it_is_being_logged(living: subprocess.Popen[str], capsys: Captured) -> None:
    first = sync(capsys, str(OFFLINE), "--to", TARGET)
    (run_id,) = first["runs"]
    assert (first["complete"], first["open_journals"], shown(capsys, run_id)["metrics"]["loss"]["count"]) == (True, 1, 1000)
    living.communicate("\n")
    last = sync(capsys, str(OFFLINE), "--to", TARGET)
    assert (last["open_journals"], shown(capsys, run_id)["info"]["status"]) == (0, "FINISHED")
    assert shown(capsys, run_id)["metrics"]["loss"]["count"] == 1001


def test_a_killed_run_keeps_what_it_logged(living: subprocess.Popen[str], capsys: Captured) -> None:
    living.send_signal(signal.SIGKILL)
    living.wait()
    (run_id,) = sync(capsys, str(OFFLINE), "--to", TARGET)["runs"]
    document = sync(capsys, str(OFFLINE), "--to", TARGET, "--final")
    assert (document["complete"], document["events"], document["dead_letters"]) == (True, 0, [])
    assert shown(capsys, run_id)["metrics"]["loss"]["count"] == 1000


def test_two_machines_may_sync_one_folder_at_once(capsys: Captured) -> None:
    run_ids = [log_run(steps=2000) for _ in range(3)]
    command = [sys.executable, "-m", "flightlog", "sync", str(OFFLINE), "--to", TARGET, "--json"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [json.loads(process.communicate()[0])["complete"] for process in both] == [True, True]
    assert [shown(capsys, run_id)["metrics"]["loss"]["count"] for run_id in run_ids] == [2000] * 3


@pytest.mark.parametrize("is_filed", [False, True], ids=["journals alone", "filed by its own worker"])
def test_uris_of_artifacts_stay_where_they_are_asked_to(is_filed: bool, capsys: Captured) -> None:
    run_id = log_run()
    if is_filed:
        file_here()
    before = state(OFFLINE)
    document = sync(capsys, str(OFFLINE), "--to", TARGET, "--keep-artifact-uris", code=exits.FINE if is_filed else exits.PROBLEMS)
    assert document["artifacts_missing"] == (not is_filed)  # its own worker will put it where it belongs
    assert state(OFFLINE) == before
    assert Path(shown(capsys, run_id)["info"]["artifact_uri"]).is_relative_to(OFFLINE.resolve())
    assert not Path(TARGET, "artifacts").exists()


@pytest.mark.parametrize("options", [[], ["--keep-artifact-uris"]], ids=["the target's own place", "the place of the folder's runs"])
def test_another_file_of_the_same_size_is_not_taken_for_an_artifact(options: list[str], capsys: Captured) -> None:
    run_id = log_run()
    for snapshot in OFFLINE.glob("journal*/artifacts/*"):
        snapshot.unlink()
    assert sync(capsys, str(OFFLINE), "--to", TARGET, *options, code=exits.PROBLEMS)["artifacts_missing"] == 1
    place = Path(shown(capsys, run_id)["info"]["artifact_uri"], "notes", "a.txt")
    place.parent.mkdir(parents=True)
    place.write_text("fake")
    assert sync(capsys, str(OFFLINE), "--to", TARGET, *options, code=exits.PROBLEMS)["artifacts_missing"] == 1
    place.write_text("text")
    assert sync(capsys, str(OFFLINE), "--to", TARGET, *options)["artifacts"] == 1


@pytest.mark.parametrize("arguments", [[str(OFFLINE), "--to", TARGET], ["--tracking-uri", str(OFFLINE)]], ids=["folders", "own spool"])
def test_whoever_watches_sees_how_many_artifacts_are_stored(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    log_run()
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "400")
    assert main(["sync", *arguments]) == 0
    shown = capfd.readouterr().err
    assert " events" in shown
    assert "1 artifacts" in shown


def test_artifacts_go_where_the_command_says(capsys: Captured, tmp_path: Path) -> None:
    run_id = log_run()
    sync(capsys, str(OFFLINE), "--to", f"sqlite:///{tmp_path / 'a.db'}", "--artifact-root", "shelf")
    (stored,) = (tmp_path / "shelf").rglob("a.txt")
    assert run_id in stored.parts


def test_without_folders_the_own_spool_is_filed_and_freed(capsys: Captured) -> None:
    run_id = log_run()
    document = sync(capsys)
    assert (document["runs"], document["complete"], document["artifacts"]) == ([run_id], True, 1)
    assert list((OFFLINE / "journal").glob("*.seg")) == []
    assert sync(capsys)["events"] == 0


def test_without_folders_a_worker_that_is_at_it_is_waited_for(capsys: Captured) -> None:
    log_run()
    location = places.find()
    with spool_lock(location) as mine:
        assert mine
        process = subprocess.Popen([sys.executable, "-m", "flightlog", "sync", "--json"], stdout=subprocess.PIPE, text=True)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    assert json.loads(process.communicate()[0])["events"] > 10


def test_what_is_asked_for_must_make_sense(capsys: Captured) -> None:
    log_run()
    assert main(["sync", str(OFFLINE)]) == exits.USAGE
    assert main(["sync", "--final"]) == exits.USAGE
    assert main(["sync", "nowhere", "--to", TARGET]) == exits.NOT_FOUND
    assert main(["sync", "--tracking-uri", "nowhere"]) == exits.NOT_FOUND


def test_a_read_only_medium_will_do(capsys: Captured, tmp_path: Path) -> None:
    run_id = log_run()
    file_here()
    log_run()
    mount = tmp_path / "medium"
    mount.mkdir()
    if subprocess.run(["mount", "--bind", "-o", "ro", str(OFFLINE.resolve()), str(mount)], check=False, capture_output=True).returncode:
        absent("this system does not let us mount")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", str(mount)], check=True)
        assert run_id in sync(capsys, str(mount), "--to", TARGET)["runs"]
    finally:
        subprocess.run(["umount", str(mount)], check=True)
