"""A queue without a server, and what stands in it."""

from __future__ import annotations

from typing import Any

import fakeredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

from flightlog.schema.blocks import Block
from flightlog.schema.ids import WriterId
from flightlog.schema.names import shard_key, shard_of
from flightlog.schema.records import Records
from flightlog.worker.entries import decode_entry, encode_entry
from flightlog.worker.streams import FIELD, Streams
from journals import RUN, WRITER, tag

SHARD = shard_of(RUN)


class FragileRedis(fakeredis.FakeRedis):
    """A Redis that can be away, or refuse commands for want of memory."""

    away = False
    refused: frozenset[str] = frozenset()

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute a command, unless it cannot be."""
        self._check(args[0])
        return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis leaves it without types

    def _check(self, command: object) -> None:
        if self.away:
            raise RedisConnectionError("it is away")
        if command in self.refused:
            raise OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Any:
        """Return a pipeline, unless it cannot be."""
        self._check("PIPELINE")
        return super().pipeline(transaction, shard_hint)


def fake_streams(server: fakeredis.FakeServer | None = None) -> Streams:
    """Return the streams of a Redis that is none."""
    streams = Streams("redis://fake")
    streams.redis.close()
    streams.redis = FragileRedis(server=server or fakeredis.FakeServer())
    return streams


def fragile(streams: Streams) -> FragileRedis:
    """Return the Redis of `fake_streams`."""
    assert isinstance(streams.redis, FragileRedis)
    return streams.redis


def block(*keys: str, subject: str = RUN, writer: WriterId = WRITER, first: int = 0) -> Block:
    """Return a block of tags."""
    return Block(subject, writer, first, {}, Records.of([tag(key) for key in keys]))


def send(streams: Streams, *blocks: Block) -> list[bytes]:
    """Put blocks into the queue."""
    return streams.send([(item.subject, encode_entry(item)) for item in blocks])


def send_raw(streams: Streams, entry: bytes, shard: int = SHARD) -> None:
    """Put bytes into the queue that may be no entry."""
    streams.redis.xadd(shard_key(shard, "blocks"), {FIELD: entry})


def waiting(streams: Streams, shard: int = SHARD) -> list[tuple[int, int]]:
    """Return first and next sequence of the blocks that wait in a shard."""
    found = [decode_entry(entry) for _, entry in streams.read(shard, b"0", 1000)]
    return [(item.first_sequence, item.end) for item in found if isinstance(item, Block)]
