"""Reading artifacts without a client: `flightlog.artifacts.download_artifacts`, `list_artifacts`, `load_text`, `load_dict`."""

from __future__ import annotations

import json
import posixpath
import tempfile
from pathlib import Path
from typing import Any

from flightlog import reading
from flightlog.producer.context import context
from flightlog.schema.entities import FileInfo
from flightlog.schema.errors import InvalidParameter
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.artifacts.download import download


def download_artifacts(
    artifact_uri: str | None = None,
    run_id: str | None = None,
    artifact_path: str | None = None,
    dst_path: str | None = None,
    tracking_uri: str | None = None,
) -> str:
    """Copy an artifact or a folder to a local folder, a new temporary one by default, and return its path there.

    Give `artifact_uri` (a path, `file:` or `runs:/<run id>/<path>`), or `run_id` with `artifact_path`.
    """
    root, path = _resolve(artifact_uri, run_id, artifact_path, tracking_uri)
    return download(root, path, dst_path)


def list_artifacts(
    artifact_uri: str | None = None, run_id: str | None = None, artifact_path: str | None = None, tracking_uri: str | None = None
) -> list[FileInfo]:
    """Return the artifacts in a folder, given as for `download_artifacts`."""
    root, path = _resolve(artifact_uri, run_id, artifact_path, tracking_uri)
    return open_artifacts(root).list(path)


def load_text(artifact_uri: str) -> str:
    """Return a text artifact, decoded from UTF-8."""
    with tempfile.TemporaryDirectory() as folder:
        return Path(download_artifacts(artifact_uri, dst_path=folder)).read_text(encoding="utf-8")


def load_dict(artifact_uri: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON artifact."""
    return json.loads(load_text(artifact_uri))


def _resolve(artifact_uri: str | None, run_id: str | None, artifact_path: str | None, tracking_uri: str | None) -> tuple[str, str]:
    """Return the root to open and the path inside it."""
    if (artifact_uri is None) == (run_id is None):
        raise InvalidParameter("give either artifact_uri or run_id, and not both")
    if artifact_uri is not None and artifact_uri.startswith("runs:/"):
        run_id, _, artifact_path = artifact_uri.removeprefix("runs:/").strip("/").partition("/")
        artifact_uri = None
    if artifact_uri is not None:
        root, name = posixpath.split(artifact_uri.rstrip("/"))
        return root, posixpath.join(name, artifact_path or "").rstrip("/")
    producer = context.producer_for(tracking_uri)
    return str(reading.reader_for(producer).get_run(str(run_id)).info.artifact_uri), artifact_path or ""
