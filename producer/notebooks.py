"""Cells of IPython with `await` at their top: each runs as a task, in a context of its own, and yet what it leaves is the notebook's."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any

KERNELS = ("IPython", "ipykernel")
"""The packages whose coroutines run cells. A task that a cell makes itself runs one of the script's."""

_left: dict[ContextVar[Any], Any] = {}
"""What the cell that runs now has set."""


def shell() -> Any:  # noqa: ANN401 - IPython's, which need not be installed
    """Return the shell that this process is, None for a script. Whoever runs in one has imported IPython."""
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython is not None and hasattr(ipython, "get_ipython") else None


def keep(*variables: ContextVar[Any]) -> None:
    """Have these variables be for the next cells as this one has them now, where it is a cell that calls and no task of its making."""
    if _is_cell():
        _left.update({variable: variable.get() for variable in variables})
        shell().events.register("post_execute", _take_over)  # once, however often it is said


def _is_cell() -> bool:
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or shell() is None:
        return False
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return False
    frame = getattr(task.get_coro(), "cr_frame", None) if task is not None else None
    return frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] in KERNELS


def _take_over() -> None:
    """Set what the cell has left; IPython calls this after each, in the context of all cells."""
    while _left:
        variable, value = _left.popitem()
        variable.set(value)
