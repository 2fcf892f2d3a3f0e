"""Stores artifacts: moves snapshots from the spool to where the run's artifacts live, and notes what became of each."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Protocol

from flightlog.schema.blocks import Block
from flightlog.schema.errors import InvalidParameter, StoreUnavailable
from flightlog.schema.fold import ArtifactState
from flightlog.schema.names import SNAPSHOTS
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.base import Gap, PendingArtifact

log = logging.getLogger("flightlog.worker")

MAX_REASON = 2000
_SNAPSHOT = re.compile(r"[0-9a-f]{32}")


class Pending(Protocol):
    """What knows which artifacts wait to be stored, and is told what became of them: a store, or the queue on the way to it."""

    def pending_artifacts(self, limit: int = 1000, after: PendingArtifact | None = None) -> list[PendingArtifact]:
        """See `Sink.pending_artifacts`."""

    def pending_snapshots(self, snapshots: Collection[str]) -> list[PendingArtifact]:
        """See `Sink.pending_snapshots`."""

    def settle_artifact(self, run_id: str, artifact: ArtifactState, state: str, reason: str | None = None) -> None:
        """See `Sink.settle_artifact`."""


class Uploads:
    """Stores what the sink says is pending and this spool holds a snapshot of. A failure concerns only its own artifact."""

    def __init__(self, spool: Path, sink: Pending) -> None:
        self._folder = spool / SNAPSHOTS
        self._sink = sink
        self._stopping = False

    def run(self, items: Sequence[Block | Gap] = ()) -> None:  # noqa: ARG002 - for whoever has no files to look at
        """Store the artifacts whose snapshots lie in the spool now and whose events have come."""
        self.store_waiting()

    def store_waiting(self) -> int:
        """See `run`; return how many artifacts were seen to."""
        snapshots = self.snapshots()
        waiting = self._sink.pending_snapshots(snapshots) if snapshots else []
        for count, item in enumerate(waiting):
            if self._stopping:
                return count
            self._settle(item)
        return len(waiting)

    def snapshots(self) -> list[str]:
        """Return the names of the snapshots that lie in the spool now."""
        files = self._folder.iterdir() if self._folder.is_dir() else []
        return [file.name for file in files if _SNAPSHOT.fullmatch(file.name)]

    def has_younger_than(self, seconds: float) -> bool:
        """Whether a snapshot lies in the spool that was made so shortly ago."""
        return any(time.time() - self._made(name) < seconds for name in self.snapshots())

    def _made(self, name: str) -> float:
        try:
            return (self._folder / name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    def stop(self) -> None:
        """Leave after the artifact in hand."""
        self._stopping = True

    def sweep(self) -> None:
        """Look at all pending artifacts, also at those without a snapshot here: some were stored just before a crash, some never can be.

        The others wait for another machine's spool, and may be many.
        """
        last: PendingArtifact | None = None
        while page := self._sink.pending_artifacts(after=last):
            for item in page:
                self._settle(item)
            last = page[-1]

    def _settle(self, item: PendingArtifact) -> None:
        run_id, _, artifact = item
        try:
            is_stored = self._store(item)
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a store of artifacts raises is this artifact's failure, and is kept
            log.error("artifact %r of run %s could not be stored: %s", artifact.path, run_id, error)
            self._sink.settle_artifact(run_id, artifact, "failed", f"{type(error).__name__}: {error}"[:MAX_REASON])
        else:
            if is_stored:
                self._sink.settle_artifact(run_id, artifact, "stored")
                self._drop(artifact.snapshot)

    def _store(self, item: PendingArtifact) -> bool:
        """Store one artifact; False when its snapshot is in another machine's spool."""
        _, uri, artifact = item
        if not _SNAPSHOT.fullmatch(artifact.snapshot):
            raise InvalidParameter(f"snapshot {artifact.snapshot[:100]!r} must be the name of a file in the spool, 32 hexadecimal digits")
        snapshot, repository = self._folder / artifact.snapshot, open_artifacts(uri)
        if snapshot.is_file():
            repository.put(snapshot, artifact.path)
            return True
        try:
            return repository.size(artifact.path) == artifact.size  # moved there just before a crash
        except OSError as error:
            log.debug("artifact %r, whose snapshot is not here, cannot be looked for: %s", artifact.path, error)
            return False

    def _drop(self, snapshot: str) -> None:
        try:
            (self._folder / snapshot).unlink(missing_ok=True)
        except OSError as error:
            log.warning("the snapshot %s of an artifact that is stored cannot be deleted: %s", snapshot, error)
