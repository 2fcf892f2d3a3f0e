"""The path of an artifact inside its run: relative, with `/`, and meaning the same place on every machine."""

from __future__ import annotations

import posixpath
from pathlib import PurePath, PureWindowsPath

from flightlog.schema.errors import InvalidParameter


def check_artifact_path(path: str | PurePath | None) -> str:
    """Return a path inside the run's artifacts in its normal form, "" for the root.

    Refuses absolute paths, `..`, backslashes and drive letters: what means another place on some machine. Raises `InvalidParameter`.
    """
    if isinstance(path, PurePath):
        path = path.as_posix()
    if path is None or path in ("", "."):
        return ""
    if not isinstance(path, str):
        raise InvalidParameter(f"an artifact path must be a string, not {type(path).__name__} {path!r}")
    windows = PureWindowsPath(path)
    if "\\" in path or windows.drive or path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise InvalidParameter(f"artifact path {path!r} leaves the run's artifacts; use a relative path with '/', such as 'plots/loss.png'")
    normal = posixpath.normpath(path)
    return "" if normal == "." else normal


def check_artifact_file(path: str | PurePath) -> str:
    """As `check_artifact_path`, for a file: the root is none. Raises `InvalidParameter`."""
    normal = check_artifact_path(path)
    if not normal:
        raise InvalidParameter(f"artifact path {path!r} names no file; an artifact needs a file name, such as 'plots/loss.png'")
    return normal


def named_artifact_file(name: str | PurePath) -> str:
    """As `check_artifact_file`, for the name that a caller gives to content: `a/../b` is `b`, as no folder is ever walked through.

    Raises `InvalidParameter`.
    """
    text = name.as_posix() if isinstance(name, PurePath) else name
    return check_artifact_file(posixpath.normpath(text) if text and isinstance(text, str) else text)
