"""What commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import math
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from io import TextIOWrapper
from typing import Any, TextIO

from rich import box
from rich.cells import cell_len
from rich.console import Console, JustifyMethod
from rich.table import Table

LONGEST_CELL = 400
"""Characters of a text that a table shows; `--json` has it whole."""
NARROWEST = 24
"""A column that folds is no narrower, unless all that is in it is shorter."""
ERRORS = "backslashreplace"
UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"))


@dataclass(frozen=True)
class Column:
    """A column of a table. What does not fold stands on one line, whole, even where the terminal is narrower."""

    heading: str
    right: bool = False
    folds: bool = False


def data_stream() -> TextIO:
    """Return stdout for what programs read: in UTF-8 wherever that is, and with the ends of lines as they are written."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", errors=ERRORS, newline="")
    return sys.stdout


def lose_no_letter() -> None:
    """Have letters that the encoding of stdout lacks written out."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors=ERRORS)


@contextmanager
def reader_of(stdout: TextIO) -> Iterator[Callable[[], bool]]:
    """Give a function that says whether who read a pipe has left, as `head` does; where the system cannot tell, nobody has."""
    try:
        pipe = os.dup(stdout.fileno())
    except OSError:  # no file
        yield bool
        return
    try:
        yield partial(_is_deserted, pipe)
    finally:
        os.close(pipe)


def _is_deserted(pipe: int) -> bool:
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(pipe, 0)
    return any(bits & select.POLLERR for _, bits in poll.poll(0))


def end(stdout: TextIO) -> OSError | None:
    """Write what is still to be written. Return the error when that cannot be done, and have nothing more written."""
    try:
        stdout.flush()
    except OSError as error:
        # what is still in the buffer must have somewhere to go when Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
        return error
    return None


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document; NaN and the infinities become the strings "NaN", "Infinity" and "-Infinity"."""
    sys.stdout.write(json.dumps(plain(document), indent=2, allow_nan=False) + "\n")


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a value with the numbers that JSON lacks as strings."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return number_text(value) if isinstance(value, float) and not math.isfinite(value) else value


def number_text(value: float) -> str:
    """Return "NaN", "Infinity" or "-Infinity"."""
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def print_table(columns: Sequence[Column], rows: Iterable[Sequence[object]], title: str | None = None) -> None:
    """Print a table, with a title above it."""
    cells = [[cell(value) for value in row] for row in rows]
    table = Table(
        box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), title=title, title_justify="left", title_style="bold"
    )
    for index, column in enumerate(columns):
        longest = max(map(cell_len, [column.heading, *(row[index] for row in cells)]))
        width = min(longest, NARROWEST) if column.folds else longest
        justify: JustifyMethod = "right" if column.right else "left"
        table.add_column(column.heading, justify=justify, min_width=width, no_wrap=not column.folds, overflow="fold")
    for row in cells:
        table.add_row(*row)
    print_wide(table)


def print_facts(facts: Iterable[tuple[str, object]], title: str | None = None) -> None:
    """Print names and values, one a line."""
    table = Table(box=None, pad_edge=False, show_header=False, title=title, title_justify="left", title_style="bold")
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(name, cell(value))
    print_wide(table)


def print_wide(table: Table) -> None:
    """Print a table no narrower than its ids and numbers: a terminal may break the line, the table does not."""
    console = Console(markup=False, emoji=False, highlight=False)
    console.width = max(console.width, console.measure(table, options=console.options.update(max_width=10_000)).minimum)
    console.print(table)


def print_line(text: str) -> None:
    """Print a line as it is."""
    sys.stdout.write(visible(text) + "\n")


def cell(value: object) -> str:
    """Return a value as a table shows it."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.6g}"
    text = visible(str(value))
    return text if len(text) <= LONGEST_CELL else text[:LONGEST_CELL] + "..."


def visible(text: str) -> str:
    """Return a text in which control characters are written out: what a script logged must not steer a terminal."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def counted(number: int, noun: str) -> str:
    """Return such as "1 event" and "2,000 events"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def moment(milliseconds: int | None) -> str:
    """Return a time as the clock of this machine shows it."""
    if milliseconds is None:
        return "-"
    try:
        return datetime.fromtimestamp(milliseconds / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"


def span(seconds: float | None) -> str:
    """Return a duration in its largest unit."""
    if seconds is None:
        return "-"
    for size, unit in UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def size(count: float) -> str:
    """Return a number of bytes in its largest unit."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"
