"""Copying artifacts to a local folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from flightlog.schema.errors import NotFound
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.artifacts.base import ArtifactRepository
from flightlog.stores.artifacts.removal import all_files


def download(artifact_uri: str, path: str, destination: str | None) -> str:
    """Copy an artifact, or a folder with everything in it, below a local folder and return its path there. Raises `NotFound`."""
    repository = open_artifacts(artifact_uri)
    target = Path(destination or tempfile.mkdtemp(prefix="flightlog-"))
    for file in _files(repository, path):
        repository.get(file, target / file)
    return str(target / path if path else target)


def _files(repository: ArtifactRepository, path: str) -> Iterator[str]:
    if repository.size(path) is not None:
        yield path
        return
    if path and not repository.list(path):
        raise NotFound(f"there is no artifact {path!r}")
    yield from all_files(repository, path)
