"""The loop that moves events: what it does when the store refuses, when there is nothing to do, and when it is told to stop."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from contracts.facts import RUN, WRITER, block, param
from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.memory import MemoryStore
from flightlog.worker import ingest as ingest_module
from flightlog.worker.ingest import Ingest
from flightlog.worker.uploads import Uploads
from shelves import Moody, Shelf

BLOCKS = [block(RUN, param(f"p{number}", "1"), first=number) for number in range(3)]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "FIRST_RETRY", 0.01)


def test_everything_is_moved_and_the_loop_ends_when_it_is_idle(tmp_path: Path) -> None:
    store = MemoryStore()
    Ingest(Shelf(*BLOCKS), store, Uploads(tmp_path, store), idle=0.1).run()
    assert store.position(RUN, WRITER) == 3


def test_a_store_that_cannot_be_reached_is_tried_again_from_where_it_is(tmp_path: Path) -> None:
    store, shelf = Moody(3), Shelf(*BLOCKS)
    Ingest(shelf, store, Uploads(tmp_path, store), idle=0.1).run()
    assert (store.position(RUN, WRITER), shelf.rewinds) == (3, 3)
    assert len(store.get_run(RUN).data.params) == 3


def test_drain_says_when_the_store_cannot_be_reached(tmp_path: Path) -> None:
    store = Moody(1)
    with pytest.raises(StoreUnavailable):
        Ingest(Shelf(*BLOCKS), store, Uploads(tmp_path, store)).drain()


def test_a_stopped_loop_leaves_also_while_the_store_cannot_be_reached(tmp_path: Path) -> None:
    store, shelf = Moody(1_000_000), Shelf(*BLOCKS)
    ingest = Ingest(shelf, store, Uploads(tmp_path, store))
    thread = threading.Thread(target=ingest.run)
    thread.start()
    ingest.stop()
    thread.join(10)
    assert not thread.is_alive()


def test_the_loop_stays_while_a_producer_may_still_write(tmp_path: Path) -> None:
    store, shelf = MemoryStore(), Shelf()
    shelf.is_live = True
    ingest = Ingest(shelf, store, Uploads(tmp_path, store), idle=0.01)
    thread = threading.Thread(target=ingest.run)
    thread.start()
    thread.join(0.2)
    assert thread.is_alive()
    shelf.is_live = False
    thread.join(10)
    assert not thread.is_alive()
