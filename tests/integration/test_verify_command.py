"""`flightlog verify` on real folders."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

import flightlog as mlflow
from flightlog.__main__ import main
from flightlog.cli import exits, places
from flightlog.stores import open_store
from flightlog.worker.spool import drain_spool
from services import Server

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def run_id(monkeypatch: pytest.MonkeyPatch, fresh_flightlog: None) -> str:
    """Log a run and file it."""
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")
    with mlflow.start_run() as run:
        mlflow.log_param("rate", "0.1")
        for step in range(100):
            mlflow.log_metric("loss", 1.0 / (step + 1), step=step)
    location = places.find()
    store = open_store(location.database_url)
    drain_spool(location, store)
    store.close()
    return run.info.run_id


def ask(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def damage() -> None:
    with closing(sqlite3.connect("flightlogs/tracking.db")) as connection:
        connection.execute("update params set value = '0.2'")
        connection.commit()


def test_a_sound_store_is_called_so_with_a_digest_that_another_database_gives_too(
    run_id: str, postgres_server: Server, capsys: Captured
) -> None:
    found = ask(capsys, "verify", "--run", run_id)
    assert (found["differing"], found["verified"][0]["state"]) == (0, "sound")
    assert main(["replay", "--from", "flightlogs", "--to", postgres_server.url]) == 0
    capsys.readouterr()
    again = ask(capsys, "verify", postgres_server.url, "--run", run_id)
    assert again["verified"] == found["verified"]


def test_a_difference_is_shown_and_the_exit_code_says_so_until_it_is_repaired(run_id: str, capsys: Captured) -> None:
    damage()
    [wrong] = [item for item in ask(capsys, "verify", code=exits.PROBLEMS)["verified"] if item["differences"]]
    assert (wrong["subject"], wrong["differences"]) == (
        run_id,
        [{"part": "params", "expected": [["rate", "0.1"]], "found": [["rate", "0.2"]]}],
    )
    assert main(["verify", "--repair"]) == exits.PROBLEMS
    printed = capsys.readouterr().out
    assert "repaired" in printed
    assert "1 differing" in printed
    assert main(["verify"]) == 0
    assert "2 sound, 0 differing" in capsys.readouterr().out


def test_a_place_that_is_not_there_is_not_found() -> None:
    assert main(["verify", "nowhere"]) == exits.NOT_FOUND
