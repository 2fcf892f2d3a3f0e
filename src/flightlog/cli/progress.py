"""A line on stderr that tells how far a long command has come; nothing where nobody watches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class Meter(Protocol):
    """Is told of progress."""

    def __call__(self, done: int, /) -> None:
        """Count so many more."""


class _Rate(ProgressColumn):
    """What was done so far, and how much of it in a second."""

    def render(self, task: Task) -> Text:
        """Return such as "1,000,000 events, 500,000/s"."""
        rate = f", {task.speed:,.0f}/s" if task.speed else ""
        return Text(f"{task.completed:,.0f} {task.fields['noun']}{rate}")


class Line:
    """A line that counts, and can have others below it. Threads may share it."""

    def __init__(self, progress: Progress, description: str, noun: str, *, visible: bool = True) -> None:
        self._progress, self._description = progress, description
        self._task = progress.add_task(description, total=None, visible=visible, noun=noun)

    def __call__(self, done: int, /) -> None:
        """Count so many more."""
        self._progress.update(self._task, advance=done, visible=True)

    def below(self, noun: str) -> Line:
        """Return another line, which is shown once it has something to count."""
        return Line(self._progress, self._description, noun, visible=False)


@contextmanager
def shown(description: str, noun: str, *, quiet: bool = False) -> Iterator[Line]:
    """Show a line while the block runs, with a count of what it is told and the rate. Only on a terminal, and not when `quiet`."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=20), _Rate(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        yield Line(progress, description, noun)


@contextmanager
def bar(what: str, total: int | None) -> Iterator[Meter]:
    """Show how much of a known total is done and how long the rest will take, while the block runs. Only on a terminal."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)
