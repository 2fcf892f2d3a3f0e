"""Settings: the environment, read once into one frozen object, and what a tracking URI means.

Arguments win over `set_*` calls, those over the environment, that over the default. Where the MLflow variable of the same meaning is
set and ours is not, it counts.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, get_args
from urllib.parse import unquote, urlsplit

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.sampling import check_interval, check_node_id, check_samples

FullPolicy = Literal["drop", "block", "raise"]
LogFormat = Literal["text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
LoggingLevel = Literal["debug", "info", "warning", "error", "critical"]

T = TypeVar("T")

MAX_PORT = 65_535
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
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
    logging_level: LoggingLevel | None = None
    run_context: str | None = None
    truncate_long_values: bool = True
    artifact_location_max_length: int = 2048

    @staticmethod
    def from_environ(environ: Mapping[str, str]) -> Settings:
        """Read all settings. Raises `InvalidParameter` for a value that cannot be understood."""

        def text(name: str) -> str | None:
            return environ.get(f"FLIGHTLOG_{name}") or environ.get(f"MLFLOW_{name}") or None

        def number(name: str, default: float, *, of_mlflow: bool = False) -> float:
            raw = text(name) if of_mlflow else environ.get(f"FLIGHTLOG_{name}")
            try:
                value = float(raw) if raw else default
            except ValueError:
                value = math.nan
            if not 0 <= value < math.inf:
                raise InvalidParameter(f"FLIGHTLOG_{name} must be a number that is not negative, not {raw!r}")
            return value

        def flag(name: str, *, default: bool) -> bool:
            raw = environ.get(f"FLIGHTLOG_{name}")
            return _as_flag(raw, f"FLIGHTLOG_{name}") if raw else default

        policy = environ.get("FLIGHTLOG_SPOOL_FULL") or "drop"
        if policy not in ("drop", "block", "raise"):
            raise InvalidParameter(f"FLIGHTLOG_SPOOL_FULL must be drop, block or raise, not {policy!r}")
        heartbeat, lost_after = number("HEARTBEAT", 30.0), number("LOST_AFTER", 300.0)
        if 0 < lost_after < 2 * heartbeat:
            raise InvalidParameter(
                f"FLIGHTLOG_LOST_AFTER must be 0 or at least twice FLIGHTLOG_HEARTBEAT, which is {heartbeat:g}, not {lost_after:g}"
            )
        return Settings(
            tracking_uri=text("TRACKING_URI"),
            registry_uri=text("REGISTRY_URI"),
            queue_uri=environ.get("FLIGHTLOG_QUEUE_URI") or None,
            spool=environ.get("FLIGHTLOG_SPOOL") or None,
            artifact_root=environ.get("FLIGHTLOG_ARTIFACT_ROOT") or None,
            experiment_name=text("EXPERIMENT_NAME"),
            experiment_id=text("EXPERIMENT_ID"),
            run_id=text("RUN_ID"),
            asynchronous=_either(environ, "ASYNC", _as_flag, default=True, of_mlflow="ENABLE_ASYNC_LOGGING"),
            exit_timeout=number("EXIT_TIMEOUT", 10.0),
            sync_timeout=number("SYNC_TIMEOUT", 30.0),
            spool_limit=int(number("SPOOL_LIMIT", 16 << 30)),
            spool_full=policy,  # type: ignore[arg-type]  # checked above
            follow_links=flag("FOLLOW_LINKS", default=False),
            progress_bar=_either(environ, "PROGRESS_BAR", _as_flag, default=None, of_mlflow="ENABLE_ARTIFACTS_PROGRESS_BAR"),
            worker_idle=number("WORKER_IDLE", 10.0),
            start_worker=flag("START_WORKER", default=True),
            heartbeat=heartbeat,
            lost_after=lost_after,
            system_metrics=_either(environ, "ENABLE_SYSTEM_METRICS_LOGGING", _as_flag, default=False),
            system_metrics_interval=_either(environ, "SYSTEM_METRICS_SAMPLING_INTERVAL", check_interval, default=10.0),
            system_metrics_samples=_either(environ, "SYSTEM_METRICS_SAMPLES_BEFORE_LOGGING", check_samples, default=1),
            system_metrics_node_id=_either(environ, "SYSTEM_METRICS_NODE_ID", check_node_id, default=None),
            metrics_port=_port(environ, "METRICS_PORT"),
            metrics_host=environ.get("FLIGHTLOG_METRICS_HOST") or "127.0.0.1",
            log_format=_choice(environ, "LOG_FORMAT", get_args(LogFormat), "text"),  # type: ignore[arg-type]  # one of the literals
            log_level=_choice(environ, "LOG_LEVEL", get_args(LogLevel), "info"),  # type: ignore[arg-type]  # one of the literals
            logging_level=_level(text("LOGGING_LEVEL")),
            run_context=text("RUN_CONTEXT"),
            truncate_long_values=_either(environ, "TRUNCATE_LONG_VALUES", _as_flag, default=True),
            artifact_location_max_length=int(number("ARTIFACT_LOCATION_MAX_LENGTH", 2048, of_mlflow=True)),
        )


def _either(environ: Mapping[str, str], name: str, read: Callable[[str, str], T], *, default: T, of_mlflow: str | None = None) -> T:
    """Return what our variable says or else MLflow's, as `read` understands it; `read` gets the variable's name for its error."""
    for variable in (f"FLIGHTLOG_{name}", f"MLFLOW_{of_mlflow or name}"):
        raw = environ.get(variable)
        if raw:
            return read(raw, variable)
    return default


def _as_flag(raw: str, variable: str) -> bool:
    if raw.lower() not in FLAGS:
        raise InvalidParameter(f"{variable} must be true or false, not {raw!r}")
    return FLAGS[raw.lower()]


def _port(environ: Mapping[str, str], name: str) -> int | None:
    raw = environ.get(f"FLIGHTLOG_{name}")
    if not raw:
        return None
    if not (raw.isascii() and raw.isdecimal() and int(raw) <= MAX_PORT):
        raise InvalidParameter(f"FLIGHTLOG_{name} must be a port from 0 to {MAX_PORT}, not {raw!r}")
    return int(raw)


def _level(raw: str | None) -> LoggingLevel | None:
    names = {"warn": "warning", "fatal": "critical"}
    level = raw and names.get(raw.lower(), raw.lower())
    if level and level not in get_args(LoggingLevel):
        raise InvalidParameter(f"FLIGHTLOG_LOGGING_LEVEL must be one of {', '.join(get_args(LoggingLevel))}, not {raw!r}")
    return level or None  # type: ignore[return-value]  # one of the literals


def _choice(environ: Mapping[str, str], name: str, choices: Sequence[str], default: str) -> str:
    value = (environ.get(f"FLIGHTLOG_{name}") or default).lower()
    if value not in choices:
        raise InvalidParameter(f"FLIGHTLOG_{name} must be one of {', '.join(choices)}, not {value!r}")
    return value


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
