"""What Prometheus reads: counts, depths and lags, at a port that is there or an error that says why not."""

from __future__ import annotations

import multiprocessing
import re
import socket
import sys
import urllib.request
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from contracts.facts import RUN, WRITER
from flightlog.schema import frames
from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import InvalidParameter, QueueUnavailable, StoreUnavailable
from flightlog.stores.base import Applied
from flightlog.worker import metrics as metrics_module
from flightlog.worker.metrics import Instruments, QueueDepth, SpoolLag, served
from flightlog.worker.observers import Observer
from flightlog.worker.traffic import Shard, Traffic
from journals import tag, write_segment
from services import HOST, free_port

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "operations.md").read_text(encoding="utf-8")
AWAY = "redis://127.0.0.1:1/0"


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def do_everything(observer: Observer) -> None:
    letters = [DeadLetter(RUN, WRITER, 0, reason, "", b"", 1, 1) for reason in ("invalid", "invalid", "refused")]
    observer.filed(Applied({}, letters, 1_000), 0.02)
    observer.filed(Applied({}, [], 3), 0.3)
    observer.unavailable(StoreUnavailable("away"), 0.5)
    observer.unavailable(QueueUnavailable("away"), 0.25)
    observer.shipped(100, 2_000)
    observer.resent(4)
    observer.under_way(500)


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("flightlog_events_filed_total", {}, 1_003),
        ("flightlog_batches_total", {}, 2),
        ("flightlog_batch_events_bucket", {"le": "10.0"}, 1),
        ("flightlog_batch_events_sum", {}, 1_003),
        ("flightlog_commit_seconds_bucket", {"le": "0.025"}, 1),
        ("flightlog_commit_seconds_count", {}, 2),
        ("flightlog_dead_letters_total", {"reason": "invalid"}, 2),
        ("flightlog_dead_letters_total", {"reason": "refused"}, 1),
        ("flightlog_retries_total", {"of": "store"}, 1),
        ("flightlog_unavailable_seconds_total", {"of": "queue"}, 0.25),
        ("flightlog_shipped_events_total", {}, 100),
        ("flightlog_shipped_bytes_total", {}, 2_000),
        ("flightlog_resent_entries_total", {}, 4),
        ("flightlog_under_way_bytes", {}, 500),
    ],
)
def test_what_happens_is_counted(name: str, labels: dict[str, str], value: float, registry: CollectorRegistry) -> None:
    do_everything(Instruments(registry))
    assert registry.get_sample_value(name, labels) == value


def test_two_processes_worth_of_metrics_do_not_meet() -> None:
    first, second = CollectorRegistry(), CollectorRegistry()
    do_everything(Instruments(first))
    Instruments(second)
    assert second.get_sample_value("flightlog_batches_total") == 0


def test_a_queue_is_looked_at_when_somebody_asks(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard(0, 3, 900, 12.5, is_read=False), Shard(1, 0, 0, None, is_read=False)]
    monkeypatch.setattr(metrics_module, "read_traffic", lambda uri: Traffic(shards, 2, 1, 4, ()))
    registry.register(QueueDepth(AWAY))
    assert registry.get_sample_value("flightlog_queue_up") == 1
    assert registry.get_sample_value("flightlog_queue_entries", {"shard": "0"}) == 3
    assert registry.get_sample_value("flightlog_queue_bytes", {"shard": "0"}) == 900
    assert registry.get_sample_value("flightlog_queue_oldest_seconds") == 12.5
    assert registry.get_sample_value("flightlog_queue_unread_shards") == 1
    assert registry.get_sample_value("flightlog_queue_failed_jobs") == 4


def test_a_queue_that_is_away_is_said_to_be_and_nothing_is_made_up(registry: CollectorRegistry) -> None:
    registry.register(QueueDepth(AWAY))
    lines = generate_latest(registry).decode().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["flightlog_queue_up 0.0"]


def test_a_spool_is_looked_at_when_somebody_asks(registry: CollectorRegistry, tmp_path: Path) -> None:
    registry.register(SpoolLag(tmp_path / "not there yet"))
    assert registry.get_sample_value("flightlog_spool_lag_events") == 0
    write_segment(tmp_path, tag("a"), tag("b"), state=frames.CLOSED, end=2)
    registry = CollectorRegistry()
    registry.register(SpoolLag(tmp_path))
    assert registry.get_sample_value("flightlog_spool_lag_events") == 2
    assert (registry.get_sample_value("flightlog_spool_lag_seconds") or 0) > 0
    assert (registry.get_sample_value("flightlog_spool_bytes") or 0) > 0


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def test_metrics_are_served_while_the_work_goes_on_and_the_port_is_free_afterwards() -> None:
    port = free_port()
    for _ in range(2):
        with served(HOST, port) as observer:
            do_everything(observer)
            text = read(port)
        assert "flightlog_events_filed_total 1003.0" in text
        assert "process_resident_memory_bytes" in text


def test_every_metric_is_documented_and_no_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, registry: CollectorRegistry) -> None:
    monkeypatch.setattr(metrics_module, "read_traffic", lambda uri: Traffic([Shard(0, 0, 0, None, is_read=False)], 0, 0, 0, ()))
    do_everything(Instruments(registry))
    registry.register(QueueDepth(AWAY))
    registry.register(SpoolLag(tmp_path))
    served_ones = {family.name + ("_total" if family.type == "counter" else "") for family in registry.collect()}
    table = PAGE.partition("\n## Metrics\n")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `(flightlog_\w+)", table, re.MULTILINE)) == served_ones


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InvalidParameter, match=f"{port}.*choose another --metrics-port"), served(HOST, port):
            pass


def test_an_address_that_is_not_of_this_machine_is_an_error_that_names_it() -> None:
    with pytest.raises(InvalidParameter, match=r"192\.0\.2\.1"), served("192.0.2.1", 0):
        pass


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_forked_child_does_not_keep_the_port() -> None:
    port = free_port()
    fork = multiprocessing.get_context("fork")
    go_on = fork.Event()
    with served(HOST, port):
        child = fork.Process(target=go_on.wait)
        child.start()
    try:
        with pytest.raises(ConnectionRefusedError), socket.create_connection((HOST, port), timeout=5):
            pass
    finally:
        go_on.set()
        child.join()
