"""A queue without a server, and what stands in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fakeredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import OutOfMemoryError

from flightlog.schema.blocks import Block
from flightlog.schema.codec import encode
from flightlog.schema.events import ArtifactLogged, RunStarted
from flightlog.schema.ids import WriterId
from flightlog.schema.names import SNAPSHOTS, shard_key, shard_of
from flightlog.schema.records import Records
from flightlog.stores.memory import MemoryStore
from flightlog.worker.entries import decode_entry, encode_entry
from flightlog.worker.queued_artifacts import Announcements
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.streams import FIELD, Streams
from journals import RUN, WRITER, tag, write_segment

SHARD = shard_of(RUN)
SNAPSHOT = "c" * 32


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


def log_artifact(folder: Path, root: Path, store: MemoryStore, streams: Streams, path: str = "a/result.txt") -> None:
    """Log an artifact as a producer does, and file its event as a worker does."""
    started = RunStarted(time=1, experiment_id="0", artifact_uri=str(root), run_name="r", user_id="me", start_time=1)
    logged = ArtifactLogged(time=1, path=path, size=5, snapshot=SNAPSHOT)
    write_segment(folder, encode(started), encode(logged))
    (folder / SNAPSHOTS).mkdir(exist_ok=True)
    (folder / SNAPSHOTS / SNAPSHOT).write_bytes(b"hello")
    source = SpoolSource(folder, store.position)
    items = source.take(10)
    source.acknowledge(store.apply(items))
    source.close()
    Announcements(streams, store).run(items)
