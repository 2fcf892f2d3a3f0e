"""Files that appear whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL = ".partial"
"""How the names of files end that are still being written."""


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path beside `target`, in a folder made for it, to write to; what was written takes its place when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}{PARTIAL}")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
