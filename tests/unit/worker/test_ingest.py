"""The loop that moves events: what it does when the store refuses, when there is nothing to do, and when it is told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection
from pathlib import Path

import pytest

from contracts.facts import RUN, WRITER, block, param, started
from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.memory import MemoryStore
from flightlog.worker import ingest as ingest_module
from flightlog.worker.ingest import Ingest
from flightlog.worker.uploads import Uploads
from flightlog.worker.watch import Watch
from shelves import Moody, Shelf


class Attentive(MemoryStore):
    """A store that remembers when it was asked for lost runs, and which were said to live."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[int, list[str]]] = []

    def mark_lost(self, silent_ms: int, living: Collection[str] = ()) -> int:
        self.asked.append((silent_ms, list(living)))
        return super().mark_lost(silent_ms, living)


BLOCKS = [block(RUN, param(f"p{number}", "1"), first=number) for number in range(3)]


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "FIRST_RETRY", 0.01)


def test_a_worker_that_waits_for_nothing_leaves_no_artifact_behind(tmp_path: Path) -> None:
    class Slow(Uploads):
        """Is done after a few looks."""

        looks = 0
        is_waiting = property(lambda self: self.looks < 6)

        def look(self) -> None:
            self.looks += 1

    store = MemoryStore()
    artifacts = Slow(tmp_path, store)
    Ingest(Shelf(*BLOCKS), store, artifacts, idle=0.0).run()
    assert artifacts.looks == 6


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


def test_a_worker_looks_for_lost_runs_once_more_before_it_leaves(tmp_path: Path) -> None:
    store = Attentive()
    Ingest(Shelf(*BLOCKS), store, Uploads(tmp_path, store), idle=0.2, lost_after=600.0).run()
    assert set(map(repr, store.asked)) == {repr((600_000, []))}


def test_a_worker_that_is_told_never_to_take_a_run_for_lost_does_not_look(tmp_path: Path) -> None:
    store = Attentive()
    Ingest(Shelf(*BLOCKS), store, Uploads(tmp_path, store), idle=0.2).run()
    assert store.asked == []


def test_where_a_writer_has_died_the_worker_stays_until_its_run_is_lost(tmp_path: Path) -> None:
    store, shelf = MemoryStore(), Shelf(block(RUN, started()))
    shelf.has_lost_writers = True
    began = time.monotonic()
    Ingest(shelf, store, Uploads(tmp_path, store), idle=0.05, lost_after=0.5).run()
    assert time.monotonic() - began >= 0.5
    assert store.get_run(RUN).info.status_reason == "lost"


def test_a_run_whose_writer_lives_here_is_not_lost_however_long_it_is_silent(tmp_path: Path) -> None:
    store, shelf = Attentive(), Shelf(block(RUN, started()))
    shelf.is_live = True
    ingest = Ingest(shelf, store, Uploads(tmp_path, store), lost_after=0.1)
    thread = threading.Thread(target=ingest.run)
    thread.start()
    thread.join(0.6)
    ingest.stop()
    thread.join(10)
    assert {tuple(living) for _, living in store.asked} == {(RUN,)}
    assert store.get_run(RUN).info.status == "RUNNING"


def test_a_worker_calls_nobody_lost_before_it_has_looked_on_for_long_enough(tmp_path: Path) -> None:
    store, clock = Attentive(), iter(range(0, 10_000, 20))
    ingest = Ingest(Shelf(), store, Uploads(tmp_path, store), lost_after=50.0)
    ingest._watch = Watch(lambda: next(clock))
    for _ in range(2):
        ingest._mark_lost()
    assert store.asked == []
    for _ in range(2):
        ingest._mark_lost()
    assert store.asked == [(50_000, [])], "and then not again for a while"


def test_a_worker_that_could_not_reach_the_store_begins_its_watch_anew(tmp_path: Path) -> None:
    store, clock = Moody(1), iter(range(0, 10_000, 20))
    ingest = Ingest(Shelf(*BLOCKS), store, Uploads(tmp_path, store), lost_after=50.0)
    ingest._watch = Watch(lambda: next(clock))
    assert [ingest._watch.look() for _ in range(2)] == [20, 40]
    ingest.step_until()
    assert ingest._watch.look() == 20


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
