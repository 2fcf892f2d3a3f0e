"""Events that a worker itself has to tell: left in the spool as a journal of one event, which then travels and survives like any other."""

from __future__ import annotations

import os
from pathlib import Path

from flightlog.schema import frames
from flightlog.schema.codec import encode
from flightlog.schema.events import Event
from flightlog.schema.ids import new_writer_id, now_ms


def leave_note(spool: Path, subject: str, event: Event) -> None:
    """Write an event of a run or experiment into the spool, by a writer of its own that has ended. Raises `OSError`."""
    writer = new_writer_id()
    record = frames.frame(encode(event))
    capacity = frames.HEADER_SIZE + len(record)
    header = frames.SegmentHeader(writer, subject, 0, 0, capacity, now_ms(), {"host": "", "pid": 0})
    tail = frames.TAIL.pack(0, 0, 1, 0, frames.CLOSED)
    page = (header.to_bytes().ljust(frames.COMMITTED_OFFSET, b"\0") + tail).ljust(frames.HEADER_SIZE, b"\0")
    path = spool / frames.segment_name(writer, 0)
    hidden = path.with_suffix(frames.NEW_SUFFIX)
    with hidden.open("wb") as file:
        file.write(page + record)
        file.flush()
        os.fsync(file.fileno())
    hidden.rename(path)
