"""A journal's segments are what their format says, whatever happens between two appends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flightlog.producer.journal import FIRST_SIZE, Journal
from flightlog.producer.recorder import Recorder
from flightlog.producer.spool import Spool
from flightlog.schema import frames
from flightlog.schema.errors import JournalFull
from flightlog.schema.events import EventsDropped, MetricsLogged, ParamLogged, RunEnded, WriterAlive
from flightlog.schema.settings import FullPolicy
from flightlog.stores.memory import MemoryStore
from flightlog.worker.ingest import Ingest
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.uploads import Uploads

RUN = "a" * 32
END = RunEnded(time=1, status="FINISHED", end_time=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    yield from _journal(folder)


def _journal(folder: Path, limit: int = 1 << 30, policy: FullPolicy = "drop") -> Iterator[Journal]:
    journal = Journal(RUN, Spool(folder, limit, policy), lambda: None)
    yield journal
    journal.close()
    journal.release()


def _headers(folder: Path) -> list[frames.SegmentHeader]:
    return [frames.read_header(path)[0] for path in sorted(folder.glob("*.seg"))]


def _file(folder: Path) -> MemoryStore:
    store = MemoryStore()
    source = SpoolSource(folder, store.position)
    try:
        Ingest(source, store, Uploads(folder, store)).drain()
    finally:
        source.close()
    return store


def _values(folder: Path) -> list[float]:
    store = _file(folder)
    assert store.dead_letters() == []
    values: list[float] = store.metric_arrays(RUN, "loss").value.tolist()
    return values


def test_nothing_is_created_before_the_first_event(journal: Journal, folder: Path) -> None:
    assert not folder.exists()
    assert journal.is_committed


def test_segments_follow_each_other_without_a_gap_and_each_defines_all_names(journal: Journal, folder: Path) -> None:
    recorder = Recorder(journal)
    recorder.metric("first", 1.0, 0)
    for step in range(3_000):
        recorder.metric("loss", float(step), step)
    recorder.metric("first", 2.0, 1)
    journal.close()
    headers = _headers(folder)
    assert [header.number for header in headers] == [0, 1]
    assert [header.capacity for header in headers] == [FIRST_SIZE, FIRST_SIZE << 4]
    assert _values(folder) == [float(step) for step in range(3_000)]
    assert journal.sequence == 3_002


def test_a_closed_journal_that_is_written_to_again_begins_another_segment_of_the_same_writer(journal: Journal, folder: Path) -> None:
    recorder = Recorder(journal)
    for step in range(3):
        recorder.metric("loss", float(step), step)
        journal.close()
        if step == 1:
            journal.release()
    headers = _headers(folder)
    assert [header.first_sequence for header in headers] == [0, 1, 2]
    assert len({header.writer for header in headers}) == 1
    assert _values(folder) == [0.0, 1.0, 2.0]


def test_an_event_larger_than_a_segment_gets_a_segment_of_its_size(journal: Journal, folder: Path) -> None:
    Recorder(journal).event(ParamLogged(time=1, key="text", value="x" * (3 << 20)))
    journal.close()
    assert len(_file(folder).get_run(RUN).data.params["text"]) == 3 << 20


def test_a_file_that_cannot_be_mapped_is_written_to_instead(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no maps here")

    monkeypatch.setattr("flightlog.producer.segments.mmap.mmap", type("Refusing", (), {"__new__": refuse}))
    for journal in _journal(folder):
        recorder = Recorder(journal)
        for step in range(2_000):
            recorder.metric("loss", float(step), step)
        journal.tend()
    assert "cannot be mapped" in caplog.text
    assert _values(folder) == [float(step) for step in range(2_000)]


def test_what_a_signal_handler_logs_inside_a_call_follows_that_call(journal: Journal, folder: Path) -> None:
    recorder = Recorder(journal)
    recorder.metric("loss", 0.0, 0)
    journal._busy = True
    assert recorder.metric("loss", 2.0, 2) == 2
    assert recorder.metric("new", 3.0, 3) >= 2
    journal._busy = False
    assert recorder.metric("loss", 1.0, 1) == 1
    journal.close()
    assert journal.sequence == 4
    store = _file(folder)
    assert store.dead_letters() == []
    assert store.metric_arrays(RUN, "loss").value.tolist() == [0.0, 1.0, 2.0]
    assert store.metric_arrays(RUN, "new").value.tolist() == [3.0]


def test_an_exception_between_writing_and_counting_an_event_keeps_it_once(journal: Journal, folder: Path) -> None:
    recorder = Recorder(journal)
    recorder.metric("loss", 0.0, 0, 1)
    record = journal._segment.buffer[journal._position - 46 : journal._position]  # type: ignore[union-attr]  # there is one
    start, sequence = journal._position, journal.sequence
    journal._repair(record, start, sequence)
    assert journal.sequence == sequence, "an equal event that was counted before is not counted again"
    journal._segment.buffer[start : start + 46] = record  # type: ignore[union-attr]  # as above
    journal._repair(record, start, sequence)
    assert (journal._position, journal.sequence) == (start + 46, sequence + 1)
    recorder.metric("loss", 1.0, 1, 1)
    journal.close()
    assert _values(folder) == [0.0, 0.0, 1.0]


def test_a_full_spool_counts_what_it_drops_and_keeps_room_for_the_end(folder: Path) -> None:
    kept = 0
    for journal in _journal(folder, limit=FIRST_SIZE):
        recorder = Recorder(journal)
        kept = sum(recorder.metric("loss", 0.0, step) >= 0 for step in range(2_000))
        recorder.last_event(END)
        assert journal.dropped == 2_000 - kept > 0
    store = _file(folder)
    assert store.dropped() == {RUN: 2_000 - kept}
    assert store.get_run(RUN).info.status == "FINISHED"


def test_a_full_spool_raises_where_the_policy_says_so(folder: Path) -> None:
    for journal in _journal(folder, limit=1, policy="raise"):
        with pytest.raises(JournalFull, match="FLIGHTLOG_SPOOL_LIMIT"):
            Recorder(journal).metric("loss", 0.0)


def test_an_abandoned_journal_starts_as_another_writer(journal: Journal, folder: Path) -> None:
    recorder = Recorder(journal)
    recorder.metric("loss", 0.0)
    writer = journal.writer
    journal.abandon()
    assert (journal.sequence, journal.writer == writer) == (0, False)
    recorder.metric("loss", 1.0, 1)
    journal.close()
    assert sorted(_values(folder)) == [0.0, 1.0]


def test_what_was_dropped_is_told_before_the_events_that_follow(folder: Path) -> None:
    for journal in _journal(folder, limit=FIRST_SIZE):
        recorder = Recorder(journal)
        while recorder.metric("loss", 0.0) >= 0:
            pass
        journal._spool.limit = 1 << 30
        journal.tend()
        recorder.metric("loss", 1.0)
    store = _file(folder)
    codes = [payload[1] for block in store.ledger() for payload in block.records.payloads()]
    assert codes[-2:] == [EventsDropped.code, MetricsLogged.code]


def _codes(folder: Path) -> list[int]:
    """Return the types of the events that a folder's journals hold; metrics and others alike have theirs in the second byte."""
    return [payload[1] for block in _file(folder).ledger() for payload in block.records.payloads()]


