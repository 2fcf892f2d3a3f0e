"""What is counted of a worker's and a shipper's doings, and what is told of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from contracts.facts import RUN, WRITER, block, param
from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import QueueUnavailable, StoreUnavailable
from flightlog.stores.base import Applied
from flightlog.stores.memory import MemoryStore
from flightlog.worker import ingest as ingest_module
from flightlog.worker import reports as reports_module
from flightlog.worker.ingest import Ingest
from flightlog.worker.observers import REMEMBERED, SILENT, Several, Summary, Tally, percentile, what_is_away
from flightlog.worker.reports import Reports, reporting
from flightlog.worker.uploads import Uploads
from shelves import Moody, Shelf


def applied(events: int, *reasons: str) -> Applied:
    return Applied({}, [DeadLetter(RUN, WRITER, 0, reason, "", b"", 1, 1) for reason in reasons], events)


def test_what_a_worker_does_is_counted() -> None:
    tally = Tally()
    tally.filed(applied(10, "invalid", "invalid"), 0.25)
    tally.filed(applied(5, "refused"), 0.5)
    tally.unavailable(StoreUnavailable("away"), 1.5)
    found = tally.summary()
    assert (found.events, found.batches, found.unavailable_seconds) == (15, 2, 1.5)
    assert found.dead_letters == {"invalid": 2, "refused": 1}
    assert (found.p50, found.p99) == (0.5, 0.5)


def test_what_a_shipper_does_is_counted() -> None:
    tally = Tally()
    tally.shipped(100, 2_000)
    tally.shipped(1, 20)
    tally.resent(3)
    tally.under_way(700)
    tally.under_way(500)
    found = tally.summary()
    assert (found.shipped_events, found.shipped_bytes, found.resent, found.under_way_bytes) == (101, 2_020, 3, 500)


def test_rates_and_percentiles_look_back_a_minute_and_counts_do_not() -> None:
    now = 1_000.0
    tally = Tally(lambda: now)
    tally.filed(applied(500), 9.0)
    now += 90.0
    tally.filed(applied(60), 0.1)
    found = tally.summary()
    assert (found.events, found.events_per_second, found.batches_per_second) == (560, 1.0, 1 / 60)
    assert (found.p50, found.p99) == (0.1, 0.1)
    now += 60.0
    assert (tally.summary().p50, tally.summary().events_per_second) == (None, 0.0)


def test_rates_hold_when_there_are_more_batches_than_are_remembered() -> None:
    now = 0.0
    tally = Tally(lambda: now)
    for _ in range(3 * REMEMBERED):
        tally.filed(applied(2), 0.001)
        now += 0.001
    assert tally.summary().events_per_second == pytest.approx(2_000, rel=0.01)


@pytest.mark.parametrize(("values", "share", "found"), [([], 0.5, None), ([3.0], 0.99, 3.0), (range(100), 0.5, 50), (range(100), 0.99, 99)])
def test_a_percentile_is_one_of_the_values(values: list[float], share: float, found: float | None) -> None:
    assert percentile(values, share) == found


def test_several_observers_hear_everything() -> None:
    first, second = Tally(), Tally()
    told = Several(first, second, SILENT)
    told.filed(applied(1), 0.1)
    told.unavailable(QueueUnavailable("away"), 1.0)
    told.shipped(2, 3)
    told.resent(4)
    told.under_way(5)
    assert first.summary().shipped_bytes == 3
    assert [tally.summary().resent for tally in (first, second)] == [4, 4]
    assert [tally.summary().unavailable_seconds for tally in (first, second)] == [1.0, 1.0]


def test_the_queue_and_the_store_are_told_apart() -> None:
    assert [what_is_away(error) for error in (QueueUnavailable("a"), StoreUnavailable("a"))] == ["queue", "store"]


def test_the_loop_tells_of_each_batch_and_of_each_attempt_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest_module, "FIRST_RETRY", 0.01)
    store, tally = Moody(2), Tally()
    blocks = [block(RUN, param(f"p{number}", "1"), first=number) for number in range(3)]
    Ingest(Shelf(*blocks), store, Uploads(tmp_path, store), idle=0.1, observer=tally).run()
    found = tally.summary()
    assert (found.events, found.batches) == (3, 3)
    assert found.unavailable_seconds == pytest.approx(0.03)


def test_a_batch_is_a_line_for_debugging_with_its_fields(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "flightlog.worker")
    store = MemoryStore()
    Ingest(Shelf(block(RUN, param("p", "1"))), store, Uploads(tmp_path, store), fields={"shard": 7}).step()
    [record] = [record for record in caplog.records if record.levelno == logging.DEBUG]
    assert (vars(record)["shard"], vars(record)["events"]) == (7, 1)
    assert vars(record)["seconds"] >= 0


def test_the_log_tells_what_was_done_since_the_last_time_and_nothing_when_nothing_was(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "flightlog.worker")
    tally = Tally()
    reports = Reports(tally, None)
    reports.log_summary()
    tally.filed(applied(10), 0.25)
    reports.log_summary()
    reports.log_summary()
    tally.shipped(4, 100)
    reports.log_summary()
    assert [record.getMessage() for record in caplog.records] == [
        "filed 10 events in 1 batches; commits p50 0.250 s, p99 0.250 s",
        "shipped 4 events in 100 bytes",
    ]
    assert (vars(caplog.records[0])["p99"], vars(caplog.records[1])["bytes"]) == (0.25, 100)


def test_reports_are_published_at_once_and_end_with_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[Summary] = []
    heard = threading.Event()

    def publish(summary: Summary) -> None:
        published.append(summary)
        heard.set()

    monkeypatch.setattr(reports_module, "REPORT_EVERY", 0.01)
    with reporting(SILENT, publish) as told:
        told.shipped(1, 10)
        assert heard.wait(10)
        wait_for(lambda: published[-1].shipped_events == 1)
    assert not [thread for thread in threading.enumerate() if thread.name == "flightlog-reports"]


def wait_for(condition: Callable[[], bool]) -> None:
    until = threading.Event()
    for _ in range(1_000):
        if condition():
            return
        until.wait(0.01)
    raise AssertionError("waited for nothing")
