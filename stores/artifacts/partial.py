"""Files that appear whole or not at all."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PARTIAL = re.compile(r"\.flightlog-[0-9a-f]{32}\.partial")


def is_partial(name: str) -> bool:
    """Say whether a file's name is one of a file that is still being written."""
    return _PARTIAL.fullmatch(name) is not None


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Give a path beside `target`, in a folder made for it, to write to; what was written takes its place when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".flightlog-{uuid.uuid4().hex}.partial")
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
