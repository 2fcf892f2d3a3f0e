"""Who is at work, as each process says itself: a Redis hash `flightlog:processes` of what workers and shippers last reported.

    flightlog:processes     "<kind>:<host>:<pid>" -> msgpack [time in ms by the clock of Redis, {what it reports}]

A report counts for `CURRENT` seconds: a process that was killed is gone then, and its entry is swept out by another one's report.
Everything here may vanish at any time: it informs and decides nothing.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import msgpack
from redis import Redis
from redis.exceptions import RedisError

from flightlog.schema.ids import now_ms
from flightlog.schema.settings import Location
from flightlog.worker.observers import Observer, Summary
from flightlog.worker.reports import reporting
from flightlog.worker.status import lag_of, read_spool
from flightlog.worker.streams import connect_to_look

Kind = Literal["worker", "shipper"]

PROCESSES = "flightlog:processes"
CURRENT = 30.0
"""Seconds for which a report counts."""
LOOKING = 0.04
"""The share of the time that looking at a spool may take."""
FORGOTTEN = 3_600_000
"""Milliseconds after which the report of a process that is gone is removed."""


@dataclass(frozen=True)
class Process:
    """What a process last said, `age` seconds ago: `facts` is what it has done, and how far a shipper's machine is behind."""

    kind: str
    host: str
    pid: int
    age: float
    facts: Mapping[str, Any] = field(default_factory=dict)


def clock(redis: Redis) -> int:
    """Return the time of Redis, by which its stream ids and these reports are stamped, in ms since the epoch. Raises `RedisError`."""
    seconds, microseconds = redis.time()
    return int(seconds) * 1000 + int(microseconds) // 1000


def report(redis: Redis, kind: Kind, facts: Mapping[str, Any]) -> None:
    """Say that this process is at work. Raises `RedisError`."""
    now = clock(redis)
    with redis.pipeline(transaction=False) as pipe:
        pipe.hset(PROCESSES, _name(kind), msgpack.packb([now, dict(facts)]))
        pipe.expire(PROCESSES, FORGOTTEN // 1000)
        pipe.execute()
    forgotten = [name for name, stamp, _ in _entries(redis) if now - stamp > FORGOTTEN]
    if forgotten:
        redis.hdel(PROCESSES, *forgotten)


def leave(redis: Redis, kind: Kind) -> None:
    """Say that this process is no longer at work. Raises `RedisError`."""
    redis.hdel(PROCESSES, _name(kind))


def present(redis: Redis, now: int) -> list[Process]:
    """Return the processes that are at work, by name; `now` is the clock of Redis. Raises `RedisError`."""
    found = [process for name, stamp, facts in _entries(redis) if (process := _process(name, (now - stamp) / 1000, facts))]
    return sorted((process for process in found if process.age < CURRENT), key=lambda process: (process.kind, process.host, process.pid))


def _name(kind: Kind) -> str:
    return f"{kind}:{platform.node()}:{os.getpid()}"


def _entries(redis: Redis) -> Iterator[tuple[bytes, int, dict[str, Any]]]:
    """Yield what can be read; another version may have written what cannot."""
    entries: Any = redis.hgetall(PROCESSES)
    for name, packed in entries.items():
        try:
            stamp, facts = msgpack.unpackb(packed)
        except (ValueError, TypeError, msgpack.UnpackException):
            yield name, 0, {}
            continue
        if isinstance(stamp, int) and isinstance(facts, dict):
            yield name, stamp, facts


def _process(name: bytes, age: float, facts: dict[str, Any]) -> Process | None:
    kind, _, rest = name.decode("utf-8", "replace").partition(":")
    host, _, pid = rest.rpartition(":")
    return Process(kind, host, int(pid), age, facts) if pid.isdecimal() else None


@contextmanager
def reporting_to_queue(location: Location, kind: Kind, observer: Observer) -> Iterator[Observer]:
    """Give an observer as `reporting` does, and have this process seen by whoever looks at the queue. A queue that is away does no harm."""
    redis = connect_to_look(str(location.queue_uri))
    lag = SpoolFacts(location.spool).now if kind == "shipper" else dict

    def publish(summary: Summary) -> None:
        with suppress(RedisError, OSError):  # whoever works has the same trouble with queue or spool, and says so
            report(redis, kind, {**asdict(summary), **lag()})

    try:
        with reporting(observer, publish) as told:
            yield told
    finally:
        with suppress(RedisError):
            leave(redis, kind)
        redis.close()


class SpoolFacts:
    """How far the store is behind a spool. With a thousand journals a look at them takes long, and it keeps the process from its work."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool
        self._facts: Mapping[str, Any] = {}
        self._next_look = 0.0

    def now(self) -> Mapping[str, Any]:
        """Return what a shipper reports of its spool, as it was a moment ago. Raises `OSError` for a spool that cannot be read."""
        began = time.monotonic()
        if began >= self._next_look:
            lag = lag_of(read_spool(self._spool), now_ms())
            self._facts = {"spool": str(self._spool), "lag_events": lag.events, "lag_seconds": lag.seconds, "spool_bytes": lag.bytes}
            self._next_look = time.monotonic() + (time.monotonic() - began) / LOOKING
        return self._facts
