"""The commands that change what a database holds, on PostgreSQL and MariaDB: nothing is lost, and readers see what they saw."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from contracts.facts import (
    OTHER_RUN,
    OTHER_WRITER,
    RUN,
    THIRD_WRITER,
    WRITER,
    artifact,
    block,
    created,
    dataset,
    everything,
    losses,
    metric,
    param,
    rewound,
    started,
    tag,
)
from databases import empty_store
from flightlog.__main__ import main
from flightlog.cli import exits
from flightlog.schema import events as e
from flightlog.schema.ids import experiment_subject
from flightlog.stores.base import Gap
from flightlog.stores.sql.engine import open_engine
from flightlog.stores.sql.store import SqlStore
from services import DatabaseServer

Captured = pytest.CaptureFixture[str]

EXPERIMENT = experiment_subject("7")
SUBJECTS = (RUN, OTHER_RUN, EXPERIMENT)
REFUSED = block(RUN, metric("loss", 9.0, 99), first=60)
"""An event that the store refused when it came."""
DAMAGE = (
    "update params set value = 'wrong'",
    "delete from tags",
    "delete from latest_metrics",
    "update dataset_inputs set digest = 'wrong'",
    "delete from run_models",
    "update metric_chunks set attempt = 3",
    "update runs set status = 'KILLED', experiment_id = 0",
    "update experiments set name = 'wrong' where experiment_id = 7",
    "delete from dead_letters where reason = 'param-conflict'",
)


@pytest.fixture(params=["postgres_server", "mariadb_server"])
def place(request: pytest.FixtureRequest) -> str:
    """Give the URL of an empty store on one server after the other."""
    server: DatabaseServer = request.getfixturevalue(request.param)
    return empty_store(server)


@pytest.fixture
def store(place: str, tmp_path: Path) -> Iterator[SqlStore]:
    """Give a store in which two runs have ended, one of which has seen everything that can happen to a run."""
    store = SqlStore(place)
    uri = str(tmp_path / "artifacts" / RUN)
    store.apply([block(EXPERIMENT, created("7", "seven", tags={"a": "b"})), block(RUN, started("7", "seven", artifact_uri=uri))])
    store.apply([block(OTHER_RUN, started("7", "seven"), *losses(*range(50)), e.RunEnded(time=2000, status="FAILED", end_time=2000))])
    store.apply([block(RUN, param("lr", "1"), param("lr", "2"), tag("k", "a\0b\ufffe"), artifact("notes/a.txt"), first=1)])
    store.apply([block(RUN, *(metric("odd", value) for value in (math.nan, math.inf, -math.inf, -0.0, 5e-324)), first=5)])
    store.apply([Gap(RUN, WRITER, 10, 20, "torn", "damaged", b"rest", 10), block(RUN, *losses(*range(40)), first=20)])
    store.apply([Gap(RUN, WRITER, 60, 61, "refused", "no", REFUSED.records.payload(0), 1), block(RUN, tag("late", "1"), first=61)])
    store.apply([block(RUN, rewound(20), *losses(21, 22), e.RunEnded(time=3000, status="FINISHED", end_time=3000), writer=OTHER_WRITER)])
    used = dataset("a\0b", tags={"mlflow.data.context": "k\0\ufffe"}, profile="\0", time=900)
    store.apply([block(RUN, used, e.ModelInputLogged(time=901, model_id="m-1"), writer=THIRD_WRITER)])
    for run_id, _, item in store.pending_artifacts():
        store.settle_artifact(run_id, item, "stored")
    yield store
    store.close()


def lasting(store: SqlStore) -> dict[str, Any]:
    """Return all that a reader sees; dead letters have no order that lasts."""
    found = everything(store, SUBJECTS)
    return {**found, "letters": sorted(found["letters"])}


def payloads(store: SqlStore) -> list[bytes]:
    return [payload for item in store.ledger() for payload in item.records.payloads()]


def change(place: str, *statements: str) -> None:
    engine = open_engine(place)
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(text(statement))
    engine.dispose()


def ask(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_what_differs_from_the_ledger_is_found_and_repaired(store: SqlStore, place: str, capsys: Captured) -> None:
    before = lasting(store)
    assert ask(capsys, "verify", place)["differing"] == 0
    change(place, *DAMAGE)
    found = ask(capsys, "verify", place, "--repair", code=exits.PROBLEMS)
    assert {item["subject"]: item["state"] for item in found["verified"] if item["differences"]} == dict.fromkeys(SUBJECTS, "repaired")
    assert lasting(store) == before
    assert ask(capsys, "verify", place)["differing"] == 0


def test_a_rebuild_makes_all_rows_anew(store: SqlStore, place: str, capsys: Captured) -> None:
    before = lasting(store)
    change(place, *DAMAGE)
    assert ask(capsys, "rebuild", place)["subjects"] == 4
    assert lasting(store) == before
    assert main(["rebuild", place]) == 0
    assert lasting(store) == before


def test_an_archived_run_reads_as_before_and_its_ledger_is_in_a_file(store: SqlStore, place: str, capsys: Captured) -> None:
    before, events = lasting(store), payloads(store)
    assert [item["events"] for item in ask(capsys, "archive", place, "--to", "archives")["archived"]] == [57, 52]
    assert [(item.subject, len(item.records)) for item in store.ledger(EXPERIMENT)] == [(EXPERIMENT, 1)]
    assert len(list(Path("archives").iterdir())) == 2
    assert (lasting(store), payloads(store)) == (before, events)
    assert ask(capsys, "verify", place)["differing"] == 0
    change(place, *DAMAGE)
    assert main(["rebuild", place]) == 0
    assert lasting(store) == before
    store.apply([block(RUN, tag("later", "1"), first=62)])
    capsys.readouterr()
    assert [item["events"] for item in ask(capsys, "archive", place, "--to", "archives", "--run", RUN)["archived"]] == [1]
    assert ask(capsys, "verify", place)["differing"] == 0


def test_a_server_with_archives_is_replayed_into_another_place_and_back(store: SqlStore, place: str, capsys: Captured) -> None:
    assert main(["archive", place, "--to", "archives", "--run", RUN]) == 0
    assert main(["replay", "--from", place, "--to", "copy"]) == 0
    with closing(SqlStore(f"sqlite:///{Path.cwd() / 'copy' / 'tracking.db'}")) as copy:
        assert lasting(copy) == lasting(store)
        assert payloads(copy) == payloads(store)
    capsys.readouterr()
    assert ask(capsys, "replay", "--from", "copy", "--to", place)["events"] == 0


def test_an_event_that_was_refused_gets_its_place_also_in_an_archived_run(store: SqlStore, place: str, capsys: Captured) -> None:
    assert main(["archive", place, "--to", "archives"]) == 0
    capsys.readouterr()
    done = ask(capsys, "dead-letters", "retry", "--run", RUN, "--tracking-uri", place, code=exits.PROBLEMS)
    assert (done["retried"], sorted(item["reason"] for item in done["left"]), done["refused"]) == (3, ["param-conflict", "torn"], {})
    assert [item.first_sequence for item in store.ledger(RUN)] == [0, 1, 5, 20, 60, 0, 0, 61]
    assert store.metric_arrays(RUN, "loss", attempt=0).value.tolist()[-1] == 9.0
    assert [path.name for path in Path("archives").iterdir() if path.name.startswith(RUN)] == []
    assert ask(capsys, "verify", place)["differing"] == 0


def test_what_is_deleted_goes_for_good_and_a_replay_does_not_bring_it_back(
    store: SqlStore, place: str, tmp_path: Path, capsys: Captured
) -> None:
    files = tmp_path / "artifacts" / RUN / "notes"
    files.mkdir(parents=True)
    (files / "a.txt").write_text("abc")
    assert main(["archive", place, "--to", "archives", "--run", RUN]) == 0
    assert main(["replay", "--from", place, "--to", "copy"]) == 0
    store.apply([block(EXPERIMENT, e.ExperimentDeleted(time=4000), first=1)])
    capsys.readouterr()
    found = ask(capsys, "gc", place)
    assert [(item["run_id"], item["events"], item["artifact_bytes"]) for item in found["runs"]] == [(RUN, 0, 3), (OTHER_RUN, 52, 0)]
    assert found["runs"][1]["ledger_bytes"] > 0
    assert ask(capsys, "gc", place, "--yes")["done"]
    assert not list(Path.cwd().rglob(f"*{RUN}*.flar")) + list((tmp_path / "artifacts").rglob("*.txt"))
    assert b"loss" not in b"".join(payloads(store))
    assert [item.subject for item in store.tombstones()] == sorted(SUBJECTS)
    assert store.get_experiment_by_name("seven") is None
    assert ask(capsys, "verify", place)["differing"] == 0
    assert main(["replay", "--from", "copy", "--to", place]) == 0
    capsys.readouterr()
    assert ask(capsys, "runs", "list", "--tracking-uri", place)["runs"] == []
    store.apply([block(EXPERIMENT, created("7", "seven", time=9_000_000_000_000), writer=OTHER_WRITER)])
    assert store.get_experiment_by_name("seven") is not None
