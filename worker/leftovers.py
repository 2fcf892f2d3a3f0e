"""What lies in a spool's folder of snapshots and is of no use to anybody: left by processes that were killed.

    a copy of which no event tells       its process died before the event, or the worker that should have deleted it did
    a note without its copy              the worker died between deleting the two
    a file that was still being written  the same

A copy may be of use as long as a journal in the spool names it, or an artifact that is not stored, or a dead letter. Somebody may still be
copying other files before the events of all are written. So nothing is touched that is younger than a day.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path

from flightlog.schema import frames
from flightlog.schema.artifact_notes import SUFFIX
from flightlog.schema.names import SNAPSHOTS, is_snapshot
from flightlog.stores.artifacts.partial import STALE, drop_stale

log = logging.getLogger("flightlog.worker")

EVERY = 3600.0
"""Seconds between two looks: where much waits, reading the journals takes a while."""
_NAME = re.compile(rb"[0-9a-f]{32}")

Unwanted = Callable[[Collection[str]], Collection[str]]
"""Returns those of some snapshots that no artifact which is not stored and no dead letter names, as far as can be said now."""


class Leftovers:
    """Deletes what nobody will ever come for, once in a while."""

    def __init__(self, spool: Path, unwanted: Unwanted) -> None:
        self._spool, self._folder = spool, spool / SNAPSHOTS
        self._unwanted = unwanted
        self._next_look = 0.0

    def look(self) -> None:
        """Delete leftovers, unless that was done shortly ago. Raises what asking for unwanted ones does."""
        if time.monotonic() >= self._next_look:
            self._next_look = time.monotonic() + EVERY
            try:
                self.remove()
            except OSError as error:
                log.warning("what is of no use any more in %s cannot be deleted: %s", self._folder, error)

    def remove(self) -> None:
        """See `look`. Raises `OSError` where a journal cannot be read: then nobody knows which copies it names."""
        drop_stale(self._folder)
        entries = list(_entries(self._folder))
        names, old = {entry.name for entry in entries}, {entry.name for entry in entries if _age(entry) > STALE}
        for name in old:
            if name.endswith(SUFFIX) and name.removesuffix(SUFFIX) not in names:
                _unlink(self._folder / name)
        noted = {name.partition(".")[0] for name in names if "." in name}
        self._remove_copies({name for name in old if is_snapshot(name)} - noted)

    def _remove_copies(self, candidates: set[str]) -> None:
        """The journals are read first: an event that is filed meanwhile is then known to whoever is asked."""
        left = _unnamed(candidates, self._spool)
        gone = sorted(self._unwanted(left)) if left else []
        for name in gone:
            _unlink(self._folder / name)
        if gone:
            log.warning(
                "copies of artifacts of which no event tells were deleted from %s: %d, such as %s", self._folder, len(gone), gone[0]
            )


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        yield from entries


def _age(entry: os.DirEntry[str]) -> float:
    try:
        return time.time() - entry.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _unnamed(snapshots: set[str], spool: Path) -> set[str]:
    """Return those of the snapshots that no segment in a spool names, whole or damaged, whether it can be followed or not."""
    left = set(snapshots)
    for entry in _entries(spool) if left else ():
        if frames.SUFFIX in entry.name or entry.name.endswith(frames.NEW_SUFFIX):
            try:
                left.difference_update(name.decode() for name in _NAME.findall(Path(entry.path).read_bytes()))
            except FileNotFoundError:  # freed, or set aside under another name, meanwhile: another time then
                return set()
    return left


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("%s is of no use any more and cannot be deleted: %s", path, error)
