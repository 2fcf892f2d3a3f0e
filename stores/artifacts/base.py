"""The small interface behind which artifacts are kept. Paths are relative to the repository's root, with `/`."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from flightlog.schema.entities import FileInfo


class ArtifactRepository(Protocol):
    """The files of one run."""

    def put(self, source: Path, path: str) -> None:
        """Store a file whole or not at all, replacing one at that path; the source may be moved. Raises `OSError`."""

    def copy(self, source: Path, path: str) -> None:
        """As `put`, and the source stays as it is."""

    def list(self, path: str = "") -> list[FileInfo]:
        """Return the files and folders in a folder, sorted; nothing for a file or for what is not there."""

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes, None if there is none."""

    def get(self, path: str, target: Path) -> None:
        """Copy a file to a local path, whole or not at all. Raises `NotFound`."""
