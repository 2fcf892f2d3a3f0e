"""Settings: the environment, read once into one frozen object, and what a tracking URI means.

Arguments win over `set_*` calls, those over the environment, that over the default. Where the MLflow variable of the same meaning is
set and ours is not, it counts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args
from urllib.parse import unquote, urlsplit

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.sampling import check_interval, check_node_id, check_samples
from flightlog.schema.variables import as_flag, as_level, as_number, as_port, as_size, one_of, ours, shared

FullPolicy = Literal["drop", "block", "raise"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

DEFAULT_FOLDER = "flightlogs"
DATABASE_FILE = "tracking.db"
DATABASE_SCHEMES = ("sqlite", "postgresql", "mysql", "mariadb", "mssql")
QUEUE_SCHEMES = ("redis", "rediss", "unix")
REMOTE_SCHEMES = ("http", "https", "databricks")


@dataclass(frozen=True)
class Settings:
    """What the environment says. Times are seconds, sizes bytes."""

    tracking_uri: str | None = None
    registry_uri: str | None = None
    queue_uri: str | None = None
    spool: str | None = None
    artifact_root: str | None = None
    experiment_name: str | None = None
    experiment_id: str | None = None
    run_id: str | None = None
    asynchronous: bool = True
    exit_timeout: float = 10.0
    sync_timeout: float = 30.0
    spool_limit: int = 16 << 30
    spool_full: FullPolicy = "drop"
    follow_links: bool = False
    progress_bar: bool | None = None
    worker_idle: float = 10.0
    start_worker: bool = True
    heartbeat: float = 30.0
    lost_after: float = 300.0
    system_metrics: bool = False
    system_metrics_interval: float = 10.0
    system_metrics_samples: int = 1
    system_metrics_node_id: str | None = None
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    log_format: LogFormat = "text"
    log_level: LogLevel = "info"
    logging_level: int | None = None
    run_context: str | None = None
    truncate_long_values: bool = True
    artifact_location_max_length: int = 2048

    @staticmethod
    def from_environ(environ: Mapping[str, str]) -> Settings:
        """Read all settings. Raises `InvalidParameter` for a value that cannot be understood."""
        said = {setting: variable.of(environ) for setting, variable in VARIABLES.items()}
        settings = Settings(**{setting: value for setting, value in said.items() if value is not None})
        if 0 < settings.lost_after < 2 * settings.heartbeat:
            raise InvalidParameter(
                f"FLIGHTLOG_LOST_AFTER must be 0 or at least twice FLIGHTLOG_HEARTBEAT, which is {settings.heartbeat:g}, "
                f"not {settings.lost_after:g}"
            )
        return settings


VARIABLES = {
    "tracking_uri": shared("TRACKING_URI"),
    "registry_uri": shared("REGISTRY_URI"),
    "queue_uri": ours("QUEUE_URI"),
    "spool": ours("SPOOL"),
    "artifact_root": ours("ARTIFACT_ROOT"),
    "experiment_name": shared("EXPERIMENT_NAME"),
    "experiment_id": shared("EXPERIMENT_ID"),
    "run_id": shared("RUN_ID"),
    "asynchronous": shared("ASYNC", as_flag, of_mlflow="ENABLE_ASYNC_LOGGING"),
    "exit_timeout": ours("EXIT_TIMEOUT", as_number),
    "sync_timeout": ours("SYNC_TIMEOUT", as_number),
    "spool_limit": ours("SPOOL_LIMIT", as_size),
    "spool_full": ours("SPOOL_FULL", one_of(*get_args(FullPolicy))),
    "follow_links": ours("FOLLOW_LINKS", as_flag),
    "progress_bar": shared("PROGRESS_BAR", as_flag, of_mlflow="ENABLE_ARTIFACTS_PROGRESS_BAR"),
    "worker_idle": ours("WORKER_IDLE", as_number),
    "start_worker": ours("START_WORKER", as_flag),
    "heartbeat": ours("HEARTBEAT", as_number),
    "lost_after": ours("LOST_AFTER", as_number),
    "system_metrics": shared("ENABLE_SYSTEM_METRICS_LOGGING", as_flag),
    "system_metrics_interval": shared("SYSTEM_METRICS_SAMPLING_INTERVAL", check_interval),
    "system_metrics_samples": shared("SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", check_samples),
    "system_metrics_node_id": shared("SYSTEM_METRICS_NODE_ID", check_node_id),
    "metrics_port": ours("METRICS_PORT", as_port),
    "metrics_host": ours("METRICS_HOST"),
    "log_format": ours("LOG_FORMAT", one_of(*get_args(LogFormat))),
    "log_level": ours("LOG_LEVEL", one_of(*get_args(LogLevel))),
    "logging_level": shared("LOGGING_LEVEL", as_level),
    "run_context": shared("RUN_CONTEXT"),
    "truncate_long_values": shared("TRUNCATE_LONG_VALUES", as_flag),
    "artifact_location_max_length": shared("ARTIFACT_LOCATION_MAX_LENGTH", as_size),
}
"""Setting -> its variable."""


@dataclass(frozen=True)
class Location:
    """Where state, journals and artifacts live: what a tracking URI means. Paths are absolute.

    With a queue, the journals are shipped there, and only what reads needs the store: `is_store_named` is False where nobody named one.
    """

    tracking_uri: str
    database_url: str
    spool: Path
    artifact_root: str
    queue_uri: str | None = None
    is_store_named: bool = True

    def artifact_location(self, experiment_id: str) -> str:
        """Return the default artifact location of an experiment."""
        return f"{self.artifact_root}/{experiment_id}"


def is_chosen(experiment_id: str, artifact_location: str) -> bool:
    """Say whether somebody chose an experiment's artifact location: it is not of the form that `Location.artifact_location` gives.

    A default depends on the folder and the machine, and is not followed elsewhere; what was chosen is.
    """
    return bool(artifact_location) and artifact_location.rstrip("/").rpartition("/")[2] != experiment_id


def absolute_location(artifact_location: str, base: Path | None = None) -> str:
    """Return an artifact location that means the same in every working directory."""
    return _root(artifact_location, base or Path.cwd()) or artifact_location


def locate(tracking_uri: str | Path | None, settings: Settings, base: Path | None = None) -> Location:
    """Return what a tracking URI means; relative paths start at `base`, the working directory by default.

    Unset, a path or `file:` is a flight folder. A database URL keeps its journals and artifacts in the default flight folder, unless
    `FLIGHTLOG_SPOOL` and `FLIGHTLOG_ARTIFACT_ROOT` say otherwise. With a queue the journals have a folder of their own: what ships them
    must find no others there, and nobody may file them. Raises `InvalidParameter` for a scheme that is not known.
    """
    base = base or Path.cwd()
    uri = str(tracking_uri or settings.tracking_uri or DEFAULT_FOLDER)
    located = _located(uri, settings, base)
    if settings.queue_uri is None:
        return located
    scheme = urlsplit(settings.queue_uri).scheme
    if scheme not in QUEUE_SCHEMES:
        known = ", ".join(f"{name}://" for name in QUEUE_SCHEMES)
        raise InvalidParameter(f"queue URI {without_password(settings.queue_uri)!r} has the scheme {scheme!r}; use one of {known}")
    root = settings.spool or str(located.spool.parent)
    return replace(
        located,
        spool=_own_spool(root, base, without_password(settings.queue_uri)),
        queue_uri=settings.queue_uri,
        is_store_named=bool(tracking_uri or settings.tracking_uri),
    )


def _located(uri: str, settings: Settings, base: Path) -> Location:
    scheme = urlsplit(uri).scheme.partition("+")[0] if "://" in uri or uri.startswith(("file:", "sqlite:", "databricks")) else ""
    if scheme in ("", "file"):
        folder = (base / (unquote(urlsplit(uri).path) if scheme else uri)).resolve()
        return Location(
            tracking_uri=str(folder),
            database_url=f"sqlite:///{folder / DATABASE_FILE}",
            spool=_own_spool(settings.spool, base, str(folder)) if settings.spool else folder / "journal",
            artifact_root=_root(settings.artifact_root, base) or str(folder / "artifacts"),
        )
    if scheme in DATABASE_SCHEMES:
        folder, url = (base / DEFAULT_FOLDER).resolve(), _absolute_sqlite(uri, base)
        return Location(
            tracking_uri=url,
            database_url=url,
            spool=_own_spool(settings.spool or str(folder), base, url),
            artifact_root=_root(settings.artifact_root, base) or str(folder / "artifacts"),
        )
    known = ", ".join(("a path", "file:", *(f"{name}:" for name in DATABASE_SCHEMES)))
    raise InvalidParameter(
        f"tracking URI {without_password(uri)!r} has the scheme {scheme!r}, which this version does not serve; use {known}"
    )


def without_password(uri: str) -> str:
    """Return a URI with `***` in place of its passwords, for messages. Keeps the rest as it is."""
    hidden = re.sub(r"(://[^:/@]*):[^?#]*@", r"\1:***@", uri)
    return re.sub(r"(?i)([?&][^=&]*password=)[^&#]*", r"\1***", hidden)


def _own_spool(root: str, base: Path, uri: str) -> Path:
    """Return the folder under a common one that belongs to one store: its worker must find no other's journals there."""
    return (base / root).resolve() / f"journal-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"


def _root(value: str | None, base: Path) -> str | None:
    if value and "://" not in value and not value.startswith(("memory:", "file:")):
        return str((base / value).resolve())
    return value.rstrip("/") if value else None


def _absolute_sqlite(uri: str, base: Path) -> str:
    prefix, _, path = uri.partition(":///")
    if prefix.partition("+")[0] != "sqlite" or not path or path.startswith(":memory:"):
        return uri
    return f"{prefix}:///{(base / path).resolve()}"
