"""One writer's journal, read from where the store is. The reading half of the format in `schema.frames`.

What a journal says may be damaged, or written to do harm: nothing in it is believed that cannot be checked or does not fit its place.
"""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from flightlog.schema import codec, frames
from flightlog.schema.blocks import Block
from flightlog.schema.columns import split_metrics
from flightlog.schema.errors import DecodeError
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Bytes, Ending, Records, Scan, scan
from flightlog.stores.base import Gap
from flightlog.worker.sources.segments import CHUNK, OpenSegment, is_locked, take_lock

log = logging.getLogger("flightlog.worker")

EXCERPT = 256
SMALL_TABLE = 256
PLAIN_EVENT = 0x94
"""The first byte of every event but metrics: an array of four."""


@dataclass(frozen=True)
class Finished:
    """A segment that is read to its end, and the sequence after its last event."""

    segment: OpenSegment
    end: int


@dataclass(frozen=True)
class Bounds:
    """The end of a segment that will not grow: the sequence after its last event, None where a dead writer could not say."""

    end: int | None


class Tail:
    """Reads one writer's segments in order and remembers how far the store has come.

    `sequence` says what is read next; `committed` what the store has. `segments` are the numbers of the files not yet freed, `kept` those
    of files that may not be deleted. `is_placed` says whether the store's position is known. `setbacks` counts how often in a row the store
    took nothing of what was read. `abandoned` says that the writer has died without closing its journal.
    """

    def __init__(self, folder: Path, writer: WriterId, position: int | None = None) -> None:
        """Start at `position`, the store's; None until the subject is known."""
        self.writer = writer
        self.subject: str | None = None
        self.committed = position or 0
        self.sequence = self.committed
        self.rejected = 0
        self.is_placed = position is not None
        self.segments: list[int] = []
        self.kept: set[int] = set()
        self.setbacks = 0
        self.abandoned = False
        self._folder = folder
        self._waited_for: int | None = None
        self._current: OpenSegment | None = None
        self._finished: list[Finished] = []
        self._offset = frames.HEADER_SIZE
        self._at = 0
        self._ending = Ending.CLEAN
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
        self.is_placed = True
        self.committed = self.sequence = position
        if self._current is not None:
            self._tell_committed(self._current)

    def read(self) -> Block | Gap | None:
        """Return what comes next, or None when there is nothing now."""
        while self._current is not None or self._open_next():
            found = self._read_current()
            if found is not None or self._current is not None:
                return found
        return None

    def _open_next(self) -> bool:
        """Open the next segment that has begun. One of a dead writer that has not is deleted, one that cannot be read set aside."""
        for number in [number for number in self.segments if number > self._last_finished]:
            try:
                segment = self._opened(number)
            except frames.NewerVersion:
                raise
            except frames.Blank as error:
                self._drop_blank(number, error)
            except frames.NotASegment as error:
                if not self._quarantine_unreadable(number, error):
                    return False
            except FileNotFoundError:
                self.segments.remove(number)
            else:
                self._begin(segment)
                return True
        return False

    def _opened(self, number: int) -> OpenSegment:
        return OpenSegment.open(self.path(number))

    def _begin(self, segment: OpenSegment) -> None:
        self._current = segment
        self._offset = frames.HEADER_SIZE
        self._at = segment.header.first_sequence
        self._names = {}
        self._ending = Ending.CLEAN
        rejected = segment.state().rejected
        self.rejected = max(self.rejected, rejected if rejected < frames.MAX_SEQUENCE else 0)
        self._tell_committed(segment)

    def _tell_committed(self, segment: OpenSegment) -> None:
        """Write the store's position where a worker that was killed after a commit did not: the producer may be waiting for it."""
        if self.committed > segment.state().committed:
            segment.write(frames.COMMITTED_OFFSET, frames.WORD.pack(self.committed))

    @property
    def _last_finished(self) -> int:
        return self._finished[-1].segment.header.number if self._finished else -1

    def _drop_blank(self, number: int, error: frames.Blank) -> None:
        """Delete a segment that a dead writer prepared in vain; what it was just beginning is set aside."""
        path = self.path(number)
        try:
            with path.open("rb") as file:
                if not take_lock(file.fileno()):
                    return  # its writer lives and has not begun it yet
                content = file.read(frames.HEADER_SIZE + frames.RECORD_HEAD.size)
                if content.startswith(frames.MAGIC):
                    return  # begun since we looked
                if any(content):
                    self._set_aside(path, error)
                else:
                    path.unlink()
        except FileNotFoundError:
            log.debug("%s is gone", path)
        self.segments.remove(number)

    def _quarantine_unreadable(self, number: int, error: frames.NotASegment) -> bool:
        """Set an unreadable segment aside; False while its writer lives, who would go on writing to the file under its new name."""
        path = self.path(number)
        with suppress(FileNotFoundError):
            if is_locked(path):
                if self._waited_for != number:
                    log.error("%s cannot be read, and is left where it is while its writer lives: %s", path, error)
                self._waited_for = number
                return False
            self._set_aside(path, error)
        self.segments.remove(number)
        return True

    def _set_aside(self, path: Path, error: frames.NotASegment) -> None:
        log.error("%s cannot be read and is set aside as %s: %s", path, path.name + frames.CORRUPT_SUFFIX, error)
        path.rename(path.with_name(path.name + frames.CORRUPT_SUFFIX))

    def _read_current(self) -> Block | Gap | None:
        """Return what the current segment has next; move past it (`_current` becomes None) when it has no more."""
        segment = self._current
        assert segment is not None  # noqa: S101 - the caller has looked
        if self._at > self.sequence:
            return None if self._go_back(segment) else self._missing_before(segment)
        found = self._next(segment)
        if found is None:
            bounds = self._bounds(segment)
            if bounds is None:
                return None
            found = self._next(segment)  # again: its writer may have written between our look at the records and at the end
            if found is None:
                return self._at_end(segment, self._ending, bounds.end)
        return found

    def _go_back(self, segment: OpenSegment) -> bool:
        """Let go of a segment when an earlier one stands unread: a listing of a folder that changes meanwhile may leave a name out."""
        self._list_anew()
        if not any(self._last_finished < number < segment.header.number and self._has_begun(number) for number in self.segments):
            return False
        segment.close()
        self._current = None
        return True

    def _list_anew(self) -> None:
        found = (frames.parse_segment_name(path.name) for path in self._folder.glob(f"{self.writer}-*{frames.SUFFIX}"))
        numbers = {number for writer, number in filter(None, found) if writer == self.writer}
        self.segments = sorted({*self.segments, *numbers} - self.kept)

    def _has_begun(self, number: int) -> bool:
        return self._first_sequence(number) is not None

    def _first_sequence(self, number: int) -> int | None:
        try:
            segment = self._opened(number)
        except (OSError, frames.NotASegment):
            return None
        segment.close()
        return segment.header.first_sequence

    def _missing_before(self, segment: OpenSegment) -> Gap | None:
        message = f"{self._at - self.sequence} events of the journal before segment {segment.path.name} are missing"
        return self._gap("missing", message, self._at)

    def _bounds(self, segment: OpenSegment) -> Bounds | None:
        """Say where a segment to which nobody will write any more ends, or None while its writer may."""
        end = segment.stated_end()
        if end is not None:
            return Bounds(end)
        later = self._later_start(segment)
        if later is None:
            self.abandoned = segment.is_abandoned()
        return Bounds(later) if later is not None or self.abandoned else None

    def _next(self, segment: OpenSegment) -> Block | Gap | None:
        """Return the next events that the store does not have; None where there are no more whole records, and `_ending` says why."""
        while True:
            length = segment.length_at(self._offset)
            if length > frames.MAX_PAYLOAD and segment.is_whole_at(self._offset):
                found: Block | Gap | None = self._pass_too_large(segment, length)
            else:
                result = self._scan(segment, length)
                self._ending = result.ending
                if not len(result.records):
                    return None
                found = self._block(result.records)
            if found is not None:
                return found

    def _pass_too_large(self, segment: OpenSegment, length: int) -> Gap | None:
        """Move past a record that no block can hold; where it is an event that the store does not have, return what stands for it."""
        payload = os.pread(segment.descriptor, EXCERPT, self._offset + frames.RECORD_HEAD.size)
        self._offset += frames.RECORD_HEAD.size + length
        message = f"its payload of {length} bytes is larger than {frames.MAX_PAYLOAD}, the most that is kept"
        if _is_map(np.frombuffer(payload[:1], np.uint8)).any():
            log.error("journal %s: a name table is passed over, its metrics become dead letters: %s", self.writer, message)
            return None
        self._at += 1
        return self._gap("too-large", message, self._at, payload) if self._at > self.sequence else None

    def _scan(self, segment: OpenSegment, length: int) -> Scan:
        """Scan the next chunk; a first record longer than a chunk, if it may be one, makes it longer."""
        if not length:
            return Scan(Records.of([]), self._offset, Ending.CUT if segment.is_cut_at(self._offset) else Ending.CLEAN)
        wanted = length + frames.RECORD_HEAD.size if length <= frames.MAX_PAYLOAD else 0
        left = max(segment.size() - self._offset, 0)
        result = scan(os.pread(segment.descriptor, min(max(CHUNK, wanted), left), self._offset))
        self._offset += result.end
        return result

    def _block(self, records: Records) -> Block | None:
        """Return the events among the records that the store does not have; what defines names goes into the name table."""
        is_names = _is_map(records.buffer[records.offsets])
        for index in np.flatnonzero(is_names):
            self._define(records.payload(int(index)))
        events = records.take(~is_names) if is_names.any() else records
        skip = min(max(self.sequence - self._at, 0), len(events))
        self._at += len(events)
        if skip == len(events):
            return None
        due = events.take(slice(skip, None))
        block = Block(self.subject or "", self.writer, self.sequence, self._names_for(due), due)
        self.sequence = block.end
        return block

    def _names_for(self, events: Records) -> dict[int, str]:
        """Return the names that events use; all of them when they are few, or when some metrics are not of the usual form."""
        if len(self._names) > SMALL_TABLE:
            metrics, others = split_metrics(events)
            if (events.buffer[events.offsets[others]] == PLAIN_EVENT).all():
                return {number: self._names[number] for number in np.unique(metrics.id).tolist() if number in self._names}
        return dict(self._names)

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
        if segment.size() < segment.header.capacity:
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

    def _later_start(self, segment: OpenSegment) -> int | None:
        """Return the first sequence of the next segment that has begun, if there is one."""
        if not any(number > segment.header.number and self._has_begun(number) for number in self.segments):
            return None
        self._list_anew()  # the next may have been left out of the listing that shows its successor
        starts = (self._first_sequence(number) for number in self.segments if number > segment.header.number)
        return next((start for start in starts if start is not None), None)

    def _finish(self, segment: OpenSegment) -> None:
        self._finished.append(Finished(segment, self.sequence))
        self._current = None

    def acknowledge(self, position: int, rejections: list[tuple[int, str, str]]) -> None:
        """Take over the answer to all that was read: what the store has not taken is read again."""
        self.setbacks = self.setbacks + 1 if position <= self.committed and position < self.sequence else 0
        self.commit(position, self.rejected + len(rejections), rejections[-1] if rejections else None)
        if position < self.sequence:
            self.rewind()

    def commit(self, position: int, rejected: int, newest: tuple[int, str, str] | None) -> None:
        """Tell the producer what the store has, and free the segments that it has whole. What is read beyond that stays under way.

        `rejected` is how many of the writer's events became dead letters, `newest` the newest of them if there is one to tell.
        """
        self.committed = position
        self.rejected = rejected
        for segment in self._open_segments():
            if newest is not None:
                segment.write(frames.REJECTION_OFFSET, frames.encode_rejection(*newest))
            segment.write(frames.REJECTED_OFFSET, frames.WORD.pack(rejected))
            segment.write(frames.COMMITTED_OFFSET, frames.WORD.pack(position))
        self.free_committed()

    def free_committed(self) -> None:
        """Delete the segments that are read to their end and that the store has whole."""
        while self._finished and self._finished[0].end <= self.committed:
            segment = self._finished.pop(0).segment
            if not segment.writable:
                self.kept.add(segment.header.number)
            elif segment.damaged:
                segment.path.rename(segment.path.with_name(segment.path.name + frames.CORRUPT_SUFFIX))
            else:
                segment.path.unlink(missing_ok=True)
            self.segments.remove(segment.header.number)
            segment.close()

    def rewind(self, sequence: int | None = None) -> None:
        """Read again from an event on, by default from what the store has."""
        self.close()
        self.sequence = self.committed if sequence is None else sequence

    def _open_segments(self) -> list[OpenSegment]:
        return [*(finished.segment for finished in self._finished), *([self._current] if self._current else [])]

    def close(self) -> None:
        """Close all files."""
        for segment in self._open_segments():
            segment.close()
        self._finished = []
        self._current = None


def _is_map(first_bytes: Bytes) -> npt.NDArray[np.bool_]:
    """Say of the first byte of each payload whether it begins a map, which is no event."""
    found: npt.NDArray[np.bool_] = ((first_bytes & 0xF0) == 0x80) | (first_bytes == 0xDE) | (first_bytes == 0xDF)
    return found
