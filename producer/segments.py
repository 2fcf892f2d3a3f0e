"""A segment file as the producer sees it: preallocated, locked, and writable like a bytearray.

The lock says that the writer lives: the worker may adopt or delete a segment only when it gets the lock itself.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
from pathlib import Path
from typing import Protocol

from flightlog.producer import pages
from flightlog.schema import frames
from flightlog.schema.ids import WriterId

try:
    import fcntl
except ImportError:  # Windows has no flock; there a worker waits for the closed state alone
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("flightlog")


class Buffer(Protocol):
    """What a journal writes into."""

    def __setitem__(self, where: slice, data: bytes, /) -> None: ...
    def __getitem__(self, where: slice, /) -> bytes: ...
    def close(self) -> None:
        """Let go of the file."""


class PlainFile:
    """The fallback where a file cannot be mapped: one `pwrite` a record, which survives a kill just as well and costs more."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __setitem__(self, where: slice, data: bytes) -> None:
        os.pwrite(self._descriptor, data, where.start)

    def __getitem__(self, where: slice) -> bytes:
        return os.pread(self._descriptor, where.stop - where.start, where.start)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class Segment:
    """One segment file, prepared blank; `begin` writes its header."""

    def __init__(self, path: Path, number: int, capacity: int) -> None:
        """Create the file with real disk space behind it. Raises `OSError`, also for a full disk."""
        self.path = path
        self.number = number
        self.capacity = capacity
        self.synced = 0
        hidden = path.with_suffix(frames.NEW_SUFFIX)
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
        try:
            _lock(descriptor)
            _allocate(descriptor, capacity)
            self.buffer: Buffer = _map(descriptor, capacity)
            hidden.rename(path)  # only now may a worker see it: without our lock it would take the writer for dead
        except BaseException:
            hidden.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)  # the buffer has its own, and with it the lock

    def populate(self) -> None:
        """Make the pages ready for writing, in the background."""
        if isinstance(self.buffer, mmap.mmap):
            pages.populate(self.buffer)

    def renumber(self, writer: WriterId, number: int) -> None:
        """Give a segment that has not begun another number."""
        self.path = self.path.rename(self.path.with_name(frames.segment_name(writer, number)))
        self.number = number

    def begin(self, header: frames.SegmentHeader) -> None:
        """Write the header: the segment is alive from now on."""
        head = header.to_bytes()
        self.buffer[8 : len(head)] = head[8:]
        self.buffer[0:8] = head[:8]

    def sync(self, stop: int) -> None:
        """Write everything before `stop` to disk that is not there yet."""
        if stop > self.synced and isinstance(self.buffer, mmap.mmap):
            pages.sync(self.buffer, self.synced, stop)
            self.synced = stop

    def word(self, offset: int) -> int:
        """Return a changing word of the header."""
        return int.from_bytes(self.buffer[offset : offset + 8], "little")

    def set_word(self, offset: int, value: int) -> None:
        """Set a changing word of the header."""
        self.buffer[offset : offset + 8] = value.to_bytes(8, "little")

    def finish(self, state: int, end: int) -> None:
        """Say that no event comes after sequence `end` here."""
        self.set_word(frames.END_OFFSET, end)
        self.buffer[frames.STATE_OFFSET : frames.STATE_OFFSET + 4] = state.to_bytes(4, "little")

    def close(self) -> None:
        """Let go of the file and its lock; the file stays."""
        try:
            self.buffer.close()
        except BufferError:  # in a forked child, a thread of the parent was writing pages out: its view goes with the process
            log.debug("flightlog: %s stays mapped until this process ends", self.path)

    def discard(self) -> None:
        """Close and delete a segment that was never begun."""
        self.close()
        self.path.unlink(missing_ok=True)


def _lock(descriptor: int) -> None:
    """Lock the file, which says that its writer lives. Where a file system has no locks, the closed state alone says that it does not."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            log.debug("flightlog: the spool's file system has no locks: %s", error)


def _allocate(descriptor: int, capacity: int) -> None:
    """Reserve disk space, by writing where the system or the file system knows no other way. Raises `OSError` for a full disk."""
    try:
        os.posix_fallocate(descriptor, 0, capacity)
    except (AttributeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):
            raise
        for start in range(0, capacity, 1 << 20):
            os.write(descriptor, bytes(min(1 << 20, capacity - start)))


def _map(descriptor: int, capacity: int) -> Buffer:
    try:
        mapped = mmap.mmap(descriptor, capacity)
    except (OSError, ValueError) as error:
        log.warning("flightlog: the spool cannot be mapped into memory (%s); each call now writes to the file and takes longer", error)
        return PlainFile(os.dup(descriptor))
    return mapped
