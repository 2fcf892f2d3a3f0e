"""Bytes at rest. `open_artifacts(uri)` chooses a repository by the URI's scheme."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from flightlog.schema.errors import InvalidParameter
from flightlog.stores.artifacts.base import ArtifactRepository
from flightlog.stores.artifacts.local import LocalArtifacts
from flightlog.stores.artifacts.memory import MemoryArtifacts
from flightlog.stores.artifacts.s3 import S3Artifacts

MEMORY = "memory:"
StandIn = Callable[[str], ArtifactRepository | None]
_stand_ins: list[StandIn] = []


@contextmanager
def standing_in(stand_in: StandIn) -> Iterator[None]:
    """Ask this first for the repository of a URI, for a while and in all threads; None from it means: the usual one."""
    _stand_ins.append(stand_in)
    try:
        yield
    finally:
        _stand_ins.remove(stand_in)


def open_artifacts(uri: str) -> ArtifactRepository:
    """Return the repository of a run's artifact URI. Raises `InvalidParameter` for a scheme that is not served."""
    for stand_in in reversed(_stand_ins):
        if (repository := stand_in(uri)) is not None:
            return repository
    if uri.startswith(MEMORY):
        return MemoryArtifacts(uri)
    root = local_root(uri)
    if root is not None:
        return LocalArtifacts(root)
    scheme = urlsplit(uri).scheme
    if scheme == "s3":
        return S3Artifacts(uri)
    raise InvalidParameter(f"artifact URI {uri!r} has the scheme {scheme!r}, which is not served; use a path, file:, s3: or memory:")


def local_root(uri: str) -> Path | None:
    """Return the folder that an artifact URI names, None for one that names no folder."""
    if ("://" in uri and not uri.startswith("file:")) or uri.startswith(MEMORY):
        return None
    return Path(url2pathname(urlsplit(uri).path) if uri.startswith("file:") else uri)
