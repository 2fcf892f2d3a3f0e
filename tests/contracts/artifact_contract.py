"""What every repository of artifacts does; a suite for each back end inherits it and gives an empty `repository`."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.stores.artifacts.base import ArtifactRepository

HOSTILE = [
    "/etc/passwd",
    "//host/share",
    "..",
    "../a",
    "a/../../b",
    "a/..",
    "a/../b",
    "\\\\host\\share",
    "..\\a",
    "a\\b",
    "C:\\a",
    "C:/a",
    "c:a",
    "a\0b",
]
"""Paths that lead out of a run's artifacts here or on some other machine."""
CALLS = ("put", "copy", "list", "size", "sha256", "get", "delete")


class ArtifactContract:
    """Tests that hold for any back end."""

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        path = tmp_path / "source.bin"
        path.write_bytes(b"content")
        return path

    def test_what_is_put_is_listed_measured_fetched_and_deleted(self, repository: ArtifactRepository, source: Path, tmp_path: Path) -> None:
        repository.copy(source, "notes/deep/a.txt")
        repository.put(source, "b.bin")
        assert [(item.path, item.is_dir, item.file_size) for item in repository.list()] == [("b.bin", False, 7), ("notes", True, None)]
        assert [item.path for item in repository.list("notes/deep")] == ["notes/deep/a.txt"]
        assert (repository.size("notes/deep/a.txt"), repository.size("notes"), repository.size("nothing")) == (7, None, None)
        repository.get("notes/deep/a.txt", tmp_path / "new" / "folder" / "a.txt")
        assert (tmp_path / "new" / "folder" / "a.txt").read_bytes() == b"content"
        repository.delete("notes/deep/a.txt")
        repository.delete("notes/deep/a.txt")
        assert [item.path for item in repository.list()] == ["b.bin"]

    def test_what_is_not_there_is_not_found_and_leaves_nothing(self, repository: ArtifactRepository, tmp_path: Path) -> None:
        assert (repository.list("nothing"), repository.size("nothing")) == ([], None)
        with pytest.raises(NotFound):
            repository.get("nothing", tmp_path / "folder" / "a.txt")
        assert not list(tmp_path.glob("folder/*"))

    def test_a_checksum_is_that_of_the_content_whether_it_was_given_or_not(self, repository: ArtifactRepository, source: Path) -> None:
        sha256 = hashlib.sha256(b"content").hexdigest()
        repository.copy(source, "plain")
        repository.put(source, "given", sha256)
        assert [repository.sha256(path) for path in ("plain", "given", "nothing")] == [sha256, sha256, None]

    def test_a_file_is_no_folder(self, repository: ArtifactRepository, source: Path) -> None:
        repository.copy(source, "a.txt")
        assert repository.list("a.txt") == []

    def test_the_newest_file_at_a_path_counts(self, repository: ArtifactRepository, source: Path, tmp_path: Path) -> None:
        repository.copy(source, "a.txt")
        source.write_bytes(b"newer")
        repository.put(source, "a.txt")
        repository.get("a.txt", tmp_path / "a.txt")
        assert (tmp_path / "a.txt").read_bytes() == b"newer"

    def test_a_copy_leaves_its_source(self, repository: ArtifactRepository, source: Path) -> None:
        repository.copy(source, "a.txt", hashlib.sha256(b"content").hexdigest())
        assert source.read_bytes() == b"content"
        assert [path.name for path in source.parent.iterdir() if path.name.startswith(source.name)] == [source.name]

    def test_bytes_are_counted_as_they_come(self, repository: ArtifactRepository, source: Path, tmp_path: Path) -> None:
        told: list[int] = []
        repository.copy(source, "a.txt")
        repository.get("a.txt", tmp_path / "a.txt", told.append)
        assert sum(told) == 7

    def test_names_of_all_alphabets_come_back_as_they_were(self, repository: ArtifactRepository, source: Path) -> None:
        names = ["a b+c%20&d=e#f?.txt", "ключ.txt", "~tilde", "..dots..", "…"]
        for name in names:
            repository.copy(source, name)
        assert {item.path for item in repository.list()} == set(names)
        assert all(repository.size(name) == 7 for name in names)

    @pytest.mark.parametrize("call", CALLS)
    @pytest.mark.parametrize("path", HOSTILE, ids=repr)
    def test_a_path_that_leads_out_is_refused(
        self, repository: ArtifactRepository, source: Path, tmp_path: Path, call: str, path: str
    ) -> None:
        arguments = {"put": (source, path), "copy": (source, path), "get": (path, tmp_path / "target")}.get(call, (path,))
        with pytest.raises(InvalidParameter, match="leaves the run's artifacts"):
            getattr(repository, call)(*arguments)
        assert source.read_bytes() == b"content"
        assert not (tmp_path / "target").exists()

    @pytest.mark.parametrize("call", ["put", "copy", "delete"])
    def test_the_top_is_no_file(self, repository: ArtifactRepository, source: Path, call: str) -> None:
        with pytest.raises(InvalidParameter, match="names no file"):
            getattr(repository, call)(*(("",) if call == "delete" else (source, ".")))
        assert os.path.exists(source)  # noqa: PTH110 - also where it would be a broken link
