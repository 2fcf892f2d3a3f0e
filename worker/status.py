"""What the journals of a spool hold, how far the store has come with them, and what was lost: read from outside, changing nothing.

A journal that a process is writing grows while it is read, and a worker may free it: the counts are those of some moment during the call,
and an event is never counted as lost because of it. Times are ms since the epoch, UTC.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgpack
import numpy as np

from flightlog.schema import frames
from flightlog.schema.entities import DeadLetter, WriterStatus
from flightlog.schema.ids import WriterId
from flightlog.schema.names import DOORBELL, WORKER_LOCK
from flightlog.schema.records import Records, scan

try:
    import fcntl
except ImportError:  # Windows has no flock; there a writer counts as alive until its journal says closed
    fcntl = None  # type: ignore[assignment]

WriterState = Literal["alive", "dead", "closed"]

DAMAGE = ("torn", "corrupt", "truncated", "missing")
"""Reasons of dead letters that tell of a damaged journal."""


@dataclass(frozen=True)
class Journal:
    """What is left in a spool of one writer's journal. Events have the sequences before `end`; segments are in order of their numbers.

    `committed` is what the worker wrote into the headers, which the store's own position may be ahead of. `created` is that of the last
    segment.
    """

    subject: str
    writer: WriterId
    host: str
    pid: int
    state: WriterState
    end: int
    committed: int
    dropped: int
    created: int
    segments: tuple[Path, ...]
    bytes: int


@dataclass(frozen=True)
class Spool:
    """A spool's journals, the files in it that could not be read, and whether a worker is at it."""

    folder: Path
    worker_running: bool
    journals: tuple[Journal, ...]
    corrupt: tuple[Path, ...]
    unreadable: tuple[Path, ...]


@dataclass(frozen=True)
class WriterProgress:
    """How far one writer's events have come. `state` and what stands with it is None when nothing is left of its journal.

    `oldest` is the time of the oldest event that the store has not committed, None if all are or it cannot be known.
    """

    subject: str
    writer: str
    journaled: int
    committed: int
    dropped: int
    state: WriterState | None
    host: str | None
    pid: int | None
    oldest: int | None
    updated: int

    @property
    def lag(self) -> int:
        """Events that are in the journal and not in the store."""
        return self.journaled - self.committed


@dataclass(frozen=True)
class Progress:
    """How far the events of one run or experiment have come.

    `emitted` is what was logged: journaled or dropped. `dead_letters` counts events where their number is known, and a damaged place
    of unknown extent as one; `reasons` is how many dead letters there are for each reason.
    """

    subject: str
    emitted: int
    journaled: int
    committed: int
    dropped: int
    dead_letters: int
    reasons: Mapping[str, int]
    oldest: int | None
    updated: int
    writers: tuple[WriterProgress, ...]

    @property
    def lag(self) -> int:
        """Events that are in the journals and not in the store."""
        return sum(writer.lag for writer in self.writers)

    @property
    def damage(self) -> int:
        """How many places of the journals could not be read."""
        return sum(self.reasons.get(reason, 0) for reason in DAMAGE)


@dataclass(frozen=True)
class _Segment:
    path: Path
    header: frames.SegmentHeader
    state: frames.SegmentState
    size: int


def read_spool(folder: Path) -> Spool:
    """Read a spool. One that does not exist is empty; raises `OSError` for one that cannot be read."""
    names = sorted(entry.name for entry in os.scandir(folder)) if folder.is_dir() else []
    writers: dict[WriterId, list[_Segment]] = {}
    unreadable: list[Path] = []
    for name in names:
        if frames.parse_segment_name(name) is None:
            continue
        try:
            segment = _read_segment(folder / name)
        except (frames.Blank, FileNotFoundError):
            continue  # prepared and not begun, or freed just now
        except frames.NotASegment:
            unreadable.append(folder / name)
        else:
            writers.setdefault(segment.header.writer, []).append(segment)
    corrupt = tuple(folder / name for name in names if name.endswith(frames.CORRUPT_SUFFIX))
    return Spool(folder, is_worker_running(folder), tuple(map(_journal, writers.values())), corrupt, tuple(unreadable))


