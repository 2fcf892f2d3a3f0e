"""Copying artifacts to a local folder: a folder appears whole or not at all, unless there is one already."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from flightlog.schema.artifact_paths import check_artifact_path
from flightlog.schema.entities import FileInfo
from flightlog.schema.errors import ArtifactDamaged, NotFound
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.artifacts.base import ArtifactRepository, Told
from flightlog.stores.artifacts.checksums import check_sha256, sha256_of

THREADS = 8
STAGE = ".flightlog-download-"
RETRIES = 2
"""So often a file is fetched again that is not what it should be."""

Checksums = Callable[[], Mapping[str, str]]
"""Gives the SHA-256 by path that are known now."""
Progress = Callable[[int, int], AbstractContextManager[Told | None]]
"""Is given the number of files and bytes that are to come, and gives what is told of the bytes that have come."""


def _unseen(files: int, size: int) -> AbstractContextManager[Told | None]:
    del files, size
    return nullcontext()


def download(
    artifact_uri: str,
    path: str,
    destination: str | Path | None = None,
    checksums: Checksums = dict,
    progress: Progress = _unseen,
) -> str:
    """Copy an artifact, or a folder with everything in it, below a local folder and return its path there.

    The folder is made where there is none; without one, a new temporary one is used. Raises `NotFound`, and `ArtifactDamaged` where a
    checksum differs, also when the file is fetched again, because it may have been replaced meanwhile: then nothing has been put there.
    """
    repository, path = open_artifacts(artifact_uri), check_artifact_path(path)
    files = list(_files(repository, path))
    target = Path(destination or tempfile.mkdtemp(prefix="flightlog-"))
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=STAGE, dir=target) as folder:
        stage = Path(folder)
        with progress(len(files), sum(file.file_size or 0 for file in files)) as told:
            _fetch(repository, files, stage, checksums, told)
        for entry in sorted(stage.iterdir()):
            _merge(entry, target / entry.name)
    return str(target / path if path else target)


def _fetch(repository: ArtifactRepository, files: Sequence[FileInfo], stage: Path, checksums: Checksums, told: Told | None) -> None:
    known = checksums()

    def fetch(file: FileInfo) -> None:
        _fetch_one(repository, file.path, stage / file.path, known, checksums, told)

    with ThreadPoolExecutor(THREADS, "flightlog-download") as pool:
        try:
            for future in [pool.submit(fetch, file) for file in files]:
                future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _fetch_one(
    repository: ArtifactRepository, path: str, target: Path, known: Mapping[str, str], checksums: Checksums, told: Told | None
) -> None:
    """Fetch a file, and again with the checksums of then where it is not what it should be: it may have been replaced meanwhile."""
    for retries_left in reversed(range(RETRIES + 1)):
        try:
            repository.get(path, target, told)
            if path in known:
                check_sha256(f"artifact {path!r}", sha256_of(target), known[path])
        except ArtifactDamaged:
            if not retries_left:
                raise
            known = checksums()
        else:
            return


def _merge(source: Path, target: Path) -> None:
    """Move a file or folder to where it belongs; what is there and not in the source stays."""
    if source.is_dir() and target.is_dir():
        for entry in sorted(source.iterdir()):
            _merge(entry, target / entry.name)
    else:
        source.replace(target)


def _files(repository: ArtifactRepository, path: str) -> Iterator[FileInfo]:
    size = repository.size(path)
    if size is not None:
        yield FileInfo(path, is_dir=False, file_size=size)
        return
    entries = repository.list(path)
    if path and not entries:
        raise NotFound(f"there is no artifact {path!r}")
    yield from _below(repository, entries)


def _below(repository: ArtifactRepository, entries: Sequence[FileInfo]) -> Iterator[FileInfo]:
    for entry in entries:
        if entry.is_dir:
            yield from _below(repository, repository.list(entry.path))
        else:
            yield entry
