"""Journals as a producer writes them, or as nobody would."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack

from flightlog.schema import frames
from flightlog.schema.codec import encode
from flightlog.schema.events import TagSet
from flightlog.schema.ids import WriterId

CAPACITY = 64 << 10
RUN = "a" * 32
WRITER, OTHER_WRITER = WriterId("1" * 32), WriterId("2" * 32)


def tag(key: str, value: str = "x") -> bytes:
    """Return the payload of an event."""
    return encode(TagSet(time=1, key=key, value=value))


def write_segment(
    folder: Path,
    *payloads: bytes,
    subject: str = RUN,
    writer: WriterId = WRITER,
    number: int = 0,
    first: int = 0,
    state: int = frames.CLOSED,
    end: int | None = None,
    tail: bytes = b"",
    meta: Any = None,
    capacity: int = CAPACITY,
) -> Path:
    """Write a segment file; `end` is the right one unless given, `tail` stands after the records, `meta` in place of the meta map.

    The file has 64 KiB, whatever `capacity` its header claims.
    """
    meta_bytes = meta if isinstance(meta, bytes) else msgpack.packb({"subject": subject} if meta is None else meta)
    fields = (bytes.fromhex(writer), first, number, len(meta_bytes), capacity, 1)
    plain = frames._HEAD.pack(frames.MAGIC, frames.FORMAT_VERSION, 0, *fields) + meta_bytes
    head = frames._HEAD.pack(frames.MAGIC, frames.FORMAT_VERSION, zlib.crc32(plain[16:]), *fields) + meta_bytes
    words = frames.TAIL.pack(0, 0, first + len(payloads) if end is None else end, 0, state)
    page = (head.ljust(frames.COMMITTED_OFFSET, b"\0") + words).ljust(frames.HEADER_SIZE, b"\0")
    path = folder / frames.segment_name(writer, number)
    path.write_bytes((page + b"".join(map(frames.frame, payloads)) + tail).ljust(CAPACITY, b"\0"))
    return path


def poke(path: Path, offset: int, data: bytes) -> None:
    """Overwrite bytes of a file."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Hold a segment's lock, as its producer does while it lives."""
    descriptor = os.open(path, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(descriptor)
