"""The shipper: what it sends, when it frees a segment, what it sends again, and when it waits."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from flightlog.schema import frames
from flightlog.schema.errors import QueueUnavailable
from flightlog.schema.ids import WriterId
from flightlog.schema.names import SNAPSHOTS, shard_key
from flightlog.stores.base import Store
from flightlog.stores.memory import MemoryStore
from flightlog.worker import shipper as module
from flightlog.worker.ingest import Ingest
from flightlog.worker.queued_artifacts import Announcements, QueuedArtifacts
from flightlog.worker.shipper import Shipper
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.sources.stream import StreamSource
from flightlog.worker.streams import Streams
from flightlog.worker.upload_thread import UploadThread
from flightlog.worker.uploads import Uploads
from journals import OTHER_WRITER, RUN, WRITER, held, tag, write_segment
from queues import SHARD, fragile, log_artifact, waiting

Work = Callable[[], None]


class Bell:
    """Notes which shards were called."""

    def __init__(self) -> None:
        self.rung: list[int] = []

    def ring(self, shards: Iterable[int]) -> None:
        self.rung.extend(shards)


@pytest.fixture
def bell() -> Bell:
    return Bell()


@pytest.fixture
def shipped(tmp_path: Path, streams: Streams) -> Iterator[SpoolSource]:
    source = SpoolSource(tmp_path, lambda subject, writer: streams.progress([(subject, writer)])[0].committed)
    yield source
    source.close()


@pytest.fixture
def shipper(tmp_path: Path, streams: Streams, shipped: SpoolSource, bell: Bell, monkeypatch: pytest.MonkeyPatch) -> Shipper:
    """Give a shipper to whom everything that stands still is late at once."""
    monkeypatch.setattr(module, "PATIENCE", 0.0)
    return _shipper(tmp_path, streams, shipped, bell)


def _shipper(folder: Path, streams: Streams, source: SpoolSource, bell: Bell, idle: float | None = None) -> Shipper:
    return Shipper(source, streams, bell, UploadThread(Uploads(folder, QueuedArtifacts(streams, folder))), idle)  # type: ignore[arg-type]


@pytest.fixture
def work(streams: Streams, store: MemoryStore) -> Work:
    """Do what a worker does."""
    return lambda: _work(streams, store)


def _work(streams: Streams, sink: Store, shard: int = SHARD) -> None:
    Ingest(StreamSource(streams, shard, sink.position), sink, Announcements(streams, sink), sweeps=False).drain()


def test_a_segment_is_freed_when_the_store_has_it_and_not_before(tmp_path: Path, shipper: Shipper, work: Work, store: MemoryStore) -> None:
    path = write_segment(tmp_path, tag("a"), tag("b"))
    assert shipper.step() == 2
    for _ in range(5):
        assert shipper.step() == 0
    assert path.exists()
    work()
    assert path.exists()
    shipper.step()
    assert not path.exists()
    assert set(store.get_run(RUN).data.tags) == {"a", "b"}


def test_the_producer_is_told_while_more_is_under_way(tmp_path: Path, shipper: Shipper, work: Work) -> None:
    path = write_segment(tmp_path, tag("a"), tag("b"), state=frames.OPEN)
    with held(path):
        shipper.step()
        work()
        with path.open("r+b") as file:
            file.seek(frames.HEADER_SIZE + 2 * len(frames.frame(tag("a"))))
            file.write(frames.frame(tag("c")))
        shipper.step()
        assert frames.read_header(path)[1].committed == 2
        work()
        shipper.step()
        assert frames.read_header(path)[1].committed == 3


def test_the_producer_is_told_of_dead_letters(tmp_path: Path, shipper: Shipper, work: Work) -> None:
    path = write_segment(tmp_path, tag("a"), b"\x94\x63\x01\x01\x80", state=frames.OPEN)
    with held(path):
        shipper.step()
        work()
        shipper.step()
        page = path.read_bytes()[: frames.HEADER_SIZE]
    assert frames.SegmentState.from_bytes(page).rejected == 1
    rejection = frames.decode_rejection(page)
    assert rejection is not None
    assert rejection[:2] == (1, "unknown-type")


def test_what_redis_has_forgotten_is_sent_again(tmp_path: Path, shipper: Shipper, work: Work, streams: Streams, store: MemoryStore) -> None:
    write_segment(tmp_path, tag("a"), tag("b"))
    shipper.step()
    streams.redis.flushall()
    assert shipper.step() == 0
    assert shipper.step() == 2
    work()
    shipper.step()
    assert store.position(RUN, WRITER) == 2
    assert list(tmp_path.glob("*.seg")) == []


def test_what_is_merely_late_is_not_sent_again(tmp_path: Path, shipper: Shipper, streams: Streams, bell: Bell) -> None:
    write_segment(tmp_path, tag("a"), tag("b"))
    shipper.step()
    rung = len(bell.rung)
    for _ in range(5):
        assert shipper.step() == 0
    assert waiting(streams) == [(0, 2)]
    assert len(bell.rung) >= rung + 5


def test_what_was_lost_in_the_middle_is_sent_again(
    tmp_path: Path, shipper: Shipper, work: Work, streams: Streams, store: MemoryStore
) -> None:
    path = write_segment(tmp_path, tag("a"), state=frames.OPEN)
    with held(path):
        for number in range(1, 4):
            shipper.step()
            with path.open("r+b") as file:
                file.seek(frames.HEADER_SIZE + number * len(frames.frame(tag("a"))))
                file.write(frames.frame(tag("abcd"[number])))
        shipper.step()
        second = streams.read(SHARD, b"0", 10)[1][0]
        streams.redis.xdel(shard_key(SHARD, "blocks"), second)
        for _ in range(6):
            work()
            shipper.step()
    assert set(store.get_run(RUN).data.tags) == {"a", "b", "c", "d"}


def test_what_a_worker_cannot_use_is_sent_again_with_growing_pauses(
    tmp_path: Path, shipper: Shipper, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.01)
    write_segment(tmp_path, tag("a"))
    for _ in range(8):
        shipper._checked = 0.0
        shipper.step()
        streams.redis.delete(shard_key(SHARD, "blocks"))
        threading.Event().wait(0.012)
    assert shipper._patience[WRITER] >= 0.04
    assert sum(1 for _ in range(4) if shipper.step()) <= 1


def test_progress_gives_the_patience_back(tmp_path: Path, shipper: Shipper, work: Work, streams: Streams) -> None:
    write_segment(tmp_path, tag("a"))
    shipper.step()
    streams.redis.flushall()
    shipper.step()
    shipper._patience[WRITER] = 5.0
    shipper.step()
    work()
    shipper.step()
    assert shipper._patience == {}


def test_a_full_window_leaves_the_rest_in_the_journals(
    tmp_path: Path, shipper: Shipper, work: Work, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WINDOW", 1)
    write_segment(tmp_path, tag("a"))
    write_segment(tmp_path, tag("b"), writer=OTHER_WRITER)
    monkeypatch.setattr(module, "BATCH_EVENTS", 1)
    assert shipper.step() == 1
    assert shipper.step() == 0
    work()
    assert shipper.step() == 0
    assert shipper.step() == 1
    work()
    shipper.step()
    assert (shipper._bytes, shipper._under_way) == (0, {})


def test_a_queue_that_is_nearly_full_gets_nothing_more(
    tmp_path: Path, shipper: Shipper, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FULL_LOOK", 0.0)
    write_segment(tmp_path, tag("a"), state=frames.OPEN)
    shipper.step()
    monkeypatch.setattr(streams, "is_full", lambda: True)
    write_segment(tmp_path, tag("b"), writer=OTHER_WRITER)
    assert shipper.step() == 0
    monkeypatch.setattr(streams, "is_full", lambda: False)
    assert shipper.step() == 1


def test_what_was_read_when_the_queue_went_away_is_not_lost(
    tmp_path: Path, shipper: Shipper, work: Work, streams: Streams, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The position of the second journal cannot be asked, after the first was read."""
    write_segment(tmp_path, tag("a"))
    write_segment(tmp_path, tag("b"), writer=OTHER_WRITER)
    asked: list[WriterId] = []
    progress = streams.progress

    def failing(writers: list[tuple[str, WriterId]]) -> object:
        asked.extend(writer for _, writer in writers)
        if len(asked) == 2:
            raise QueueUnavailable("it went away")
        return progress(writers)

    monkeypatch.setattr(streams, "progress", failing)
    for _ in range(3):
        shipper.step()
    work()
    shipper.step()
    assert set(store.get_run(RUN).data.tags) == {"a", "b"}


