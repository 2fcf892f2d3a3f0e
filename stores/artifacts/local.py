"""Artifacts in a local folder. No symbolic link leads out of it, and none is listed."""

from __future__ import annotations

import os
import shutil
import stat
from functools import lru_cache
from pathlib import Path

from flightlog.schema.artifact_paths import check_artifact_file, check_artifact_path
from flightlog.schema.entities import FileInfo
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.stores.artifacts.base import Told
from flightlog.stores.artifacts.checksums import CHUNK, check_sha256, copy_hashed, sha256_of
from flightlog.stores.artifacts.partial import drop_if_stale, drop_stale, is_partial, written_whole


class LocalArtifacts:
    """The files of one run in a folder, which is created with the first."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, source: Path, path: str, sha256: str | None = None, told: Told | None = None) -> None:
        """See `ArtifactRepository.put`. Copies nothing where both are on one file system.

        The source stays until whoever gave it has told that it is stored: a process that is killed before finds it again.
        """
        try:
            with written_whole(self._place(path)) as partial:
                os.link(source, partial)
        except OSError:  # another file system, or one without links, or the target cannot be replaced: then the copy says so
            self.copy(source, path, sha256, told)

    def copy(self, source: Path, path: str, sha256: str | None = None, told: Told | None = None) -> None:
        """See `ArtifactRepository.copy`."""
        target = self._place(path)
        _tidy(target.parent)
        with written_whole(target) as partial:
            if sha256 is None and told is None:
                shutil.copyfile(source, partial)
            else:
                with source.open("rb") as reading, partial.open("wb") as writing:
                    check_sha256(str(source), copy_hashed(reading, writing, told), sha256)

    def list(self, path: str = "") -> list[FileInfo]:
        """See `ArtifactRepository.list`."""
        folder, inside = self._inside(path), check_artifact_path(path)
        if not folder.is_dir():
            return []
        with os.scandir(folder) as entries:
            found = [_info(entry, inside) for entry in entries if not is_partial(entry.name)]
        return sorted((info for info in found if info is not None), key=lambda info: info.path)

    def size(self, path: str) -> int | None:
        """See `ArtifactRepository.size`."""
        target = self._inside(path)
        return target.stat().st_size if target.is_file() else None

    def sha256(self, path: str) -> str | None:
        """See `ArtifactRepository.sha256`."""
        target = self._inside(path)
        return sha256_of(target) if target.is_file() else None

    def get(self, path: str, target: Path, told: Told | None = None) -> None:
        """See `ArtifactRepository.get`."""
        source = self._inside(path)
        if not source.is_file():
            raise NotFound(f"there is no artifact {path!r} in {self._root}")
        with written_whole(target) as partial:
            if told is None:
                shutil.copyfile(source, partial)
            else:
                with source.open("rb") as reading, partial.open("wb") as writing:
                    while part := reading.read(CHUNK):
                        writing.write(part)
                        told(len(part))

    def delete(self, path: str) -> None:
        """See `ArtifactRepository.delete`. The root goes with its last file, and so does the folder around it, the run's."""
        root, target = self._root.resolve(), self._place(path)
        target.unlink(missing_ok=True)
        folder = target.parent
        while folder != root.parent.parent and folder.is_dir() and _is_empty(folder):
            folder.rmdir()
            folder = folder.parent

    def _place(self, path: str) -> Path:
        """Return where a file is or comes to be. A link that stands there is replaced or removed itself, never what it leads to."""
        folder, _, name = check_artifact_file(path).rpartition("/")
        return self._inside(folder) / name

    def _inside(self, path: str) -> Path:
        """Return a path with its links resolved. Raises `InvalidParameter` where one leads out, or in a ring."""
        root = self._root.resolve()
        try:
            target = (root / check_artifact_path(path)).resolve()
        except (OSError, RuntimeError) as error:  # RuntimeError: a ring of links, before Python 3.13
            raise InvalidParameter(f"artifact path {path!r} cannot be followed below {root}: {error}") from error
        if target != root and root not in target.parents:
            raise InvalidParameter(f"artifact path {path!r} leads out of {root} by a symbolic link, which is not followed")
        return target


@lru_cache(maxsize=4096)
def _tidy(folder: Path) -> None:
    """Delete what was left half written in a folder, once a process: nobody else ever looks there."""
    drop_stale(folder)


def _is_empty(folder: Path) -> bool:
    """Whether nothing is in a folder, but for what was left half written, which goes."""
    with os.scandir(folder) as entries:
        return all(drop_if_stale(entry) for entry in entries)


def _info(entry: os.DirEntry[str], folder: str) -> FileInfo | None:
    """Return what lists show of an entry: files and folders, no links, devices or pipes."""
    mode = entry.stat(follow_symlinks=False)
    path = f"{folder}/{entry.name}" if folder else entry.name
    if stat.S_ISDIR(mode.st_mode):
        return FileInfo(path, is_dir=True, file_size=None)
    return FileInfo(path, is_dir=False, file_size=mode.st_size) if stat.S_ISREG(mode.st_mode) else None
