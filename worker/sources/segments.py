"""A segment file as the worker sees it: read at any place, its header's words written, its lock tried.

The lock is its writer's; that it is free says that the writer has died.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from flightlog.schema import frames

try:
    import fcntl
except ImportError:  # Windows has no flock; there a writer counts as alive until its journal says closed
    fcntl = None  # type: ignore[assignment]

CHUNK = 2 << 20
"""Bytes that are read at a time."""


@dataclass
class OpenSegment:
    """A segment file that is being read."""

    path: Path
    descriptor: int
    header: frames.SegmentHeader
    writable: bool
    damaged: bool = False

    @staticmethod
    def open(path: Path, *, ours: bool = True) -> OpenSegment:
        """Open a segment; one that is not ours is only read.

        Raises `frames.NotASegment`, also for a file under another segment's name, or `OSError` when it is gone.
        """
        descriptor, writable = _open_file(path, ours=ours)
        try:
            header = frames.SegmentHeader.from_bytes(os.pread(descriptor, frames.HEADER_SIZE, 0))
            if (header.writer, header.number) != frames.parse_segment_name(path.name):
                raise frames.NotASegment(f"its header is that of {frames.segment_name(header.writer, header.number)}")
            return OpenSegment(path, descriptor, header, writable)
        except BaseException:
            os.close(descriptor)
            raise

    def state(self) -> frames.SegmentState:
        """Return the changing part of the header."""
        page = os.pread(self.descriptor, frames.TAIL.size, frames.COMMITTED_OFFSET)
        whole = len(page) == frames.TAIL.size
        return frames.SegmentState(*frames.TAIL.unpack(page)) if whole else frames.SegmentState(0, 0, 0, 0, frames.OPEN)

    def stated_end(self) -> int | None:
        """Return the sequence after the last event, if its producer has stated one that can be true."""
        return self.header.stated_end(self.state())

    def size(self) -> int:
        """Return the size of the file now."""
        return os.fstat(self.descriptor).st_size

    def write(self, offset: int, data: bytes) -> None:
        """Write into the header for the producer to see."""
        if self.writable:
            os.pwrite(self.descriptor, data, offset)

    def is_abandoned(self) -> bool:
        """Whether its writer has died: only then is its lock free."""
        return take_lock(self.descriptor)

    def length_at(self, offset: int) -> int:
        """Return the length that the record at an offset claims, 0 where there is none."""
        head = os.pread(self.descriptor, frames.RECORD_HEAD.size, offset)
        length: int = frames.RECORD_HEAD.unpack(head)[0] if len(head) == frames.RECORD_HEAD.size else 0
        return length

    def is_cut_at(self, offset: int) -> bool:
        """Whether the file ends inside the head of a record."""
        rest = os.pread(self.descriptor, frames.RECORD_HEAD.size, offset)
        return len(rest) < frames.RECORD_HEAD.size and any(rest)

    def is_whole_at(self, offset: int) -> bool:
        """Whether the record at an offset is all there. Reads it in parts."""
        length, expected = frames.RECORD_HEAD.unpack(os.pread(self.descriptor, frames.RECORD_HEAD.size, offset))
        start, checksum = offset + frames.RECORD_HEAD.size, 0
        stop = start + length
        if stop > self.size():
            return False
        for place in range(start, stop, CHUNK):
            checksum = zlib.crc32(os.pread(self.descriptor, min(CHUNK, stop - place), place), checksum)
        return bool(checksum == expected)

    def holds_bytes_after(self, offset: int) -> bool:
        """Whether anything but zeros stands after an offset, where the records seem to end."""
        return any(os.pread(self.descriptor, self.header.capacity, offset))

    def close(self) -> None:
        """Close the file, and with it the lock if we have it."""
        os.close(self.descriptor)


def _open_file(path: Path, *, ours: bool) -> tuple[int, bool]:
    """Return the descriptor of a file, and whether it may be written."""
    try:
        return os.open(path, os.O_RDWR if ours else os.O_RDONLY), ours
    except FileNotFoundError:
        raise
    except OSError:
        return os.open(path, os.O_RDONLY), False


def take_lock(descriptor: int) -> bool:
    """Take a file's lock, which its closing gives back; False while another process has it, or may have it for all we know."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def is_locked(path: Path) -> bool:
    """Whether another process is known to have a file's lock."""
    if fcntl is None:
        return False
    with path.open("rb") as file:
        return not take_lock(file.fileno())
