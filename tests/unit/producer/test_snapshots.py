"""Where an artifact may be put, and what is copied."""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import time
from collections.abc import Callable
from io import FileIO
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


def _left(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("spool/artifacts/*"))


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def _link_to_pipe(path: Path) -> None:
    os.mkfifo("pipe")
    path.symlink_to("pipe")


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda _: None, "it is not there"),
    "folder": (Path.mkdir, "a folder"),
    "pipe": (os.mkfifo, "a named pipe"),
    "socket": (_bind, "a socket"),
    "nowhere": (lambda path: path.symlink_to("nothing"), "leads nowhere"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "link to a pipe": (_link_to_pipe, "a named pipe"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_is_no_file_is_refused_without_waiting_and_nothing_is_left_behind(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path may not be long
    make, reason = ODD[kind]
    make(Path(kind))
    with pytest.raises(InvalidParameter, match=f"cannot log .*{reason}"):
        snapshots.snapshot_file(Path(kind), tmp_path / "spool")
    assert not _left(tmp_path)


def test_a_ring_of_links_and_a_null_byte_are_errors(tmp_path: Path) -> None:
    (tmp_path / "ring").symlink_to(tmp_path / "ring")
    with pytest.raises(OSError, match="ring"):
        snapshots.snapshot_file(tmp_path / "ring", tmp_path / "spool")
    with pytest.raises(InvalidParameter, match="null"):
        snapshots.snapshot_file(tmp_path / "a\0b", tmp_path / "spool")


def test_a_link_that_is_given_is_followed(tmp_path: Path) -> None:
    (tmp_path / "step-100").write_bytes(b"weights")
    (tmp_path / "latest").symlink_to("step-100")
    taken = snapshots.snapshot_file(tmp_path / "latest", tmp_path / "spool")
    assert (taken.size, taken.sha256) == (7, hashlib.sha256(b"weights").hexdigest())
    assert [path for _, path in snapshots.local_files(tmp_path / "latest", "")] == ["latest"]


def test_a_file_of_the_system_that_says_it_is_empty_is_read(tmp_path: Path) -> None:
    taken = snapshots.snapshot_file(Path("/proc/self/status"), tmp_path / "spool")
    assert taken.size > 100


@pytest.mark.parametrize("size", [0, 1, snapshots.SMALL, snapshots.SMALL + 1, 3 * snapshots.SMALL + 7])
@pytest.mark.parametrize("way", ["cloned", "inside the system", "through this process"])
def test_every_size_is_copied_whole_in_every_way(tmp_path: Path, size: int, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "cloned":
        monkeypatch.setattr(snapshots, "fcntl", None)
    if way == "through this process":
        monkeypatch.delattr(os, "copy_file_range")
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    taken = snapshots.snapshot_file(tmp_path / "file", tmp_path / "spool")
    assert (tmp_path / "spool" / "artifacts" / taken.name).read_bytes() == content
    assert taken.size == size
    assert taken.sha256 == (hashlib.sha256(content).hexdigest() if size <= snapshots.SMALL else None)


def test_a_copy_goes_on_where_the_system_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content, real = os.urandom(2 * snapshots.SMALL), os.copy_file_range
    counts = [1000, 0]

    def once(source: int, target: int, count: int) -> int:
        if counts[0]:
            return real(source, target, counts.pop(0))
        raise OSError(errno.EXDEV, "not between these")

    monkeypatch.setattr(snapshots, "fcntl", None)
    monkeypatch.setattr(os, "copy_file_range", once)
    (tmp_path / "file").write_bytes(content)
    taken = snapshots.snapshot_file(tmp_path / "file", tmp_path / "spool")
    assert (tmp_path / "spool" / "artifacts" / taken.name).read_bytes() == content


@pytest.mark.parametrize("change", ["grows", "shrinks", "is rewritten"])
def test_a_large_file_that_changes_while_it_is_copied_is_refused(tmp_path: Path, change: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path, copy = tmp_path / "file", snapshots._copy
    path.write_bytes(bytes(2 * snapshots.SMALL))

    def meanwhile(reading: FileIO, writing: FileIO) -> None:
        copy(reading, writing)
        time.sleep(0.01)  # the clock of the file system
        with path.open("r+b") as file:
            file.seek(-1 if change == "is rewritten" else 0, os.SEEK_END)
            file.write(b"x") if change != "shrinks" else file.truncate(5)

    monkeypatch.setattr(snapshots, "fcntl", None)
    monkeypatch.setattr(snapshots, "_copy", meanwhile)
    with pytest.raises(InvalidParameter, match="changed while it was copied"):
        snapshots.snapshot_file(path, tmp_path / "spool")
    assert not _left(tmp_path)


class Growing(FileIO):
    """A small file to which somebody writes whenever it is read."""

    times = 0

    def readall(self) -> bytes:
        content = super().readall()
        if self.times:
            type(self).times -= 1
            with open(str(self.name), "ab") as file:  # noqa: PTH123 - FileIO's name
                file.write(b"more")
        return content


@pytest.mark.parametrize(("times", "refused"), [(snapshots.ATTEMPTS - 1, False), (snapshots.ATTEMPTS, True)])
def test_a_log_that_grows_now_and_then_is_read_again(tmp_path: Path, times: int, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(b"line")
    monkeypatch.setattr(snapshots, "_opened", lambda source: Growing(str(source)))
    monkeypatch.setattr(Growing, "times", times)
    if refused:
        with pytest.raises(InvalidParameter, match="changed while it was copied"):
            snapshots.snapshot_file(path, tmp_path / "spool")
    else:
        assert snapshots.snapshot_file(path, tmp_path / "spool").size == 4 + 4 * times


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Give a folder with a file, beside one that is not part of it."""
    for name in ("model/weights", "model/deep/more", "outside/secret"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path / "model"


def _paths(folder: Path, follow_links: bool = False) -> list[str]:
    return [path for _, path in snapshots.folder_files(folder, "", follow_links=follow_links)]


def test_links_inside_a_folder_stand_for_what_they_lead_to(folder: Path) -> None:
    (folder / "latest").symlink_to("weights")
    (folder / "again").symlink_to("deep")
    assert _paths(folder) == ["latest", "weights", "again/more", "deep/more"]


@pytest.mark.parametrize("target", ["outside/secret", "outside"])
def test_a_link_that_leads_out_of_a_folder_is_refused_unless_it_is_wanted(folder: Path, target: str) -> None:
    (folder / "link").symlink_to(folder.parent / target)
    with pytest.raises(InvalidParameter, match=r"leads out of the folder.*FLIGHTLOG_FOLLOW_LINKS"):
        _paths(folder)
    assert ("link" if "/" in target else "link/secret") in _paths(folder, follow_links=True)


@pytest.mark.parametrize("follow_links", [False, True])
@pytest.mark.parametrize(("place", "target"), [("up", "."), ("deep/up", ".."), ("self", "self"), ("deep/nowhere", "nothing")])
def test_a_link_in_a_ring_or_to_nowhere_is_refused(folder: Path, place: str, target: str, follow_links: bool) -> None:
    (folder / place).symlink_to(target)
    with pytest.raises(InvalidParameter, match=r"leads to a folder around it|cannot be followed"):
        _paths(folder, follow_links)


def test_a_name_that_would_lead_elsewhere_on_windows_is_refused(folder: Path) -> None:
    (folder / "a\\b").touch()
    with pytest.raises(InvalidParameter, match="leaves the run's artifacts"):
        _paths(folder)
