"""The journal: the append-only file of one process writing to one subject. The truth until the store has committed.

`append` is the path of every log call, so it makes no system call and lets go of no lock that a thread doing I/O might hold: it copies
the record into the map of a preallocated segment, and the kernel keeps those pages when the process is killed. Everything slow (the
next segment, writing to disk) is done by the caretaker's threads in `prepare` and `tend`. See `schema.frames` for the format.
"""

from __future__ import annotations

import itertools
import logging
import mmap
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from zlib import crc32

from flightlog.producer.segments import Segment
from flightlog.producer.spool import ROOM_ADVICE, Spool, SpoolFull
from flightlog.schema import codec, frames
from flightlog.schema.errors import JournalFull
from flightlog.schema.events import EventsDropped, WriterAlive
from flightlog.schema.ids import monotone_ms, new_writer_id, now_ms

log = logging.getLogger("flightlog")
pack_head = frames.RECORD_HEAD.pack

FIRST_SIZE = 64 << 10
GROWTH = 16
FULL_SIZE = 8 << 20
"""Segments grow from 64 KiB over 1 MiB to 8 MiB: a short run takes little room, a long one few files."""
PROMPT_SIZE = 1 << 20
"""A log call that has to make a segment itself, because it is faster than the caretaker, makes a small one."""
NAMES_SHARE = 4
"""A segment is at least so many times as large as the name table at its head."""
RESERVE = 1024
"""The last bytes of a segment are kept for the events that must still fit when the disk is full: what was dropped, and the end."""
MAX_REASON = 300
WARN_EVERY = 60.0
ROOM_POLL = 0.05