def test_a_silent_journal_says_that_its_writer_lives(journal: Journal, folder: Path) -> None:
    Recorder(journal).metric("loss", 0.0)
    journal.say_alive(0.0)
    journal.say_alive(0.0)
    journal.say_alive(0.0)
    journal.say_alive(3600.0)
    Recorder(journal).metric("loss", 1.0, 1)
    assert _codes(folder) == [MetricsLogged.code, WriterAlive.code, MetricsLogged.code]


def test_a_journal_that_is_written_to_needs_no_heartbeat(journal: Journal, folder: Path) -> None:
    for step in range(5):
        Recorder(journal).metric("loss", 0.0, step)
        journal.say_alive(0.0)
    assert _codes(folder) == [MetricsLogged.code] * 5


def test_a_journal_that_has_not_begun_or_is_closed_or_is_the_parents_stays_silent(journal: Journal, folder: Path) -> None:
    journal.say_alive(0.0)
    assert not folder.exists()
    Recorder(journal).metric("loss", 0.0)
    journal.say_alive(0.0)
    journal.close()
    journal.say_alive(0.0)
    journal.abandon()
    journal.say_alive(0.0)
    assert (journal.sequence, _codes(folder)) == (0, [MetricsLogged.code])


def test_what_a_signal_handler_logs_inside_a_heartbeat_follows_it(journal: Journal, folder: Path) -> None:
    recorder = Recorder(journal)
    recorder.metric("loss", 0.0)
    journal.say_alive(0.0)
    put = journal._put_heartbeat

    def interrupted() -> None:
        recorder.metric("loss", 1.0, 1)
        put()

    journal._put_heartbeat = interrupted  # type: ignore[method-assign]  # as if a signal came just then
    journal.say_alive(0.0)
    assert _codes(folder) == [MetricsLogged.code, WriterAlive.code, MetricsLogged.code]


def test_heartbeats_ask_for_the_next_segment_and_move_on_to_it_but_never_make_it(folder: Path) -> None:
    woken: list[None] = []
    journal = Journal(RUN, Spool(folder, 1 << 30, "drop"), lambda: woken.append(None))
    Recorder(journal).metric("loss", 0.0)
    woken.clear()
    journal.say_alive(0.0)
    sequence = -1
    while journal.sequence != sequence:
        sequence = journal.sequence
        journal.say_alive(0.0)
        journal.say_alive(0.0)
    assert (len(woken), len(_headers(folder))) == (1, 1), "it asks once, and is silent where it would have to wait for the disk"
    journal.prepare()
    journal.say_alive(0.0)
    journal.say_alive(0.0)
    assert journal.sequence > sequence
    Recorder(journal).metric("loss", 1.0, 1)
    journal.close()
    journal.release()
    assert _values(folder) == [0.0, 1.0]
