"""What killed processes left in a spool goes, and nothing that anybody could still speak of."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from contracts.facts import RUN, block, started
from flightlog.schema import frames
from flightlog.schema.artifact_notes import ArtifactNote, note_path, note_text
from flightlog.schema.codec import encode
from flightlog.schema.events import ArtifactLogged
from flightlog.schema.names import SNAPSHOTS, UNKNOWN, UPLOADS
from flightlog.stores.artifacts.partial import STALE
from flightlog.stores.base import Gap
from flightlog.stores.memory import MemoryStore
from flightlog.worker.leftovers import Leftovers
from flightlog.worker.queued_artifacts import Announcements, QueuedArtifacts
from flightlog.worker.streams import Streams
from flightlog.worker.uploads import Uploads
from journals import WRITER, write_segment

NAME = "0123456789abcdef" * 2


def _file(spool: Path, name: str = NAME, age: float = STALE + 60) -> Path:
    path = spool / SNAPSHOTS / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def _logged(snapshot: str = NAME) -> ArtifactLogged:
    return ArtifactLogged(time=1, path="a.txt", size=4, snapshot=snapshot)


def test_a_copy_of_which_no_event_tells_goes_after_a_day(tmp_path: Path, store: MemoryStore, caplog: pytest.LogCaptureFixture) -> None:
    old, young = _file(tmp_path), _file(tmp_path, "f" * 32, STALE - 60)
    Uploads(tmp_path, store).run()
    assert (old.exists(), young.exists()) == (False, True)
    assert f"copies of artifacts of which no event tells were deleted from {tmp_path / SNAPSHOTS}: 1, such as {NAME}" in caplog.text


@pytest.mark.parametrize("suffix", [frames.SUFFIX, frames.SUFFIX + frames.CORRUPT_SUFFIX])
def test_a_copy_that_a_journal_names_stays(tmp_path: Path, store: MemoryStore, suffix: str) -> None:
    snapshot = _file(tmp_path)
    segment = write_segment(tmp_path, encode(_logged()))
    segment.rename(segment.with_name(segment.name.removesuffix(frames.SUFFIX) + suffix))
    Uploads(tmp_path, store).run()
    assert snapshot.exists()


def test_nothing_goes_while_a_journal_gets_another_name(tmp_path: Path, store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    snapshot, segment = _file(tmp_path), write_segment(tmp_path, encode(_logged()))
    read = Path.read_bytes

    def set_aside_and_read(path: Path) -> bytes:
        if segment.exists():
            segment.rename(f"{segment}{frames.CORRUPT_SUFFIX}")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", set_aside_and_read)
    Leftovers(tmp_path, store.unwanted_snapshots).remove()
    assert snapshot.exists()


@pytest.mark.parametrize("state", ["waits", "failed", "is homeless", "is a dead letter"])
def test_a_copy_that_the_store_knows_stays(tmp_path: Path, store: MemoryStore, state: str) -> None:
    snapshot = _file(tmp_path)
    if state == "is a dead letter":
        store.apply([Gap(RUN, WRITER, 0, 1, "refused", "because", encode(_logged()))])
    else:
        uri = {"waits": "s3://flights", "failed": "nosuch://x", "is homeless": None}[state]
        store.apply([block(RUN, *([started(artifact_uri=uri)] if uri else []), _logged())])
    if state == "failed":
        Uploads(tmp_path, store).run()
        note_path(snapshot).unlink()
    Leftovers(tmp_path, store.unwanted_snapshots).remove()
    assert snapshot.exists()


def test_a_copy_that_was_stored_or_replaced_before_its_worker_was_killed_goes(tmp_path: Path, store: MemoryStore) -> None:
    names = ["a" * 32, "b" * 32]
    copies = [_file(tmp_path, name) for name in names]
    store.apply([block(RUN, started(artifact_uri=str(tmp_path / "root")), *map(_logged, names))])
    [(_, _, newest)] = store.pending_artifacts()
    store.settle_artifact(RUN, newest, "stored")
    Uploads(tmp_path, store).run()
    assert [path.exists() for path in copies] == [False, False]


def test_notes_without_their_copies_and_files_that_were_being_written_go_after_a_day(tmp_path: Path, store: MemoryStore) -> None:
    kept = {_file(tmp_path, "f" * 32), note_path(tmp_path / SNAPSHOTS / ("f" * 32)), _file(tmp_path, f".flightlog-{'e' * 32}.partial", 60)}
    _file(tmp_path, f"{'f' * 32}.state").write_text(note_text(ArtifactNote("failed", "because")))
    _file(tmp_path, f"{NAME}.state")
    _file(tmp_path, f".flightlog-{'d' * 32}.partial")
    Uploads(tmp_path, store).run()
    assert set((tmp_path / SNAPSHOTS).iterdir()) == kept


@pytest.mark.parametrize("is_known", [True, False])
def test_a_shipper_has_the_store_asked_before_it_deletes_a_copy(
    tmp_path: Path, store: MemoryStore, streams: Streams, is_known: bool
) -> None:
    snapshot = _file(tmp_path)
    if is_known:
        store.apply([block(RUN, started(artifact_uri="nosuch://x"), _logged())])
        [(_, _, failed)] = store.pending_artifacts()
        store.settle_artifact(RUN, failed, "failed")
    uploads = Uploads(tmp_path, QueuedArtifacts(streams, tmp_path))
    uploads.run()
    assert snapshot.exists()
    Announcements(streams, store).sweep()
    uploads.run()
    assert snapshot.exists() is is_known
    assert (streams.redis.exists(UNKNOWN), streams.redis.exists(UPLOADS)) == (0, 0)
