"""Artifacts of runs: to list, to fetch and to read, without a client.

A process that has logged artifacts waits until they are stored before it reads, at most `FLIGHTLOG_SYNC_TIMEOUT` seconds.
"""

from __future__ import annotations

import json
import posixpath
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flightlog import reading
from flightlog.producer import lifecycle
from flightlog.producer.client import Producer
from flightlog.producer.context import context
from flightlog.schema.artifact_paths import check_artifact_path
from flightlog.schema.entities import ArtifactStatus, FileInfo
from flightlog.schema.errors import FlightlogException, InvalidParameter
from flightlog.stores.artifacts import local_root, open_artifacts
from flightlog.stores.artifacts.base import Told
from flightlog.stores.artifacts.download import download

if TYPE_CHECKING:
    from PIL.Image import Image

RUNS = "runs:/"
SHOWN_FROM = 8 << 20
"""Bytes from which on a download shows how far it has come."""


def download_artifacts(
    artifact_uri: str | None = None,
    run_id: str | None = None,
    artifact_path: str | None = None,
    dst_path: str | None = None,
    tracking_uri: str | None = None,
    registry_uri: str | None = None,  # noqa: ARG001 - MLflow's signature
) -> str:
    """Copy an artifact or a folder to a local folder, a new temporary one by default, and return its path there.

    Give `artifact_uri` (a path, `file:`, `s3:` or `runs:/<run id>/<path>`), or `run_id` with or without `artifact_path`. Raises `NotFound`,
    or `ArtifactDamaged` where what is stored is not what was logged.
    """
    owner, path = _resolve(artifact_uri, run_id, artifact_path, tracking_uri)
    return owner.download(path, dst_path)


def list_artifacts(
    artifact_uri: str | None = None, run_id: str | None = None, artifact_path: str | None = None, tracking_uri: str | None = None
) -> list[FileInfo]:
    """Return the artifacts in a folder, given as for `download_artifacts`; none for a file.

    Their paths start at the top of the run for `run_id`, and with the name of the folder for `artifact_uri`.
    """
    owner, path = _resolve(artifact_uri, run_id, artifact_path, tracking_uri)
    found = owner.list(path)
    if artifact_uri is None:
        return found
    above = posixpath.dirname(check_artifact_path(path))
    return [replace(item, path=posixpath.relpath(item.path, above or ".")) for item in found]


def load_text(artifact_uri: str) -> str:
    """Return a text artifact, decoded from UTF-8. Raises `FlightlogException` with BAD_REQUEST for one that is none."""
    with _fetched(artifact_uri) as file:
        try:
            return file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise FlightlogException(
                f"artifact {artifact_uri!r} is no text in UTF-8: {error}; fetch it with download_artifacts and open it as what it is",
                "BAD_REQUEST",
            ) from error


def load_dict(artifact_uri: str) -> Any:  # noqa: ANN401 - any JSON value
    """Return a JSON artifact. Raises `FlightlogException` with BAD_REQUEST for one that is none."""
    try:
        return json.loads(load_text(artifact_uri))
    except json.JSONDecodeError as error:
        raise FlightlogException(f"artifact {artifact_uri!r} is no JSON: {error}", "BAD_REQUEST") from error


def load_image(artifact_uri: str) -> Image:
    """Return an image artifact as Pillow's. Raises `FlightlogException` with BAD_REQUEST for one that is none."""
    try:
        import PIL.Image  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise InvalidParameter("load_image needs Pillow: pip install 'flightlog[images]'") from error
    with _fetched(artifact_uri) as file:
        try:
            image = PIL.Image.open(file)
            image.load()
        except (OSError, SyntaxError, PIL.Image.DecompressionBombError) as error:
            raise FlightlogException(f"artifact {artifact_uri!r} is no image: {error}", "BAD_REQUEST") from error
    return image


@contextmanager
def _fetched(artifact_uri: str) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(download_artifacts(artifact_uri, dst_path=folder))


