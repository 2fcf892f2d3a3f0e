"""The compose file as a test sees it: parsed, with its variables filled in as `docker compose` does from .env.

There is no container engine to ask, so the rules that matter are written down here: which keys a service may have and of what kind. They
are narrower than the Compose specification, which the file must keep as well; a key that is new in the file needs a rule here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
VARIABLE = re.compile(r"(?<!\$)\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<rest>[^}]*))?\}")

STRINGS = {"type": "array", "items": {"type": "string"}}
DURATION = {"type": "string", "pattern": r"^(\d+(h|m|s|ms))+$"}
SERVICE = {
    "type": "object",
    "required": ["image"],
    "additionalProperties": False,
    "properties": {
        "image": {"type": "string", "pattern": r"^(flightlog|[\w./-]+:\d+(\.\d+)*(-[a-z]+)?)$"},  # others' images are pinned
        "build": {"const": "."},
        "init": {"const": True},
        "read_only": {"const": True},
        "tmpfs": STRINGS,
        "cap_drop": {"const": ["ALL"]},
        "security_opt": {"const": ["no-new-privileges:true"]},
        "command": STRINGS,
        "entrypoint": STRINGS,
        "environment": {"type": "object", "additionalProperties": {"type": "string"}},
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:\d+:\d+$"}},  # unless .env says otherwise
        "expose": STRINGS,
        "volumes": {"type": "array", "items": {"type": "string", "pattern": r"^(\w+|\./\w+):/[\w/]+(:ro)?$"}},
        "profiles": STRINGS,
        "stop_grace_period": DURATION,
        "restart": {"enum": ["unless-stopped"]},
        "healthcheck": {
            "type": "object",
            "required": ["test"],
            "additionalProperties": False,
            "properties": {
                "test": {"type": "array", "items": {"type": "string"}, "contains": {"enum": ["CMD", "CMD-SHELL"]}, "minItems": 2},
                "interval": DURATION,
                "timeout": DURATION,
                "start_period": DURATION,
                "retries": {"type": "integer"},
            },
        },
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "required": ["condition"],
                "additionalProperties": False,
                "properties": {"condition": {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}},
            },
        },
    },
}
FILE = {
    "type": "object",
    "required": ["name", "services", "volumes"],
    "additionalProperties": False,
    "properties": {
        "name": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]*$"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": "null"}},
    },
    "patternProperties": {"^x-": {}},
}


def filled(values: Mapping[str, str]) -> dict[str, Any]:
    """Return the file with its variables filled in. Raises `KeyError` for one that must be set and is not."""

    def value(found: re.Match[str]) -> str:
        given = values.get(found["name"])
        if given:
            return given
        if found["kind"] == "-":
            return found["rest"]
        raise KeyError(found["name"])

    document: dict[str, Any] = yaml.safe_load(VARIABLE.sub(value, TEXT))
    return document


def variables() -> dict[str, bool]:
    """Return the file's variables, and of each whether it must be set."""
    return {found["name"]: found["kind"] != "-" for found in VARIABLE.finditer(TEXT)}


def example_values() -> dict[str, str]:
    """Return what .env.example sets."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
