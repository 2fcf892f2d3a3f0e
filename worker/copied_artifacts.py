"""Artifacts of a copied folder: stored where the runs keep theirs now, and left in the folder."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from flightlog.schema.errors import FlightlogException
from flightlog.schema.fold import ArtifactState
from flightlog.schema.names import SNAPSHOTS, is_snapshot
from flightlog.stores.artifacts import local_root, open_artifacts
from flightlog.stores.artifacts.base import ArtifactRepository
from flightlog.stores.artifacts.checksums import sha256_of
from flightlog.stores.base import PendingArtifact, Sink

log = logging.getLogger("flightlog.worker")


class CopiedArtifacts:
    """Stores what waits at the sink of the runs of some folders, from their snapshots or from where their own worker put the artifacts.

    An artifact whose bytes are not in the folders, or cannot be read now, goes on waiting: they may come with the next copy.
    """

    def __init__(self, spools: list[Path], roots: list[Path], kept: list[Path], sink: Sink, told: Callable[[int], None]) -> None:
        """`spools` are folders of journals; `roots` are folders of artifacts, laid out as `<experiment>/<run>/artifacts`.

        Nothing is written below the folders that are `kept`, also where a run has its artifacts there. `told` hears of each that is stored.
        """
        self._told = told
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
            stored = self._store(run_id, uri, artifact)
        except (OSError, FlightlogException) as error:
            log.warning("artifact %r of run %s cannot be copied now: %s", artifact.path, run_id, error)
            stored = None
        if stored is not None:
            self._sink.settle_artifact(run_id, stored, "stored")
            self._told(1)
        self.stored += stored is not None
        self.missing += stored is None

    def _store(self, run_id: str, uri: str, artifact: ArtifactState) -> ArtifactState | None:
        """Store one artifact and return it with its checksum; None where its bytes cannot be found."""
        repository, root = open_artifacts(uri), local_root(uri)
        is_kept = root is not None and any(_is_inside(folder, root) for folder in self._kept)
        for file in () if is_kept else self._candidates(run_id, artifact):
            sha256 = _sha256_of_copy(file, artifact)
            if sha256 is not None:
                repository.copy(file, artifact.path, sha256)
                return replace(artifact, sha256=sha256)
        return artifact if _is_there(repository, artifact) else None

    def _candidates(self, run_id: str, artifact: ArtifactState) -> Iterator[Path]:
        if is_snapshot(artifact.snapshot):
            yield from (spool / SNAPSHOTS / artifact.snapshot for spool in self._spools)
        for root in self._roots:
            homes = (experiment / run_id / "artifacts" for experiment in root.iterdir()) if root.is_dir() else ()
            yield from (home / artifact.path for home in homes if _is_inside(root, home) and _is_inside(home, home / artifact.path))


def _is_inside(folder: Path, file: Path) -> bool:
    return folder.resolve() in file.resolve().parents


def _sha256_of_copy(file: Path, artifact: ArtifactState) -> str | None:
    """Return the SHA-256 of a file that is an artifact, None for what was logged at its path later or is still being copied."""
    if not file.is_file() or file.stat().st_size != artifact.size:
        return None
    sha256 = sha256_of(file)
    return sha256 if artifact.sha256 in (None, sha256) else None


def _is_there(repository: ArtifactRepository, artifact: ArtifactState) -> bool:
    """Say whether an artifact is where it belongs already: stored just before a crash, from another copy, or by its own worker.

    Of a file above 1 MiB whose checksum nobody has told yet, the size must do: there is nothing else to compare it with.
    """
    if repository.size(artifact.path) != artifact.size:
        return False
    return artifact.sha256 is None or repository.sha256(artifact.path) == artifact.sha256
