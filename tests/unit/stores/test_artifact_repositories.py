"""Artifacts in a folder and in memory."""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

import pytest

from contracts.artifact_contract import CALLS, ArtifactContract
from flightlog.schema.errors import ArtifactDamaged, InvalidParameter, NotFound
from flightlog.stores.artifacts import local_root, memory, open_artifacts
from flightlog.stores.artifacts.base import ArtifactRepository, ArtifactsUnavailable, may_pass
from flightlog.stores.artifacts.download import download
from flightlog.stores.artifacts.local import LocalArtifacts
from flightlog.stores.artifacts.memory import MemoryArtifacts
from flightlog.stores.artifacts.partial import STALE
from flightlog.stores.artifacts.removal import all_files


class TestLocalArtifacts(ArtifactContract):
    @pytest.fixture
    def repository(self, tmp_path: Path) -> ArtifactRepository:
        return LocalArtifacts(tmp_path / "root")


class TestMemoryArtifacts(ArtifactContract):
    @pytest.fixture
    def repository(self) -> ArtifactRepository:
        return MemoryArtifacts(files={})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give the root of artifacts with a file, beside a file that is nobody's business."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").write_text("secret")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.txt").write_text("mine")
    return tmp_path / "root"


@pytest.mark.parametrize("call", CALLS)
def test_a_link_to_a_folder_outside_is_not_followed(root: Path, tmp_path: Path, call: str) -> None:
    (root / "out").symlink_to(tmp_path / "secret")
    path = "out" if call == "list" else "out/key"
    source = tmp_path / "source"
    source.write_text("forged")
    arguments = {"put": (source, path), "copy": (source, path), "get": (path, tmp_path / "target")}.get(call, (path,))
    with pytest.raises(InvalidParameter, match="symbolic link"):
        getattr(LocalArtifacts(root), call)(*arguments)
    assert (tmp_path / "secret" / "key").read_text() == "secret"
    assert not (tmp_path / "target").exists()


@pytest.mark.parametrize("call", ["size", "get"])
def test_a_link_to_a_file_outside_is_not_read(root: Path, tmp_path: Path, call: str) -> None:
    (root / "key").symlink_to(tmp_path / "secret" / "key")
    with pytest.raises(InvalidParameter, match="leads out"):
        getattr(LocalArtifacts(root), call)(*(("key", tmp_path / "target") if call == "get" else ("key",)))


def test_a_link_is_replaced_or_removed_itself_and_never_what_it_leads_to(root: Path, tmp_path: Path) -> None:
    for name in ("put", "copy", "deleted"):
        (root / name).symlink_to(tmp_path / "secret" / "key")
        (tmp_path / name).write_text("mine")
    LocalArtifacts(root).put(tmp_path / "put", "put")
    LocalArtifacts(root).copy(tmp_path / "copy", "copy")
    LocalArtifacts(root).delete("deleted")
    assert (tmp_path / "secret" / "key").read_text() == "secret"
    assert [(root / name).is_symlink() for name in ("put", "copy")] == [False, False]
    assert not (root / "deleted").is_symlink()


def test_lists_show_neither_links_nor_what_is_no_file(root: Path, tmp_path: Path) -> None:
    (root / "ring").symlink_to(root)
    (root / "self").symlink_to(root / "self")
    (root / "nowhere").symlink_to(root / "nothing")
    (root / "key").symlink_to(tmp_path / "secret" / "key")
    os.mkfifo(root / "pipe")
    (root / f".flightlog-{'0' * 32}.partial").touch()
    assert list(all_files(LocalArtifacts(root))) == ["a.txt"]


@pytest.mark.parametrize("call", ["list", "size"])
def test_a_ring_of_links_is_neither_followed_nor_waited_for(root: Path, call: str) -> None:
    (root / "one").symlink_to(root / "two")
    (root / "two").symlink_to(root / "one")
    with suppress(InvalidParameter):  # as Python before 3.13 has it; later ones find nothing there
        assert not getattr(LocalArtifacts(root), call)("one")


