"""A worker at a spool, with a store in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flightlog.stores.memory import MemoryStore
from flightlog.worker.ingest import Ingest
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.streams import Streams
from flightlog.worker.uploads import Uploads
from queues import fake_streams

Drain = Callable[[], int]


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def source(tmp_path: Path, store: MemoryStore) -> Iterator[SpoolSource]:
    source = SpoolSource(tmp_path, store.position)
    yield source
    source.close()


@pytest.fixture
def drain(tmp_path: Path, store: MemoryStore, source: SpoolSource) -> Drain:
    """File what is there, with one worker throughout."""
    return Ingest(source, store, Uploads(tmp_path, store)).drain


@pytest.fixture
def streams() -> Iterator[Streams]:
    """Give a queue in no Redis."""
    streams = fake_streams()
    yield streams
    streams.close()
