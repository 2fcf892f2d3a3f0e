"""What is printed: whole ids for people, valid JSON for programs."""

from __future__ import annotations

import json
import math

import pytest

from flightlog.cli import output
from flightlog.cli.output import Column


def test_numbers_that_json_lacks_are_strings(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_json({"a": [math.nan, 1.5], "b": {"c": math.inf, "d": (-math.inf, None)}})
    assert json.loads(capsys.readouterr().out) == {"a": ["NaN", 1.5], "b": {"c": "Infinity", "d": ["-Infinity", None]}}


@pytest.mark.parametrize("width", [10, 40, 80, 200])
def test_ids_and_numbers_are_whole_however_narrow_the_terminal(
    width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = "words " * 30
    output.print_table([Column("id"), Column("count", right=True), Column("text", folds=True)], [["f" * 32, 1_234_567_890, text]])
    out = capsys.readouterr().out
    assert f"{'f' * 32}  1,234,567,890  words words words words" in out
    assert out.count("words") == 30


def test_what_a_script_logged_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_table([Column("a")], [["\x1b[2Jgone [bold]x[/bold]\n\ud800"]])
    assert r"\x1b[2Jgone [bold]x[/bold]\n\ud800" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "-"), (1234, "1,234"), (0.1 + 0.2, "0.3"), (math.nan, "nan"), ("a" * 500, "a" * 400 + "...")],
    ids=["nothing", "integer", "float", "nan", "long text"],
)
def test_a_cell_is_short(value: object, shown: str) -> None:
    assert output.cell(value) == shown


@pytest.mark.parametrize(("seconds", "shown"), [(None, "-"), (0.25, "0.2 s"), (90, "1.5 min"), (7200, "2.0 h"), (172_800, "2.0 d")])
def test_a_duration_is_in_its_largest_unit(seconds: float | None, shown: str) -> None:
    assert output.span(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (1 << 50, "1024.0 TiB")])
def test_a_size_is_in_its_largest_unit(count: int, shown: str) -> None:
    assert output.size(count) == shown


def test_a_time_beyond_the_calendar_is_shown_as_it_is() -> None:
    assert output.moment(1 << 62) == f"{1 << 62} ms"
