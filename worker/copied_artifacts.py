"""Artifacts of a copied folder: stored where the runs keep theirs now, and left in the folder."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from flightlog.schema.errors import FlightlogException
from flightlog.schema.fold import ArtifactState
from flightlog.schema.names import SNAPSHOTS
from flightlog.stores.artifacts import local_root, open_artifacts
from flightlog.stores.artifacts.checksums import sha256_of
from flightlog.stores.base import PendingArtifact, Sink

log = logging.getLogger("flightlog.worker")


class CopiedArtifacts:
    """Stores what waits at the sink of the runs of some folders, from their snapshots or from where their own worker put the artifacts.

    An artifact whose bytes are not in the folders, or cannot be read now, goes on waiting: they may come with the next copy.
    """

    def __init__(self, spools: list[Path], roots: list[Path], kept: list[Path], sink: Sink) -> None:
        """`spools` are folders of journals; `roots` are folders of artifacts, laid out as `<experiment>/<run>/artifacts`.

        Nothing is written below the folders that are `kept`, also where a run has its artifacts there.
        """
        self._spools = spools
        self._roots = roots
        self._kept = kept
        self._sink = sink
        self.stored = 0
        self.missing = 0

    def store(self, runs: set[str]) -> None:
        """Store what waits of some runs, and count what could be stored and what could not."""
        last: PendingArtifact | None = None
        while page := self._sink.pending_artifacts(after=last):
            for item in page:
                if item[0] in runs:
                    self._settle(item)
            last = page[-1]

    def _settle(self, item: PendingArtifact) -> None:
        run_id, uri, artifact = item
        try:
            is_stored = self._store(run_id, uri, artifact)
        except (OSError, FlightlogException) as error:
            log.warning("artifact %r of run %s cannot be copied now: %s", artifact.path, run_id, error)
            is_stored = False
        if is_stored:
            self._sink.settle_artifact(run_id, artifact, "stored")
        self.stored += is_stored
        self.missing += not is_stored

    def _store(self, run_id: str, uri: str, artifact: ArtifactState) -> bool:
        repository, root = open_artifacts(uri), local_root(uri)
        if root is not None and any(_is_inside(folder, root) for folder in self._kept):
            return repository.size(artifact.path) == artifact.size
        found = next((file for file in self._candidates(run_id, artifact) if _is_it(file, artifact)), None)
        if found is None:
            return repository.size(artifact.path) == artifact.size  # stored just before a crash, or from another copy
        repository.copy(found, artifact.path)
        return True

    def _candidates(self, run_id: str, artifact: ArtifactState) -> Iterator[Path]:
        if is_snapshot(artifact.snapshot):
            yield from (spool / SNAPSHOTS / artifact.snapshot for spool in self._spools)
        for root in self._roots:
            homes = (experiment / run_id / "artifacts" for experiment in root.iterdir()) if root.is_dir() else ()
            yield from (home / artifact.path for home in homes if _is_inside(root, home) and _is_inside(home, home / artifact.path))


def is_snapshot(name: str) -> bool:
    """Say whether a text is a snapshot's name: 32 hexadecimal digits."""
    return len(name) == 32 and all(letter in "0123456789abcdef" for letter in name)


def _is_inside(folder: Path, file: Path) -> bool:
    return folder.resolve() in file.resolve().parents


def _is_it(file: Path, artifact: ArtifactState) -> bool:
    """Say whether a file is an artifact, and not what was logged at its path later or is still being copied."""
    if not file.is_file() or file.stat().st_size != artifact.size:
        return False
    return artifact.sha256 is None or sha256_of(file) == artifact.sha256
