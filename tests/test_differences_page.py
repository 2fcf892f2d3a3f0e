"""The page on differences says what the differential test and the table of rules say, row by row."""

from __future__ import annotations

from pathlib import Path

from differential.intended import INTENDED
from flightlog.schema.rules import RULES

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "mlflow-differences.md").read_text(encoding="utf-8")


def rows(heading: str) -> list[tuple[str, ...]]:
    """Return the cells of the table under a heading, without its first two lines."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [tuple(cell.strip() for cell in line.strip("|").split(" | ")) for line in lines[2:]]


def test_the_page_has_every_difference_that_the_script_shows_and_no_other() -> None:
    assert rows("Seen by a call") == [(difference.what, difference.mlflow, difference.here) for difference in INTENDED]


def test_the_page_has_every_rule() -> None:
    assert rows("What may be logged") == [(rule.item, rule.what) for rule in RULES]
