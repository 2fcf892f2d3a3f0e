"""Settings: the environment, read once into one frozen object, and what a tracking URI means.

Arguments win over `set_*` calls, those over the environment, that over the default. Where the MLflow variable of the same meaning is
set and ours is not, it counts.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from flightlog.schema.errors import InvalidParameter

FullPolicy = Literal["drop", "block", "raise"]

DEFAULT_FOLDER = "flightlogs"
DATABASE_FILE = "tracking.db"
DATABASE_SCHEMES = ("sqlite", "postgresql", "mysql", "mariadb", "mssql")
REMOTE_SCHEMES = ("http", "https", "databricks")


@dataclass(frozen=True)
class Settings:
    """What the environment says. Times are seconds, sizes bytes."""

    tracking_uri: str | None = None
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
    worker_idle: float = 10.0
    start_worker: bool = True

    @staticmethod
    def from_environ(environ: Mapping[str, str]) -> Settings:
        """Read all settings. Raises `InvalidParameter` for a value that cannot be understood."""

        def text(name: str) -> str | None:
            return environ.get(f"FLIGHTLOG_{name}") or environ.get(f"MLFLOW_{name}") or None

        def number(name: str, default: float) -> float:
            raw = environ.get(f"FLIGHTLOG_{name}")
            try:
                value = float(raw) if raw else default
            except ValueError:
                value = math.nan
            if not 0 <= value < math.inf:
                raise InvalidParameter(f"FLIGHTLOG_{name} must be a number that is not negative, not {raw!r}")
            return value

        def flag(name: str, *, default: bool) -> bool:
            raw = (environ.get(f"FLIGHTLOG_{name}") or "").lower()
            if raw not in ("", "1", "0", "true", "false", "yes", "no"):
                raise InvalidParameter(f"FLIGHTLOG_{name} must be true or false, not {raw!r}")
            return raw in ("1", "true", "yes") if raw else default

        policy = environ.get("FLIGHTLOG_SPOOL_FULL") or "drop"
        if policy not in ("drop", "block", "raise"):
            raise InvalidParameter(f"FLIGHTLOG_SPOOL_FULL must be drop, block or raise, not {policy!r}")
        return Settings(
            tracking_uri=text("TRACKING_URI"),
            queue_uri=environ.get("FLIGHTLOG_QUEUE_URI") or None,
            spool=environ.get("FLIGHTLOG_SPOOL") or None,
            artifact_root=environ.get("FLIGHTLOG_ARTIFACT_ROOT") or None,
            experiment_name=text("EXPERIMENT_NAME"),
            experiment_id=text("EXPERIMENT_ID"),
            run_id=text("RUN_ID"),
            asynchronous=flag("ASYNC", default=True),
            exit_timeout=number("EXIT_TIMEOUT", 10.0),
            sync_timeout=number("SYNC_TIMEOUT", 30.0),
            spool_limit=int(number("SPOOL_LIMIT", 16 << 30)),
            spool_full=policy,  # type: ignore[arg-type]  # checked above
            worker_idle=number("WORKER_IDLE", 10.0),
            start_worker=flag("START_WORKER", default=True),
        )


@dataclass(frozen=True)
class Location:
    """Where state, journals and artifacts live: what a tracking URI means. Paths are absolute."""

    tracking_uri: str
    database_url: str
    spool: Path
    artifact_root: str

    def artifact_location(self, experiment_id: str) -> str:
        """Return the default artifact location of an experiment."""
        return f"{self.artifact_root}/{experiment_id}"


def locate(tracking_uri: str | Path | None, settings: Settings, base: Path | None = None) -> Location:
    """Return what a tracking URI means; relative paths start at `base`, the working directory by default.

    Unset, a path or `file:` is a flight folder. A database URL keeps its journals and artifacts in the default flight folder, unless
    `FLIGHTLOG_SPOOL` and `FLIGHTLOG_ARTIFACT_ROOT` say otherwise. Raises `InvalidParameter` for a scheme that is not known.
    """
    base = base or Path.cwd()
    uri = str(tracking_uri or settings.tracking_uri or DEFAULT_FOLDER)
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
        folder = (base / DEFAULT_FOLDER).resolve()
        return Location(
            tracking_uri=uri,
            database_url=_absolute_sqlite(uri, base),
            spool=_own_spool(settings.spool or str(folder), base, uri),
            artifact_root=_root(settings.artifact_root, base) or str(folder / "artifacts"),
        )
    known = ", ".join(("a path", "file:", *(f"{name}:" for name in DATABASE_SCHEMES)))
    raise InvalidParameter(f"tracking URI {shown(uri)!r} has the scheme {scheme!r}, which this version does not serve; use {known}")


def shown(uri: str) -> str:
    """Return a URI as messages show it, without its password."""
    return re.sub(r"([?&]password=)[^&]*", r"\1***", re.sub(r"(://[^:/@]*):.*@", r"\1:***@", uri))


def _own_spool(root: str, base: Path, uri: str) -> Path:
    """Return the folder under a common one that belongs to one store: its worker must find no other's journals there."""
    return (base / root).resolve() / f"journal-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"


def _root(value: str | None, base: Path) -> str | None:
    if value and "://" not in value:
        return str((base / value).resolve())
    return value.rstrip("/") if value else None


def _absolute_sqlite(uri: str, base: Path) -> str:
    prefix, _, path = uri.partition(":///")
    if prefix.partition("+")[0] != "sqlite" or not path or path.startswith(":memory:"):
        return uri
    return f"{prefix}:///{(base / path).resolve()}"
