"""The commands on real folders: what they print, what they exit with, and that looking changes nothing."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import flightlog as mlflow
from flightlog.__main__ import main
from flightlog.cli import exits, places
from flightlog.producer.context import context
from flightlog.schema.ids import now_ms
from flightlog.stores import open_store
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.spool import drain_spool, spool_lock

Captured = pytest.CaptureFixture[str]
FOLDER = Path("flightlogs")
LOOKS = [["status"], ["runs", "list"], ["runs", "show", "a" * 32]]
LOG_AND_DIE = """
import os, signal
import flightlog
flightlog.start_run(run_name="killed")
for step in range(100):
    flightlog.log_metric("loss", 1.0, step=step)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch, fresh_flightlog: None) -> None:
    """Keep runs from starting workers: the tests say when events are filed."""
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")


def drain() -> None:
    location = places.find()
    store = open_store(location.database_url)
    drain_spool(location, store)
    store.close()


def let_the_clock_move() -> None:
    """Wait until the next millisecond, so that a run which is started now is newer than those before."""
    now = now_ms()
    while now_ms() == now:
        pass


def log_run(name: str = "first", experiment: str = "digits", loss: float = 0.5) -> str:
    mlflow.set_experiment(experiment)
    let_the_clock_move()
    with mlflow.start_run(run_name=name) as run:
        mlflow.log_params({"rate": "0.1", "mode": "plain"})
        for step, value in enumerate((2.0, 1.0, loss)):
            mlflow.log_metric("loss", value, step=step)
        mlflow.log_metrics({"odd": math.nan, "high": math.inf})
        mlflow.log_text("text", "notes/a.txt")
    return run.info.run_id


def log_conflict() -> str:
    with mlflow.start_run() as run:
        mlflow.log_param("rate", 1)
        mlflow.log_param("rate", 2)
    return run.info.run_id


