"""What a command prints, shown anew each second in the same place."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextlib import redirect_stdout, suppress

from rich.console import Console
from rich.live import Live
from rich.text import Text

from flightlog.schema.errors import FlightlogException

EVERY = 1.0


def watch(show: Callable[[], None]) -> None:
    """Print what `show` prints each second until Ctrl-C. What goes wrong meanwhile is shown in its place."""
    console = Console(highlight=False)
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False, screen=console.is_terminal) as live:
        while True:
            live.update(Text(_printed(show), no_wrap=True), refresh=True)
            threading.Event().wait(EVERY)


def _printed(show: Callable[[], None]) -> str:
    text = io.StringIO()
    try:
        with redirect_stdout(text):
            show()
    except (FlightlogException, OSError) as error:
        text.write(f"flightlog: {error}\n")
    return text.getvalue()
