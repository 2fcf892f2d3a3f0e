"""Artifacts in the memory of this process, for tests and for runs that nobody keeps. Threads may share them."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from pathlib import Path
from urllib.parse import unquote

from flightlog.schema.artifact_paths import check_artifact_file, check_artifact_path
from flightlog.schema.entities import FileInfo
from flightlog.schema.errors import NotFound
from flightlog.stores.artifacts.base import Told
from flightlog.stores.artifacts.checksums import check_sha256
from flightlog.stores.artifacts.partial import written_whole

FILES: dict[str, bytes] = {}
"""What `memory:` URIs name in this process: place and path -> content. Empty it to forget everything."""


class MemoryArtifacts:
    """The files of one run below a `memory:` URI, in `FILES` unless another mapping is given."""

    def __init__(self, uri: str = "memory:", files: MutableMapping[str, bytes] | None = None) -> None:
        self._place = unquote(uri.partition(":")[2]).strip("/")
        self._files = FILES if files is None else files

    def put(self, source: Path, path: str, sha256: str | None = None, told: Told | None = None) -> None:  # noqa: ARG002 - it is over at once
        """See `ArtifactRepository.put`."""
        content = source.read_bytes()
        check_sha256(str(source), hashlib.sha256(content).hexdigest(), sha256)
        self._files[self._key(check_artifact_file(path))] = content

    def copy(self, source: Path, path: str, sha256: str | None = None, told: Told | None = None) -> None:
        """See `ArtifactRepository.copy`."""
        self.put(source, path, sha256, told)

    def list(self, path: str = "") -> list[FileInfo]:
        """See `ArtifactRepository.list`."""
        folder = check_artifact_path(path)
        start = f"{folder}/" if folder else ""
        found: dict[str, FileInfo] = {}
        for key, content in list(self._files.items()):
            inside = self._inside(key)
            if inside is not None and inside.startswith(start):
                name, slash, _ = inside[len(start) :].partition("/")
                found[start + name] = FileInfo(start + name, bool(slash), None if slash else len(content))
        return [found[name] for name in sorted(found)]

    def size(self, path: str) -> int | None:
        """See `ArtifactRepository.size`."""
        content = self._files.get(self._key(check_artifact_path(path)))
        return None if content is None else len(content)

    def sha256(self, path: str) -> str | None:
        """See `ArtifactRepository.sha256`."""
        content = self._files.get(self._key(check_artifact_path(path)))
        return None if content is None else hashlib.sha256(content).hexdigest()

    def get(self, path: str, target: Path, told: Told | None = None) -> None:
        """See `ArtifactRepository.get`."""
        content = self._files.get(self._key(check_artifact_path(path)))
        if content is None:
            raise NotFound(f"there is no artifact {path!r} in memory:{self._place}")
        with written_whole(target) as partial:
            partial.write_bytes(content)
        if told is not None:
            told(len(content))

    def delete(self, path: str) -> None:
        """See `ArtifactRepository.delete`."""
        self._files.pop(self._key(check_artifact_file(path)), None)

    def _key(self, path: str) -> str:
        return f"{self._place}/{path}"

    def _inside(self, key: str) -> str | None:
        return key[len(self._place) + 1 :] if key.startswith(f"{self._place}/") else None
