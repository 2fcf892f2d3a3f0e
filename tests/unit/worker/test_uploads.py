"""Artifacts come from the spool's own folder of snapshots, and one that cannot be stored stops nobody."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
import time
from collections.abc import Collection, Sequence
from pathlib import Path

import pytest

from contracts.facts import OTHER_WRITER, RUN, block, started
from flightlog.producer.awaited import AwaitedArtifacts
from flightlog.schema.artifact_notes import ArtifactNote, read_note
from flightlog.schema.errors import StoreUnavailable
from flightlog.schema.events import ArtifactLogged
from flightlog.schema.names import SNAPSHOTS, STORING
from flightlog.stores.artifacts.base import ArtifactsUnavailable
from flightlog.stores.base import Outcome, PendingArtifact
from flightlog.stores.memory import MemoryStore
from flightlog.worker.upload_thread import UploadThread
from flightlog.worker.uploads import THREADS, Uploads

SNAPSHOT = "0123456789abcdef" * 2
LOST = "f" * 32


def _logged(path: str, snapshot: str = SNAPSHOT, size: int = 4) -> ArtifactLogged:
    return ArtifactLogged(time=1, path=path, size=size, snapshot=snapshot)


def _snapshot(spool: Path, name: str = SNAPSHOT) -> Path:
    path = spool / SNAPSHOTS / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "root"


def test_a_snapshot_is_moved_to_where_its_run_keeps_artifacts(tmp_path: Path, root: Path, store: MemoryStore) -> None:
    snapshot = _snapshot(tmp_path)
    store.apply([block(RUN, started(artifact_uri=str(root)), _logged("plots/a.txt"))])
    Uploads(tmp_path, store).run()
    assert (root / "plots" / "a.txt").read_text() == "mine"
    assert not snapshot.exists()
    assert [item.state for item in store.artifacts(RUN)] == ["stored"]


@pytest.mark.parametrize("name", ["{victim}", "../victim.txt", "..", "", "a\0b", SNAPSHOT.upper(), f"{SNAPSHOT}\n", "g" * 20_000])
def test_a_snapshot_is_only_taken_from_the_spool(tmp_path: Path, root: Path, store: MemoryStore, name: str) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_text("mine")
    store.apply([block(RUN, started(artifact_uri=str(root)), _logged("stolen.txt", name.format(victim=victim)))])
    uploads = Uploads(tmp_path, store)
    uploads.run()
    uploads.sweep()
    (settled,) = store.artifacts(RUN)
    assert (settled.state, "32 hexadecimal digits" in (settled.reason or "")) == ("failed", True)
    assert victim.read_text() == "mine"
    assert not root.exists()


@pytest.mark.parametrize(
    ("uri", "path", "reason"),
    [("nosuch://x/a", "p", "nosuch"), ("{root}", "../../p", "leaves the run"), ("{root}", "a\0b", "leaves the run")],
)
@pytest.mark.parametrize("is_lost", [False, True])
def test_an_artifact_that_can_never_be_stored_fails_alone(
    tmp_path: Path, root: Path, store: MemoryStore, uri: str, path: str, reason: str, is_lost: bool
) -> None:
    _snapshot(tmp_path)
    bad = _logged(path, LOST if is_lost else SNAPSHOT)
    store.apply([block(RUN, started(artifact_uri=uri.format(root=root)), bad)])
    store.apply([block("b" * 32, started(artifact_uri=str(root)), _logged("fine", "e" * 32))])
    _snapshot(tmp_path, "e" * 32)
    Uploads(tmp_path, store).sweep()
    (settled,) = store.artifacts(RUN)
    assert (settled.state, reason in (settled.reason or "")) == ("failed", True)
    assert [item.state for item in store.artifacts("b" * 32)] == ["stored"]


def test_an_older_file_at_the_path_is_never_taken_for_an_artifact_whose_copy_is_elsewhere(
    tmp_path: Path, root: Path, store: MemoryStore
) -> None:
    root.mkdir()
    (root / "a.txt").write_text("older")
    store.apply([block(RUN, started(artifact_uri=str(root)), _logged("a.txt", size=5))])
    Uploads(tmp_path, store).sweep()
    assert [item.state for item in store.artifacts(RUN)] == ["pending"]


class Away(MemoryStore):
    """A store that cannot be told of artifacts."""

    def settle_artifacts(self, outcomes: Sequence[Outcome]) -> None:
        raise StoreUnavailable("away")


def test_the_copy_stays_until_the_store_has_been_told(tmp_path: Path, root: Path, store: MemoryStore) -> None:
    away = Away()
    for each in (away, store):
        each.apply([block(RUN, started(artifact_uri=str(root)), _logged("a.txt"))])
    _snapshot(tmp_path)
    with pytest.raises(StoreUnavailable):
        Uploads(tmp_path, away).run()
    assert (root / "a.txt").is_file()
    Uploads(tmp_path, store).run()
    assert [item.state for item in store.artifacts(RUN)] == ["stored"]
    assert list((tmp_path / "artifacts").iterdir()) == []


class Counting(MemoryStore):
    """Counts the artifacts that were asked for."""

    given = 0

    def pending_artifacts(self, limit: int = 1000, after: PendingArtifact | None = None) -> list[PendingArtifact]:
        found = super().pending_artifacts(limit, after)
        self.given += len(found)
        return found

    def pending_snapshots(self, snapshots: Collection[str]) -> list[PendingArtifact]:
        found = super().pending_snapshots(snapshots)
        self.given += len(found)
        return found


def test_the_artifacts_of_another_spool_neither_hide_ours_nor_are_looked_at_each_time(tmp_path: Path, root: Path) -> None:
    store, uploads = Counting(), None
    others = [_logged(f"a{number:04d}", f"{number:032x}") for number in range(1500)]
    _snapshot(tmp_path)
    store.apply([block(RUN, started(artifact_uri=str(root)), *others, _logged("z"))])
    uploads = Uploads(tmp_path, store)
    for _ in range(3):
        uploads.run()
    assert store.given == 1
    assert [item.path for item in store.artifacts(RUN) if item.state == "stored"] == ["z"]
    uploads.sweep()
    assert store.given == 1501
    assert len(store.pending_artifacts(2000)) == 1500


class Flaky:
    """A place that is away for some calls."""

    def __init__(self, failures: list[Exception]) -> None:
        self.failures = failures
        self.stored: list[str] = []

    def put(self, source: Path, path: str, sha256: str | None = None, told: object = None) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.stored.append(path)


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Flaky:
    """Have all artifacts go to one flaky place."""
    flaky = Flaky([])
    monkeypatch.setattr("flightlog.worker.uploads.open_artifacts", lambda _: flaky)
    monkeypatch.setattr("flightlog.worker.pauses.FIRST", 0.3)
    return flaky


def _state(store: MemoryStore) -> tuple[str, str]:
    (artifact,) = store.artifacts(RUN)
    return artifact.state, artifact.reason or ""


def test_what_may_go_well_later_stays_pending_with_the_reason_and_is_tried_again(tmp_path: Path, store: MemoryStore, place: Flaky) -> None:
    place.failures = [ArtifactsUnavailable("the bucket is away"), OSError(errno.ENOSPC, "the disk is full")]
    snapshot = _snapshot(tmp_path)
    store.apply([block(RUN, started(artifact_uri="s3://flights/x"), _logged("a.txt"))])
    uploads = Uploads(tmp_path, store)
    uploads.run()
    assert _state(store) == ("pending", "attempt 1 failed, it is tried again: ArtifactsUnavailable: the bucket is away")
    note = read_note(snapshot)
    assert note is not None
    assert (note.state, note.attempts) == ("pending", 1)
    uploads.run()
    assert len(place.failures) == 1  # not before the pause is over
    assert uploads.delayed == 1
    assert uploads.trouble > 0
    time.sleep(0.31)
    uploads.run()
    assert "attempt 2 failed" in _state(store)[1]
    time.sleep(0.61)
    uploads.run()
    assert (_state(store), place.stored) == (("stored", ""), ["a.txt"])
    assert list((tmp_path / SNAPSHOTS).iterdir()) == []
    assert uploads.trouble == 0


def test_a_place_that_is_away_is_left_alone_and_others_are_not(tmp_path: Path, store: MemoryStore, place: Flaky) -> None:
    place.failures = [ArtifactsUnavailable("away")] * THREADS
    names = [f"{number:032x}" for number in range(3 * THREADS)]
    for name in names:
        _snapshot(tmp_path, name)
    store.apply([block(RUN, started(artifact_uri="s3://flights/x"), *(_logged(name, name) for name in names))])
    uploads = Uploads(tmp_path, store)
    uploads.run()
    tried = [item for item in store.artifacts(RUN) if item.reason]
    assert 1 <= len(tried) <= THREADS
    store.apply([block("b" * 32, started(artifact_uri="s3://other/x"), _logged("b", "e" * 32))])
    _snapshot(tmp_path, "e" * 32)
    place.failures = []
    uploads.run()
    assert [item.state for item in store.artifacts("b" * 32)] == ["stored"]


@pytest.mark.parametrize(("change", "reason"), [("mine and more", "13 bytes, and 4"), ("your", "SHA-256")])
def test_a_snapshot_that_was_changed_is_not_stored(tmp_path: Path, root: Path, store: MemoryStore, change: str, reason: str) -> None:
    snapshot = _snapshot(tmp_path)
    logged = _logged("a.txt").model_copy(update={"sha256": hashlib.sha256(b"mine").hexdigest()})
    store.apply([block(RUN, started(artifact_uri=str(root)), logged)])
    snapshot.write_text(change)
    Uploads(tmp_path, store).run()
    state, said = _state(store)
    assert (state, "ArtifactDamaged" in said, reason in said) == ("failed", True, True)
    assert not root.exists()
    assert snapshot.exists()


def test_the_checksum_is_worked_out_where_the_event_has_none(tmp_path: Path, root: Path, store: MemoryStore) -> None:
    _snapshot(tmp_path)
    store.apply([block(RUN, started(artifact_uri=str(root)), _logged("a.txt"))])
    Uploads(tmp_path, store).run()
    assert [item.sha256 for item in store.artifacts(RUN)] == [hashlib.sha256(b"mine").hexdigest()]


@pytest.mark.parametrize("together", [True, False])
def test_a_snapshot_that_a_newer_artifact_replaced_does_not_stay_in_the_spool(
    tmp_path: Path, root: Path, store: MemoryStore, place: Flaky, together: bool
) -> None:
    place.failures = [ArtifactsUnavailable("away")] * 10
    names = ["a" * 32, "b" * 32, "c" * 32]
    for name in names:
        _snapshot(tmp_path, name)
    facts = [_logged("a.txt", name) for name in names]
    batches = [facts] if together else [[fact] for fact in facts]
    store.apply([block(RUN, started(artifact_uri="s3://flights/x"), writer=OTHER_WRITER)])
    uploads, first = Uploads(tmp_path, store, store), 0
    for batch in batches:
        blocks = [block(RUN, *batch, first=first)]
        first += len(batch)
        store.apply(blocks)
        uploads.run(blocks)
    assert [path.name for path in (tmp_path / SNAPSHOTS).iterdir() if not path.suffix] == [names[2]]
    place.failures.clear()
    time.sleep(0.61)
    uploads.run()
    assert list((tmp_path / SNAPSHOTS).iterdir()) == []
    assert [(item.snapshot, item.state) for item in store.artifacts(RUN)] == [(names[2], "stored")]


def test_a_snapshot_that_goes_while_it_is_stored_is_no_failure_of_the_artifact(
    tmp_path: Path, store: MemoryStore, place: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = _snapshot(tmp_path)

    def put_what_is_replaced_meanwhile(source: Path, *_: object) -> None:
        snapshot.unlink()
        source.read_bytes()

    monkeypatch.setattr(place, "put", put_what_is_replaced_meanwhile)
    store.apply([block(RUN, started(artifact_uri="s3://flights/x"), _logged("a.txt"))])
    Uploads(tmp_path, store, store).run()
    assert _state(store) == ("pending", "")


def test_the_snapshot_of_an_artifact_that_failed_stays_when_its_event_comes_again(tmp_path: Path, store: MemoryStore) -> None:
    snapshot = _snapshot(tmp_path)
    blocks = [block(RUN, started(artifact_uri="nosuch://x"), _logged("a.txt"))]
    store.apply(blocks)
    uploads = Uploads(tmp_path, store, store)
    uploads.run(blocks)
    uploads.run(blocks)
    assert _state(store)[0] == "failed"
    assert snapshot.exists()
    assert read_note(snapshot) == ArtifactNote("failed", _state(store)[1])


def test_a_worker_gives_signs_while_it_stores_a_file(
    tmp_path: Path, store: MemoryStore, place: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flightlog.worker.uploads.MARK", 0.0)
    entered, go_on = threading.Event(), threading.Event()

    def put_slowly(*_: object) -> None:
        entered.set()
        go_on.wait(10)

    monkeypatch.setattr(place, "put", put_slowly)
    _snapshot(tmp_path)
    blocks = [block(RUN, started(artifact_uri="s3://flights/x"), _logged("a.txt"))]
    store.apply(blocks)
    thread, awaited = UploadThread(Uploads(tmp_path, store, store), announced=0), AwaitedArtifacts(tmp_path)
    assert not awaited.are_being_stored(1)
    thread.run(blocks)
    assert entered.wait(5)
    assert awaited.are_being_stored(1)
    os.utime(tmp_path / STORING, (1, 1))
    assert not awaited.are_being_stored(1)
    thread.look()
    assert awaited.are_being_stored(1)
    go_on.set()
    thread.close()


def test_a_thread_tries_again_by_itself_and_says_that_it_waits(tmp_path: Path, store: MemoryStore, place: Flaky) -> None:
    place.failures = [ArtifactsUnavailable("away")]
    _snapshot(tmp_path)
    blocks = [block(RUN, started(artifact_uri="s3://flights/x"), _logged("a.txt"))]
    store.apply(blocks)
    thread = UploadThread(Uploads(tmp_path, store, store), announced=0)
    thread.run(blocks)
    assert thread.is_waiting
    deadline = time.monotonic() + 10
    while _state(store)[0] != "stored" and time.monotonic() < deadline:
        assert thread.is_waiting
        thread.look()
        time.sleep(0.01)
    assert place.stored == ["a.txt"]
    thread.close()
    assert not thread.is_waiting
