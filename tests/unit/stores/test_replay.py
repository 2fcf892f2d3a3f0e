"""Replay: what a store has, another gets, with ids and times, once, whatever was missing and wherever it was cut off."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from contracts.facts import OTHER_RUN, OTHER_WRITER, RUN, WRITER, artifact, block, created, everything, metric, param, started, tag
from flightlog.schema.errors import NotFound, StoreUnavailable
from flightlog.schema.ids import experiment_subject
from flightlog.stores import open_store
from flightlog.stores import replay as module
from flightlog.stores.base import Applied, Gap, Store
from flightlog.stores.memory import MemoryStore
from flightlog.stores.replay import LedgerSource, check_runs, replay, without_holes

EXPERIMENT = experiment_subject("7")
SUBJECTS = (RUN, OTHER_RUN, EXPERIMENT)


@pytest.fixture(params=["memory", "sqlite"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    store = open_store("memory:" if request.param == "memory" else f"sqlite:///{tmp_path / 'source.db'}")
    store.apply([block(EXPERIMENT, created("7", "seven")), block(RUN, started("7", "seven"), param("lr", "1"), param("lr", "2"))])
    store.apply([Gap(RUN, WRITER, 3, 5, "torn", "the record is damaged", b"rest", 2)])
    store.apply(
        [block(RUN, metric("loss", 1.0), artifact("a.txt"), first=5), block(OTHER_RUN, started(), tag("a", "b"), writer=OTHER_WRITER)]
    )
    store.apply([Gap(RUN, WRITER, 7, 9, "corrupt", "a checksum does not match", b"", None)])
    yield store
    store.close()


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path / 'target.db'}")
    yield store
    store.close()


def seen(store: Store) -> dict[str, Any]:
    found = everything(store, SUBJECTS)
    return {**found, "letters": sorted(found["letters"])}


def test_a_replayed_store_is_equal_gaps_and_dead_letters_included(source: Store, target: Store) -> None:
    replayed = replay(LedgerSource(source), target)
    assert (replayed.events, replayed.gaps, replayed.letters) == (8, 2, 3)
    assert seen(target) == seen(source)


def test_a_second_replay_does_nothing(source: Store, target: Store) -> None:
    replay(LedgerSource(source), target)
    before = seen(target)
    again = replay(LedgerSource(source), target)
    assert (again.events, again.letters) == (0, 0)
    assert seen(target) == before
    assert LedgerSource(source).events({(item.subject, item.writer): item.committed for item in target.writers()}) == 0  # type: ignore[misc]


def test_a_replay_goes_on_where_another_was_cut_off(source: Store, target: Store) -> None:
    target.apply([block(RUN, started("7", "seven"), param("lr", "1"))])
    replay(LedgerSource(source), target)
    found, expected = target.get_run(RUN), source.get_run(RUN)
    assert found.to_dictionary() == expected.to_dictionary()
    assert target.position(RUN, WRITER) == 9


def test_a_replay_of_one_run_brings_its_experiment(source: Store, target: Store) -> None:
    replay(LedgerSource(source, [RUN]), target)
    assert target.get_experiment("7").artifact_location == "/artifacts/7"
    assert target.writers(OTHER_RUN) == []


def test_a_run_that_nobody_knows_is_not_found(source: Store) -> None:
    with pytest.raises(NotFound, match="ffff"):
        check_runs(source, ["f" * 32])


def test_what_is_known_of_artifacts_is_handed_on(source: Store, target: Store) -> None:
    source.settle_artifact(RUN, source.artifacts(RUN)[0], "stored")
    replay(LedgerSource(source), target)
    assert [item.state for item in target.artifacts(RUN)] == ["stored"]


def test_a_hole_that_no_letter_tells_of_is_called_missing() -> None:
    found = list(without_holes([block(RUN, param("a", "1"), first=4)], [], {(RUN, WRITER): 7}, {}))
    assert [(item.sequence, item.next_sequence, item.reason) for item in found if isinstance(item, Gap)] == [
        (0, 4, "missing"),
        (5, 7, "missing"),
    ]


def test_a_hole_is_covered_by_the_letters_in_it_and_by_missing_between_them() -> None:
    store = MemoryStore()
    store.apply([Gap(RUN, WRITER, 0, 1, "refused", "x", b"1", 1), Gap(RUN, WRITER, 1, 9, "torn", "y", b"", None)])
    letters = [*store.dead_letters(), *store.dead_letters()]
    found = list(without_holes([], letters, {(RUN, WRITER): 12}, {(RUN, OTHER_WRITER): 5}))
    assert [(item.sequence, item.next_sequence, item.reason, item.count) for item in found if isinstance(item, Gap)] == [
        (0, 1, "refused", 1),
        (1, 12, "torn", None),
    ]


def test_batches_are_cut_and_each_is_applied_once(source: Store, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_EVENTS", 1)
    told: list[int] = []
    replay(LedgerSource(source), target, told.append)
    assert sum(told) == 8
    assert len(told) == 6
    assert seen(target) == seen(source)


@dataclass
class Stubborn(MemoryStore):
    """A store that takes nothing."""

    applied: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def apply(self, items: Sequence[Any]) -> Applied:
        self.applied.append(items)
        return Applied({item.writer: 0 for item in items})


def test_a_store_that_does_not_take_a_batch_is_said_to_be_unavailable(source: Store) -> None:
    with pytest.raises(StoreUnavailable, match="replay again"):
        replay(LedgerSource(source), Stubborn())


def test_bodies_are_handed_on_as_they_are(tmp_path: Path, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    other = open_store(f"sqlite:///{tmp_path / 'other.db'}")
    other.apply([block(RUN, started(), metric("loss", 1.0))])
    monkeypatch.setattr("flightlog.stores.sql.ledger.encode_body", lambda *_: pytest.fail("a body was encoded again"))
    replay(LedgerSource(other), target)
    assert [item.body for item in target.ledger()] == [item.body for item in other.ledger()]
    other.close()
