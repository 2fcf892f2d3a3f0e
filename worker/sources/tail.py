"""One writer's journal, read from where the store is. The reading half of the format in `schema.frames`."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flightlog.schema import codec, frames
from flightlog.schema.blocks import Block
from flightlog.schema.errors import DecodeError
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Ending, Records, Scan, scan
from flightlog.stores.base import Gap

try:
    import fcntl
except ImportError:  # Windows has no flock; there a writer counts as alive until its journal says closed
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("flightlog.worker")

CHUNK = 2 << 20
EXCERPT = 256


@dataclass
class OpenSegment:
    """A segment file that is being read."""

    path: Path
    descriptor: int
    header: frames.SegmentHeader
    writable: bool
    damaged: bool = False

    @staticmethod
    def open(path: Path) -> OpenSegment:
        """Open a segment. Raises `frames.NotASegment`, or `OSError` when it is gone."""
        try:
            descriptor, writable = os.open(path, os.O_RDWR), True
        except (PermissionError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            descriptor, writable = os.open(path, os.O_RDONLY), False
        try:
            return OpenSegment(path, descriptor, frames.SegmentHeader.from_bytes(os.pread(descriptor, frames.HEADER_SIZE, 0)), writable)
        except BaseException:
            os.close(descriptor)
            raise

    def state(self) -> frames.SegmentState:
        """Return the changing part of the header."""
        page = os.pread(self.descriptor, frames.TAIL.size, frames.COMMITTED_OFFSET)
        return (
            frames.SegmentState(*frames.TAIL.unpack(page))
            if len(page) == frames.TAIL.size
            else frames.SegmentState(0, 0, 0, 0, frames.OPEN)
        )

    def write(self, offset: int, data: bytes) -> None:
        """Write into the header for the producer to see."""
        if self.writable:
            os.pwrite(self.descriptor, data, offset)

    def is_abandoned(self) -> bool:
        """Whether its writer has died: only then is its lock free."""
        if fcntl is None:
            return False
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def holds_bytes_after(self, offset: int) -> bool:
        """Whether anything but zeros stands after an offset, where the records seem to end."""
        return any(os.pread(self.descriptor, self.header.capacity, offset))

    def close(self) -> None:
        """Close the file, and with it the lock if we have it."""
        os.close(self.descriptor)


@dataclass(frozen=True)
class Bounds:
    """The end of a segment that will not grow: the sequence after its last event, None where a dead writer could not say."""

    end: int | None


class Tail:
    """Reads one writer's segments in order and remembers how far the store has come.

    `offset` and `sequence` say what is read next; `committed` what the store has. `segments` are the numbers of the files not yet freed.
    """

    def __init__(self, folder: Path, writer: WriterId, position: int | None = None) -> None:
        """Start at `position`, the store's; None until the subject is known."""
        self.writer = writer
        self.subject: str | None = None
        self.committed = position or 0
        self.sequence = self.committed
        self.rejected = 0
        self.segments: list[int] = []
        self.kept: set[int] = set()
        self._folder = folder
        self._current: OpenSegment | None = None
        self._finished: list[OpenSegment] = []
        self._offset = frames.HEADER_SIZE
        self._at = 0
        self._names: dict[int, str] = {}

    def path(self, number: int) -> Path:
        """Return the path of one of the writer's segments."""
        return self._folder / frames.segment_name(self.writer, number)

    def identify(self) -> str | None:
        """Return the subject, from the first segment that has begun; None if there is none yet."""
        if self.subject is None and self._open_next():
            self.subject = self._current.header.subject if self._current else None
        return self.subject

    def start_at(self, position: int) -> None:
        """Begin where the store is."""
        self.committed = self.sequence = position

    def read(self) -> Block | Gap | None:
        """Return what comes next, or None when there is nothing now."""
        while self._current is not None or self._open_next():
            found = self._read_current()
            if found is not None or self._current is not None:
                return found
        return None

    def _open_next(self) -> bool:
        """Open the next segment that has begun. A blank one of a dead writer is deleted."""
        last = self._finished[-1].header.number if self._finished else -1
        for number in [number for number in self.segments if number > last]:
            try:
                segment = OpenSegment.open(self.path(number))
            except frames.Blank:
                self._drop_blank(number)
            except frames.NotASegment as error:
                self._quarantine_unreadable(number, error)
            except FileNotFoundError:
                self.segments.remove(number)
            else:
                self._begin(segment)
                return True
        return False

    def _begin(self, segment: OpenSegment) -> None:
        self._current = segment
        self._offset = frames.HEADER_SIZE
        self._at = segment.header.first_sequence
        self._names = {}
        self.rejected = max(self.rejected, segment.state().rejected)

    def _drop_blank(self, number: int) -> None:
        path = self.path(number)
        if fcntl is None:
            return
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if any(file.read(frames.HEADER_SIZE)):
                    return  # begun since we looked
                path.unlink()
            self.segments.remove(number)
        except OSError:
            return  # its writer lives and has not begun it yet, or it is gone

    def _quarantine_unreadable(self, number: int, error: frames.NotASegment) -> None:
        path = self.path(number)
        log.error("%s cannot be read and is set aside as %s: %s", path, path.name + frames.CORRUPT_SUFFIX, error)
        path.rename(path.with_name(path.name + frames.CORRUPT_SUFFIX))
        self.segments.remove(number)

    def _read_current(self) -> Block | Gap | None:
        """Return what the current segment has next; move past it (`_current` becomes None) when it has no more."""
        segment = self._current
        assert segment is not None  # noqa: S101 - the caller has looked
        if self._at > self.sequence:
            return self._gap(
                "missing", f"{self._at - self.sequence} events of the journal before segment {segment.path.name} are missing", self._at
            )
        result = self._scan(segment)
        if not len(result.records):
            bounds = self._bounds(segment)
            if bounds is None:
                return None
            result = self._scan(segment)  # again: its writer may have written between our look at the records and at the end
            if not len(result.records):
                return self._at_end(segment, result.ending, bounds.end)
        return self._block(result.records)

    def _bounds(self, segment: OpenSegment) -> Bounds | None:
        """Say where a segment to which nobody will write any more ends, or None while its writer may."""
        state = segment.state()
        if state.state != frames.OPEN:
            return Bounds(state.end)
        later = self._later_start()
        return Bounds(later) if later is not None or segment.is_abandoned() else None

    def _scan(self, segment: OpenSegment) -> Scan:
        """Scan the next chunk; a record longer than a chunk makes it longer."""
        head = os.pread(segment.descriptor, frames.RECORD_HEAD.size, self._offset)
        if len(head) == frames.RECORD_HEAD.size and not any(head[:4]):
            return Scan(Records.of([]), self._offset, Ending.CLEAN)
        size = max(CHUNK, int.from_bytes(head[:4], "little") + frames.RECORD_HEAD.size) if len(head) >= 4 else CHUNK
        result = scan(os.pread(segment.descriptor, min(size, segment.header.capacity), self._offset))
        self._offset += result.end
        return result

    def _block(self, records: Records) -> Block | Gap | None:
        """Return the events among the records; what defines names goes into the name table."""
        first = records.buffer[records.offsets]
        is_names = ((first & 0xF0) == 0x80) | (first == 0xDE) | (first == 0xDF)
        for index in np.flatnonzero(is_names):
            self._define(records.payload(int(index)))
        events = records.take(~is_names) if is_names.any() else records
        skip = min(max(self.sequence - self._at, 0), len(events))
        self._at += len(events)
        if skip == len(events):
            return self.read()
        block = Block(self.subject or "", self.writer, self.sequence, dict(self._names), events.take(slice(skip, None)))
        self.sequence = block.end
        return block

    def _define(self, payload: bytes) -> None:
        try:
            self._names.update(codec.decode_names(payload))
        except DecodeError as error:
            log.error("journal %s: a name table cannot be read, its metrics become dead letters: %s", self.writer, error)

    def _at_end(self, segment: OpenSegment, ending: Ending, end: int | None) -> Gap | None:
        """Finish a segment that has no more records; what is missing or damaged at its end is told once."""
        if segment.damaged or (end is not None and end <= self.sequence):
            self._finish(segment)
            return None
        if ending is not Ending.CLEAN:
            reason = "torn" if ending is Ending.CUT else "corrupt"
            place = f"byte {self._offset} of {segment.path.name}"
            return self._damage(segment, reason, f"the record at {place} is damaged; what follows it in this segment cannot be read", end)
        if end is not None:
            return self._damage(segment, "missing", f"{end - self.sequence} events at the end of {segment.path.name} are missing", end)
        if os.fstat(segment.descriptor).st_size < segment.header.capacity:
            return self._damage(segment, "truncated", "the journal's last segment was cut short", None)
        if segment.holds_bytes_after(self._offset):
            place = f"byte {self._offset} of {segment.path.name}"
            return self._damage(segment, "corrupt", f"the length at {place} is damaged; what follows it cannot be read", None)
        self._finish(segment)
        return None

    def _damage(self, segment: OpenSegment, reason: str, message: str, end: int | None) -> Gap:
        segment.damaged = True
        payload = os.pread(segment.descriptor, EXCERPT, self._offset)
        return self._gap(reason, message, end, payload)

    def _gap(self, reason: str, message: str, end: int | None, payload: bytes = b"") -> Gap:
        following = self.sequence + 1 if end is None else max(end, self.sequence)  # one at least, so that it is told once
        count = None if end is None else following - self.sequence
        gap = Gap(self.subject or "", self.writer, self.sequence, following, reason, message, payload, count)
        self.sequence = following
        self._at = max(self._at, following)
        return gap

    def _later_start(self) -> int | None:
        """Return the first sequence of the next segment that has begun, if there is one."""
        assert self._current is not None  # noqa: S101 - the callers have a segment
        for number in self.segments:
            if number > self._current.header.number:
                try:
                    header, _ = frames.read_header(self.path(number))
                except (OSError, frames.NotASegment):
                    continue
                return header.first_sequence
        return None

    def _finish(self, segment: OpenSegment) -> None:
        self._finished.append(segment)
        self._current = None

    def acknowledge(self, position: int, rejections: list[tuple[int, str, str]]) -> None:
        """Tell the producer what the store has, and free the segments that it has whole."""
        self.committed = position
        self.rejected += len(rejections)
        for segment in [*self._finished, *([self._current] if self._current else [])]:
            if rejections:
                segment.write(frames.REJECTION_OFFSET, frames.encode_rejection(*rejections[-1]))
            segment.write(frames.REJECTED_OFFSET, frames.WORD.pack(self.rejected))
            segment.write(frames.COMMITTED_OFFSET, frames.WORD.pack(position))
        if position < self.sequence:
            self.rewind()
        else:
            self.free_committed()

    def free_committed(self) -> None:
        """Delete the segments that are read to their end, once the store has everything that was read."""
        if self.committed < self.sequence:
            return
        for segment in self._finished:
            path = segment.path
            if not segment.writable:
                self.kept.add(segment.header.number)
            elif segment.damaged:
                path.rename(path.with_name(path.name + frames.CORRUPT_SUFFIX))
            else:
                path.unlink(missing_ok=True)
            self.segments.remove(segment.header.number)
            segment.close()
        self._finished = []

    def rewind(self) -> None:
        """Read again from what the store has."""
        self.close()
        self.sequence = self.committed

    def close(self) -> None:
        """Close all files."""
        for segment in [*self._finished, *([self._current] if self._current else [])]:
            segment.close()
        self._finished = []
        self._current = None
