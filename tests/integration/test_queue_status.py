"""`flightlog status` and `flightlog doctor` where there is a queue: a real Redis, one that is away, and processes that report."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis

from flightlog.__main__ import main
from flightlog.cli import exits
from flightlog.schema.errors import QueueUnavailable
from flightlog.schema.names import shard_key
from flightlog.schema.settings import Settings, locate
from flightlog.worker import presence
from flightlog.worker.observers import SILENT
from flightlog.worker.presence import reporting_to_queue
from flightlog.worker.traffic import read_server, read_traffic
from services import HOST, RedisServer, free_port

Captured = pytest.CaptureFixture[str]
PATIENCE = 20.0


@pytest.fixture
def queue(redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[redis.Redis]:
    """Give an empty Redis that the environment names as the queue."""
    monkeypatch.setenv("FLIGHTLOG_QUEUE_URI", redis_server.url)
    with redis.Redis.from_url(redis_server.url) as client:
        client.flushdb()
        yield client
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 0)


def ask(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def say(capsys: Captured, *arguments: str, code: int = 0) -> str:
    assert main(arguments) == code
    return capsys.readouterr().out


def findings(document: Any, level: str) -> list[str]:
    return [finding["message"] for finding in document["findings"] if (finding["about"], finding["level"]) == ("queue", level)]


def test_an_empty_queue_has_a_status_without_a_store_a_spool_or_a_worker(
    queue: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    monkeypatch.delenv("FLIGHTLOG_TRACKING_URI")
    (tmp_path / "flightlogs").mkdir()
    (tmp_path / "flightlogs" / "tracking.db").write_text("a store that nobody named is not asked", encoding="utf-8")
    document = ask(capsys, "status")
    found = document["queue"]
    assert (found["entries"], found["oldest_seconds"], found["workers"], found["failed_jobs"]) == (0, None, 0, 0)
    assert (found["unread_shards"], found["processes"], found["under_way_bytes"], found["error"]) == ([], [], None, None)
    assert (document["store_error"], document["runs"]) == (None, [])
    printed = say(capsys, "status")
    assert "this machine's shipper is not running" in printed
    assert "empty; 0 workers, 0 failed jobs" in printed


def test_what_waits_is_counted_with_its_size_its_age_and_who_reads_it(queue: redis.Redis, capsys: Captured) -> None:
    then = presence.clock(queue) - 60_000
    for shard in (3, 5):
        queue.xadd(shard_key(shard, "blocks"), {b"e": b"x" * 100_000}, id=f"{then}-0")
        queue.xadd(shard_key(shard, "blocks"), {b"e": b"x"})
    queue.set(shard_key(5, "lease"), "somebody")
    found = ask(capsys, "status")["queue"]
    assert (found["entries"], found["unread_shards"]) == (4, [3])
    assert 60 <= found["oldest_seconds"] < 60 + PATIENCE
    assert found["bytes"] > 200_000
    assert [shard["is_read"] for shard in found["shards"] if shard["entries"]] == [False, True]
    printed = say(capsys, "status")
    assert "4 entries" in printed
    assert "the oldest for 1.0 min" in printed
    assert "shards that wait for a worker: 3" in printed


def test_a_look_fetches_no_entries_and_changes_nothing(queue: redis.Redis) -> None:
    queue.xadd(shard_key(0, "blocks"), {b"e": b"x" * 1_000_000})
    keys, sent = queue.keys(), sent_bytes(queue)
    read_traffic(os.environ["FLIGHTLOG_QUEUE_URI"])
    assert sent_bytes(queue) - sent < 50_000
    assert queue.keys() == keys


def sent_bytes(queue: redis.Redis) -> int:
    facts: Any = queue.info("stats")
    return int(facts["total_net_output_bytes"])


def test_processes_report_while_they_are_at_work(queue: redis.Redis, tmp_path: Path, capsys: Captured) -> None:
    location = locate(None, Settings.from_environ(os.environ))
    with reporting_to_queue(location, "worker", SILENT), reporting_to_queue(location, "shipper", SILENT) as told:
        told.under_way(5_000)
        wait_until(lambda: len(ask(capsys, "status")["queue"]["processes"]) == 2)
        presence.report(queue, "shipper", {"under_way_bytes": 5_000, "lag_events": 7, "lag_seconds": 1.5, "spool": str(location.spool)})
        found = ask(capsys, "status")["queue"]
        assert [(process["kind"], process["pid"]) for process in found["processes"]] == [("shipper", os.getpid()), ("worker", os.getpid())]
        assert (found["under_way_bytes"], found["lag_events"], found["lag_seconds"]) == (5_000, 7, 1.5)
        assert "7 events behind" in say(capsys, "status")
    assert ask(capsys, "status")["queue"]["processes"] == []


def test_a_process_that_was_killed_is_gone_after_a_while_and_swept_out_later(queue: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    presence.report(queue, "shipper", {})
    now = presence.clock(queue)
    assert len(presence.present(queue, now)) == 1
    assert presence.present(queue, now + 31_000) == []
    monkeypatch.setattr(presence, "clock", lambda redis: now + presence.FORGOTTEN + 1_000)
    presence.report(queue, "worker", {})
    assert queue.hlen(presence.PROCESSES) == 1


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (b"worker:host:1", b"\xc1"),
        (b"worker:host:1", b"\x01"),
        (b"worker:host:x", b"\x92\x00\x80"),
        (b"\xff\xfe", b"\x92\x00\x80"),
        (b"worker:host:1", b"\x92\xa1a\x80"),
    ],
    ids=["no msgpack", "a number", "no pid", "no name", "no time"],
)
def test_what_no_process_would_report_is_passed_over(name: bytes, said: bytes, queue: redis.Redis) -> None:
    queue.hset(presence.PROCESSES, name, said)
    presence.report(queue, "worker", {"events": "many", "lag_events": True})
    assert [process.kind for process in presence.present(queue, presence.clock(queue))] == ["worker"]


def test_numbers_that_are_none_are_left_out(queue: redis.Redis, capsys: Captured) -> None:
    presence.report(queue, "worker", {"events": "many", "p99": [], "batches": 3})
    [process] = ask(capsys, "status")["queue"]["processes"]
    assert {"batches": 3}.items() <= process.items()
    assert not {"events", "commit_p99"} & set(process)
    say(capsys, "status")


def test_a_queue_that_is_away_is_said_to_be_and_the_rest_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("FLIGHTLOG_QUEUE_URI", f"redis://me:secret@{HOST}:{free_port()}/0")
    document = ask(capsys, "status", code=exits.UNREACHABLE)
    assert "cannot be looked at now" in document["queue"]["error"]
    assert document["total"]["emitted"] == 0
    assert "away" in say(capsys, "status", code=exits.UNREACHABLE)
    problems = findings(ask(capsys, "doctor", code=exits.PROBLEMS), "problem")
    assert len(problems) == 1
    assert "secret" not in f"{document} {problems}"


def test_a_store_that_is_away_does_not_hide_the_queue(queue: redis.Redis, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    monkeypatch.setenv("FLIGHTLOG_TRACKING_URI", f"postgresql+psycopg://{HOST}:{free_port()}/none")
    document = ask(capsys, "status", code=exits.UNREACHABLE)
    assert document["queue"]["entries"] == 0
    assert document["store_error"]


def test_doctor_is_content_with_a_bounded_queue_that_refuses_what_is_too_much(queue: redis.Redis, capsys: Captured) -> None:
    queue.config_set("maxmemory", 1 << 30)
    document = ask(capsys, "doctor")
    assert [message.split(",")[0] for message in findings(document, "ok")][:2] == ["reached", findings(document, "ok")[1]]
    assert "policy noeviction" in findings(document, "ok")[1]
    assert findings(document, "note") == ["no worker reads it; 0 entries wait"]
    assert findings(document, "problem") == []


def test_doctor_says_why_a_queue_must_not_throw_away_what_it_has(queue: redis.Redis, capsys: Captured) -> None:
    queue.config_set("maxmemory-policy", "allkeys-lru")
    [policy, _] = findings(ask(capsys, "doctor"), "note")
    assert "allkeys-lru" in policy
    assert "throws away" in policy


def test_doctor_finds_entries_without_a_worker_a_problem(queue: redis.Redis, capsys: Captured) -> None:
    queue.xadd(shard_key(0, "blocks"), {b"e": b"x"})
    assert findings(ask(capsys, "doctor", code=exits.PROBLEMS), "problem") == ["no worker reads it; 1 entries wait"]


def test_a_look_gives_up_on_a_redis_that_does_not_answer(redis_server: RedisServer) -> None:
    assert redis_server.process is not None
    redis_server.process.send_signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        with pytest.raises(QueueUnavailable, match="cannot be looked at now"):
            read_server(redis_server.url)
    finally:
        redis_server.process.send_signal(signal.SIGCONT)
    assert time.monotonic() - began < 8


def test_a_watch_is_shown_anew_until_it_is_stopped(queue: redis.Redis) -> None:
    screen, terminal = pty.openpty()
    process = subprocess.Popen([sys.executable, "-m", "flightlog", "status", "--watch"], stdout=terminal, stderr=terminal)
    os.close(terminal)
    shown = read_until(screen, b"empty; 0 workers")
    queue.xadd(shard_key(0, "blocks"), {b"e": b"x"})
    shown += read_until(screen, b"1 entry")
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE) == 0
    os.close(screen)
    assert b"Traceback" not in shown


def read_until(screen: int, text: bytes) -> bytes:
    shown = b""
    deadline = time.monotonic() + PATIENCE
    while text not in shown:
        assert time.monotonic() < deadline, shown
        shown += os.read(screen, 65_536)
    return shown


@pytest.mark.parametrize("option", ["--json", "--check"])
def test_a_watch_cannot_be_had_together_with_what_ends(option: str, capsys: Captured) -> None:
    assert main(["status", "--watch", option]) == exits.USAGE
    assert option in capsys.readouterr().err


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
