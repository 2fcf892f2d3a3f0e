"""Which versions of what are at work, and where each setting came from."""

from __future__ import annotations

import os
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version

from flightlog.schema import settings
from flightlog.schema.settings import without_password

PACKAGE = "flightlog"
VARIABLES = {setting: variable.name for setting, variable in settings.VARIABLES.items()}
"""Setting -> its variable without the prefix."""


@dataclass(frozen=True)
class Origin:
    """A setting's value and where it came from: an argument, a variable, or the default."""

    name: str
    value: object
    source: str


def flightlog_version() -> str:
    """Return the version of the installed package."""
    return _version(PACKAGE) or "unknown"


def versions() -> dict[str, str | None]:
    """Return the version of Python, of flightlog and of each dependency; None for one that is missing."""
    names = sorted({re.split(r"[^\w.-]", line, maxsplit=1)[0] for line in requires(PACKAGE) or [] if "extra ==" not in line})
    return {"python": platform.python_version(), PACKAGE: flightlog_version(), **{name: _version(name) for name in names}}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def origins(environ: Mapping[str, str] = os.environ, tracking_uri: str | None = None) -> list[Origin]:
    """Return all settings. `tracking_uri` is the argument, which wins over the environment. Raises `InvalidParameter`."""
    read = settings.Settings.from_environ(environ)
    found = [_origin(name, getattr(read, name), environ) for name in VARIABLES]
    argument = Origin("tracking_uri", tracking_uri and without_password(tracking_uri), "--tracking-uri")
    return [argument if tracking_uri and item.name == "tracking_uri" else item for item in found]


def _origin(name: str, value: object, environ: Mapping[str, str]) -> Origin:
    source = next((candidate for candidate in settings.VARIABLES[name].names if environ.get(candidate)), "default")
    return Origin(name, without_password(value) if isinstance(value, str) else value, source)
