"""Verify and repair: what a store shows is what its ledger says, and where it is not, that is found, named and mended."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from contracts.facts import OTHER_RUN, OTHER_WRITER, RUN, WRITER, artifact, block, created, dataset, everything, metric, param, started, tag
from flightlog.schema import events as e
from flightlog.schema.errors import NotFound
from flightlog.schema.ids import experiment_subject
from flightlog.stores import open_store
from flightlog.stores import verify as module
from flightlog.stores.base import Gap, Store
from flightlog.stores.portraits import digest_of, run_portrait
from flightlog.stores.replay import LedgerSource, replay
from flightlog.stores.sql import repair
from flightlog.stores.sql.engine import open_engine, writing
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.verify import Verified, verify

EXPERIMENT = experiment_subject("7")
SUBJECTS = (RUN, OTHER_RUN, EXPERIMENT)
THIRD_RUN = "c" * 32
HISTORY_DIGEST = "8a6f17453da540429c6e76a00d65cbd8a445154db94ffa1f23ff685b547e1825"
PORTRAIT_DIGEST = "d164077b631ea788d99d11b6e1a7d65392857345c86ff9f14fe5dcf4875f76ab"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'tracking.db'}"


@pytest.fixture
def store(url: str) -> Iterator[SqlStore]:
    store = SqlStore(url)
    store.apply([block(EXPERIMENT, created("7", "seven", tags={"a": "b"}))])
    store.apply([block(RUN, started("9", "seven"), param("lr", "1"), param("lr", "2"), tag("color", "red"), artifact("a.txt"))])
    store.apply([Gap(RUN, WRITER, 5, 7, "torn", "the record is damaged", b"rest", 2)])
    store.apply([block(RUN, *(metric("loss", float(step), step) for step in range(50)), metric("nan", float("nan")), first=7)])
    store.apply([block(OTHER_RUN, started("8", "eight"), metric("loss", -0.0), writer=OTHER_WRITER)])
    store.apply([block(RUN, dataset("digits", tags={"a": "b"}), e.ModelOutputLogged(time=1, model_id="m", step=2), writer=OTHER_WRITER)])
    store.apply([block(EXPERIMENT, e.ExperimentRenamed(time=2000, name="nine"), e.ExperimentDeleted(time=2000), first=1)])
    store.settle_artifact(RUN, store.artifacts(RUN)[0], "stored")
    yield store
    store.close()


def damage(url: str, statement: str) -> None:
    engine = open_engine(url)
    with writing(engine) as connection:
        connection.execute(text("PRAGMA defer_foreign_keys=ON"))
        connection.execute(text(statement))
    engine.dispose()


def seen(store: Store) -> dict[str, Any]:
    return everything(store, SUBJECTS)


def wrong(results: Iterator[Verified]) -> dict[str, list[str]]:
    return {item.subject: [difference.part for difference in item.differences] for item in results if item.differences}


@pytest.fixture(params=["folded in memory", "projected anew"], autouse=True)
def scratch(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify with both kinds of scratch store."""
    monkeypatch.setattr(module, "SMALL", 20_000 if request.param == "folded in memory" else 0)


def test_a_sound_store_has_no_differences_and_a_digest_for_each_subject(store: SqlStore) -> None:
    found = list(verify(store))
    assert [item.subject for item in found] == [experiment_subject("0"), EXPERIMENT, experiment_subject("8"), RUN, OTHER_RUN]
    assert wrong(iter(found)) == {}
    assert all(item.digest and len(item.digest) == 64 and not item.is_moving for item in found)
    assert [item.events for item in found[-2:]] == [60, 2]


def test_some_runs_can_be_verified_alone_with_their_experiments_as_they_were(store: SqlStore) -> None:
    [found] = verify(store, [RUN])
    assert (found.subject, found.differences) == (RUN, ())


