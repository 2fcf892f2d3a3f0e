"""SHA-256 of files, in hexadecimal."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

from flightlog.schema.errors import ArtifactDamaged
from flightlog.stores.artifacts.base import Told

CHUNK = 1 << 20


def sha256_of(file: Path, told: Told | None = None) -> str:
    """Return the SHA-256 of a file's content."""
    with file.open("rb") as content:
        return _digest(content, told=told)


def copy_hashed(source: BinaryIO, target: BinaryIO, told: Told | None = None) -> str:
    """Copy what is left of a file into another and return the SHA-256 of what was read."""
    return _digest(source, target, told)


def _digest(source: BinaryIO, target: BinaryIO | None = None, told: Told | None = None) -> str:
    digest = hashlib.sha256()
    while part := source.read(CHUNK):
        digest.update(part)
        if target is not None:
            target.write(part)
        if told is not None:
            told(len(part))
    return digest.hexdigest()


def check_sha256(what: str, found: str, expected: str | None) -> None:
    """Raise `ArtifactDamaged` when a checksum is known and differs."""
    if expected is not None and found != expected:
        raise ArtifactDamaged(
            f"{what} has the SHA-256 {found}, and not {expected} as when it was logged: it was changed or damaged; log it again, "
            "or fetch the file from its place without flightlog"
        )
