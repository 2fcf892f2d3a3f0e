"""Artifacts of runs whose events travel through the queue: announced by the worker, stored by the machine that has the file."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from pathlib import Path

import msgpack
import pytest

from contracts.facts import OTHER_WRITER, block, started
from flightlog.schema.artifact_notes import read_note
from flightlog.schema.events import ArtifactLogged
from flightlog.schema.names import SNAPSHOTS, UPLOADS
from flightlog.stores.memory import MemoryStore
from flightlog.worker.queued_artifacts import Announcements, QueuedArtifacts
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.streams import Streams
from flightlog.worker.upload_thread import UploadThread
from flightlog.worker.uploads import GRACE, Uploads
from journals import RUN
from queues import SNAPSHOT, log_artifact


def _file_notes(folder: Path, store: MemoryStore) -> None:
    source = SpoolSource(folder, store.position)
    source.acknowledge(store.apply(source.take(10)))
    source.close()


@pytest.fixture
def uploads(tmp_path: Path, streams: Streams) -> Uploads:
    return Uploads(tmp_path, QueuedArtifacts(streams, tmp_path))


def test_an_announced_artifact_is_stored_and_its_outcome_told_as_an_event(
    tmp_path: Path, store: MemoryStore, streams: Streams, uploads: Uploads
) -> None:
    root = tmp_path / "root"
    log_artifact(tmp_path, root, store, streams)
    assert UploadThread(uploads).finish() == 1
    assert (root / "a" / "result.txt").read_bytes() == b"hello"
    assert uploads.snapshots() == []
    assert streams.redis.hlen(UPLOADS) == 0
    _file_notes(tmp_path, store)
    assert [(item.path, item.state) for item in store.artifacts(RUN)] == [("a/result.txt", "stored")]


def test_an_artifact_that_cannot_be_stored_says_why(tmp_path: Path, store: MemoryStore, streams: Streams, uploads: Uploads) -> None:
    (tmp_path / "root").write_text("a file in the way")
    log_artifact(tmp_path, tmp_path / "root", store, streams)
    uploads.run()
    _file_notes(tmp_path, store)
    found = store.artifacts(RUN)[0]
    assert found.state == "failed"
    assert found.reason


def test_what_redis_forgot_is_announced_again(tmp_path: Path, store: MemoryStore, streams: Streams, uploads: Uploads) -> None:
    log_artifact(tmp_path, tmp_path / "root", store, streams)
    streams.redis.flushall()
    assert uploads.store_waiting() == 0
    Announcements(streams, store).sweep()
    assert uploads.store_waiting() == 1


@pytest.mark.parametrize(
    "said",
    [
        b"\xc1",
        b"",
        msgpack.packb([RUN, "uri"]),
        msgpack.packb([RUN, "uri", "path", "5"]),
        msgpack.packb([1, "uri", "path", 5]),
        msgpack.packb(["../run", "uri", "path", 5]),
        msgpack.packb([RUN, [], "path", 5]),
        b"\x94\xa1\xff\xa1u\xa1p\x05",
    ],
)
def test_an_announcement_that_nobody_of_us_made_is_passed_over(tmp_path: Path, streams: Streams, uploads: Uploads, said: bytes) -> None:
    (tmp_path / SNAPSHOTS).mkdir()
    (tmp_path / SNAPSHOTS / SNAPSHOT).write_bytes(b"hello")
    streams.redis.hset(UPLOADS, SNAPSHOT, said)
    assert uploads.store_waiting() == 0
    assert uploads.snapshots() == [SNAPSHOT]


def test_a_thread_stores_what_waits_and_leaves_after_the_file_in_hand(
    tmp_path: Path, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / SNAPSHOTS).mkdir()
    for number in range(3):
        snapshot = f"{number:032x}"
        (tmp_path / SNAPSHOTS / snapshot).write_bytes(b"hello")
        streams.redis.hset(UPLOADS, snapshot, msgpack.packb([RUN, str(tmp_path / "root"), f"{number}.txt", 5]))
    uploads = Uploads(tmp_path, QueuedArtifacts(streams, tmp_path))
    entered, go_on = threading.Event(), threading.Event()
    store = uploads._store

    def slowly(item: object) -> object:
        entered.set()
        go_on.wait(10)
        return store(item)  # type: ignore[arg-type]

    monkeypatch.setattr(uploads, "_store", slowly)
    thread = UploadThread(uploads)
    thread.look()
    assert entered.wait(5)
    thread.look()
    uploads.stop()
    go_on.set()
    thread.close()
    assert [path.name for path in (tmp_path / "root").iterdir()] == ["0.txt"]
    assert len(uploads.snapshots()) == 2


@pytest.mark.parametrize("together", [True, False])
def test_a_snapshot_that_a_newer_artifact_replaced_is_withdrawn_and_dropped(
    tmp_path: Path, store: MemoryStore, streams: Streams, uploads: Uploads, together: bool
) -> None:
    names = [f"{number:032x}" for number in range(3)]
    (tmp_path / SNAPSHOTS).mkdir()
    for name in names:
        (tmp_path / SNAPSHOTS / name).write_text(name)
    store.apply([block(RUN, started(artifact_uri=str(tmp_path / "root")), writer=OTHER_WRITER)])
    logged = [ArtifactLogged(time=1, path="a.txt", size=32, snapshot=name) for name in names]
    announcements = Announcements(streams, store)
    blocks = [block(RUN, *logged)] if together else [block(RUN, event, first=number) for number, event in enumerate(logged)]
    for item in blocks:
        store.apply([item])
        announcements.run([item])
    assert uploads.store_waiting() == 1
    assert (tmp_path / "root" / "a.txt").read_text() == names[2]
    assert (uploads.snapshots(), streams.redis.hlen(UPLOADS)) == ([], 0)


def test_a_shipper_says_that_nobody_has_started_the_run_and_stores_its_artifact_once_somebody_has(
    tmp_path: Path, store: MemoryStore, streams: Streams, uploads: Uploads
) -> None:
    snapshot = tmp_path / SNAPSHOTS / SNAPSHOT
    snapshot.parent.mkdir()
    snapshot.write_bytes(b"hello")
    os.utime(snapshot, (time.time() - GRACE - 1, time.time() - GRACE - 1))
    announcements, logged = Announcements(streams, store), block(RUN, ArtifactLogged(time=1, path="a.txt", size=5, snapshot=SNAPSHOT))
    store.apply([logged])
    announcements.run([logged])
    uploads.run()
    note = read_note(snapshot)
    assert note is not None
    assert f"nobody has started the run {RUN}" in note.reason
    store.apply([block(RUN, started(artifact_uri=str(tmp_path / "root")), writer=OTHER_WRITER)])
    announcements.sweep()
    uploads.run()
    assert (tmp_path / "root" / "a.txt").read_bytes() == b"hello"
    assert list(snapshot.parent.iterdir()) == []


def test_an_artifact_that_was_replaced_while_it_was_announced_again_is_not_stored_after_the_newer_one(
    tmp_path: Path, store: MemoryStore, streams: Streams, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    older, newer = "b" * 32, "a" * 32
    (tmp_path / SNAPSHOTS).mkdir()
    for name in (older, newer):
        (tmp_path / SNAPSHOTS / name).write_text(name)
    store.apply([block(RUN, started(artifact_uri=str(tmp_path / "root")), writer=OTHER_WRITER)])
    logged = [ArtifactLogged(time=1, path="a.txt", size=32, snapshot=name) for name in (older, newer)]
    store.apply([block(RUN, logged[0])])
    pages = [store.pending_artifacts(), []]
    store.apply([block(RUN, logged[1], first=1)])
    announcements = Announcements(streams, store)
    announcements.run([block(RUN, logged[1], first=1)])
    with monkeypatch.context() as late:
        late.setattr(store, "pending_artifacts", lambda **_: pages.pop(0))
        announcements.sweep()
    uploads.run()
    assert (tmp_path / "root" / "a.txt").read_text() == newer
    assert (uploads.snapshots(), streams.redis.hlen(UPLOADS)) == ([], 0)


def test_an_artifact_that_was_settled_while_it_was_announced_again_is_not_announced_for_ever(
    tmp_path: Path, store: MemoryStore, streams: Streams, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    log_artifact(tmp_path, tmp_path / "root", store, streams)
    pages = [store.pending_artifacts(), []]
    uploads.run()
    _file_notes(tmp_path, store)
    monkeypatch.setattr(store, "pending_artifacts", lambda **_: pages.pop(0))
    Announcements(streams, store).sweep()
    assert streams.redis.hlen(UPLOADS) == 0


def test_what_is_tried_again_is_told_and_stays_announced(
    tmp_path: Path, store: MemoryStore, streams: Streams, uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "the disk is full")

    log_artifact(tmp_path, tmp_path / "root", store, streams)
    with monkeypatch.context() as broken:
        broken.setattr("flightlog.worker.uploads.sha256_of", full)
        uploads.run()
    _file_notes(tmp_path, store)
    assert [(item.state, "the disk is full" in (item.reason or "")) for item in store.artifacts(RUN)] == [("pending", True)]
    assert streams.redis.hlen(UPLOADS) == 1
    monkeypatch.setattr("flightlog.worker.pauses.Pauses.is_open", lambda *_: True)
    uploads.run()
    _file_notes(tmp_path, store)
    [stored] = store.artifacts(RUN)
    assert (stored.state, stored.reason, stored.sha256) == ("stored", None, hashlib.sha256(b"hello").hexdigest())
