"""What the environment may say of a setting: the names of its variable, and how the text in it is read."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flightlog.schema.errors import InvalidParameter

MAX_PORT = 65_535
FLAGS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}

Read = Callable[[str, str], Any]
"""Reads a text; the variable's name is for its error."""


@dataclass(frozen=True)
class Variable:
    """The variable of a setting, without its prefix, and MLflow's of the same meaning, which counts where ours is unset or empty."""

    name: str
    read: Read
    of_mlflow: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names in full, the first wins."""
        return (f"FLIGHTLOG_{self.name}", f"MLFLOW_{self.of_mlflow}") if self.of_mlflow else (f"FLIGHTLOG_{self.name}",)

    def of(self, environ: Mapping[str, str]) -> Any:  # noqa: ANN401 - what the setting is
        """Return what an environment says, None for nothing. Raises `InvalidParameter` for what cannot be understood."""
        name = next((name for name in self.names if environ.get(name)), None)
        return None if name is None else self.read(environ[name], name)


def ours(name: str, read: Read | None = None) -> Variable:
    """Return a variable of which MLflow has none."""
    return Variable(name, read or as_text)


def shared(name: str, read: Read | None = None, of_mlflow: str | None = None) -> Variable:
    """Return a variable that MLflow has as well, by the same name unless another is given."""
    return Variable(name, read or as_text, of_mlflow or name)


def as_text(raw: str, variable: str) -> str:  # noqa: ARG001 - any text will do
    """Return the text itself."""
    return raw


def as_number(raw: str, variable: str) -> float:
    """Return a number that is not negative."""
    try:
        value = float(raw)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise InvalidParameter(f"{variable} must be a number that is not negative, not {raw!r}")
    return value


def as_size(raw: str, variable: str) -> int:
    """Return a number that is not negative, without its fraction."""
    return int(as_number(raw, variable))


def as_flag(raw: str, variable: str) -> bool:
    """Return what a word for yes or no says."""
    if raw.lower() not in FLAGS:
        raise InvalidParameter(f"{variable} must be true or false, not {raw!r}")
    return FLAGS[raw.lower()]


def as_port(raw: str, variable: str) -> int:
    """Return the number of a port."""
    if not (raw.isascii() and raw.isdecimal() and int(raw) <= MAX_PORT):
        raise InvalidParameter(f"{variable} must be a port from 0 to {MAX_PORT}, not {raw!r}")
    return int(raw)


def as_level(raw: str, variable: str) -> int:
    """Return the number of a level of `logging`, given by that or by a name that it knows."""
    level = int(raw) if raw.isascii() and raw.isdecimal() else logging.getLevelName(raw.upper())
    if not isinstance(level, int):
        raise InvalidParameter(f"{variable} must be a level of logging, such as debug, info, warning or error, not {raw!r}")
    return level


def one_of(*choices: str) -> Read:
    """Return what reads one of some words."""
    return partial(_as_choice, choices)


def _as_choice(choices: tuple[str, ...], raw: str, variable: str) -> str:
    if raw.lower() not in choices:
        raise InvalidParameter(f"{variable} must be one of {', '.join(choices)}, not {raw.lower()!r}")
    return raw.lower()