def is_worker_running(folder: Path) -> bool:
    """Say whether a worker is at a spool: it listens for the bell, or holds the lock where there can be no bell. Rings nothing."""
    bell = folder / DOORBELL
    try:
        is_pipe = stat.S_ISFIFO(bell.stat().st_mode)
    except OSError:
        is_pipe = False
    return _is_heard(bell) if is_pipe else _is_locked(folder / WORKER_LOCK)


def _is_heard(bell: Path) -> bool:
    """Opening a named pipe for writing without waiting fails unless somebody reads it."""
    try:
        os.close(os.open(bell, os.O_WRONLY | os.O_NONBLOCK))
    except OSError:
        return False
    return True


def _is_locked(path: Path) -> bool:
    """Whether another process holds the lock of a file. Asks with a shared lock, which is let go of at once."""
    if fcntl is None:
        return False
    if not path.exists():
        return False
    with path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _read_segment(path: Path) -> _Segment:
    header, state = frames.read_header(path)
    return _Segment(path, header, state, path.stat().st_size)


def _journal(segments: Sequence[_Segment]) -> Journal:
    last = segments[-1]
    meta = last.header.meta
    return Journal(
        subject=last.header.subject,
        writer=last.header.writer,
        host=str(meta.get("host", "")),
        pid=_pid(meta) or 0,
        state=_writer_state(last),
        end=_end(last),
        committed=max(segments[0].header.first_sequence, *(segment.state.committed for segment in segments)),
        dropped=max(segment.state.dropped for segment in segments),
        created=last.header.created,
        segments=tuple(segment.path for segment in segments),
        bytes=sum(segment.size for segment in segments),
    )


def _writer_state(segment: _Segment) -> WriterState:
    """A writer lives while it holds its segment's lock. A worker that adopted a dead one's holds it too, so the process counts as well."""
    if segment.state.state == frames.CLOSED:
        return "closed"
    if fcntl is None:
        return "alive"
    with suppress(FileNotFoundError):
        if not _is_locked(segment.path):
            return "dead"
    return "alive" if _may_be_running(segment.header.meta) else "dead"


def _pid(meta: Mapping[str, object]) -> int | None:
    """Return the process that a header names, None where it names none that can be."""
    pid = meta.get("pid")
    return pid if isinstance(pid, int) and 0 < pid < 1 << 31 else None


def _may_be_running(meta: Mapping[str, object]) -> bool:
    """Whether the process that a header names may be running; of one on another machine nothing is known."""
    pid = _pid(meta)
    if meta.get("host") != os.uname().nodename or pid is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _end(segment: _Segment) -> int:
    """Return the sequence after the last event: what the producer wrote when it was done, else what can be found."""
    stated = segment.header.stated_end(segment.state)
    if stated is not None:
        return stated
    return segment.header.first_sequence + len(_events(segment.path))


def _events(path: Path) -> Records:
    """Return the whole records of a segment that are events; none when it was freed just now."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return Records.of([])
    records = scan(content, frames.HEADER_SIZE).records
    first = records.buffer[records.offsets]
    is_map = ((first & 0xF0) == 0x80) | np.isin(first, (0xDE, 0xDF))
    return records.take(~is_map)


def oldest_time(journal: Journal, committed: int, now: int) -> int | None:
    """Return the time of the event with the sequence `committed`, the oldest that the store does not have; None if it cannot be read.

    A metric's time is the caller's and may be any: it is taken for no earlier than its segment and no later than `now`.
    """
    for path in reversed(journal.segments):
        with suppress(OSError, frames.NotASegment):
            header, _ = frames.read_header(path)
            if header.first_sequence <= committed:
                time = _time_at(path, committed - header.first_sequence)
                return None if time is None else min(max(time, header.created), now)
    return None


def _time_at(path: Path, index: int) -> int | None:
    events = _events(path)
    if index >= len(events):
        return None
    try:
        _, _, time, *_ = msgpack.unpackb(events.payload(index))
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    return time if isinstance(time, int) else None


@dataclass(frozen=True)
class Lag:
    """How far the store is behind a spool: events, the age of the oldest in seconds (0 when all is filed), and what the journals take."""

    events: int
    seconds: float
    bytes: int
    dropped: int


def lag_of(spool: Spool, now: int) -> Lag:
    """Return how far the store is behind, as the journals' headers say: they know of a commit a moment later than the store."""
    late = [journal for journal in spool.journals if journal.end > journal.committed]
    oldest = [time for journal in late if (time := oldest_time(journal, journal.committed, now)) is not None]
    return Lag(
        events=sum(journal.end - journal.committed for journal in late),
        seconds=(now - min(oldest)) / 1000 if oldest else 0.0,
        bytes=sum(journal.bytes for journal in spool.journals),
        dropped=sum(journal.dropped for journal in spool.journals),
    )


