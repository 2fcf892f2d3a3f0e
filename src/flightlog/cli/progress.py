"""A line on stderr that tells how far a long command has come; nothing where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text


class Meter(Protocol):
    """Is told of progress."""

    def __call__(self, done: int, /) -> None:
        """Count so many more."""


class _Rate(ProgressColumn):
    """What was done so far, and how much of it in a second."""

    def __init__(self, noun: str) -> None:
        super().__init__()
        self._noun = noun

    def render(self, task: Task) -> Text:
        """Return such as "1,000,000 events, 500,000/s"."""
        rate = f", {task.speed:,.0f}/s" if task.speed else ""
        return Text(f"{task.completed:,.0f} {self._noun}{rate}")


@contextmanager
def shown(description: str, noun: str, *, quiet: bool = False) -> Iterator[Meter]:
    """Show a line while the block runs, with a count of what it is told and the rate. Only on a terminal, and not when `quiet`."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), _Rate(noun), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done: progress.advance(task, done)