def test_a_journal_whose_position_could_not_be_asked_asks_again(
    tmp_path: Path, shipper: Shipper, work: Work, streams: Streams, store: MemoryStore
) -> None:
    """Else its first segment, which the store has, would be told as missing."""
    streams.settle(SHARD, b"0-1", {WRITER: 5}, [])
    write_segment(tmp_path, tag("a"), number=1, first=5)
    fragile(streams).away = True
    with pytest.raises(QueueUnavailable):
        shipper.step()
    fragile(streams).away = False
    shipper.step()
    assert waiting(streams) == [(5, 6)]


def test_what_could_not_be_sent_is_sent_when_the_queue_is_back(
    tmp_path: Path, shipper: Shipper, work: Work, streams: Streams, store: MemoryStore
) -> None:
    write_segment(tmp_path, tag("a"), state=frames.OPEN)
    shipper.step()
    work()
    shipper.step()
    write_segment(tmp_path, tag("b"), writer=OTHER_WRITER)
    fragile(streams).refused = frozenset({"PIPELINE"})
    for _ in range(3):
        with pytest.raises(QueueUnavailable, match="command not allowed"):
            shipper.step()
    fragile(streams).refused = frozenset()
    shipper.step()
    work()
    shipper.step()
    assert set(store.get_run(RUN).data.tags) == {"a", "b"}