def ask(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    """Run a command with --json and return its document."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def say(capsys: Captured, *arguments: str, code: int = 0) -> str:
    """Run a command and return what it printed."""
    assert main(arguments) == code
    return capsys.readouterr().out


def files(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


def kill_a_run() -> None:
    done = subprocess.run([sys.executable, "-c", LOG_AND_DIE], check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
def test_a_folder_that_does_not_exist_is_not_found_and_not_made(arguments: Sequence[str], capsys: Captured) -> None:
    assert main([*arguments, "--tracking-uri", "nowhere"]) == exits.NOT_FOUND
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("flightlog: nothing has been logged to ")
    assert printed.err.count("\n") == 1
    assert not Path("nowhere").exists()


def test_a_spool_that_nobody_has_filed_yet_has_a_status_and_no_runs(capsys: Captured) -> None:
    run_id = log_run()
    before = files(FOLDER)
    [run] = ask(capsys, "status")["runs"]
    assert (run["run_id"], run["status"], run["journaled"], run["committed"], run["lag_events"]) == (run_id, None, 9, 0, 9)
    assert run["lag_seconds"] >= 0
    assert main(["runs", "list"]) == exits.NOT_FOUND
    assert "flightlog worker --spool" in capsys.readouterr().err
    assert files(FOLDER) == before


def test_status_counts_what_was_filed(capsys: Captured) -> None:
    run_id = log_run()
    drain()
    document = ask(capsys, "status")
    [run] = document["runs"]
    assert [run[key] for key in ("run_id", "run_name", "status", "emitted", "committed", "lag_events", "lag_seconds")] == [
        run_id, "first", "FINISHED", 9, 9, 0, None,
    ]  # fmt: skip
    assert document["total"] == {"emitted": 10, "journaled": 10, "committed": 10, "dropped": 0, "dead_lettered": 0, "lag_events": 0}
    assert (document["worker_running"], document["store_error"]) == (False, None)


def test_status_tells_living_writers_from_closed_ones(capsys: Captured) -> None:
    run = mlflow.start_run()
    states = [ask(capsys, "status")["runs"][0]["writers"][0]["state"]]
    mlflow.end_run()
    states += [item["writers"][0]["state"] for item in ask(capsys, "status")["runs"] if item["run_id"] == run.info.run_id]
    assert states == ["alive", "closed"]


def test_status_shows_the_newest_runs_and_all_of_them_when_asked(capsys: Captured) -> None:
    run_ids = [log_run(name) for name in ("a", "b", "c")]
    drain()
    assert {item["run_id"] for item in ask(capsys, "status", "--all")["runs"]} == set(run_ids)
    assert len(ask(capsys, "status", "--limit", "2")["runs"]) == 2
    assert [item["emitted"] for item in ask(capsys, "status", "--all")["experiments"]] == [3]
    assert ask(capsys, "status")["experiments"] == []


def test_status_exits_with_5_for_refused_events_only_when_it_is_to_check(capsys: Captured) -> None:
    log_run()
    drain()
    assert ask(capsys, "status", "--check")["total"]["dead_lettered"] == 0
    run_id = log_conflict()
    drain()
    assert ask(capsys, "status")["total"]["dead_lettered"] == 1
    [run] = [item for item in ask(capsys, "status", "--check", code=exits.PROBLEMS)["runs"] if item["run_id"] == run_id]
    assert (run["dead_lettered"], run["damage"], run["reasons"]) == (1, 0, {"param-conflict": 1})


def test_status_shows_what_was_dropped_before_and_after_filing(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTLOG_SPOOL_LIMIT", str(64 << 10))
    with mlflow.start_run():
        for step in range(2_000):
            mlflow.log_metric("loss", 1.0, step=step)
    before = ask(capsys, "status")["runs"][0]["dropped"]
    drain()
    after = ask(capsys, "status", "--check", code=exits.PROBLEMS)["runs"][0]
    assert before == after["dropped"] > 0
    assert after["committed"] + after["dropped"] >= 2_000


def test_a_database_that_is_none_is_unreachable_and_the_journals_are_still_told_of(capsys: Captured) -> None:
    log_run()
    (FOLDER / "tracking.db").write_text("this is no database, and it is long enough to be looked at " * 100, encoding="utf-8")
    document = ask(capsys, "status", code=exits.UNREACHABLE)
    assert "cannot be used" in document["store_error"]
    assert document["total"]["journaled"] == 10
    say(capsys, "runs", "list", code=exits.UNREACHABLE)
    assert "cannot be used" in say(capsys, "doctor", code=exits.PROBLEMS)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ([], ["c", "b", "a"]),
        (["--limit", "2"], ["c", "b"]),
        (["--experiment", "other"], ["c"]),
        (["--experiment", "other", "--experiment", "digits"], ["c", "b", "a"]),
        (["--filter", "metrics.loss < 0.3 OR metrics.loss > 0.6"], ["c", "a"]),
        (["--order-by", "metrics.loss ASC"], ["a", "b", "c"]),
    ],
    ids=["all", "limit", "experiment", "experiments", "filter", "order"],
)
def test_runs_list_finds_and_orders_runs(arguments: list[str], names: list[str], capsys: Captured) -> None:
    for name, experiment, loss in (("a", "digits", 0.1), ("b", "digits", 0.5), ("c", "other", 0.9)):
        log_run(name, experiment, loss)
    drain()
    document = ask(capsys, "runs", "list", *arguments)
    assert [run["run_name"] for run in document["runs"]] == names
    assert document["has_more"] == ("--limit" in arguments)
    printed = say(capsys, "runs", "list", *arguments)
    assert all(run["run_id"] in printed for run in document["runs"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["runs", "list", "--experiment", "nothing"], exits.NOT_FOUND, "no experiment has the name or the id 'nothing'"),
        (["runs", "list", "--filter", "metrics.loss <"], exits.USAGE, "^"),
        (["runs", "show", "b" * 32], exits.NOT_FOUND, "no run has the id"),
        (["runs", "show", "no id"], exits.USAGE, "invalid run id 'no id'"),
        (["status", "--tracking-uri", "ftp://host"], exits.USAGE, "ftp"),
    ],
    ids=["experiment", "filter", "run", "run id", "scheme"],
)
def test_what_is_wrong_is_said_on_stderr_alone(arguments: list[str], code: int, said: str, capsys: Captured) -> None:
    log_run()
    drain()
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert "Traceback" not in printed.err


def test_runs_show_tells_everything_of_a_run(capsys: Captured) -> None:
    run_id = log_run()
    drain()
    document = ask(capsys, "runs", "show", run_id)
    assert (document["info"]["run_id"], document["info"]["experiment_name"]) == (run_id, "digits")
    assert document["params"] == {"mode": "plain", "rate": "0.1"}
    loss = document["metrics"]["loss"]
    assert [loss[end]["value"] for end in ("first", "last", "min", "max")] == [2.0, 0.5, 0.5, 2.0]
    assert (loss["count"], loss["last"]["step"]) == (3, 2)
    assert (document["metrics"]["odd"]["last"]["value"], document["metrics"]["odd"]["min"]) == ("NaN", None)
    assert document["metrics"]["high"]["max"]["value"] == "Infinity"
    assert [(item["path"], item["size"], item["state"]) for item in document["artifacts"]] == [("notes/a.txt", 4, "stored")]
    assert (document["dead_letters"], document["dropped"]) == ([], 0)
    printed = say(capsys, "runs", "show", run_id)
    assert all(text in printed for text in (run_id, "digits", "notes/a.txt", "plain", "first", "nan", "inf"))


def test_runs_show_tells_which_events_could_not_be_filed_and_why(capsys: Captured) -> None:
    run_id = log_conflict()
    drain()
    [letter] = ask(capsys, "runs", "show", run_id)["dead_letters"]
    assert (letter["reason"], letter["sequence"], letter["count"]) == ("param-conflict", 2, 1)
    assert "param-conflict" in say(capsys, "runs", "show", run_id)


def problems(document: Any) -> list[str]:
    return [finding["message"] for finding in document["findings"] if finding["level"] == "problem"]


def test_doctor_finds_nothing_wrong_with_a_new_folder_and_makes_nothing(capsys: Captured) -> None:
    document = ask(capsys, "doctor", "--tracking-uri", "new")
    assert problems(document) == []
    assert document["settings"]["tracking_uri"] == {"value": "new", "source": "--tracking-uri"}
    assert {"python", "flightlog", "sqlalchemy", "typer"} <= {name for name, version in document["versions"].items() if version}
    assert not Path("new").exists()


def test_doctor_finds_nothing_wrong_with_a_folder_in_order(capsys: Captured) -> None:
    log_run()
    drain()
    before = files(FOLDER)
    document = ask(capsys, "doctor")
    assert (document["problems"], problems(document)) == (0, [])
    assert "schema revision" in say(capsys, "doctor")
    assert files(FOLDER) == before


def test_doctor_says_how_to_file_what_a_killed_process_left_and_that_works(capsys: Captured) -> None:
    kill_a_run()
    document = ask(capsys, "doctor", code=exits.PROBLEMS)
    [stuck] = [finding for finding in document["findings"] if finding["level"] == "problem"]
    assert stuck["message"].startswith("101 events of 1 writer ")
    assert ask(capsys, "status")["runs"][0]["writers"][0]["state"] == "dead"
    command = [sys.executable, "-m", *stuck["advice"].split()]
    subprocess.run([*command[:-1], "0"], check=True, capture_output=True)
    assert ask(capsys, "doctor")["problems"] == 0
    assert ask(capsys, "runs", "list")["runs"][0]["metrics"] == {"loss": 1.0}


def test_doctor_tells_of_refused_events_and_of_files_set_aside(capsys: Captured) -> None:
    run_id = log_conflict()
    drain()
    (FOLDER / "journal" / "x.seg.corrupt").touch()
    document = ask(capsys, "doctor", code=exits.PROBLEMS)
    assert [message.split()[-1] for message in problems(document)] == ["filed", "aside"]
    assert f"flightlog runs show {run_id}" in say(capsys, "doctor", code=exits.PROBLEMS)


def test_doctor_tells_of_artifacts_that_nobody_stores(capsys: Captured) -> None:
    log_run()
    location = places.find()
    store = open_store(location.database_url)
    source = SpoolSource(location.spool, store.position)
    store.apply(source.take(100))
    source.close()
    store.close()
    assert any("1 artifact not stored yet" in message for message in problems(ask(capsys, "doctor", code=exits.PROBLEMS)))
    drain()
    assert problems(ask(capsys, "doctor")) == []


def test_doctor_tells_of_a_place_where_nothing_can_be_written(capsys: Captured) -> None:
    Path("file").touch()
    document = ask(capsys, "doctor", "--tracking-uri", "file/inside", code=exits.PROBLEMS)
    abouts = [finding["about"] for finding in document["findings"] if "file is no folder that can be written" in finding["message"]]
    assert abouts == ["database", "spool", "artifacts"]


def flightlog(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "flightlog", *arguments], capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("spool", [["--spool"], ["--spool", "flightlogs/journal"], []], ids=["bare", "path", "without"])
def test_a_worker_files_what_is_there_and_leaves_when_idle(spool: list[str], capsys: Captured) -> None:
    run_id = log_run()
    done = flightlog("worker", *spool, "--idle", "0")
    assert (done.returncode, done.stdout) == (0, "")
    assert ask(capsys, "runs", "show", run_id)["artifacts"][0]["state"] == "stored"


def test_a_spool_that_is_named_alone_is_filed_into_the_folder_around_it(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    run_id = log_run()
    monkeypatch.delenv("FLIGHTLOG_TRACKING_URI")
    FOLDER.rename("moved")
    assert flightlog("worker", "--spool", "moved/journal", "--idle", "0").returncode == 0
    assert ask(capsys, "runs", "list", "--tracking-uri", "moved")["runs"][0]["run_id"] == run_id


@pytest.mark.parametrize("detach", [[], ["--detach"]], ids=["here", "detached"])
def test_a_second_worker_says_so_and_has_its_own_exit_code(detach: list[str]) -> None:
    log_run()
    location = places.find()
    with spool_lock(location) as mine:
        assert mine
        source = SpoolSource(location.spool, lambda subject, writer: 0)
        done = flightlog("worker", "--spool", *detach)
        source.close()
    assert (done.returncode, done.stdout) == (exits.TAKEN, "")
    assert "another worker" in done.stderr


def test_a_detached_worker_goes_on_by_itself(capsys: Captured) -> None:
    run = mlflow.start_run()
    done = flightlog("worker", "--detach", "--idle", "1")
    assert done.returncode == 0, done.stderr
    assert "worker.log" in done.stdout
    mlflow.log_metric("loss", 1.0, synchronous=True)
    assert ask(capsys, "status")["worker_running"]
    mlflow.end_run()
    mlflow.flush_async_logging()
    assert ask(capsys, "runs", "show", run.info.run_id)["info"]["status"] == "FINISHED"


def test_runs_show_tells_the_attempts_of_a_run_and_why_it_ended(capsys: Captured) -> None:
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0, step=3)
        run.rewind(2)
    context.producer.end(run.info.run_id, "FAILED", reason="ValueError: too hot")
    drain()
    document = ask(capsys, "runs", "show", run.info.run_id)
    assert document["info"]["status_reason"] == "ValueError: too hot"
    assert [(item["attempt"], item["from_step"]) for item in document["attempts"]] == [(0, None), (1, 2)]
    printed = say(capsys, "runs", "show", run.info.run_id)
    assert all(text in printed for text in ("Attempts", "from step", "ValueError: too hot"))
