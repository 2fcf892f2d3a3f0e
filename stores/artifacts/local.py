"""Artifacts in a local folder."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

from flightlog.schema.entities import FileInfo
from flightlog.schema.errors import InvalidParameter, NotFound


class LocalArtifacts:
    """The files of one run in a folder, which is created with the first."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, source: Path, path: str) -> None:
        """See `ArtifactRepository.put`. Moves the source where both are on one file system."""
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            source.replace(target)
        except OSError:  # another file system
            _copy_whole(source, target)

    def copy(self, source: Path, path: str) -> None:
        """See `ArtifactRepository.copy`."""
        target = self._inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_whole(source, target)

    def list(self, path: str = "") -> list[FileInfo]:
        """See `ArtifactRepository.list`."""
        folder = self._inside(path)
        if not folder.is_dir():
            return []
        return [
            FileInfo(entry.relative_to(self._root.resolve()).as_posix(), entry.is_dir(), None if entry.is_dir() else entry.stat().st_size)
            for entry in sorted(folder.iterdir())
            if not entry.name.endswith(PARTIAL)
        ]

    def size(self, path: str) -> int | None:
        """See `ArtifactRepository.size`."""
        target = self._inside(path)
        return target.stat().st_size if target.is_file() else None

    def get(self, path: str, target: Path) -> None:
        """See `ArtifactRepository.get`."""
        source = self._inside(path)
        if not source.is_file():
            raise NotFound(f"there is no artifact {path!r} in {self._root}")
        target.parent.mkdir(parents=True, exist_ok=True)
        _copy_whole(source, target)

    def delete(self, path: str) -> None:
        """See `ArtifactRepository.delete`. The root goes with its last file, and so does the folder around it, the run's."""
        root, target = self._root.resolve(), self._inside(path)
        target.unlink(missing_ok=True)
        folder = target.parent
        while folder != root.parent.parent and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
            folder = folder.parent

    def _inside(self, path: str) -> Path:
        root = self._root.resolve()
        target = (root / path).resolve()
        if target != root and root not in target.parents:
            raise InvalidParameter(f"artifact path {path!r} leads out of {root}")
        return target


PARTIAL = ".partial"


def _copy_whole(source: Path, target: Path) -> None:
    """Copy so that a reader, or a crash, never sees a part of the file."""
    partial = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        shutil.copyfile(source, partial)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
