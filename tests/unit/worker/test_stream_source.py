"""A shard as a source: in order, from its beginning, within bounds, and past what is no entry."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest

from flightlog.schema.blocks import Block
from flightlog.stores.base import Applied, Gap
from flightlog.stores.memory import MemoryStore
from flightlog.worker.ingest import Ingest
from flightlog.worker.queued_artifacts import Announcements
from flightlog.worker.sources import stream
from flightlog.worker.sources.stream import StreamSource
from flightlog.worker.streams import Streams
from journals import RUN, WRITER, tag
from queues import SHARD, block, send, send_raw, waiting


@pytest.fixture
def source(streams: Streams, store: MemoryStore) -> StreamSource:
    return StreamSource(streams, SHARD, store.position)


def _drain(streams: Streams, store: MemoryStore, source: StreamSource) -> int:
    return Ingest(source, store, Announcements(streams, store), sweeps=False).drain()


def _events(items: Sequence[Block | Gap]) -> list[bytes]:
    return [payload for item in items if isinstance(item, Block) for payload in item.records.payloads()]


def test_entries_come_in_order_and_again_until_they_are_acknowledged(streams: Streams, source: StreamSource) -> None:
    send(streams, *(block(str(number), first=number) for number in range(40)))
    expected = [tag(str(number)) for number in range(40)]
    assert _events(source.take(100)) == expected
    assert source.take(100) == []
    source.rewind()
    assert _events(source.take(100)) == expected
    source.acknowledge(Applied({WRITER: 40}))
    source.rewind()
    assert source.take(100) == []


def test_what_came_after_the_batch_is_not_forgotten_with_it(streams: Streams, source: StreamSource) -> None:
    send(streams, *(block("a", "b", first=2 * number) for number in range(5)))
    assert len(_events(source.take(4))) == 4
    send(streams, block("c", first=10))
    source.acknowledge(Applied({WRITER: 4}))
    assert waiting(streams) == [(4, 6), (6, 8), (8, 10), (10, 11)]


def test_a_page_after_large_entries_is_a_single_entry(streams: Streams, source: StreamSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "PAGE_BYTES", 1000)
    asked: list[int] = []
    read = streams.read

    def noted(shard: int, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        asked.append(count)
        return read(shard, after, count)

    monkeypatch.setattr(streams, "read", noted)
    send(
        streams,
        *(block("a", first=number) for number in range(5)),
        *(block(os.urandom(1000).hex(), first=5 + number) for number in range(20)),
    )
    source.take(1000)
    assert asked[:5] == [1, 4, 16, 1, 1]


def test_bytes_that_are_no_entry_become_dead_letters_of_the_shard_and_the_rest_goes_on(
    streams: Streams, store: MemoryStore, source: StreamSource
) -> None:
    send(streams, block("a"))
    send_raw(streams, b"no entry")
    send_raw(streams, b"another")
    send(streams, block("b", first=1))
    _drain(streams, store, source)
    send_raw(streams, b"a third")
    _drain(streams, store, source)
    assert set(store.get_run(RUN).data.tags) == {"a", "b"}
    letters = store.dead_letters(f"queue:{SHARD}")
    assert [(letter.sequence, letter.reason, letter.payload) for letter in letters] == [
        (0, "corrupt", b"no entry"),
        (1, "corrupt", b"another"),
        (2, "corrupt", b"a third"),
    ]
    assert waiting(streams) == []


def test_a_field_that_is_not_ours_is_no_entry(streams: Streams, store: MemoryStore, source: StreamSource) -> None:
    streams.redis.xadd(f"flightlog:{{{SHARD}}}:blocks", {"other": "x"})
    items = source.take(10)
    assert [(type(item), item.subject) for item in items] == [(Gap, f"queue:{SHARD}")]


def test_a_block_past_the_position_is_left_to_its_sender(streams: Streams, store: MemoryStore, source: StreamSource) -> None:
    send(streams, block("late", first=5))
    _drain(streams, store, source)
    assert store.position(RUN, WRITER) == 0
    assert waiting(streams) == []
    assert store.dead_letters() == []


def test_what_comes_twice_does_nothing_and_is_published_again(streams: Streams, store: MemoryStore, source: StreamSource) -> None:
    send(streams, block("a", "b"))
    _drain(streams, store, source)
    streams.redis.flushall()
    send(streams, block("a", "b"))
    source.rewind()
    _drain(streams, store, source)
    assert streams.progress([(RUN, WRITER)])[0].committed == 2
    assert sum(len(item.records) for item in store.ledger(RUN)) == 2
