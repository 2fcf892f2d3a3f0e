"""`flightlog rebuild` on a real folder, while somebody reads and a worker files."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import flightlog as mlflow
from contracts.facts import OTHER_RUN, block, losses, started
from flightlog.__main__ import main
from flightlog.cli import exits, places
from flightlog.stores import open_store, verify
from flightlog.stores.base import Store
from flightlog.worker.spool import drain_spool

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, fresh_flightlog: None) -> Iterator[Store]:
    """Give the store of a folder whose tables show less than two runs have logged."""
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")
    location = places.find()
    store = open_store(location.database_url)
    for rate in ("0.1", "0.2"):
        with mlflow.start_run():
            mlflow.log_param("rate", rate)
            mlflow.log_metrics({"loss": 1.0, "accuracy": 0.5})
            mlflow.log_text("text", "notes/a.txt")
    drain_spool(location, store)
    with closing(sqlite3.connect("flightlogs/tracking.db")) as connection:
        connection.executescript("delete from params; delete from latest_metrics; update runs set status = 'RUNNING'")
    yield store
    store.close()


def shown() -> list[Any]:
    found = mlflow.search_runs(output_format="list")
    return sorted(((run.data.params, run.data.metrics, run.info.status) for run in found), key=str)


RIGHT = [({"rate": rate}, {"loss": 1.0, "accuracy": 0.5}, "FINISHED") for rate in ("0.1", "0.2")]


def test_all_rows_are_what_the_ledger_says_and_what_became_of_artifacts_stays(store: Store, capsys: Captured) -> None:
    assert main(["verify"]) == exits.PROBLEMS
    capsys.readouterr()
    assert main(["rebuild", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert (done["subjects"], done["events"], done["tracking_uri"]) == (3, 10, str(Path("flightlogs").resolve()))
    assert main(["verify"]) == 0
    assert shown() == RIGHT
    assert [item.state for run in store.search_runs(["0"]) for item in store.artifacts(run.info.run_id)] == ["stored", "stored"]
    capsys.readouterr()
    assert main(["rebuild"]) == 0
    assert capsys.readouterr().out.startswith("projected 10 events anew: 3 runs and experiments, in ")


def test_what_is_filed_meanwhile_is_there_afterwards_and_readers_see_the_old_rows_until_then(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known, seen = verify.known_runs, []

    def known_while_somebody_looks(reader: Store) -> list[str]:
        seen.append([run.data.params for run in store.search_runs(["0"])])
        return known(reader)

    filled = verify.fill

    def filled_while_a_worker_files(*given: Any) -> None:
        filled(*given)
        store.apply([block(OTHER_RUN, started(), *losses(*range(100)))])

    with monkeypatch.context() as others:
        others.setattr(verify, "known_runs", known_while_somebody_looks)
        others.setattr(verify, "fill", filled_while_a_worker_files)
        assert main(["rebuild"]) == 0
    assert seen == [[{}, {}, {}]]
    assert len(store.metric_arrays(OTHER_RUN, "loss")) == 100
    assert main(["verify"]) == 0


def test_a_place_that_is_not_there_is_not_found_and_nothing_is_made() -> None:
    assert main(["rebuild", "nowhere"]) == exits.NOT_FOUND
    assert not Path("nowhere").exists()
