"""Spool workers and shippers that serve metrics and log as they are told to, as processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import flightlog as mlflow
from flightlog.__main__ import main
from flightlog.cli import exits
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.settings import Settings
from services import HOST

PATIENCE = 20.0
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch, fresh_flightlog: None) -> None:
    """Keep runs from starting workers."""
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")


@contextmanager
def running(*arguments: str, **variables: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command, and end it in order."""
    process = subprocess.Popen(
        [sys.executable, "-m", "flightlog", *arguments], env={**os.environ, **variables}, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)


def port_of(process: subprocess.Popen[str]) -> int:
    """Read the log up to the line that names the metrics port."""
    assert process.stderr is not None
    for line in process.stderr:
        if found := re.search(r"metrics are served at http://127\.0\.0\.1:(\d+)/metrics", line):
            return int(found[1])
    raise AssertionError("the process ended without serving metrics")


def read(port: int) -> str:
    with urllib.request.urlopen(f"http://{HOST}:{port}/metrics", timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def log_run(count: int) -> None:
    with mlflow.start_run():
        for step in range(count):
            mlflow.log_metric("loss", 1.0, step=step)


def test_a_spool_worker_serves_what_it_has_filed_and_how_far_it_is_behind() -> None:
    log_run(500)
    with running("worker", "--metrics-port", "0", "--log-format", "json") as process:
        port = port_of(process)
        wait_until(lambda: re.search(r"^flightlog_events_filed_total 50[1-9]\.0$", read(port), re.MULTILINE))
        wait_until(lambda: "flightlog_spool_lag_events 0.0" in read(port))
        assert "flightlog_queue_up" not in read(port)
    assert process.returncode == 0


def test_the_environment_says_where_metrics_are_and_how_to_log() -> None:
    log_run(3)
    variables = {"FLIGHTLOG_METRICS_PORT": "0", "FLIGHTLOG_LOG_FORMAT": "json", "FLIGHTLOG_LOG_LEVEL": "debug"}
    with running("worker", **variables) as process:
        assert process.stderr is not None
        lines: list[Any] = []
        while not any(line["level"] == "DEBUG" for line in lines):
            lines.append(json.loads(process.stderr.readline()))
    assert any("metrics are served" in line["message"] for line in lines)
    assert {"events", "seconds"} <= set(lines[-1])


@pytest.mark.parametrize("command", [["worker"], ["ship", "--queue", f"redis://{HOST}:1/0"]], ids=["worker", "ship"])
def test_a_metrics_port_that_is_taken_ends_the_command_at_once(command: list[str], capsys: Captured) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        done = subprocess.run(
            [sys.executable, "-m", "flightlog", *command, "--metrics-port", str(taken.getsockname()[1])],
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
    assert (done.returncode, done.stderr.count("\n")) == (exits.USAGE, 1)
    assert "choose another --metrics-port" in done.stderr


def test_metrics_of_a_detached_worker_are_refused(capsys: Captured) -> None:
    assert main(["worker", "--spool", "--detach", "--metrics-port", "0"]) == exits.USAGE
    assert "--detach" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "value"),
    [("METRICS_PORT", "http"), ("METRICS_PORT", "70000"), ("METRICS_PORT", "-1"), ("LOG_FORMAT", "xml"), ("LOG_LEVEL", "all")],
)
def test_a_setting_that_cannot_be_understood_is_named(name: str, value: str) -> None:
    with pytest.raises(InvalidParameter, match=f"FLIGHTLOG_{name} must be"):
        Settings.from_environ({f"FLIGHTLOG_{name}": value})


def test_a_worker_without_metrics_does_not_load_what_serves_them(tmp_path: Path) -> None:
    log_run(1)
    source = """
import sys
from flightlog.__main__ import main
print(main(["worker", "--idle", "0"]), "prometheus_client" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout == "0 False\n"


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