def test_a_journal_that_nobody_would_take_is_left_and_the_others_go_on(
    tmp_path: Path, shipper: Shipper, work: Work, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_segment(tmp_path, tag("a"), subject="no/run")
    write_segment(tmp_path, tag("b"), writer=OTHER_WRITER)
    for number in range(1, 5):
        shipper.step()
        work()
        write_segment(tmp_path, tag("a"), subject="no/run", number=number, first=number)
    assert path.exists()
    assert set(store.get_run(RUN).data.tags) == {"b"}
    assert [record.levelname for record in caplog.records if "cannot be shipped" in record.message] == ["ERROR"]


def test_a_journal_that_is_set_aside_while_its_entries_are_under_way_leaves_nothing_behind(
    tmp_path: Path, shipper: Shipper, work: Work, shipped: SpoolSource
) -> None:
    path = write_segment(tmp_path, tag("a"))
    shipper.step()
    shipped.set_aside(WRITER)
    shipper.step()
    work()
    shipper.step()
    assert (shipper._under_way, shipper._bytes) == ({}, 0)
    assert path.exists()


def test_a_shipper_stays_while_entries_are_under_way_and_does_not_spin(
    tmp_path: Path, streams: Streams, shipped: SpoolSource, bell: Bell, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipper = _shipper(tmp_path, streams, shipped, bell, idle=0.0)
    write_segment(tmp_path, tag("a"))
    waits: list[float] = []

    def wait(timeout: float) -> None:
        waits.append(timeout)
        for mine in shipper._under_way.values():
            mine.since = mine.looked = -1000.0  # as if an hour had passed
        if len(waits) == 20:
            work()
        assert len(waits) < 100, "it should have left"

    monkeypatch.setattr(shipped, "wait", wait)
    shipper.run()
    assert 20 <= len(waits) < 30
    assert min(waits[2:20]) == module.PAUSE


def test_a_queue_that_is_away_is_said_once_and_its_bell_is_not_heard(
    tmp_path: Path,
    streams: Streams,
    shipped: SpoolSource,
    bell: Bell,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    shipper = _shipper(tmp_path, streams, shipped, bell, idle=0.0)
    write_segment(tmp_path, tag("a"))
    pauses: list[float] = []
    fragile(streams).away = True

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        fragile(streams).away = len(pauses) < 12

    def wait(_: float) -> None:
        assert not fragile(streams).away, "whoever rings wakes it"
        work()

    monkeypatch.setattr(shipper, "_pause", pause)
    monkeypatch.setattr(shipped, "wait", wait)
    shipper.run()
    assert max(pauses) > 5
    said = [record.getMessage() for record in caplog.records if "ship" in record.getMessage()]
    assert len(said) == 2
    assert "nothing can be shipped now" in said[0]
    assert "shipping again" in said[1]


def test_a_shipper_that_is_told_to_stop_does_not_wait_for_a_queue_that_is_away(
    tmp_path: Path, streams: Streams, shipped: SpoolSource, bell: Bell
) -> None:
    shipper = _shipper(tmp_path, streams, shipped, bell)
    write_segment(tmp_path, tag("a"))
    fragile(streams).away = True
    running = threading.Thread(target=shipper.run)
    running.start()
    shipper.stop()
    running.join(5)
    assert not running.is_alive()


def test_many_writers_that_stand_still_are_looked_for_in_turn(
    tmp_path: Path, shipper: Shipper, streams: Streams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LOOKS", 4)
    for number in range(10):
        write_segment(tmp_path, tag("a"), writer=WriterId(f"{number:032x}"))
    shipper.step()
    asked: list[int] = []
    are_there = streams.are_there

    def noted(entries: list[tuple[str, bytes]]) -> list[bool]:
        asked.append(len(entries))
        return are_there(entries)

    monkeypatch.setattr(streams, "are_there", noted)
    for _ in range(5):
        shipper.step()
    assert set(asked) == {4}
    assert all(mine.looked for mine in shipper._under_way.values())


def test_artifacts_are_stored_beside_the_shipping(
    tmp_path: Path, shipper: Shipper, streams: Streams, store: MemoryStore, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store of artifacts that hangs must not hold up the events."""
    entered, go_on = threading.Event(), threading.Event()

    def hang(_: Uploads) -> int:
        entered.set()
        go_on.wait(20)
        return 0

    monkeypatch.setattr(Uploads, "store_waiting", hang)
    (tmp_path / SNAPSHOTS).mkdir()
    (tmp_path / SNAPSHOTS / ("c" * 32)).write_bytes(b"hello")
    shipper.step()
    assert entered.wait(5)
    write_segment(tmp_path, tag("a"))
    shipper.step()
    work()
    shipper.step()
    assert store.position(RUN, WRITER) == 1
    assert shipper._uploads.is_waiting
    go_on.set()


def test_a_sync_ships_what_is_told_of_an_artifact_that_was_stored_after_the_journals_were_read(
    tmp_path: Path,
    shipper: Shipper,
    shipped: SpoolSource,
    streams: Streams,
    store: MemoryStore,
    work: Work,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log_artifact(tmp_path, tmp_path / "root", store, streams)

    def store_at_once(self: UploadThread) -> None:
        look(self)
        if self._thread is not None:
            self._thread.join()

    look = UploadThread.look
    monkeypatch.setattr(UploadThread, "look", store_at_once)
    monkeypatch.setattr(shipped, "wait", lambda _: work())
    shipper.drain()
    assert [item.state for item in store.artifacts(RUN)] == ["stored"]
    assert list(tmp_path.glob("*.seg")) == []


def test_a_snapshot_that_nobody_asks_for_does_not_keep_a_shipper_for_ever(tmp_path: Path, shipper: Shipper) -> None:
    (tmp_path / SNAPSHOTS).mkdir()
    snapshot = tmp_path / SNAPSHOTS / ("c" * 32)
    snapshot.write_bytes(b"hello")
    assert shipper._is_busy()
    os.utime(snapshot, (0, 0))
    assert not shipper._is_busy()


def test_two_shippers_of_one_journal_do_no_harm(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, streams: Streams, bell: Bell, store: MemoryStore, work: Work
) -> None:
    folders = [tmp_path, tmp_path_factory.mktemp("copy")]
    for folder in folders:
        write_segment(folder, *(tag(f"{number}") for number in range(50)))
    sources = [SpoolSource(folder, lambda subject, writer: streams.progress([(subject, writer)])[0].committed) for folder in folders]
    shippers = [_shipper(folder, streams, source, bell) for folder, source in zip(folders, sources, strict=True)]
    for _ in range(3):
        for shipper in shippers:
            shipper.step()
        work()
    assert [list(folder.glob("*.seg")) for folder in folders] == [[], []]
    assert sum(len(item.records) for item in store.ledger(RUN)) == 50
    for source in sources:
        source.close()
