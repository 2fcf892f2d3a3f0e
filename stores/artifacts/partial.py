"""Files that appear whole or not at all."""

from __future__ import annotations

import logging
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

log = logging.getLogger("flightlog.stores")

STALE = 86_400.0
"""Seconds after which nobody is still writing a file that was not written to meanwhile: its process was killed."""
_PARTIAL = re.compile(r"\.flightlog-[0-9a-f]{32}\.partial")


def is_partial(name: str) -> bool:
    """Say whether a file's name is one of a file that is still being written."""
    return _PARTIAL.fullmatch(name) is not None


def drop_stale(folder: Path) -> None:
    """Delete what killed processes have left half written in a folder. What cannot be deleted is said in the log."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                drop_if_stale(entry)
    except FileNotFoundError:
        return


def drop_if_stale(entry: os.DirEntry[str]) -> bool:
    """Delete a file that was left half written; say whether it is gone."""
    try:
        is_stale = is_partial(entry.name) and time.time() - entry.stat().st_mtime > STALE
        if is_stale:
            Path(entry.path).unlink()
    except FileNotFoundError:
        return True
    except OSError as error:
        log.warning("%s was left half written and cannot be deleted: %s", entry.path, error)
        return False
    return is_stale


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path beside `target`, in a folder made for it, to write to; what was written takes its place when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".flightlog-{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