def test_a_root_that_is_a_link_is_followed_because_an_operator_made_it(root: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(root)
    assert [item.path for item in LocalArtifacts(tmp_path / "link").list()] == ["a.txt"]


def test_a_pipe_is_no_artifact_and_blocks_nobody(root: Path, tmp_path: Path) -> None:
    os.mkfifo(root / "pipe")
    assert LocalArtifacts(root).size("pipe") is None
    with pytest.raises(NotFound):
        LocalArtifacts(root).get("pipe", tmp_path / "target")


def test_a_copy_that_is_not_what_was_logged_is_not_stored(root: Path, tmp_path: Path) -> None:
    (tmp_path / "source").write_text("content")
    other = hashlib.sha256(b"other").hexdigest()
    for repository in (LocalArtifacts(root), MemoryArtifacts(files={})):
        with pytest.raises(ArtifactDamaged, match=other):
            repository.copy(tmp_path / "source", "b.txt", other)
        assert repository.size("b.txt") is None


def _left_half_written(folder: Path, digit: str, age: float) -> Path:
    path = folder / f".flightlog-{digit * 32}.partial"
    path.touch()
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_what_a_killed_process_left_half_written_goes_when_somebody_copies_there(root: Path, tmp_path: Path) -> None:
    stale, fresh = _left_half_written(root, "0", STALE + 60), _left_half_written(root, "1", STALE - 60)
    LocalArtifacts(root).copy(tmp_path / "secret" / "key", "b.txt")
    assert (stale.exists(), fresh.exists()) == (False, True)


def test_what_was_left_half_written_keeps_no_folder_of_a_run_that_is_purged(tmp_path: Path) -> None:
    root = tmp_path / "7" / "run" / "artifacts"
    _logged(root, notes_a="text")
    _left_half_written(root / "notes", "0", STALE + 60)
    LocalArtifacts(root).delete("notes/a")
    assert not (tmp_path / "7" / "run").exists()


def test_repositories_are_chosen_by_uri(tmp_path: Path) -> None:
    assert isinstance(open_artifacts(str(tmp_path)), LocalArtifacts)
    assert isinstance(open_artifacts("memory:runs"), MemoryArtifacts)
    assert local_root("file:///a%20b/c") == Path("/a b/c")
    with pytest.raises(InvalidParameter, match="gs"):
        open_artifacts("gs://bucket/x")


def test_memory_uris_name_places_of_one_process(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("mine")
    open_artifacts("memory:one/run").put(tmp_path / "a", "a")
    assert open_artifacts("memory:one/run").size("a") == 4
    assert open_artifacts("memory:one").size("run/a") == 4
    assert open_artifacts("memory:two").list() == []
    memory.FILES.clear()


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (ArtifactsUnavailable("away"), True),
        (OSError(28, "No space left on device"), True),
        (PermissionError(13, "Permission denied"), False),
        (OSError("no errno"), False),
        (ValueError("wrong"), False),
    ],
    ids=repr,
)
def test_a_full_disk_may_pass_and_a_missing_permission_does_not(error: Exception, passes: bool) -> None:
    assert may_pass(error) is passes


def _logged(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("_", "/", 1)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_file_comes_to_its_path_and_a_folder_with_its_name(tmp_path: Path) -> None:
    root = _logged(tmp_path / "root", model_a="1", model_b="2", c="3")
    target = tmp_path / "new"
    assert download(str(root), "model/a", target) == str(target / "model" / "a")
    assert download(str(root), "model", target) == str(target / "model")
    assert download(str(root), "", target) == str(target)
    assert {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()} == {"model/a", "model/b", "c"}
    assert download(str(root), "c").endswith("/c")


def test_what_is_in_the_target_and_not_in_the_folder_stays(tmp_path: Path) -> None:
    root = _logged(tmp_path / "root", model_a="new")
    target = _logged(tmp_path / "target", model_a="old", model_mine="mine")
    download(str(root), "model", target)
    assert [(target / "model" / name).read_text() for name in ("a", "mine")] == ["new", "mine"]


def test_a_folder_of_which_one_file_is_damaged_leaves_nothing(tmp_path: Path) -> None:
    root = _logged(tmp_path / "root", model_a="1", model_b="changed")
    sums = {f"model/{name}": hashlib.sha256(content).hexdigest() for name, content in (("a", b"1"), ("b", b"2"))}
    with pytest.raises(ArtifactDamaged, match="model/b"):
        download(str(root), "model", tmp_path / "target", lambda: sums)
    assert list((tmp_path / "target").iterdir()) == []


def test_an_artifact_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="'nothing'"):
        download(str(tmp_path), "nothing", tmp_path / "target")
