"""Which artifacts of this process are not stored yet, as the spool shows it: the write side never asks a store.

A snapshot that waits is still in the spool, one that is stored is gone, and for one that failed or has to be tried again the worker leaves
a note.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flightlog.schema.artifact_notes import read_note
from flightlog.schema.names import SNAPSHOTS, STORING

FEW = 16
"""So many files are looked for one by one; for more the folder is read."""
SIGN = 10.0
"""Seconds for which a worker that stores artifacts may give no sign."""
TIDY = 4096
"""When so many more artifacts are known, those that are stored are forgotten."""


@dataclass(frozen=True)
class Unstored:
    """An artifact that is pending or failed. `reason` is None while it only waits for its turn."""

    run_id: str
    path: str
    snapshot: str
    state: str
    reason: str | None


class AwaitedArtifacts:
    """What this process has logged as artifacts and must not take for stored. Threads may share it."""

    def __init__(self, spool: Path) -> None:
        self._folder = spool / SNAPSHOTS
        self._storing = spool / STORING
        self._lock = threading.Lock()
        self._known: dict[str, tuple[str, str]] = {}
        self._tidy_at = TIDY

    def add(self, run_id: str, path: str, snapshot: str) -> None:
        """Wait for an artifact from now on."""
        self._known[snapshot] = (run_id, path)
        if len(self._known) >= self._tidy_at:
            self._left()
            self._tidy_at = len(self._known) + TIDY

    def _left(self) -> set[str]:
        """Return all snapshots that are not stored, and forget the others."""
        with self._lock:
            known = list(self._known)
            left = self.there(known)
            for snapshot in known:
                if snapshot not in left:
                    self._known.pop(snapshot, None)
        return left

    def there(self, snapshots: Iterable[str]) -> set[str]:
        """Return those of the snapshots that are not stored."""
        names = list(snapshots)
        if len(names) <= FEW:
            return {name for name in names if (self._folder / name).exists()}
        try:
            with os.scandir(self._folder) as entries:
                return {entry.name for entry in entries} & set(names)
        except (FileNotFoundError, NotADirectoryError):
            return set()

    def names(self, run_id: str | None = None) -> list[str]:
        """Return the snapshots of a run, or all, stored or not."""
        return [name for name, (owner, _) in list(self._known.items()) if run_id in (None, owner)]

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for a worker."""
        return any(self._waits(name) for name in list(self._left())[:FEW])

    def settling(self, snapshots: Sequence[str]) -> Callable[[], bool]:
        """Return what says whether each of the snapshots is stored, or failed, or was tried in vain and waits to be tried again.

        It looks first at one that it has seen waiting: to list a folder of thousands again and again takes time from whoever stores them.
        """
        waiting = list(snapshots[:1])

        def is_settled() -> bool:
            if not any(self._waits(name) for name in self.there(waiting)):
                waiting[:] = [name for name in self.there(snapshots) if self._waits(name)][:1]
            return not waiting

        return is_settled

    def _waits(self, snapshot: str) -> bool:
        return read_note(self._folder / snapshot) is None

    def are_being_stored(self, seconds: float) -> bool:
        """Whether a worker has stored artifacts in the last seconds, or was at it."""
        try:
            return time.time() - self._storing.stat().st_mtime <= max(seconds, SIGN)
        except FileNotFoundError:
            return False

    def unstored(self, snapshots: Iterable[str] | None = None, run_id: str | None = None) -> list[Unstored]:
        """Return how it stands with what is not stored, of some snapshots or of a run; failed ones first."""
        found = [self._unstored(name) for name in self.there(self.names(run_id) if snapshots is None else snapshots) if name in self._known]
        return sorted(found, key=lambda item: (item.state, item.run_id, item.path))

    def _unstored(self, snapshot: str) -> Unstored:
        run_id, path = self._known[snapshot]
        note = read_note(self._folder / snapshot)
        state, reason = ("pending", None) if note is None else (note.state, note.reason)
        return Unstored(run_id, path, snapshot, state, reason)

    def abandon(self) -> None:
        """Start anew after a fork: what the parent logged is the parent's to wait for."""
        self._lock = threading.Lock()
        self._known = {}
