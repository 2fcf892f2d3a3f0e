"""Removing the files of a run that is purged."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.artifacts.base import ArtifactRepository


@dataclass(frozen=True)
class Holding:
    """Files of a run: how many, and their bytes."""

    files: int
    bytes: int


def holding(run_id: str, artifact_uri: str, paths: Collection[str]) -> Holding:
    """Return what `remove` would remove. Raises `InvalidParameter` for a URI that is not served, and what the repository raises."""
    repository = open_artifacts(artifact_uri)
    sizes = [repository.size(path) for path in _files(repository, run_id, artifact_uri, paths)]
    return Holding(len(sizes), sum(size or 0 for size in sizes))


def remove(run_id: str, artifact_uri: str, paths: Collection[str]) -> None:
    """Remove the files of a run. Raises as `holding` does.

    All that is below the URI, where that is a place of this run alone: one whose path names it. Elsewhere only what was logged to the run,
    the artifacts with these paths.
    """
    repository = open_artifacts(artifact_uri)
    for path in list(_files(repository, run_id, artifact_uri, paths)):
        repository.delete(path)


def _files(repository: ArtifactRepository, run_id: str, artifact_uri: str, paths: Collection[str]) -> Iterator[str]:
    if run_id in unquote(artifact_uri.partition("://")[2] or artifact_uri).split("/"):
        yield from all_files(repository)
    else:
        yield from (path for path in paths if repository.size(path) is not None)


def all_files(repository: ArtifactRepository, folder: str = "") -> Iterator[str]:
    """Yield the paths of all files in a folder of a repository, and below it."""
    for entry in repository.list(folder):
        if entry.is_dir:
            yield from all_files(repository, entry.path)
        else:
            yield entry.path
