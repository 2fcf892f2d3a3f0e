"""Stores artifacts: moves snapshots from the spool to where the run's artifacts live, and notes what became of each."""

from __future__ import annotations

import logging
from pathlib import Path

from flightlog.schema.fold import ArtifactState
from flightlog.schema.names import SNAPSHOTS
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.base import Sink

log = logging.getLogger("flightlog.worker")


class Uploads:
    """Stores what the sink says is pending and this spool holds a snapshot of."""

    def __init__(self, spool: Path, sink: Sink) -> None:
        self._folder = spool / SNAPSHOTS
        self._sink = sink

    def run(self) -> None:
        """Store all pending artifacts; a failure concerns only its own artifact and is noted with its reason."""
        while pending := self._sink.pending_artifacts():
            settled = [self._store(*item) for item in pending]
            if not any(settled):
                return

    def _store(self, run_id: str, artifact_uri: str, artifact: ArtifactState) -> bool:
        """Store one artifact; False when its snapshot is in another machine's spool."""
        snapshot = self._folder / artifact.snapshot
        if not snapshot.is_file():
            return self._store_again(run_id, artifact_uri, artifact)
        try:
            open_artifacts(artifact_uri).put(snapshot, artifact.path)
        except Exception as error:  # noqa: BLE001 - whatever a store of artifacts raises is this artifact's failure, and is kept
            log.error("artifact %s of run %s could not be stored: %s", artifact.path, run_id, error)
            self._sink.settle_artifact(run_id, artifact, "failed", f"{type(error).__name__}: {error}")
            return True
        self._sink.settle_artifact(run_id, artifact, "stored")
        snapshot.unlink(missing_ok=True)
        return True

    def _store_again(self, run_id: str, artifact_uri: str, artifact: ArtifactState) -> bool:
        """Settle an artifact that was moved just before a crash, so that its snapshot is gone and the artifact there."""
        if open_artifacts(artifact_uri).size(artifact.path) != artifact.size:
            return False
        self._sink.settle_artifact(run_id, artifact, "stored")
        return True
