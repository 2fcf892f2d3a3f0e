"""The small interface behind which artifacts are kept. Paths are relative to the repository's root, with `/`.

Every repository refuses a path that is absolute or has `..`, a backslash, a drive letter or a null byte, with `InvalidParameter`.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from flightlog.schema.entities import FileInfo

Told = Callable[[int], object]
"""Is told how many more there are: bytes, as a rule."""

PASSING = frozenset(
    getattr(errno, name)
    for name in ("EAGAIN", "EBUSY", "EDQUOT", "EIO", "EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "ESTALE", "ETIMEDOUT")
    if hasattr(errno, name)
)
"""Errors of the system that may pass: a disk that is full or away now need not be so in an hour."""


class ArtifactsUnavailable(OSError):
    """The place cannot be used now and may be later: no connection, too many requests, an error of the server."""


def may_pass(error: BaseException) -> bool:
    """Say whether the same call may go well later, without anybody changing what is asked for."""
    return isinstance(error, ArtifactsUnavailable) or (isinstance(error, OSError) and error.errno in PASSING)


class ArtifactRepository(Protocol):
    """The files of one run."""

    def put(self, source: Path, path: str, sha256: str | None = None, told: Told | None = None) -> None:
        """Store a file whole or not at all, replacing one at that path. Threads may do so at the same time.

        The source stays, and must not be written to any more: the two may share their content. `sha256` is that of the source, in
        hexadecimal: what is stored is held to it where it is copied. Raises `OSError`, and `ArtifactsUnavailable` where it may go well
        later. `told` hears of the bytes of a large file as they go; what it raises ends the call, with nothing stored.
        """

    def copy(self, source: Path, path: str, sha256: str | None = None, told: Told | None = None) -> None:
        """As `put`, and the source may be written to afterwards."""

    def list(self, path: str = "") -> list[FileInfo]:
        """Return the files and folders in a folder, sorted; nothing for a file or for what is not there."""

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes, None if there is none."""

    def sha256(self, path: str) -> str | None:
        """Return a file's SHA-256 in hexadecimal, None if there is none. Reads the file, unless its checksum is kept with it."""

    def get(self, path: str, target: Path, told: Told | None = None) -> None:
        """Copy a file to a local path, whole or not at all.

        Raises `NotFound`, or `ArtifactDamaged` where the checksum that is kept with it differs.
        """

    def delete(self, path: str) -> None:
        """Remove a file, and the folders that it leaves empty; nothing where there is none."""