def progress(
    spool: Spool, known: Sequence[WriterStatus], letters: Sequence[DeadLetter], now: int, dropped: Mapping[str, int] | None = None
) -> list[Progress]:
    """Return how far each run and experiment has come, the one with the newest activity first.

    `known`, `letters` and `dropped` (events by run) are what the store says, read after the spool, so that what is committed meanwhile is
    not taken for missing. Without a store the journals' headers tell what the worker had committed when it last looked at them.
    """
    writers: dict[str, list[WriterProgress]] = {}
    for writer in _merged(spool, known, now):
        writers.setdefault(writer.subject, []).append(writer)
    of_subject: dict[str, list[DeadLetter]] = {}
    for letter in letters:
        of_subject.setdefault(letter.subject, []).append(letter)
    found = [_progress(parts, of_subject.get(subject, []), (dropped or {}).get(subject, 0)) for subject, parts in writers.items()]
    return sorted(found, key=lambda item: (-item.updated, item.subject))


def _merged(spool: Spool, known: Iterable[WriterStatus], now: int) -> Iterator[WriterProgress]:
    """Yield every writer that the store or the spool knows."""
    journals = {(journal.subject, str(journal.writer)): journal for journal in spool.journals}
    for status in known:
        journal = journals.pop((status.subject, status.writer), None)
        yield _of_journal(journal, status.committed, status.updated, now) if journal else _of_store(status)
    for journal in journals.values():
        yield _of_journal(journal, journal.committed, journal.created, now)


def _of_store(status: WriterStatus) -> WriterProgress:
    committed = status.committed
    return WriterProgress(status.subject, status.writer, committed, committed, 0, None, None, None, None, status.updated)


def _of_journal(journal: Journal, committed: int, updated: int, now: int) -> WriterProgress:
    return WriterProgress(
        subject=journal.subject,
        writer=journal.writer,
        journaled=max(journal.end, committed),
        committed=committed,
        dropped=journal.dropped,
        state=journal.state,
        host=journal.host,
        pid=journal.pid,
        oldest=oldest_time(journal, committed, now) if journal.end > committed else None,
        updated=max(updated, journal.created),
    )


def _progress(writers: Sequence[WriterProgress], letters: Sequence[DeadLetter], dropped: int) -> Progress:
    """Sum up one subject. What the store and the journals say of dropped events overlaps, so the greater counts."""
    journaled = sum(writer.journaled for writer in writers)
    lost = max(dropped, sum(writer.dropped for writer in writers))
    oldest = [writer.oldest for writer in writers if writer.oldest is not None]
    return Progress(
        subject=writers[0].subject,
        emitted=journaled + lost,
        journaled=journaled,
        committed=sum(writer.committed for writer in writers),
        dropped=lost,
        dead_letters=sum(1 if letter.count is None else letter.count for letter in letters),
        reasons=dict(Counter(letter.reason for letter in letters)),
        oldest=min(oldest, default=None),
        updated=max(writer.updated for writer in writers),
        writers=tuple(writers),
    )