def test_a_digest_is_the_same_on_every_store(store: SqlStore) -> None:
    memory = open_store("memory:")
    replay(LedgerSource(store), memory)
    assert digest_of(run_portrait(memory, RUN, 0)) == digest_of(run_portrait(store, RUN, 0)) == next(verify(store, [RUN])).digest


def test_a_digest_stays_what_it_is() -> None:
    memory = open_store("memory:")
    memory.apply([block(RUN, started(), param("lr", "1"), tag("ключ", "x"), metric("loss", float("nan")), metric("loss", -0.0, 1))])
    parts = run_portrait(memory, RUN, 0)
    assert set(parts) == {"info", "params", "tags", "artifacts", "dropped", "metric loss", "history loss"}
    assert parts["history loss"] == [2, HISTORY_DIGEST]
    assert digest_of({"b": [1, -0.0, float("nan")], "a": {"y": None, "x": "\ud800"}}) == PORTRAIT_DIGEST


DAMAGE = [
    ("UPDATE runs SET status = 'FAILED' WHERE run_id = '{run}'", ["info"]),
    ("UPDATE params SET value = '3'", ["params"]),
    ("DELETE FROM tags WHERE \"key\" = 'color'", ["tags"]),
    ("UPDATE artifacts SET size = 9", ["artifacts"]),
    ("UPDATE dataset_inputs SET tags = '{{}}'", ["inputs"]),
    ("UPDATE run_models SET step = 3", ["outputs"]),
    ("UPDATE runs SET dropped = 5 WHERE run_id = '{run}'", ["dropped"]),
    ("UPDATE latest_metrics SET max_value = 1e9 WHERE count = 50", ["metric loss"]),
    ("DELETE FROM metric_chunks WHERE count = 50", ["history loss"]),
]


@pytest.mark.parametrize(("statement", "parts"), DAMAGE, ids=[parts[0] for _, parts in DAMAGE])
def test_a_damage_is_found_where_it_is_and_mended(store: SqlStore, url: str, statement: str, parts: list[str]) -> None:
    before = seen(store)
    damage(url, statement.format(run=RUN))
    assert wrong(verify(store)) == {RUN: parts}
    store.repair([RUN])
    assert wrong(verify(store)) == {}
    assert seen(store) == before


def test_a_run_whose_rows_are_gone_is_brought_back(store: SqlStore, url: str) -> None:
    before = seen(store)
    for table in ("params", "tags", "artifacts", "dataset_inputs", "run_models", "latest_metrics", "metric_chunks", "runs"):
        damage(url, f"DELETE FROM {table}")
    assert set(wrong(verify(store))) == {RUN, OTHER_RUN}
    store.repair([RUN, OTHER_RUN])
    store.settle_artifact(RUN, store.artifacts(RUN)[0], "stored")
    assert wrong(verify(store)) == {}
    assert seen(store) == before


def test_a_run_of_which_the_ledger_knows_nothing_is_removed(store: SqlStore, url: str) -> None:
    damage(
        url,
        "INSERT INTO runs (run_id, experiment_id, user_id, status, start_time, lifecycle_stage, started, dropped, status_stamp, "
        f"lifecycle_stamp) VALUES ('{THIRD_RUN}', 0, 'me', 'RUNNING', 1, 'active', 1, 0, '', '')",
    )
    assert "info" in wrong(verify(store))[THIRD_RUN]
    store.repair([THIRD_RUN])
    with pytest.raises(NotFound):
        store.get_run(THIRD_RUN)


def test_an_experiment_is_mended_as_well(store: SqlStore, url: str) -> None:
    before = seen(store)
    damage(url, "UPDATE experiments SET name = 'x' || experiment_id, lifecycle_stage = 'active' WHERE experiment_id > 0")
    damage(url, "DELETE FROM experiment_tags")
    assert set(wrong(verify(store))) == {EXPERIMENT, experiment_subject("8")}
    store.repair([EXPERIMENT, experiment_subject("8")])
    assert wrong(verify(store)) == {}
    assert seen(store) == before


