"""Artifacts come from the spool's own folder of snapshots, and one that cannot be stored stops nobody."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import pytest

from contracts.facts import RUN, block, started
from flightlog.schema.events import ArtifactLogged
from flightlog.schema.names import SNAPSHOTS
from flightlog.stores.base import PendingArtifact
from flightlog.stores.memory import MemoryStore
from flightlog.worker.uploads import Uploads

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


@pytest.mark.parametrize(("size", "state"), [(4, "stored"), (5, "pending")])
def test_an_artifact_that_was_moved_before_a_crash_is_found(tmp_path: Path, root: Path, store: MemoryStore, size: int, state: str) -> None:
    root.mkdir()
    (root / "a.txt").write_text("mine")
    store.apply([block(RUN, started(artifact_uri=str(root)), _logged("a.txt", size=size))])
    Uploads(tmp_path, store).sweep()
    assert [item.state for item in store.artifacts(RUN)] == [state]


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