class Journal:
    """Appends payloads for one subject. All methods may be called from any thread; `append` also from a signal handler."""

    def __init__(self, subject: str, spool: Spool, wake: Callable[[], None]) -> None:
        """Create nothing yet: the first append does. `wake` asks the caretaker to call `prepare` soon."""
        self.subject = subject
        self._spool = spool
        self._wake = wake
        self._lock = threading.RLock()
        self.markers: dict[str, bytes] = {}
        """Metric name -> `codec.single_marker` of its id, for names that the current segment defines."""
        self._begin_writer()

    def _begin_writer(self) -> None:
        self.writer = new_writer_id()
        self.markers.clear()
        self.sequence = 0
        self.dropped = 0
        self._ids = itertools.count(1)
        self._names: dict[int, str] = {}
        self._names_size = 0
        self._numbers = itertools.count()
        self._grown = 0
        self._seen_committed = self._seen_rejected = 0
        self._rejection: tuple[int, str, str] | None = None
        self._segment: Segment | None = None
        self._next: Segment | None = None
        self._retired: deque[tuple[Segment, int | None]] = deque()
        """Segments that are full, with the sequence after their last event; None where they say so themselves already."""
        self._released: Path | None = None
        """The closed segment that is no longer open here, for as long as the store may not have it."""
        self._tended_position = 0
        self._heard_sequence, self._heard_at = 0, time.monotonic()
        self._position = self._soft_limit = self._limit = 0
        self._busy = False
        self._deferred: deque[Callable[[], object]] = deque()
        self._full: str | None = None
        self._unreported = 0
        self._drop_reason = ""
        self._warned = -WARN_EVERY
        self._closed = False

    def append(self, payload: bytes, *, last: bool = False) -> int:
        """Append one event and return its sequence, or -1 if it was dropped. When it returns, a kill of the process cannot lose it.

        Raises `JournalFull` where the policy says so. The `last` event of a run, and what no call of the script has made, never waits and
        never raises for want of room.
        """
        record = pack_head(len(payload), crc32(payload)) + payload
        size = len(record)
        with self._lock:
            if self._busy:
                return self._defer(payload)
            start, sequence = self._position, self.sequence
            try:
                self._busy = True
                if start + size <= self._soft_limit or self._make_room(size):
                    start, sequence = self._position, self.sequence
                    self._segment.buffer[start : start + size] = record  # type: ignore[union-attr]  # there is room, so there is a segment
                    self._position = start + size
                    self.sequence = sequence + 1
                else:
                    sequence = -1
            except BaseException:
                self._repair(record, start, sequence)
                raise
            finally:
                self._busy = False
        if self._deferred:
            self._do_deferred()
        if sequence >= 0:
            return sequence
        return self.drop(self._reason) if last else self._without_room(payload)

    def _repair(self, record: bytes, start: int, sequence: int) -> None:
        """Count a record that was written when a signal's exception, such as KeyboardInterrupt, came before it was counted."""
        end = start + len(record)
        uncounted = self._segment is not None and self.sequence == sequence and self._position in (start, end)
        if uncounted and self._segment is not None and self._segment.buffer[start:end] == record:
            self._position, self.sequence = end, sequence + 1

    def _defer(self, payload: bytes) -> int:
        """Keep an event that a signal handler logs while its thread is at work here: it follows at once, before that call returns."""
        self._deferred.append(partial(self.append, payload))
        return self.sequence + len(self._deferred)

    def _do_deferred(self) -> None:
        while self._deferred and not self._busy:
            try:
                work = self._deferred.popleft()
            except IndexError:  # a signal handler was quicker
                return
            work()

    def postpone(self, work: Callable[[], object]) -> bool:
        """Have something done as soon as the call that a signal has interrupted is over; False when there is no such call."""
        with self._lock:
            if self._busy:
                self._deferred.append(work)
            return self._busy

    def _undisturbed(self, work: Callable[[], object]) -> None:
        """Do what moves the position; what a signal handler logs meanwhile is deferred."""
        with self._lock:
            if self.postpone(partial(self._undisturbed, work)):
                return
            try:
                self._busy = True
                work()
            finally:
                self._busy = False

    def define(self, name: str) -> bytes:
        """Give a metric name its id in this journal and return the id's marker."""
        with self._lock:
            marker = self.markers.get(name)
            if marker is None:
                metric_id = next(self._ids)
                marker = codec.single_marker(metric_id)
                self._names[metric_id] = name
                self._undisturbed(partial(self._put_name, metric_id, name))
                self.markers[name] = marker
        self._do_deferred()
        return marker

    def _put_name(self, metric_id: int, name: str) -> None:
        """Write a record that takes no sequence. Without room for it there must be none for its metric; the next segment has all names."""
        record = frames.frame(codec.encode_names({metric_id: name}))
        if self._position + len(record) <= self._soft_limit or self._make_room(len(record)):
            self._put(record)
        else:
            self._soft_limit = self._limit = 0

    def _put(self, record: bytes) -> None:
        assert self._segment is not None  # noqa: S101 - the callers have made room
        self._segment.buffer[self._position : self._position + len(record)] = record
        self._position += len(record)

    def _make_room(self, size: int) -> bool:
        """Say whether a record of this size fits now, moving to the next segment if it must."""
        if self._closed:
            self._reopen()
        if self._position + size <= self._limit:
            self._soft_limit = self._limit
            self._wake()
            return True
        return self._rotate(size)

    def _reopen(self) -> None:
        self._closed = False
        if self._segment is not None:
            self._look()
            self._retired.append((self._segment, None))
            self._segment = None
        self._position = self._soft_limit = self._limit = 0

    def _rotate(self, size: int) -> bool:
        names = frames.frame(codec.encode_names(self._names)) if self._names else b""
        self._names_size = len(names)
        needed = frames.HEADER_SIZE + len(names) + size + 2 * RESERVE
        segment = self._take_next(needed)
        if segment is None:
            return False
        if self._segment is not None:
            self._look()
            self._retired.append((self._segment, self.sequence))
        self._soft_limit = self._limit = 0  # until all is in place: an exception from a signal handler may end this anywhere
        segment.begin(frames.SegmentHeader(self.writer, self.subject, segment.number, self.sequence, segment.capacity, now_ms(), _meta()))
        self._released = None
        self._grown += 1
        self._segment = segment
        self._position = frames.HEADER_SIZE
        if names:
            self._put(names)
        if self._unreported:
            self._report_dropped()
        self._limit = segment.capacity - RESERVE
        self._soft_limit = max(segment.capacity // 4, self._position + size)
        self._wake()
        return True

    def _take_next(self, needed: int) -> Segment | None:
        """Return the prepared segment if it is large enough, else a new one, else None when the spool is full."""
        prepared, self._next = self._next, None
        if prepared is not None and prepared.capacity >= needed:
            return prepared
        if prepared is not None:
            prepared.discard()
        elif self._full:
            return None
        return self._create(needed, PROMPT_SIZE)

    def _create(self, needed: int, most: int) -> Segment | None:
        """Create the next segment's file, the smallest that will do where there is no room for more, or remember why not."""
        grown = FIRST_SIZE * int(GROWTH ** min(self._grown, 2))
        needed = max(needed, NAMES_SHARE * self._names_size)
        refusal = "no room"
        for capacity in sorted({max(needed, min(grown, size)) for size in (most, PROMPT_SIZE, FIRST_SIZE)}, reverse=True):
            try:
                segment = self._spool.create(self.writer, next(self._numbers), capacity)
            except SpoolFull as error:
                refusal = str(error)
            except OSError as error:
                refusal = f"the journal in {self._spool.folder} cannot grow: {error}; {ROOM_ADVICE}"
            else:
                self._full = None
                return segment
        self._full = refusal  # not before the last attempt: log calls would drop events meanwhile
        return None

    @property
    def _reason(self) -> str:
        return self._full or "no room"

    def _without_room(self, payload: bytes) -> int:
        """Treat an event for which there is no room as the policy says."""
        if not self.is_to_wait("event", self._reason):
            return -1
        self._wait_for_room()
        return self.append(payload)  # deeper only as often as somebody else has taken the room

    def is_to_wait(self, what: str, reason: str) -> bool:
        """Say whether the policy is to try again where there was no room for an event, or its artifact; else count it as dropped.

        Raises `JournalFull` where that is the policy.
        """
        if self._spool.when_full == "raise":
            raise JournalFull(f"the {what} was not recorded: {reason}")
        if self._spool.when_full == "block":
            self._warn("flightlog: logging waits for room: %s", reason)
            return True
        self.drop(reason)
        return False

    def drop(self, reason: str) -> int:
        """Count an event as dropped, warn of it once a minute, and return -1."""
        with self._lock:
            self.dropped += 1
            self._unreported += 1
            self._drop_reason = cut(reason)
            if self._segment is not None:
                self._segment.set_word(frames.DROPPED_OFFSET, self.dropped)
        self._warn("flightlog: %d events were dropped, and training goes on: %s", self.dropped, reason)
        return -1

    def _warn(self, message: str, *values: object) -> None:
        now = time.monotonic()
        if now - self._warned >= WARN_EVERY:
            self._warned = now
            log.warning(message, *values)

    def _wait_for_room(self) -> None:
        """Wait until a segment could be prepared. An event of its own each time: a signal handler may wait here as well."""
        self._wake()
        while self._full and self._next is None:
            threading.Event().wait(ROOM_POLL)

    def _report_dropped(self) -> None:
        """Record how many events are missing here, as an event; room for it is always reserved."""
        count, self._unreported = self._unreported, 0
        event = EventsDropped(time=monotone_ms(), count=count, reason=self._drop_reason)
        record = frames.frame(codec.encode(event))
        self._put(record)
        self.sequence += 1

    def append_last(self, payload: bytes) -> int:
        """Append an event that ends the run, into the reserve if there is no other room."""
        self._undisturbed(self._open_reserve)
        return self.append(payload, last=True)

    def _open_reserve(self) -> None:
        if self._segment is not None and not self._closed:
            self._limit = self._soft_limit = self._segment.capacity
            if self._unreported:
                self._report_dropped()

    def tend(self) -> None:
        """Write to disk what is not there yet; look for room when there was none. May take as long as the disk does."""
        if self._full:
            self.prepare()
        self._settle_retired(sync=True)
        segment, position = self._segment, self._position
        if segment is None or self._closed:
            return
        try:
            segment.sync(self._worth_syncing(position))
        except ValueError:  # its map is gone: the journal was closed and released just now
            if not self._closed:
                raise

    def say_alive(self, after: float) -> None:
        """Append a heartbeat when nothing was appended for so many seconds, as far as the calls of this method have seen.

        A journal that is closed or has not begun stays so. Where there is no room without waiting for the disk there is no heartbeat.
        """
        now = time.monotonic()
        if self.sequence != self._heard_sequence:
            self._heard_sequence, self._heard_at = self.sequence, now
        elif self._segment is not None and not self._closed and now - self._heard_at >= after:
            self._undisturbed(self._put_heartbeat)
            self._do_deferred()

    def _put_heartbeat(self) -> None:
        """Append it where there is room: a journal that was closed since we looked has none."""
        record = frames.frame(codec.encode(WriterAlive(time=monotone_ms())))
        end = self._position + len(record)
        if end <= self._soft_limit or ((end <= self._limit or self._next is not None) and self._make_room(len(record))):
            self._put(record)
            self.sequence += 1

    def _worth_syncing(self, position: int) -> int:
        """Return up to where to write to disk: not the page that is being filled, for it would stop the next call until it is written.

        A writer that fills no page in a round gets that one written too: it would otherwise wait for long.
        """
        written = position - self._tended_position
        self._tended_position = position
        return position - position % mmap.PAGESIZE if written > mmap.PAGESIZE else position

    def prepare(self) -> None:
        """Have the next segment ready when this one fills, so that no log call has to make it."""
        filling = self._soft_limit == self._limit and self._segment is not None
        if self._closed or self._next is not None or not (filling or self._full):
            return
        prepared = self._create(FIRST_SIZE, FULL_SIZE)
        if prepared is None:
            return
        prepared.populate()
        prepared.renumber(self.writer, next(self._numbers))  # log calls may have made segments of their own meanwhile
        with self._lock:
            wanted = self._is_wanted(prepared)
            if wanted:
                self._next = prepared
        if not wanted:
            prepared.discard()

    def _is_wanted(self, prepared: Segment) -> bool:
        return not self._closed and self._next is None and (self._segment is None or self._segment.number < prepared.number)

    def _settle_retired(self, *, sync: bool) -> None:
        """Seal full segments, write them to disk and let go of them. Here, because a page that the disk has may take long to write to."""
        while True:
            try:
                segment, end = self._retired.popleft()
            except IndexError:
                return
            if end is not None:
                segment.finish(frames.SEALED, end)
            if sync:
                segment.sync(segment.capacity)
            segment.close()

    @property
    def committed(self) -> int:
        """The sequence before which the store has everything of this writer, as far as this process can see."""
        self._look()
        return self._seen_committed

    @property
    def is_committed(self) -> bool:
        """Whether the store has everything that was appended."""
        return self.committed >= self.sequence

    @property
    def rejected(self) -> int:
        """How many of this writer's events the store could not project, as far as this process can see."""
        self._look()
        return self._seen_rejected

    def _look(self) -> None:
        """Read what the worker says in the newest segment's header. A closed segment that is gone is one that the store has whole."""
        if self._seen_committed >= self.sequence:
            return
        with self._lock:
            page = self._header_page()
            if page is None:
                self._seen_committed = self.sequence if self._released is not None else self._seen_committed
                return
            state = frames.SegmentState.from_bytes(page)
            self._seen_committed = max(self._seen_committed, state.committed)
            if state.rejected > self._seen_rejected:
                self._seen_rejected = state.rejected
                self._rejection = frames.decode_rejection(page)

    def _header_page(self) -> bytes | None:
        if self._segment is not None:
            return self._segment.buffer[0 : frames.HEADER_SIZE]
        try:
            return self._released.read_bytes()[: frames.HEADER_SIZE] if self._released is not None else None
        except FileNotFoundError:
            return None

    def newest_rejection(self) -> tuple[int, str, str] | None:
        """Return (sequence, reason, message) of the newest event that the store could not project."""
        self._look()
        return self._rejection

    def close(self) -> None:
        """Say that the writer has ended. A later append begins the next segment of the same writer."""
        self._do_deferred()
        self._undisturbed(self._finish)

    def _finish(self) -> None:
        if self._segment is None or self._closed:
            return
        if self._unreported:
            self._open_reserve()
        self._look()
        self._segment.finish(frames.CLOSED, self.sequence)
        self._closed = True
        self._soft_limit = self._limit = 0
        if self._next is not None:
            self._next.discard()
            self._next = None

    def release(self) -> None:
        """Let go of a closed journal's files, whose number is limited. A later append begins the next segment of the same writer."""
        with self._lock:
            if not self._closed or self._segment is None:
                return
            self._look()
            segment, self._segment = self._segment, None
            self._released = segment.path
        self._settle_retired(sync=False)
        segment.close()

    def abandon(self) -> None:
        """Forget the parent's files after a fork: this process starts as another writer, with nothing written and new locks."""
        segments = [self._segment, self._next, *(segment for segment, _ in self._retired)]
        self._lock = threading.RLock()
        self._begin_writer()
        for segment in segments:
            if segment is not None:
                segment.close()


def cut(text: str) -> str:
    """Return what of a text fits into the reserve of a segment."""
    return text.encode("utf-8", "backslashreplace")[:MAX_REASON].decode("utf-8", "ignore")


def _meta() -> dict[str, object]:
    return {"host": os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", ""), "pid": os.getpid()}
