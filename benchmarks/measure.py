"""What the benchmarks share: quantiles, a table for people, a JSON file of the run for comparison.

A figure is a ratio to a floor measured in the same run, because machines differ and are noisy; the absolute figure stands beside it.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

T = TypeVar("T")

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Figure:
    """One line of the table. `reach` is the target as the ratio (or value) allowed; `at_least` turns it round."""

    name: str
    measured: str
    floor: str
    ratio: float
    reach: float
    at_least: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the target was met in this run."""
        return self.ratio >= self.reach if self.at_least else self.ratio <= self.reach


def quantile(ordered: Sequence[int], share: float) -> int:
    """Return the value below which a share of a sorted sample lies."""
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


def paired(*calls: Callable[[], T], rounds: int) -> list[list[T]]:
    """Run calls in turn, round after round, and return what each gave: a machine whose speed drifts treats them alike."""
    found: list[list[T]] = [[] for _ in calls]
    for _ in range(rounds):
        for call, values in zip(calls, found, strict=True):
            values.append(call())
    return found


def ratio(over: Sequence[float], under: Sequence[float]) -> float:
    """Return the median of the ratios, pair by pair."""
    return median([a / b for a, b in zip(over, under, strict=True)])


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def report(title: str, figures: Sequence[Figure], notes: Sequence[str] = ()) -> None:
    """Print the table and keep a JSON file of the run."""
    table = Table(title=title, title_justify="left")
    for column in ("figure", "measured", "floor", "ratio", "reach", ""):
        table.add_column(column, justify="left" if column == "figure" else "right", no_wrap=column != "figure")
    for figure in figures:
        sign = ">=" if figure.at_least else "<="
        table.add_row(
            figure.name,
            figure.measured,
            figure.floor,
            f"{figure.ratio:.3g}",
            f"{sign} {figure.reach:g}",
            "ok" if figure.is_reached else "MISSED",
        )
    console = Console(width=max(Console().width, 110))
    console.print(table)
    for note in notes:
        console.print(note, highlight=False)
    RESULTS.mkdir(exist_ok=True)
    machine = {"python": platform.python_version(), "system": platform.platform(), "processor": platform.processor()}
    record = {
        "title": title,
        "time": time.time(),
        "machine": machine,
        "figures": [asdict(figure) | {"is_reached": figure.is_reached} for figure in figures],
        "notes": list(notes),
    }
    path = RESULTS / f"{Path(sys.argv[0]).stem}-{time.strftime('%Y%m%dT%H%M%S')}.json"
    path.write_text(json.dumps(record, indent=2))
    console.print(f"kept in {path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}", highlight=False)
