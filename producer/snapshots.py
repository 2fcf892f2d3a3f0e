"""Snapshots of artifacts: a copy in the spool, taken before the call returns, from which the worker stores the artifact.

Never a hard link: scripts rewrite checkpoints in place.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.names import SNAPSHOTS

try:
    import fcntl
except ImportError:  # Windows cannot clone files this way
    fcntl = None  # type: ignore[assignment]

FICLONE = 0x40049409
"""The ioctl that lets two files share their blocks until one is written, on file systems that can."""


def local_files(local_path: Path, artifact_path: str) -> Iterator[tuple[Path, str]]:
    """Yield (file, path inside the artifacts) for a file, or for every file in a folder, whose name is kept."""
    if local_path.is_dir():
        yield from folder_files(local_path, posixpath.join(artifact_path, local_path.resolve().name))
    else:
        yield local_path, posixpath.join(artifact_path, local_path.name)


def folder_files(folder: Path, artifact_path: str) -> Iterator[tuple[Path, str]]:
    """Yield (file, path inside the artifacts) for every file in a folder; the folder's own name is left out."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        inside = Path(root).relative_to(folder).as_posix()
        for name in sorted(names):
            yield Path(root) / name, posixpath.normpath(posixpath.join(artifact_path, inside, name))


def snapshot_file(source: Path, spool: Path) -> tuple[str, int]:
    """Copy a file into the spool; return the copy's name and size. Raises `OSError`, with nothing left behind."""
    if not source.is_file():
        kind = "not a regular file" if source.exists() else "not there"
        raise InvalidParameter(f"cannot log {str(source)!r} as an artifact: it is {kind}")
    name, target = _new_snapshot(spool)
    try:
        _clone_or_copy(source, target)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return name, target.stat().st_size


def snapshot_bytes(content: bytes, spool: Path) -> tuple[str, int]:
    """Write content into the spool as a snapshot; return its name and size."""
    name, target = _new_snapshot(spool)
    target.write_bytes(content)
    return name, len(content)


def _new_snapshot(spool: Path) -> tuple[str, Path]:
    folder = spool / SNAPSHOTS
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    return name, folder / name


def _clone_or_copy(source: Path, target: Path) -> None:
    with source.open("rb") as reading, target.open("xb") as writing:
        if fcntl is not None:
            try:
                fcntl.ioctl(writing.fileno(), FICLONE, reading.fileno())
            except OSError:
                pass  # the file system cannot share blocks: copy
            else:
                return
        shutil.copyfileobj(reading, writing, 1 << 20)
