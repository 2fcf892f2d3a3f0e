"""`flightlog archive` and `flightlog gc` killed in the middle: nothing is lost, nothing is half there, and the next call completes it."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from contracts.facts import OTHER_RUN, RUN, artifact, block, created, everything, losses, param, started, tag
from flightlog.__main__ import main
from flightlog.schema import events as e
from flightlog.schema.errors import NotFound
from flightlog.schema.ids import experiment_subject
from flightlog.stores.sql.store import SqlStore
from process.scripts import run

SUBJECTS = (RUN, OTHER_RUN, experiment_subject("7"))
SECRET = "a secret that must go"

KILLED = """
import os, signal
from flightlog.__main__ import main
from flightlog.cli import gc
from flightlog.stores.artifacts.local import LocalArtifacts
from flightlog.stores.sql import archives, purge
from flightlog.stores.sql.store import SqlStore

def killed(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def then_killed(call):
    return lambda *given, **named: (call(*given, **named), killed())

{place}
main({arguments})
"""

ARCHIVING = {
    "before the file is there": "LocalArtifacts.put = killed",
    "after the file is written": "LocalArtifacts.put = then_killed(LocalArtifacts.put)",
    "before the transaction": "archives.move_out = killed",
    "in the transaction": "archives.move_out = then_killed(archives.move_out)",
    "after the transaction": "SqlStore.archive = then_killed(SqlStore.archive)",
}

PURGING = {
    "between two artifacts": "LocalArtifacts.delete = then_killed(LocalArtifacts.delete)",
    "after the artifacts": "gc.remove = then_killed(gc.remove)",
    "before the transaction": "SqlStore.apply = killed",
    "in the transaction": "purge.is_purge = then_killed(purge.is_purge)",
    "after the transaction": "SqlStore.apply = then_killed(SqlStore.apply)",
    "before the archive": "archives.remove_file = killed",
    "after the archive": "archives.remove_file = then_killed(archives.remove_file)",
}


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    """Give the store of a flight folder with two runs that have ended, one of them with files."""
    store = SqlStore(f"sqlite:///{tmp_path / 'flightlogs' / 'tracking.db'}")
    folder = tmp_path / "flightlogs" / "artifacts" / RUN
    folder.mkdir(parents=True)
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(SECRET)
    ended = e.RunEnded(time=2000, status="FINISHED", end_time=2000)
    logged = (param("note", SECRET), artifact("a.txt"), artifact("b.txt"), *losses(*range(50)), ended)
    store.apply([block(experiment_subject("7"), created("7", "seven"))])
    store.apply([block(RUN, started("7", "seven", artifact_uri=str(folder)), *logged), block(OTHER_RUN, started("7", "seven"), ended)])
    yield store
    store.close()


def killed(place: str, *arguments: str) -> None:
    done = run(KILLED.format(place=place, arguments=list(arguments)))
    assert done.code == -signal.SIGKILL, done.err


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def payloads(store: SqlStore) -> list[bytes]:
    return [payload for item in store.ledger() for payload in item.records.payloads()]


def holding_the_secret() -> list[str]:
    return [str(path) for path in Path.cwd().rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


@pytest.mark.parametrize("place", ARCHIVING.values(), ids=ARCHIVING)
def test_an_archive_that_was_cut_off_is_completed_by_the_next_call(store: SqlStore, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    before, events = everything(store, SUBJECTS), payloads(store)
    killed(place, "archive", "--to", "archives")
    assert (everything(store, SUBJECTS), payloads(store)) == (before, events)
    assert ask(capsys, "verify")["differing"] == 0
    assert main(["archive", "--to", "archives"]) == 0
    assert (everything(store, SUBJECTS), payloads(store)) == (before, events)
    assert sorted(path.name[:32] for path in Path("archives").iterdir()) == [RUN, OTHER_RUN]
    assert store.ended_runs(3000) == []
    assert main(["verify"]) == 0


@pytest.mark.parametrize("place", ARCHIVING.values(), ids=ARCHIVING)
def test_what_an_archive_left_behind_goes_with_the_run(store: SqlStore, place: str) -> None:
    killed(place, "archive", "--to", "archives", "--run", RUN)
    store.apply([block(RUN, tag("late", "1"), e.RunDeleted(time=3000), first=55)])
    assert main(["gc", "--yes"]) == 0
    assert not Path("archives").exists() or list(Path("archives").iterdir()) == []
    assert holding_the_secret() == []
    assert main(["verify"]) == 0


@pytest.mark.parametrize("place", PURGING.values(), ids=PURGING)
def test_a_purge_that_was_cut_off_is_completed_by_the_next_call(store: SqlStore, place: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["archive", "--to", "archives", "--run", RUN]) == 0
    store.apply([block(RUN, e.RunDeleted(time=3000), first=55)])
    kept = everything(store, SUBJECTS)["runs"][OTHER_RUN]
    killed(place, "gc", "--yes")
    capsys.readouterr()
    assert ask(capsys, "verify")["differing"] == 0
    assert ask(capsys, "gc", "--yes")["done"]
    assert holding_the_secret() == []
    assert [item.subject for item in store.tombstones()] == [RUN]
    with pytest.raises(NotFound):
        store.get_run(RUN)
    assert everything(store, SUBJECTS)["runs"] == {OTHER_RUN: kept}
    assert ask(capsys, "verify")["differing"] == 0
