"""The rules that keys and values obey at the call, before anything is written. They are MLflow's, section by section."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from flightlog.schema.errors import InvalidParameter

MAX_KEY_LENGTH = 250
MAX_EXPERIMENT_NAME_LENGTH = 500
MAX_VALUE_LENGTHS = {"param": 6000, "tag": 8000, "experiment tag": 20_000}
MIN_STEP, MAX_STEP = -(2**63), 2**63 - 1
MAX_DATASET_NAME, MAX_DATASET_DIGEST = 500, 36
MAX_DATASET_SOURCE, MAX_DATASET_SCHEMA, MAX_DATASET_PROFILE = 65_535, 1_048_575, 16_777_215
MAX_INPUT_TAG_KEY, MAX_INPUT_TAG_VALUE = 255, 500
MAX_MODEL_ID = 250

_KEY = re.compile(r"[/\w.\- :]+")
_RUN_ID = re.compile(r"[a-zA-Z0-9][\w\-]{0,255}")


@lru_cache(maxsize=4096)
def check_key(kind: str, key: str) -> str:
    """Return a metric's, param's or tag's key if it obeys the rules. `kind` is the word for it in the message.

    Letters, digits, `_ - . / space :` only; at most 250 characters; as a path, in its normal form and not leading upwards.
    """
    if not isinstance(key, str):
        raise InvalidParameter(f"a {kind} key must be a string, not {type(key).__name__} {key!r}")
    if not key or not _KEY.fullmatch(key):
        rule = "it may hold letters, digits, underscores, dashes, dots, spaces, colons and slashes, and not be empty"
        raise InvalidParameter(f"invalid {kind} key {key[:300]!r}: {rule}")
    if len(key) > MAX_KEY_LENGTH:
        raise InvalidParameter(f"{kind} key {key[:40]!r}... is {len(key)} characters long; at most {MAX_KEY_LENGTH} are allowed")
    if posixpath.normpath(key) != key or key == "." or key.startswith(("..", "/")):
        normal = posixpath.normpath(key).lstrip("./") or "a/b"
        raise InvalidParameter(f"invalid {kind} key {key!r}: as a path it must be in its normal form, such as {normal!r}")
    return key


def check_value_length(kind: str, key: str, value: str) -> str:
    """Return the value of a param, tag or experiment tag if it is no longer than MLflow takes, in characters."""
    most = MAX_VALUE_LENGTHS[kind]
    if len(value) > most:
        raise InvalidParameter(f"the value of {kind} {key!r} is {len(value)} characters long, and at most {most} are allowed")
    return value


def check_experiment_id(experiment_id: object) -> str:
    """Return an experiment's id as text if it is one, or a whole number."""
    if isinstance(experiment_id, bool) or not isinstance(experiment_id, (str, int)):
        raise InvalidParameter(f"an experiment id must be a string or a whole number, not {type(experiment_id).__name__} {experiment_id!r}")
    return str(experiment_id)


def check_text(what: str, text: object, most: int, least: int = 1) -> str:
    """Return a text if it is one of a length that is allowed. `what` is the word for it in the message."""
    if not isinstance(text, str):
        raise InvalidParameter(f"{what} must be a string, not {type(text).__name__} {repr(text)[:100]}")
    if len(text) < least:
        raise InvalidParameter(f"{what} must not be empty")
    if len(text) > most:
        raise InvalidParameter(f"{what} {text[:40]!r}... is {len(text)} characters long; at most {most} are allowed")
    return text


def check_mapping(what: str, values: Any) -> Mapping[str, Any]:  # noqa: ANN401 - checked here
    """Return several params, tags or metrics if they are a dictionary or what can be read like one."""
    if not hasattr(values, "items"):
        raise InvalidParameter(f"{what} must be a dictionary, not {type(values).__name__} {repr(values)[:100]}")
    return values  # type: ignore[no-any-return]  # it may be another library's


def check_run_id(run_id: object) -> str:
    """Return a run id if it obeys the rules: a letter or digit, then at most 255 letters, digits, `_` and `-`."""
    if not isinstance(run_id, str) or not is_run_id(run_id):
        raise InvalidParameter(f"invalid run id {run_id!r}: it must be a letter or digit, then at most 255 letters, digits, '_' or '-'")
    return run_id


def is_run_id(text: str) -> bool:
    """Say whether a text may be a run's id."""
    return _RUN_ID.fullmatch(text) is not None


def check_experiment_name(name: object) -> str:
    """Return an experiment's name if it is a string of 1 to 500 characters."""
    if not isinstance(name, str) or not name:
        raise InvalidParameter(f"an experiment name must be a non-empty string, not {name!r}")
    if len(name) > MAX_EXPERIMENT_NAME_LENGTH:
        raise InvalidParameter(
            f"experiment name {name[:40]!r}... is {len(name)} characters long; at most {MAX_EXPERIMENT_NAME_LENGTH} are allowed"
        )
    return name


def as_metric_value(key: str, value: Any) -> float:  # noqa: ANN401 - whatever the script has
    """Return a metric's value as a float: any number, a text that is one, or an array or tensor with one element."""
    try:
        if hasattr(value, "item") and not isinstance(value, (int, float)):
            value = value.item()
        return float(value)
    except (TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise InvalidParameter(f"metric {key!r} needs a number, not {type(value).__name__} {str(value)[:100]!r}") from error


def as_step(step: Any) -> int:  # noqa: ANN401 - whatever the script has
    """Return a step as an integer of 64 bits. Whole floats such as 2.0 count; 2.5 does not."""
    try:
        whole = int(step)
        if whole != step or isinstance(step, str):
            raise ValueError
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidParameter(f"a step must be a whole number, not {type(step).__name__} {step!r}") from error
    if not MIN_STEP <= whole <= MAX_STEP:
        raise InvalidParameter(f"step {whole} does not fit into 64 bits")
    return whole


def as_timestamp(timestamp: Any) -> int:  # noqa: ANN401 - whatever the script has
    """Return a timestamp in ms since the epoch as an integer that is not negative."""
    try:
        whole = int(timestamp)
    except (TypeError, ValueError, OverflowError) as error:
        raise InvalidParameter(f"a timestamp must be a number of milliseconds since the epoch, not {timestamp!r}") from error
    if isinstance(timestamp, str) or not 0 <= whole <= MAX_STEP:
        raise InvalidParameter(f"a timestamp must be a number of milliseconds since the epoch, not {timestamp!r}")
    return whole
