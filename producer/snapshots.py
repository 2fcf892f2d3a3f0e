"""Snapshots of artifacts: a copy in the spool, taken before the call returns, from which the worker stores the artifact.

Never a hard link: scripts rewrite checkpoints in place. Where the file system can, the copy shares its blocks with the source.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import shutil
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from flightlog.schema.artifact_paths import check_artifact_path
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.names import SNAPSHOTS

try:
    import fcntl
except ImportError:  # Windows cannot clone files this way
    fcntl = None  # type: ignore[assignment]

FICLONE = 0x40049409
"""The ioctl that lets two files share their blocks until one is written, on file systems that can."""
SMALL = 1 << 20
"""Bytes up to which a file is read whole: then its checksum costs next to nothing, and one that changes meanwhile is read again."""
ATTEMPTS = 3
COPY = 1 << 28
"""Bytes that the system copies at a time."""
KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@dataclass(frozen=True)
class Snapshot:
    """A copy in the spool. Its SHA-256, in hexadecimal, is None where the worker has to work it out."""

    name: str
    size: int
    sha256: str | None


def local_files(local_path: Path, artifact_path: str, *, follow_links: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield (file, path inside the artifacts) for a file, or for every file in a folder, whose name is kept."""
    if local_path.is_dir():
        yield from folder_files(local_path, posixpath.join(artifact_path, local_path.resolve().name), follow_links=follow_links)
    else:
        yield local_path, check_artifact_path(posixpath.join(artifact_path, local_path.name))


def folder_files(folder: Path, artifact_path: str, *, follow_links: bool = False) -> Iterator[tuple[Path, str]]:
    """Yield (file, path inside the artifacts) for every file in a folder; the folder's own name is left out.

    A symbolic link stands for what it leads to. Raises `InvalidParameter` for one that leads nowhere, in a ring or, unless `follow_links`,
    out of the folder.
    """
    yield from _walk(folder, artifact_path, None if follow_links else folder.resolve(), (folder.resolve(),))


def _walk(folder: Path, inside: str, limit: Path | None, above: tuple[Path, ...]) -> Iterator[tuple[Path, str]]:
    """`limit` is the folder that no link may leave; `above` are the folders that we are in, a link to which would be a ring."""
    folders = []
    for entry in sorted(folder.iterdir()):
        path = check_artifact_path(posixpath.join(inside, entry.name))
        real = _followed(entry, limit) if entry.is_symlink() else above[-1] / entry.name
        if real.is_dir():
            folders.append((entry, path, real))
        else:
            yield entry, path
    for entry, path, real in folders:
        if real in above:
            raise InvalidParameter(f"cannot log {str(entry)!r}: the symbolic link leads to a folder around it, {str(real)!r}; remove it")
        yield from _walk(entry, path, limit, (*above, real))


def _followed(link: Path, limit: Path | None) -> Path:
    """Return what a link leads to."""
    try:
        real = link.resolve(strict=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: a ring of links, before Python 3.13
        raise InvalidParameter(f"cannot log {str(link)!r}: the symbolic link cannot be followed: {error}") from error
    if limit is not None and real != limit and limit not in real.parents:
        raise InvalidParameter(
            f"cannot log {str(link)!r}: the symbolic link leads out of the folder, to {str(real)!r}; log that by itself, "
            "or set FLIGHTLOG_FOLLOW_LINKS=true to log what such links lead to"
        )
    return real


def snapshot_file(source: Path, spool: Path) -> Snapshot:
    """Copy a file into the spool. A symbolic link is followed.

    Raises `OSError`, or `InvalidParameter` for what is no regular file or changes while it is copied, with nothing left behind.
    """
    with _opened(source) as reading:
        content = _read_small(source, reading)
        return snapshot_bytes(content, spool) if content is not None else _snapshot_large(source, reading, spool)


def snapshot_bytes(content: bytes, spool: Path) -> Snapshot:
    """Write content into the spool as a snapshot."""
    name, target = _new_snapshot(spool)
    try:
        target.write_bytes(content)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Snapshot(name, len(content), hashlib.sha256(content).hexdigest() if len(content) <= SMALL else None)


def drop_snapshot(name: str, spool: Path) -> None:
    """Remove a snapshot of which no event tells."""
    (spool / SNAPSHOTS / name).unlink(missing_ok=True)


def _new_snapshot(spool: Path) -> tuple[str, Path]:
    folder = spool / SNAPSHOTS
    folder.mkdir(parents=True, exist_ok=True)
    name = uuid.uuid4().hex
    return name, folder / name


def _opened(source: Path) -> FileIO:
    """Open a regular file. What is none is not opened at all: a pipe would wait for its other end, and a device may act."""
    try:
        _check_regular(source, source.stat())
        descriptor = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError as error:
        kind = "the symbolic link leads nowhere" if source.is_symlink() else "it is not there"
        raise InvalidParameter(f"cannot log {str(source)!r} as an artifact: {kind}") from error
    except ValueError as error:  # a null byte
        raise InvalidParameter(f"cannot log {str(source)!r} as an artifact: {error}") from error
    reading = FileIO(descriptor)
    try:
        _check_regular(source, os.fstat(descriptor))
    except BaseException:
        reading.close()
        raise
    return reading


def _check_regular(source: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = next((name for is_kind, name in KINDS if is_kind(found.st_mode)), "something else")
        raise InvalidParameter(f"cannot log {str(source)!r} as an artifact: it is not a regular file but {kind}")


def _read_small(source: Path, reading: FileIO) -> bytes | None:
    """Return the content of a small file, None for a large one. One that changes meanwhile, such as a log, is read again."""
    for _ in range(ATTEMPTS):
        before = os.fstat(reading.fileno())
        if before.st_size > SMALL:
            return None
        content = reading.readall()
        if _is_same(before, os.fstat(reading.fileno())) and len(content) == (before.st_size or len(content)):
            return content  # the system's own files say that they are empty, and are not
        reading.seek(0)
    raise _changed(source)


def _snapshot_large(source: Path, reading: FileIO, spool: Path) -> Snapshot:
    before = os.fstat(reading.fileno())
    name, target = _new_snapshot(spool)
    try:
        with FileIO(target, "xb") as writing:
            is_clone = _clone(reading, writing)
            if not is_clone:
                _copy(reading, writing)
            size = os.fstat(writing.fileno()).st_size
        if not is_clone and not (size == before.st_size and _is_same(before, os.fstat(reading.fileno()))):
            raise _changed(source)
    except BaseException:
        target.unlink(missing_ok=True)
        raise
    return Snapshot(name, size, None)


def _is_same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _changed(source: Path) -> InvalidParameter:
    return InvalidParameter(
        f"cannot log {str(source)!r} as an artifact: it changed while it was copied; log it when it is written, "
        "or write it under another name and rename it"
    )


def _clone(reading: FileIO, writing: FileIO) -> bool:
    """Have the copy share the source's blocks, all at one moment; False where the file system cannot."""
    if fcntl is None:
        return False
    try:
        fcntl.ioctl(writing.fileno(), FICLONE, reading.fileno())
    except OSError:
        return False
    return True


def _copy(reading: FileIO, writing: FileIO) -> None:
    """Copy inside the system where it can, else through this process, from where it stopped."""
    if hasattr(os, "copy_file_range"):
        try:
            while os.copy_file_range(reading.fileno(), writing.fileno(), COPY):
                pass
        except OSError:
            pass  # not between these file systems
        else:
            return
    with open(writing.fileno(), "wb", closefd=False) as whole:  # the file itself may take less than it is given when the disk is full
        shutil.copyfileobj(reading, whole, SMALL)
