"""A copied folder is only read; what it lacks is told, and filed as lost only when the copy is final."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from contracts.facts import started
from flightlog.schema import frames
from flightlog.schema.codec import encode
from flightlog.schema.errors import NotFound
from flightlog.schema.settings import Settings, locate
from flightlog.stores.memory import MemoryStore
from flightlog.worker.ingest import Ingest
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.sync import Synced, sync_copies
from flightlog.worker.uploads import Uploads
from journals import CAPACITY, OTHER_WRITER, RUN, WRITER, tag, write_segment

TORN = frames.frame(tag("torn"))[:-3]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    folder.mkdir()
    return folder


def bring(store: MemoryStore, *folders: Path, final: bool = False) -> Synced:
    before = [contents(folder) for folder in folders]
    synced = sync_copies(folders, locate("target", Settings()), store, final=final)
    assert [contents(folder) for folder in folders] == before
    return synced


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


def keys(store: MemoryStore) -> list[str]:
    return sorted(store.get_run(RUN).data.tags)


def test_a_second_sync_brings_nothing(copy: Path, store: MemoryStore) -> None:
    write_segment(copy, tag("a"), tag("b"), state=frames.SEALED)
    write_segment(copy, tag("c"), number=1, first=2)
    assert (bring(store, copy).events, bring(store, copy).events) == (3, 0)
    assert keys(store) == ["a", "b", "c"]


@pytest.mark.parametrize("tail", [b"", TORN, TORN[:5]], ids=["zeros", "torn", "torn head"])
def test_what_may_still_be_written_gives_its_whole_records_and_no_dead_letter(copy: Path, store: MemoryStore, tail: bytes) -> None:
    write_segment(copy, tag("a"), state=frames.OPEN, tail=tail)
    synced = bring(store, copy)
    assert (synced.events, synced.open_journals, synced.is_complete, store.dead_letters()) == (1, 1, True, [])
    write_segment(copy, tag("a"), tag("torn"), state=frames.CLOSED)
    assert bring(store, copy).events == 1
    assert keys(store) == ["a", "torn"]


@pytest.mark.parametrize("cut", range(0, 4096 + 200, 97))
def test_a_copy_that_was_cut_anywhere_is_completed_by_the_next(copy: Path, store: MemoryStore, cut: int) -> None:
    path = write_segment(copy, tag("a"), tag("b"), tag("c"))
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    bring(store, copy)
    assert store.dead_letters() == []
    path.write_bytes(whole)
    assert bring(store, copy).is_complete
    assert keys(store) == ["a", "b", "c"]


def test_a_segment_that_was_copied_before_it_was_full_is_not_taken_for_damaged(copy: Path, store: MemoryStore) -> None:
    write_segment(copy, tag("a"), state=frames.OPEN)
    write_segment(copy, tag("c"), number=1, first=2)
    (shortage,) = bring(store, copy).shortages
    assert (shortage.writer, shortage.sequence, shortage.end) == (WRITER, 1, 2)
    assert store.dead_letters() == []
    write_segment(copy, tag("a"), tag("b"), state=frames.SEALED)
    assert bring(store, copy).is_complete
    assert keys(store) == ["a", "b", "c"]


def test_events_that_were_freed_at_the_origin_are_named_and_stop_no_other_journal(copy: Path, store: MemoryStore) -> None:
    write_segment(copy, tag("c"), number=1, first=2)
    write_segment(copy, tag("other"), writer=OTHER_WRITER)
    synced = bring(store, copy)
    (shortage,) = synced.shortages
    assert (shortage.subject, shortage.writer, shortage.sequence, shortage.end) == (RUN, WRITER, 0, 2)
    assert (synced.is_complete, keys(store)) == (False, ["other"])


def test_a_journal_that_is_in_two_folders_is_put_together(copy: Path, tmp_path: Path, store: MemoryStore) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    write_segment(copy, tag("c"), number=1, first=2)
    write_segment(earlier, tag("a"), tag("b"), state=frames.SEALED)
    synced = bring(store, copy, earlier)
    assert (synced.events, synced.is_complete, keys(store)) == (3, True, ["a", "b", "c"])


def test_a_store_that_is_further_than_the_copy_needs_nothing(copy: Path, tmp_path: Path, store: MemoryStore) -> None:
    write_segment(copy, tag("a"), tag("b"), state=frames.SEALED)
    write_segment(copy, tag("c"), number=1, first=2)
    bring(store, copy)
    (copy / frames.segment_name(WRITER, 0)).unlink()
    assert bring(store, copy).is_complete


def test_a_final_copy_says_what_is_lost_as_a_worker_does(copy: Path, tmp_path: Path, store: MemoryStore) -> None:
    write_segment(copy, tag("a"), state=frames.OPEN, tail=TORN)
    own = tmp_path / "own"
    shutil.copytree(copy, own)
    synced = bring(store, copy, final=True)
    other = MemoryStore()
    source = SpoolSource(own, other.position)
    Ingest(source, other, Uploads(own, other)).drain()
    source.close()
    assert not synced.is_complete
    assert [(item.sequence, item.reason, item.payload) for item in store.dead_letters()] == [
        (item.sequence, item.reason, item.payload) for item in other.dead_letters()
    ]
    assert bring(store, copy, final=True).is_complete


def test_a_final_copy_loses_nothing_that_another_folder_has(copy: Path, tmp_path: Path, store: MemoryStore) -> None:
    earlier = tmp_path / "earlier"
    earlier.mkdir()
    write_segment(copy, tag("b"), number=1, first=1)
    write_segment(earlier, tag("a"), state=frames.SEALED)
    assert bring(store, copy, earlier, final=True).is_complete
    assert (store.dead_letters(), keys(store)) == ([], ["a", "b"])


def test_a_segment_that_cannot_be_read_stays_and_makes_the_sync_incomplete(copy: Path, store: MemoryStore) -> None:
    (copy / frames.segment_name(WRITER, 0)).write_bytes(b"nonsense".ljust(CAPACITY, b"\1"))
    (shortage,) = bring(store, copy).shortages
    assert "cannot be read" in shortage.message


def test_paths_of_artifacts_become_those_of_the_store_and_uris_stay(copy: Path, store: MemoryStore) -> None:
    far = "s3://bucket/0/x/artifacts"
    write_segment(copy, tag("a"), encode(started(artifact_uri="/scratch/a", artifact_location="/scratch")), tag("b"))
    write_segment(copy, encode(started(artifact_uri=far)), subject="b" * 32, writer=OTHER_WRITER)
    bring(store, copy)
    target = locate("target", Settings())
    assert store.get_run(RUN).info.artifact_uri == f"{target.artifact_location('0')}/{RUN}/artifacts"
    assert store.get_experiment("0").artifact_location == target.artifact_location("0")
    assert store.get_run("b" * 32).info.artifact_uri == far
    assert keys(store) == ["a", "b", "mlflow.runName"]


def test_a_folder_that_is_none_of_ours_is_refused(copy: Path, store: MemoryStore) -> None:
    with pytest.raises(NotFound, match="holds no journals"):
        bring(store, copy)
