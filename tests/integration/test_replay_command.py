"""`flightlog replay` between real places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import flightlog as mlflow
from flightlog.__main__ import main
from flightlog.cli import exits, places
from flightlog.stores import open_store
from flightlog.worker.spool import drain_spool
from services import Server

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch, fresh_flightlog: None) -> None:
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")


def log_run() -> str:
    mlflow.set_experiment("digits")
    with mlflow.start_run(run_name="first") as run:
        mlflow.log_params({"rate": "0.1"})
        for step in range(100):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
        mlflow.log_text("text", "notes/a.txt")
    return run.info.run_id


def drain() -> None:
    location = places.find()
    store = open_store(location.database_url)
    drain_spool(location, store)
    store.close()


def ask(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def shown(capsys: Captured, run_id: str, place: str) -> Any:
    return ask(capsys, "runs", "show", run_id, "--tracking-uri", place)


def test_a_folder_goes_to_another_and_the_second_time_nothing_happens(capsys: Captured) -> None:
    run_id = log_run()
    drain()
    assert ask(capsys, "replay", "--from", "flightlogs", "--to", "copy")["events"] == 105
    assert ask(capsys, "replay", "--from", "flightlogs", "--to", "copy")["events"] == 0
    assert shown(capsys, run_id, "copy") == shown(capsys, run_id, "flightlogs")


def test_journals_that_nobody_has_filed_are_replayed_and_left_as_they_are(capsys: Captured) -> None:
    run_id = log_run()
    before = {path: path.read_bytes() for path in Path("flightlogs/journal").glob("*.seg")}
    assert main(["replay", "--from", "flightlogs/journal", "--to", "sqlite:///copy.db"]) == 0
    assert "replayed 105 events in " in capsys.readouterr().out
    assert shown(capsys, run_id, "sqlite:///copy.db")["metrics"]["loss"]["count"] == 100
    assert {path: path.read_bytes() for path in Path("flightlogs/journal").glob("*.seg")} == before
    assert ask(capsys, "replay", "--from", "flightlogs/journal", "--to", "sqlite:///copy.db", "--run", run_id)["events"] == 0
    assert main(["replay", "--from", "flightlogs/journal", "--to", "copy", "--run", "f" * 32]) == exits.NOT_FOUND


def test_a_store_goes_to_postgresql_and_back(postgres_server: Server, capsys: Captured) -> None:
    run_id = log_run()
    drain()
    assert ask(capsys, "replay", "--from", "flightlogs", "--to", postgres_server.url)["events"] >= 105
    assert ask(capsys, "replay", "--from", postgres_server.url, "--to", "back", "--run", run_id)["events"] == 105
    assert shown(capsys, run_id, "back") == shown(capsys, run_id, "flightlogs")


def test_a_place_cannot_be_replayed_into_itself(capsys: Captured) -> None:
    log_run()
    drain()
    assert main(["replay", "--from", "flightlogs", "--to", f"sqlite:///{Path.cwd()}/flightlogs/tracking.db"]) == exits.USAGE
    assert "same store" in capsys.readouterr().err


def test_a_place_that_is_not_there_is_not_found_and_nothing_is_made() -> None:
    assert main(["replay", "--from", "nowhere", "--to", "copy"]) == exits.NOT_FOUND
    assert not Path("nowhere").exists()
    assert not Path("copy").exists()
