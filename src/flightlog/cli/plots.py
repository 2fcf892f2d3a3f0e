"""Plots of histories in the terminal, in braille dots, or in ASCII where those cannot be shown."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flightlog.cli import output
from flightlog.stores.base import Envelope

MARGIN = 24
"""Columns that the labels of the axes take."""
NARROWEST, WIDEST, HEIGHT = 20, 400, 16
DOTS = 2
"""Dots beside each other in one character."""
MARKERS = "*o+x#@%&"
"""What tells lines apart where there are no colours."""
COLORS = ("bright_blue", "bright_yellow", "bright_green", "bright_magenta", "bright_cyan", "bright_red", "white")
MOST_DIGITS = 1e9
HUGE, TINY, FINEST = 1e300, 1e-290, 1e-12
"""A greater value is drawn at the edge; a shorter axis, or one shorter in proportion to its values, could not be divided."""
BRAILLE = 0x2800
UPPER, LOWER = 0b00011011, 0b11100100
"""The bits of the dots in the upper and in the lower half of a character."""


@dataclass(frozen=True)
class Line:
    """A history to draw."""

    label: str
    envelope: Envelope


def room() -> int:
    """Return how many characters a plot may be wide."""
    return min(max(shutil.get_terminal_size().columns - MARGIN, NARROWEST), WIDEST)


def plot(title: str, lines: Sequence[Line], width: int, height: int = HEIGHT) -> str:
    """Return a plot of finite values over steps, which shows all of them within the least and the greatest of each bucket."""
    import plotille  # noqa: PLC0415 - only a plot needs it

    colored, ascii_only = has_colors(), not speaks_unicode()
    figure = plotille.Figure()
    figure.width, figure.height, figure.origin = width, height, False
    figure.with_colors, figure.x_label, figure.y_label = colored, "step", output.visible(title)
    figure.register_label_formatter(float, _label)
    for place, line in enumerate(lines):
        x, y = path(line.envelope)
        marker = MARKERS[place % len(MARKERS)] if len(lines) > 1 and not colored else None
        figure.plot(x, y, lc=COLORS[place % len(COLORS)] if colored else None, label=output.visible(line.label), marker=marker)
    _set_limits(figure, lines)
    text: str = figure.show(legend=len(lines) > 1)
    return in_ascii(text) if ascii_only else text


def path(envelope: Envelope) -> tuple[list[float], list[float]]:
    """Return the steps and values that a line goes through: first, least, greatest and last of each bucket, where they are finite."""
    middle = envelope.start / 2 + envelope.end / 2
    x = np.stack((envelope.start.astype(np.float64), middle, middle, envelope.end.astype(np.float64)), axis=1).ravel()
    y = np.stack((envelope.first, envelope.min, envelope.max, envelope.last), axis=1).ravel()
    finite = np.isfinite(y)
    return x[finite].tolist(), np.clip(y[finite], -HUGE, HUGE).tolist()


def is_drawable(envelope: Envelope) -> bool:
    """Say whether there is a finite value."""
    return bool(path(envelope)[0])


def _set_limits(figure: object, lines: Sequence[Line]) -> None:
    steps = [step for line in lines for step in path(line.envelope)[0]]
    values = [value for line in lines for value in path(line.envelope)[1]]
    figure.set_x_limits(*_apart(min(steps), max(steps)))  # type: ignore[attr-defined]  # plotille publishes no types
    figure.set_y_limits(*_apart(min(values), max(values)))  # type: ignore[attr-defined]


def _apart(low: float, high: float) -> tuple[float, float]:
    """Return limits that are as far apart as floats can be told from each other between them."""
    size = max(abs(low), abs(high))
    if high - low > max(size * FINEST, TINY):
        return low, high
    space = size / 10 if size > TINY else 1.0
    return low - space, high + space


def _label(value: float, chars: int, delta: float, left: bool = False) -> str:
    """Return a number on an axis, with as many digits as an axis that is `delta` long needs, where there is room for them."""
    decimals = max(0, 3 - math.floor(math.log10(delta))) if delta > 0 else 6
    text = f"{value:.{decimals}f}".rstrip("0").rstrip(".") if decimals and abs(value) < MOST_DIGITS else f"{value:.0f}"
    if len(text) > chars or (value and not float(text)):
        text = f"{value:.{max(chars - 7, 1)}g}"
    return text.ljust(chars) if left else text.rjust(chars)


def has_colors() -> bool:
    """Say whether colours may be printed: onto a terminal, and not where NO_COLOR is set."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def speaks_unicode() -> bool:
    """Say whether stdout can take braille dots."""
    try:
        chr(BRAILLE).encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def in_ascii(text: str) -> str:
    """Return a plot in which braille characters have become such that say in which half their dots are."""
    table = {BRAILLE + bits: " '.:"[bool(bits & UPPER) + 2 * bool(bits & LOWER)] for bits in range(256)}
    return text.translate(table)