def test_experiments_that_have_each_others_names_are_mended(store: SqlStore, url: str) -> None:
    damage(url, "UPDATE experiments SET name = 'other' WHERE experiment_id = 8")
    damage(url, "UPDATE experiments SET name = 'eight' WHERE experiment_id = 7")
    damage(url, "UPDATE experiments SET name = 'nine' WHERE experiment_id = 8")
    store.repair([EXPERIMENT, experiment_subject("8")])
    assert wrong(verify(store)) == {}


def test_dead_letters_are_derived_again(store: SqlStore, url: str) -> None:
    before = seen(store)["letters"]
    damage(url, "DELETE FROM dead_letters WHERE reason = 'param-conflict'")
    store.repair([RUN])
    assert sorted(seen(store)["letters"]) == sorted(before)


def test_what_comes_during_a_repair_is_not_lost(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = module.fill

    def fill_and_let_events_come(*arguments: Any) -> None:
        filled(*arguments)
        store.apply([block(RUN, param("late", "1"), first=58)])

    monkeypatch.setattr(module, "fill", fill_and_let_events_come)
    store.repair([RUN])
    assert store.get_run(RUN).data.params == {"lr": "1", "late": "1"}


class Growing(SqlStore):
    """A store to which events come whenever a run is looked at."""

    grows = 1

    def artifacts(self, run_id: str) -> Any:
        if self.grows:
            self.grows -= 1
            position = self.position(RUN, WRITER)
            self.apply([block(RUN, metric("loss", 1.0, position), first=position)])
        return super().artifacts(run_id)


@pytest.mark.parametrize(("grows", "is_moving"), [(1, False), (99, True)])
def test_a_run_that_is_written_to_is_looked_at_again_and_never_called_wrong(store: SqlStore, url: str, grows: int, is_moving: bool) -> None:
    growing = Growing(url)
    growing.grows = grows
    [found] = verify(growing, [RUN])
    assert (found.is_moving, found.differences) == (is_moving, ())
    growing.close()


def test_a_run_that_nobody_knows_is_not_found(store: SqlStore) -> None:
    with pytest.raises(NotFound):
        list(verify(store, ["f" * 32]))


def test_a_rebuild_mends_everything_in_one_transaction_and_readers_see_the_old_rows_until_then(store: SqlStore, url: str) -> None:
    before = seen(store)
    for statement, _ in DAMAGE:
        damage(url, statement.format(run=RUN))
    damage(url, "UPDATE experiments SET name = 'x' || experiment_id WHERE experiment_id > 0")
    damage(url, "UPDATE artifacts SET size = 3")
    assert store.rebuild() == 5
    assert wrong(verify(store)) == {}
    assert {**seen(store), "letters": sorted(seen(store)["letters"])} == {**before, "letters": sorted(before["letters"])}


def test_events_that_come_while_a_projection_is_rebuilt_are_in_it(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    filled = module.fill

    def fill_and_let_events_come(*arguments: Any) -> None:
        filled(*arguments)
        store.apply([block(RUN, param("late", "1"), first=58), block(THIRD_RUN, started())])

    monkeypatch.setattr(module, "fill", fill_and_let_events_come)
    store.rebuild()
    assert store.get_run(RUN).data.params == {"lr": "1", "late": "1"}
    monkeypatch.undo()
    assert wrong(verify(store)) == {}


def test_a_rebuild_that_is_cut_off_changes_nothing(store: SqlStore, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(url, "UPDATE params SET value = '3'")
    replaced: list[str] = []

    def replace_two(connection: Any, fresh: Any, subject: str) -> None:
        replaced.append(subject)
        replacing(connection, fresh, subject)
        if subject == RUN:
            raise KeyboardInterrupt

    replacing = repair.replace_subject
    monkeypatch.setattr(repair, "replace_subject", replace_two)
    with pytest.raises(KeyboardInterrupt):
        store.rebuild()
    assert replaced[-1] == RUN
    assert store.get_run(RUN).data.params == {"lr": "3"}
