"""A folder of journals as the source of a replay: read as it lies there, and brought as far as it goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.schema import frames
from flightlog.schema.errors import NotFound
from flightlog.stores.memory import MemoryStore
from flightlog.stores.replay import Replayed, replay
from flightlog.worker.journals import JournalSource, check_journals
from journals import CAPACITY, OTHER_WRITER, RUN, WRITER, poke, tag, write_segment

OTHER_RUN = "b" * 32
TORN = frames.frame(tag("torn"))[:-3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "journal"
    folder.mkdir()
    return folder


def bring(store: MemoryStore, folder: Path, *run_ids: str) -> Replayed:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    replayed = replay(JournalSource(folder, run_ids), store)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    return replayed


def keys(store: MemoryStore, run_id: str = RUN) -> list[str]:
    return sorted(store.get_run(run_id).data.tags)


def lost(store: MemoryStore) -> list[tuple[int, int | None]]:
    return [(letter.sequence, letter.count) for letter in store.dead_letters()]


def test_a_second_replay_brings_nothing(folder: Path, store: MemoryStore) -> None:
    write_segment(folder, tag("a"), tag("b"), state=frames.SEALED)
    write_segment(folder, tag("c"), number=1, first=2)
    assert (bring(store, folder).events, bring(store, folder).events) == (3, 0)
    assert keys(store) == ["a", "b", "c"]


@pytest.mark.parametrize("state", [frames.OPEN, frames.CLOSED])
@pytest.mark.parametrize("tail", [b"", TORN, TORN[:5]], ids=["zeros", "torn", "torn head"])
def test_what_is_damaged_at_the_end_is_left_out_since_it_may_still_be_written(
    folder: Path, store: MemoryStore, state: int, tail: bytes
) -> None:
    write_segment(folder, tag("a"), state=state, end=2, tail=tail)
    assert (bring(store, folder).events, lost(store)) == (1, [])
    write_segment(folder, tag("a"), tag("torn"), state=frames.CLOSED)
    assert (bring(store, folder).events, lost(store)) == (1, [])
    assert keys(store) == ["a", "torn"]


@pytest.mark.parametrize("tail", [b"", TORN], ids=["zeros", "torn"])
def test_what_is_damaged_before_a_later_segment_becomes_a_gap(folder: Path, store: MemoryStore, tail: bytes) -> None:
    write_segment(folder, tag("a"), state=frames.OPEN, tail=tail)
    write_segment(folder, tag("c"), number=1, first=3)
    replayed = bring(store, folder)
    assert (replayed.events, replayed.gaps, lost(store), keys(store)) == (2, 1, [(1, 2)], ["a", "c"])
    assert bring(store, folder).gaps == 0


def test_what_was_freed_before_is_a_gap_unless_the_store_has_it(folder: Path, store: MemoryStore) -> None:
    write_segment(folder, tag("a"), tag("b"), state=frames.SEALED)
    bring(store, folder)
    write_segment(folder, tag("c"), number=1, first=2)
    (folder / frames.segment_name(WRITER, 0)).unlink()
    assert (bring(store, folder).gaps, lost(store)) == (0, [])
    other = MemoryStore()
    assert (bring(other, folder).gaps, lost(other)) == (1, [(0, 2)])


def test_a_segment_that_cannot_be_read_is_told_and_a_gap_stands_for_it(
    folder: Path, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / frames.segment_name(WRITER, 0)).write_bytes(b"nonsense".ljust(CAPACITY, b"\1"))
    write_segment(folder, tag("c"), number=1, first=2)
    assert (bring(store, folder).gaps, lost(store), keys(store)) == (1, [(0, 2)], ["c"])
    assert frames.segment_name(WRITER, 0) in caplog.text


def test_a_journal_of_a_newer_version_is_told_and_stops_no_other(
    folder: Path, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    poke(write_segment(folder, tag("a")), 8, b"\x63")
    write_segment(folder, tag("other"), writer=OTHER_WRITER)
    assert bring(store, folder).events == 1
    assert "version" in caplog.text


def test_only_the_runs_that_are_asked_for_come(folder: Path, store: MemoryStore) -> None:
    write_segment(folder, tag("a"))
    write_segment(folder, tag("b"), writer=OTHER_WRITER, subject=OTHER_RUN)
    assert bring(store, folder, OTHER_RUN).events == 1
    assert (keys(store, OTHER_RUN), store.position(RUN, WRITER)) == (["b"], 0)


def test_a_folder_without_journals_or_without_those_of_a_run_is_not_found(folder: Path) -> None:
    with pytest.raises(NotFound, match="has no journals"):
        check_journals(folder, ())
    write_segment(folder, tag("a"))
    check_journals(folder, [RUN])
    with pytest.raises(NotFound, match=OTHER_RUN):
        check_journals(folder, [RUN, OTHER_RUN])
