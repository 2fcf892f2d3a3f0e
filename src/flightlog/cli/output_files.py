"""Files that commands write: complete or not there, and never over another by accident."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flightlog.schema.errors import InvalidParameter


def check_free(path: Path, *, force: bool) -> None:
    """Raise `InvalidParameter` for a file that is there, unless it may be overwritten."""
    if path.is_dir():
        raise InvalidParameter(f"{path} is a folder; give the name of a file")
    if path.exists() and not path.is_file():
        raise InvalidParameter(f"{path} is no ordinary file; give the name of one, or - for stdout")
    if path.exists() and not force:
        raise InvalidParameter(f"{path} is there already; --force overwrites it")


@contextmanager
def new_file(path: Path, *, force: bool) -> Iterator[Path]:
    """Give the path of a new file beside another, whose name it gets at the end, or which is removed after an error.

    The folder is made when it is missing. Raises as `check_free` does.
    """
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        check_free(path, force=force)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
