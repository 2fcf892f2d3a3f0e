"""Where an artifact may be put, and what is copied."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.producer import snapshots
from flightlog.schema.artifact_paths import check_artifact_path
from flightlog.schema.errors import InvalidParameter

GOOD = [
    (None, ""),
    ("", ""),
    (".", ""),
    ("a", "a"),
    ("a/b.txt", "a/b.txt"),
    ("a//b", "a/b"),
    ("a/./b/", "a/b"),
    ("..a/b..", "..a/b.."),
    ("a b/ü", "a b/ü"),
]
BAD = ["/a", "..", "../a", "a/../../b", "a/..", "a\\b", "..\\a", "C:\\a", "C:/a", "c:a", "\\\\host\\share", "//host/share", "a\0b"]


@pytest.mark.parametrize(("path", "normal"), GOOD)
def test_a_path_inside_the_artifacts_gets_its_normal_form(path: str | None, normal: str) -> None:
    assert check_artifact_path(path) == normal


@pytest.mark.parametrize("path", BAD, ids=repr)
def test_a_path_that_leads_elsewhere_on_some_machine_is_refused(path: str) -> None:
    with pytest.raises(InvalidParameter, match="leaves the run's artifacts"):
        check_artifact_path(path)


def test_a_folder_keeps_its_name_and_its_files_their_order(tmp_path: Path) -> None:
    for name in ("model/b.bin", "model/a.bin", "model/deep/c.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert [path for _, path in snapshots.local_files(tmp_path / "model", "out")] == [
        "out/model/a.bin",
        "out/model/b.bin",
        "out/model/deep/c.bin",
    ]
    assert [path for _, path in snapshots.folder_files(tmp_path / "model", "")] == ["a.bin", "b.bin", "deep/c.bin"]


def test_a_snapshot_is_a_copy_that_later_writes_do_not_change(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"before")
    taken = snapshots.snapshot_file(tmp_path / "weights", tmp_path / "spool")
    with (tmp_path / "weights").open("r+b") as file:
        file.write(b"after!")
    assert taken.size == 6
    assert (tmp_path / "spool" / "artifacts" / taken.name).read_bytes() == b"before"


@pytest.mark.parametrize("source", ["missing", "folder"])
def test_what_is_no_file_is_refused_and_nothing_is_left_behind(tmp_path: Path, source: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(InvalidParameter, match="cannot log"):
        snapshots.snapshot_file(tmp_path / source, tmp_path / "spool")
    assert not list(tmp_path.glob("spool/artifacts/*"))
