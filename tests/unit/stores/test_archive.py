"""Archives: the ledger of a run in a file, whole or not at all, and read as if it were still in the database."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zstandard

from contracts.facts import OTHER_RUN, RUN, WRITER, block, created, everything, metric, param, started, tag
from flightlog.schema.errors import DecodeError, InvalidParameter, NotFound, StoreUnavailable
from flightlog.schema.ids import experiment_subject
from flightlog.stores import open_store
from flightlog.stores.archive import ArchiveSource, check_archive
from flightlog.stores.base import Gap
from flightlog.stores.purging import purge_block
from flightlog.stores.replay import LedgerSource, replay
from flightlog.stores.sql import archives
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.verify import verify

SUBJECTS = (RUN, OTHER_RUN, experiment_subject("7"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "archives"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqlStore]:
    store = SqlStore(f"sqlite:///{tmp_path / 'tracking.db'}")
    store.apply([block(experiment_subject("7"), created("7", "seven")), block(RUN, started("7", "seven"), param("lr", "1"))])
    store.apply([block(OTHER_RUN, started("9", "seven"))])
    store.apply([Gap(RUN, WRITER, 2, 4, "torn", "damaged", b"rest", 2), block(RUN, *(metric("loss", 1.0, n) for n in range(50)), first=4)])
    yield store
    store.close()


def payloads(store: SqlStore) -> list[bytes]:
    return [payload for item in store.ledger() for payload in item.records.payloads()]


def seen(store: Any) -> dict[str, Any]:
    found = everything(store, SUBJECTS)
    return {**found, "letters": sorted(found["letters"])}


def test_an_archived_ledger_reads_as_if_nothing_had_moved(store: SqlStore, folder: Path) -> None:
    before, shown = payloads(store), seen(store)
    sealed = store.archive(RUN, str(folder))
    assert sealed is not None
    assert (sealed.events, len(sealed.rows)) == (52, 2)
    assert [path.name for path in folder.iterdir()] == [sealed.written.name]
    assert payloads(store) == before
    assert [item.subject for item in store.ledger(RUN)] == [RUN, RUN]
    assert seen(store) == shown
    assert [item for item in verify(store) if item.differences] == []
    assert store.archive(RUN, str(folder)) is None


def test_late_events_follow_the_archive_and_become_a_second_one(store: SqlStore, folder: Path) -> None:
    store.archive(OTHER_RUN, str(folder))
    store.archive(RUN, str(folder))
    store.apply([block(RUN, tag("late", "1"), first=54), block(OTHER_RUN, tag("a", "b"), first=1)])
    assert [(item.subject, item.first_sequence) for item in store.ledger()][1:] == [
        (RUN, 0),
        (OTHER_RUN, 0),
        (RUN, 4),
        (RUN, 54),
        (OTHER_RUN, 1),
    ]
    store.archive(RUN, str(folder))
    assert len(list(folder.iterdir())) == 3
    assert [item for item in verify(store) if item.differences] == []


def test_a_folder_of_archives_is_replayed(store: SqlStore, folder: Path) -> None:
    for run_id in (RUN, OTHER_RUN):
        store.archive(run_id, str(folder))
    store.apply([block(RUN, tag("late", "1"), first=54)])
    store.archive(RUN, str(folder))
    memory = open_store("memory:")
    replayed = replay(ArchiveSource(str(folder)), memory)
    assert (replayed.events, replayed.gaps) == (54, 1)
    assert memory.get_run(RUN).to_dictionary() == store.get_run(RUN).to_dictionary()
    assert [letter.message for letter in memory.dead_letters()] == ["damaged"]
    assert replay(ArchiveSource(str(folder)), memory).events == 0
    with pytest.raises(NotFound):
        ArchiveSource(str(folder), ["f" * 32]).check()


def test_a_store_with_archives_is_replayed_whole(store: SqlStore, folder: Path) -> None:
    store.archive(RUN, str(folder))
    memory = open_store("memory:")
    replay(LedgerSource(store), memory)
    assert seen(memory) == seen(store)


def test_a_crash_before_the_rows_go_leaves_the_rows_and_the_next_time_works(
    store: SqlStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = payloads(store)
    with monkeypatch.context() as crash:
        crash.setattr(archives, "move_out", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            store.archive(RUN, str(folder))
    assert payloads(store) == before
    assert store.archive(RUN, str(folder)) is not None
    assert payloads(store) == before
    assert len(list(folder.iterdir())) == 1


def test_an_archive_that_somebody_else_gave_up_is_not_counted(store: SqlStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    putting = archives.put_file

    def put_late(path: Path, to: str, written: Any) -> None:
        putting(path, to, written)
        store._write_off(RUN)

    before = payloads(store)
    monkeypatch.setattr(archives, "put_file", put_late)
    with pytest.raises(StoreUnavailable, match="archive it again"):
        store.archive(RUN, str(folder))
    assert payloads(store) == before
    assert not folder.exists()


def test_what_cannot_be_removed_is_named_once_and_stands_in_nobodys_way(
    store: SqlStore, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no such bucket")

    with monkeypatch.context() as broken:
        broken.setattr(archives, "put_file", refuse)
        broken.setattr(archives, "remove_file", refuse)
        with pytest.raises(OSError, match="bucket"):
            store.archive(RUN, str(folder))
    assert "remove it by hand" in caplog.text
    assert store.archive(RUN, str(folder)) is not None
    assert caplog.text.count("remove it by hand") == 1


def test_a_ledger_that_changed_meanwhile_is_not_moved(store: SqlStore, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sealing = archives.seal

    def seal_twice(connection: Any, run_id: str, path: Path) -> Any:
        sealed = sealing(connection, run_id, path)
        monkeypatch.undo()
        store.archive(run_id, str(folder))
        return sealed

    monkeypatch.setattr(archives, "seal", seal_twice)
    before = payloads(store)
    with pytest.raises(StoreUnavailable, match="archive it again"):
        store.archive(RUN, str(folder))
    assert payloads(store) == before


def test_a_damaged_archive_is_noticed(store: SqlStore, folder: Path) -> None:
    store.archive(RUN, str(folder))
    [path] = folder.iterdir()
    content = bytearray(path.read_bytes())
    for place in (20, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DecodeError, match="checksum"):
            payloads(store)
    path.write_bytes(content[:10])
    with pytest.raises(DecodeError):
        payloads(store)


def test_a_purged_run_takes_its_archive_along(store: SqlStore, folder: Path) -> None:
    store.archive(RUN, str(folder))
    store.apply([purge_block(RUN, 5000)])
    assert b"loss" not in b"".join(payloads(store))
    assert store.remove_purged_archives() == 1
    assert not folder.exists() or list(folder.iterdir()) == []
    assert store.get_experiment("7").name == "seven"
    assert [item for item in verify(store) if item.differences] == []


def test_a_refused_event_of_an_archived_run_brings_its_ledger_back(store: SqlStore, folder: Path) -> None:
    refused = block(RUN, metric("loss", 9.0, 99), first=54)
    store.apply([Gap(RUN, WRITER, 54, 55, "refused", "x", refused.records.payload(0), 1), block(RUN, tag("a", "b"), first=55)])
    store.archive(RUN, str(folder))
    assert store.retry([letter for letter in store.dead_letters() if letter.reason == "refused"]) == {RUN: None}
    assert store.metric_arrays(RUN, "loss").value.tolist()[-1] == 9.0
    assert [item.first_sequence for item in store.ledger(RUN)] == [0, 4, 54, 55]
    assert not folder.exists() or list(folder.iterdir()) == []


def test_an_archive_can_be_read_from_its_page_alone(store: SqlStore, folder: Path) -> None:
    store.archive(RUN, str(folder))
    [path] = folder.iterdir()
    content = path.read_bytes()
    assert hashlib.sha256(content[:-32]).digest() == content[-32:]
    assert check_archive(path) == hashlib.sha256(content[:-32]).hexdigest()
    assert (content[:8], int.from_bytes(content[8:12], "little")) == (b"FLTARCH\n", 1)
    size = int.from_bytes(content[12:16], "little")
    header = msgpack.unpackb(content[16 : 16 + size])
    assert (header["subject"], header["events"], header["blocks"], header["ends"]) == (RUN, 52, 2, {WRITER: 54})
    assert [letter[:4] for letter in header["letters"]] == [[WRITER, 2, 2, "torn"]]
    at, counts = 16 + size, []
    while size := int.from_bytes(content[at : at + 4], "little"):
        _, writer, first, count, body = msgpack.unpackb(content[at + 4 : at + 4 + size])
        version, events, _, _, unpacked, packed = msgpack.unpackb(body, strict_map_key=False)
        assert (version, events, writer) == (1, count, WRITER)
        assert len(zstandard.ZstdDecompressor().decompress(packed)) == unpacked
        counts.append((first, count))
        at += 4 + size
    assert counts == [(0, 2), (4, 50)]


def test_room_is_given_back(store: SqlStore, folder: Path, tmp_path: Path) -> None:
    texts = [hashlib.shake_256(bytes([number])).hexdigest(20_000) for number in range(50)]
    store.apply([block(RUN, *(tag("again", text) for text in texts), first=54)])
    store.shrink()
    before = (tmp_path / "tracking.db").stat().st_size
    store.archive(RUN, str(folder))
    store.shrink()
    assert (tmp_path / "tracking.db").stat().st_size < before
    with closing(sqlite3.connect(tmp_path / "tracking.db")) as connection:
        assert connection.execute("pragma freelist_count").fetchone() == (0,)


def test_a_folder_that_cannot_be_written_leaves_all_as_it_was(store: SqlStore, tmp_path: Path) -> None:
    before = payloads(store)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        store.archive(RUN, str(tmp_path / "file" / "inside"))
    with pytest.raises(InvalidParameter, match="nonsense"):
        store.archive(RUN, "nonsense://bucket")
    assert payloads(store) == before
