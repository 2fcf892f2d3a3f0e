"""The queue seen from outside: what waits in it, for how long, who is at work, and what kind of Redis it is. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.registry import FailedJobRegistry

from flightlog.schema.errors import QueueUnavailable
from flightlog.schema.names import QUEUE, SHARDS, shard_key
from flightlog.schema.settings import without_password
from flightlog.worker import presence
from flightlog.worker.presence import Process
from flightlog.worker.rings import SERIALIZER
from flightlog.worker.streams import connect_to_look

LOOK = """
local oldest = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
return {redis.call('XLEN', KEYS[1]), oldest[1] and oldest[1][1] or false, redis.call('EXISTS', KEYS[2])}
"""
"""Run in Redis, so that an entry, which may have a mebibyte, is not sent only to see its id."""


@dataclass(frozen=True)
class Shard:
    """What waits in one shard: entries, their bytes, the age of the oldest in seconds (None of none), and whether somebody reads it."""

    number: int
    entries: int
    bytes: int
    oldest: float | None
    is_read: bool


@dataclass(frozen=True)
class Traffic:
    """The queue at one moment. `workers`, `queued_jobs` and `failed_jobs` are RQ's counts, `processes` those that have just reported."""

    shards: Sequence[Shard]
    workers: int
    queued_jobs: int
    failed_jobs: int
    processes: Sequence[Process]

    @property
    def entries(self) -> int:
        """How many entries wait."""
        return sum(shard.entries for shard in self.shards)

    @property
    def bytes(self) -> int:
        """How many bytes of Redis they take."""
        return sum(shard.bytes for shard in self.shards)

    @property
    def oldest(self) -> float | None:
        """The age of the oldest entry in seconds, None when nothing waits."""
        return max((shard.oldest for shard in self.shards if shard.oldest is not None), default=None)

    @property
    def unread(self) -> list[int]:
        """Shards in which entries wait and that nobody reads at this moment."""
        return [shard.number for shard in self.shards if shard.entries and not shard.is_read]


@dataclass(frozen=True)
class Server:
    """What kind of Redis a queue is in.

    `memory_limit` is in bytes, 0 for none; `memory_policy` is what Redis does beyond it; `appends`: it keeps a file of all changes.
    """

    version: str
    memory: int
    memory_limit: int
    memory_policy: str
    appends: bool


@contextmanager
def looking(queue_uri: str) -> Iterator[Redis]:
    """Give a client of a queue and close it. What goes wrong meanwhile becomes `QueueUnavailable`."""
    redis = connect_to_look(queue_uri)
    try:
        yield redis
    except RedisError as error:
        raise QueueUnavailable(f"the queue {without_password(queue_uri)} cannot be looked at now: {error}") from error
    finally:
        redis.close()


def read_traffic(queue_uri: str) -> Traffic:
    """Return what goes on in a queue. Raises `QueueUnavailable`."""
    with looking(queue_uri) as redis:
        now = presence.clock(redis)
        queue = Queue(QUEUE, connection=redis, serializer=SERIALIZER)
        return Traffic(
            shards=_shards(redis, now),
            workers=Worker.count(queue=queue),
            queued_jobs=queue.count,
            failed_jobs=FailedJobRegistry(queue=queue).get_job_count(cleanup=False),
            processes=presence.present(redis, now),
        )


def _shards(redis: Redis, now: int) -> list[Shard]:
    with redis.pipeline(transaction=False) as pipe:
        for number in range(SHARDS):
            pipe.eval(LOOK, 2, shard_key(number, "blocks"), shard_key(number, "lease"))
            pipe.memory_usage(shard_key(number, "blocks"))
        found = pipe.execute()
    return [_shard(number, look, size, now) for number, (look, size) in enumerate(zip(found[::2], found[1::2], strict=True))]


def _shard(number: int, look: tuple[int, bytes | None, int], size: int | None, now: int) -> Shard:
    entries, oldest, held = look
    age = None if oldest is None else max(0, now - int(oldest.partition(b"-")[0])) / 1000
    return Shard(number, entries, int(size or 0), age, is_read=bool(held))


def read_server(queue_uri: str) -> Server:
    """Return what kind of Redis a queue is in. Raises `QueueUnavailable`."""
    with looking(queue_uri) as redis:
        facts: Any = redis.info()
    return Server(
        version=str(facts.get("redis_version", "0")),
        memory=int(facts.get("used_memory", 0)),
        memory_limit=int(facts.get("maxmemory", 0)),
        memory_policy=str(facts.get("maxmemory_policy", "unknown")),
        appends=bool(facts.get("aof_enabled")),
    )
