"""`flightlog gc` on a real folder: what is deleted goes, bytes included, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flightlog as mlflow
from flightlog.__main__ import main
from flightlog.cli import exits, places
from flightlog.cli.durations import milliseconds
from flightlog.schema.errors import InvalidParameter
from flightlog.stores import open_store
from flightlog.worker.spool import drain_spool

Captured = pytest.CaptureFixture[str]
SECRET = "a secret that must go"


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch, fresh_flightlog: None) -> None:
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")


def drain() -> None:
    location = places.find()
    store = open_store(location.database_url)
    drain_spool(location, store)
    store.close()


def log_run(experiment: str = "digits") -> str:
    mlflow.set_experiment(experiment)
    with mlflow.start_run() as run:
        mlflow.log_param("note", SECRET)
        mlflow.log_metric("loss", 1.0)
        mlflow.log_text(SECRET, "notes/a.txt")
    drain()
    return run.info.run_id


def deleted_run(experiment: str = "digits") -> str:
    run_id = log_run(experiment)
    mlflow.delete_run(run_id)
    drain()
    return run_id


def ask(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def holding_the_secret() -> list[Path]:
    files = [path for path in Path("flightlogs").rglob("*") if path.is_file()]
    return [path for path in files if SECRET.encode() in path.read_bytes()]


def test_what_would_go_is_shown_and_nothing_goes_without_yes(capsys: Captured) -> None:
    run_id, kept = deleted_run(), log_run()
    shown = ask(capsys, "gc")
    [item] = shown["runs"]
    assert (shown["done"], item["run_id"], item["artifact_files"], item["artifact_bytes"]) == (False, run_id, 1, len(SECRET))
    assert item["events"] == 6
    assert item["ledger_bytes"] > 0
    assert main(["gc"]) == 0
    assert "1 run and 0 experiments would be removed\nnothing has been removed" in capsys.readouterr().out
    assert {mlflow.get_run(one).info.run_id for one in (run_id, kept)} == {run_id, kept}


def test_a_purged_run_leaves_nothing_behind_anywhere(capsys: Captured) -> None:
    run_id = deleted_run()
    assert holding_the_secret()
    assert ask(capsys, "gc", "--yes")["total"]["artifact_files"] == 1
    assert holding_the_secret() == []
    assert not list(Path("flightlogs").rglob(f"*{run_id}*"))
    assert main(["runs", "show", run_id]) == exits.NOT_FOUND
    assert ask(capsys, "gc", "--yes")["runs"] == []
    assert main(["verify"]) == 0


def test_a_replay_of_an_older_copy_does_not_bring_it_back(capsys: Captured) -> None:
    run_id = deleted_run()
    assert main(["replay", "--from", "flightlogs", "--to", "copy"]) == 0
    assert main(["gc", "--yes"]) == 0
    assert main(["replay", "--from", "copy", "--to", "flightlogs"]) == 0
    assert main(["runs", "show", run_id]) == exits.NOT_FOUND
    assert main(["replay", "--from", "flightlogs", "--to", "copy"]) == 0
    assert main(["runs", "show", run_id, "--tracking-uri", "copy"]) == exits.NOT_FOUND


def test_a_deleted_experiment_goes_with_its_runs_and_its_name_is_free(capsys: Captured) -> None:
    run_id = log_run("gone")
    experiment = mlflow.get_experiment_by_name("gone")
    assert experiment is not None
    mlflow.delete_experiment(experiment.experiment_id)
    drain()
    found = ask(capsys, "gc", "--yes", "--experiment", "gone")
    assert ([item["run_id"] for item in found["runs"]], [item["name"] for item in found["experiments"]]) == ([run_id], ["gone"])
    assert mlflow.get_experiment_by_name("gone") is None
    again = log_run("gone")
    assert mlflow.get_run(again).info.lifecycle_stage == "active"
    assert main(["verify"]) == 0


def test_only_what_is_asked_for_goes(capsys: Captured) -> None:
    first, second, other = deleted_run(), deleted_run(), deleted_run("other")
    assert ask(capsys, "gc", "--older-than", "1h")["runs"] == []
    assert [item["run_id"] for item in ask(capsys, "gc", "--experiment", "other")["runs"]] == [other]
    assert [item["run_id"] for item in ask(capsys, "gc", "--yes", "--run", first)["runs"]] == [first]
    assert {item["run_id"] for item in ask(capsys, "gc")["runs"]} == {second, other}


def test_a_run_that_is_not_deleted_is_refused(capsys: Captured) -> None:
    run_id = log_run()
    assert main(["gc", "--yes", "--run", run_id]) == exits.UNEXPECTED
    assert "delete it first" in capsys.readouterr().err
    assert mlflow.get_run(run_id).info.run_id == run_id


def test_a_run_whose_artifacts_cannot_be_reached_stays(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTLOG_ARTIFACT_ROOT", "nonsense://bucket/x")
    with mlflow.start_run() as run:
        mlflow.log_metric("loss", 1.0)
    drain()
    mlflow.delete_run(run.info.run_id)
    drain()
    [item] = ask(capsys, "gc", "--yes", code=exits.PROBLEMS)["runs"]
    assert "nonsense" in item["problem"]
    assert mlflow.get_run(run.info.run_id).info.lifecycle_stage == "deleted"


def test_files_beside_a_shared_artifact_location_stay(capsys: Captured) -> None:
    from flightlog.stores.artifacts.removal import holding, remove  # noqa: PLC0415 - what this test is about

    shared = Path("shared")
    (shared / "own").mkdir(parents=True)
    (shared / "own" / "a.txt").write_text("mine")
    (shared / "other.txt").write_text("somebody's")
    assert holding("f" * 32, str(shared), ["own/a.txt", "gone.txt"]).files == 1
    remove("f" * 32, str(shared), ["own/a.txt", "gone.txt"])
    assert [path.name for path in shared.rglob("*")] == ["other.txt"]


@pytest.mark.parametrize(("text", "expected"), [("90s", 90_000), ("1.5h", 5_400_000), ("7d", 604_800_000), ("2 min", 120_000)])
def test_a_duration_is_a_number_and_a_unit(text: str, expected: int) -> None:
    assert milliseconds(text) == expected


@pytest.mark.parametrize("text", ["", "7", "d", "-7d", "7w", "1e9d"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameter, match="duration"):
        milliseconds(text)
