"""Lines of the log: text for people, one JSON object each for programs."""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flightlog.cli import logs

log = logging.getLogger("flightlog.worker")
Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def logging_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what the commands do to the process, which they have for themselves."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in ("flightlog", *logs.TALKATIVE)}
    root.handlers = []
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    yield
    logging.captureWarnings(capture=False)
    root.handlers = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def lines(capsys: Captured) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().err.splitlines()]


def test_a_line_has_its_facts_and_the_fields_that_were_given(capsys: Captured) -> None:
    logs.log_to_stderr("json", "info")
    log.warning("filed %d events", 3, extra={"shard": 7, "events": 3, "seconds": 0.25})
    [line] = lines(capsys)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line.pop("process") > 0
    assert line == {
        "level": "WARNING", "logger": "flightlog.worker", "message": "filed 3 events", "shard": 7, "events": 3, "seconds": 0.25
    }  # fmt: skip


def test_a_traceback_is_a_text_in_the_same_line(capsys: Captured) -> None:
    logs.log_to_stderr("json", "info")
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("it broke")
    [line] = lines(capsys)
    assert line["message"] == "it broke"
    assert line["exception"].startswith("Traceback (most recent call last):\n")
    assert line["exception"].endswith("ValueError: two\nlines")


def test_fields_that_json_does_not_know_are_written_as_texts(capsys: Captured) -> None:
    logs.log_to_stderr("json", "info")
    log.warning("a", extra={"path": Path("x"), "rate": math.nan, "names": {"b"}, "level": "mine"})
    [line] = lines(capsys)
    assert (line["path"], line["rate"], line["names"], line["level"]) == ("x", "NaN", "{'b'}", "WARNING")


def test_what_ends_the_process_and_what_python_warns_of_are_lines_too(capsys: Captured) -> None:
    logs.log_to_stderr("json", "info")
    try:
        raise RuntimeError("unforeseen")
    except RuntimeError as error:
        sys.excepthook(RuntimeError, error, error.__traceback__)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    ended, warned = lines(capsys)
    assert (ended["level"], ended["message"]) == ("CRITICAL", "ended by an error: unforeseen")
    assert "RuntimeError" in ended["exception"]
    assert (warned["logger"], "DeprecationWarning: old" in warned["message"]) == ("py.warnings", True)


@pytest.mark.parametrize(("level", "said"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_a_level_leaves_out_what_is_below(level: Any, said: int, capsys: Captured) -> None:
    logs.log_to_stderr("text", level)
    for method in (log.debug, log.info, log.warning, log.error):
        method("a line")
    logging.getLogger("rq.worker").info("talk")
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == said
    assert all(re.match(r"\d{4}-\d\d-\d\d \S+ (DEBUG|INFO|WARNING|ERROR) \d+ a line$", line) for line in printed)
