"""Another try for dead letters: the event takes its place in the ledger, once, and a replay elsewhere gives the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from contracts.facts import OTHER_RUN, OTHER_WRITER, RUN, WRITER, block, everything, metric, param, reasons, started, tag
from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.stores import open_store
from flightlog.stores.base import Gap
from flightlog.stores.replay import LedgerSource, replay
from flightlog.stores.sql.engine import writing
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.verify import verify

SUBJECTS = (RUN, OTHER_RUN)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path / 'tracking.db'}")
    yield store
    store.close()


def refused(item: Block) -> Gap:
    """Return what the worker files in place of an event that the store refuses."""
    return Gap(item.subject, item.writer, item.first_sequence, item.end, "refused", "the store refused it", item.records.payload(0), 1)


def fill(store: SqlStore) -> None:
    """File 6 blocks of two writers; the third event and the fifth are refused."""
    items: list[Block | Gap] = [
        block(RUN, started(), metric("loss", 1.0)),
        block(RUN, param("lr", "0"), writer=OTHER_WRITER),
        refused(block(RUN, metric("loss", 2.0, 1), first=2)),
        block(RUN, tag("a", "b"), first=3),
        refused(block(RUN, param("depth", "1"), first=4)),
        block(RUN, param("depth", "2"), writer=OTHER_WRITER, first=1),
        block(RUN, metric("loss", 3.0, 2), first=5),
        block(OTHER_RUN, started()),
    ]
    for item in items:
        store.apply([item])


def check_sound(store: SqlStore) -> None:
    assert [item.subject for item in verify(store) if item.differences] == []
    memory = open_store("memory:")
    replay(LedgerSource(store), memory)
    found, expected = everything(memory, SUBJECTS), everything(store, SUBJECTS)
    assert sorted(found.pop("letters")) == sorted(expected.pop("letters"))
    assert found == expected


def test_a_refused_event_takes_its_place_and_counts_once_however_often_it_is_tried(store: SqlStore) -> None:
    fill(store)
    letters = store.dead_letters()
    assert reasons(letters) == ["refused", "refused"]
    for _ in range(2):
        assert store.retry(letters) == {RUN: None}
        assert store.metric_arrays(RUN, "loss").value.tolist() == [1.0, 2.0, 3.0]
        assert [(item.writer, item.first_sequence) for item in store.ledger(RUN) if item.writer == WRITER] == [
            (WRITER, first) for first in (0, 2, 3, 4, 5)
        ]
        check_sound(store)


def test_blocks_of_other_writers_keep_their_places(store: SqlStore) -> None:
    fill(store)
    store.retry(store.dead_letters())
    assert [(item.writer[0], item.first_sequence) for item in store.ledger(RUN)] == [
        ("1", 0),
        ("2", 0),
        ("1", 2),
        ("2", 1),
        ("1", 3),
        ("1", 4),
        ("1", 5),
    ]


def test_one_of_several_can_be_tried_alone(store: SqlStore) -> None:
    fill(store)
    assert store.retry([store.dead_letters()[1]]) == {RUN: None}
    assert [letter.sequence for letter in store.dead_letters() if letter.reason == "refused"] == [2]
    check_sound(store)


def test_a_writer_all_of_whose_events_were_refused_gets_its_first(store: SqlStore) -> None:
    store.apply([refused(block(RUN, started()))])
    store.retry(store.dead_letters())
    assert store.get_run(RUN).info.run_name == "calm-owl-1"
    check_sound(store)


def test_an_event_of_a_type_that_is_known_now_is_filed(store: SqlStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as older:
        older.delitem(e.EVENT_TYPES, e.TagSet.code)
        store.apply([block(RUN, started(), tag("color", "red"))])
        assert reasons(store.dead_letters()) == ["unknown-type"]
    assert store.retry(store.dead_letters()) == {RUN: None}
    assert store.get_run(RUN).data.tags["color"] == "red"
    assert store.dead_letters() == []


def test_what_the_database_refuses_again_stays_as_it_was(store: SqlStore) -> None:
    fill(store)
    before = everything(store, SUBJECTS)

    with writing(store._engine) as connection:
        connection.execute(text("CREATE TRIGGER refuse BEFORE INSERT ON params BEGIN SELECT RAISE(ABORT, 'not this one'); END"))
    assert "not this one" in str(store.retry(store.dead_letters())[RUN])
    assert everything(store, SUBJECTS) == before


def test_what_was_lost_has_no_second_try(store: SqlStore) -> None:
    store.apply([block(RUN, started()), Gap(RUN, WRITER, 1, 5, "torn", "damaged", b"rest", 4), block(RUN, param("a", "1"), first=5)])
    assert store.retry(store.dead_letters()) == {RUN: None}
    assert reasons(store.dead_letters()) == ["torn"]
    check_sound(store)


def test_a_dropped_letter_is_gone_and_the_others_stay(store: SqlStore) -> None:
    fill(store)
    assert store.drop_letters(store.dead_letters()[:1]) == 1
    assert [letter.sequence for letter in store.dead_letters()] == [4]