class Place:
    """A place of artifacts that is named by a URI, of which no run is known."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def list(self, path: str | None = None) -> list[FileInfo]:
        """Return what is in a folder; paths are relative to the place."""
        return open_artifacts(self._ready()).list(check_artifact_path(path))

    def download(self, path: str | None = None, destination: str | None = None) -> str:
        """See `download_artifacts`."""
        return download(self._ready(), path or "", destination, self._checksums, shown)

    def _ready(self) -> str:
        """Return the URI, once what this process has logged is stored."""
        for producer in context.producers():
            _await(producer, None)
        return self._uri

    def _checksums(self) -> dict[str, str]:
        return {}


class RunArtifacts(Place):
    """The artifacts of a run."""

    def __init__(self, producer: Producer, run_id: str) -> None:
        self._producer, self._run_id = producer, run_id
        super().__init__(str(reading.reader_for(producer).get_run(run_id).info.artifact_uri))

    def states(self) -> list[ArtifactStatus]:
        """See `Client.artifact_states`."""
        found = reading.reader_for(self._producer).artifacts(self._run_id)
        return [ArtifactStatus(item.path, item.size, item.sha256, item.state, item.reason) for item in found]

    def _ready(self) -> str:
        _await(self._producer, self._run_id)
        return self._uri

    def _checksums(self) -> dict[str, str]:
        """Return the SHA-256 of what is stored; what was logged anew at a path and is not stored yet says nothing of what is there."""
        return {item.path: item.sha256 for item in self.states() if item.state == "stored" and item.sha256}


def artifacts_of(producer: Producer, run_id: str) -> RunArtifacts:
    """Return the artifacts of a run. Raises `NotFound` for an unknown one."""
    return RunArtifacts(producer, run_id)


def _await(producer: Producer, run_id: str | None) -> None:
    timeout = producer.settings.sync_timeout if producer.can_arrive else 0
    if producer.awaited.names(run_id) and not producer.settle_artifacts(timeout, run_id):
        lifecycle.warn_once("reading without artifacts that are not stored yet; is a worker running? see: flightlog doctor")


def _resolve(artifact_uri: str | None, run_id: str | None, artifact_path: str | None, tracking_uri: str | None) -> tuple[Place, str]:
    """Return the place to open and the path inside it."""
    if (artifact_uri is None) == (run_id is None):
        raise InvalidParameter("give either artifact_uri or run_id, and not both")
    if artifact_uri is not None and artifact_path is not None:
        raise InvalidParameter(f"artifact_path {artifact_path!r} goes with run_id; put it at the end of artifact_uri {artifact_uri!r}")
    if artifact_uri is not None and artifact_uri.startswith(RUNS):
        run_id, _, artifact_path = artifact_uri.removeprefix(RUNS).strip("/").partition("/")
    if run_id is not None:
        return artifacts_of(context.producer_for(tracking_uri), run_id), artifact_path or ""
    root, name = split_uri(str(artifact_uri))
    return Place(root), name


def split_uri(uri: str) -> tuple[str, str]:
    """Return the folder that a URI or path is in, as such, and its name there; "" for the name of what is the top."""
    folder = local_root(uri)
    if folder is not None:
        return str(folder.absolute().parent), folder.absolute().name
    scheme, _, rest = uri.partition("://")
    place, slash, name = rest.rstrip("/").rpartition("/")
    return (f"{scheme}://{place}", name) if slash else (uri, "")


@contextmanager
def shown(files: int, size: int) -> Iterator[Told | None]:
    """Show on stderr how much of a large download has come, where somebody watches or `FLIGHTLOG_PROGRESS_BAR` wants it."""
    wanted = context.settings.progress_bar
    if wanted is False or (wanted is None and (size < SHOWN_FROM or not sys.stderr.isatty())):
        yield None
        return
    from rich.console import Console  # noqa: PLC0415 - only where something is shown
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("1 artifact" if files == 1 else f"{files:,} artifacts", total=size)
        yield lambda count: progress.advance(task, count)
