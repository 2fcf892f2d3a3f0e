"""Every rule of what may be logged, as one table: what a value must be, the check that says so, and the code of the error.

The calls check by these very functions: those of `limits` directly, where each microsecond counts, the others through `checked`. So the
rules can be read, tried and documented as one. A rule says nothing of the store: that a param keeps its value, or that a run is there, is
known when it commits.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from flightlog.schema import limits
from flightlog.schema.artifact_paths import check_artifact_path
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.filters.paging import MAX_RESULTS, check_max_results

MAX_ARTIFACT_LOCATION = 2048


@dataclass(frozen=True)
class Rule:
    """What an item must be. `check` returns the value as it is recorded, or raises an error with the code `error_code`."""

    item: str
    what: str
    check: Callable[[Any], Any]
    error_code: str = InvalidParameter.error_code


def _text(item: str, least: int, most: int, value: object) -> str:
    return limits.check_text(item, value, most, least)


def _text_or_none(item: str, most: int, value: object) -> str | None:
    return None if value is None else _text(item, 0, most, value)


def check_artifact_location(location: object, most: int = MAX_ARTIFACT_LOCATION) -> str:
    """Return the place for an experiment's artifacts, if it is short enough and does not lie in a run."""
    text = _text("artifact location", 0, most, location)
    if text.startswith("runs:"):
        raise InvalidParameter(f"artifact location {text!r} cannot be a runs: URI")
    return text


def check_params_of_a_batch(keys: Iterable[str]) -> list[str]:
    """Return the keys of the params of one batch, if each is there once: twice is a mistake, also with equal values."""
    checked = [limits.check_key("param", key) for key in keys]
    for key, count in Counter(checked).items():
        if count > 1:
            raise InvalidParameter(f"param {key!r} is given {count} times in one batch; give it once")
    return checked


_KEY = (
    f"1 to {limits.MAX_KEY_LENGTH} letters, digits, underscores, dashes, dots, spaces, colons and slashes; "
    "as a path, in its normal form and not leading upwards"
)


def _at_most(item: str, most: int, *, least: int = 0) -> Rule:
    bounds = f"{least} to {most:,}" if least else f"at most {most:,}"
    return Rule(item, f"a text of {bounds} characters", partial(_text, item, least, most))


def _optional(item: str, most: int) -> Rule:
    return Rule(item, f"None, or a text of at most {most:,} characters", partial(_text_or_none, item, most))


RULES = (
    Rule("experiment name", f"a text of 1 to {limits.MAX_EXPERIMENT_NAME_LENGTH} characters", limits.check_experiment_name),
    Rule("experiment id", "a text or a whole number", limits.check_experiment_id),
    Rule(
        "artifact location",
        f"a text of at most {MAX_ARTIFACT_LOCATION:,} characters that does not start with `runs:`",
        check_artifact_location,
    ),
    Rule("run id", "a letter or digit, then at most 255 letters, digits, underscores and dashes", limits.check_run_id),
    Rule("metric key", _KEY, partial(limits.check_key, "metric")),
    Rule("param key", _KEY, partial(limits.check_key, "param")),
    Rule("tag key", _KEY, partial(limits.check_key, "tag")),
    Rule(
        "metric value",
        "a number, a text that is one, or an array with one element; NaN and infinities too",
        partial(limits.as_metric_value, "m"),
    ),
    Rule("metric step", "a whole number of 64 bits", limits.as_step),
    Rule("metric timestamp", "a number of milliseconds from 0 to 2**63 - 1", limits.as_timestamp),
    Rule("params of one batch", "each key once, also where the values are equal", check_params_of_a_batch),
    Rule(
        "experiment tag value",
        f"a text of at most {limits.MAX_VALUE_LENGTHS['experiment tag']:,} characters",
        partial(limits.check_value_length, "experiment tag", "k"),
    ),
    _at_most("dataset name", limits.MAX_DATASET_NAME, least=1),
    _at_most("dataset digest", limits.MAX_DATASET_DIGEST, least=1),
    _at_most("dataset source type", limits.MAX_DATASET_SOURCE, least=1),
    _at_most("dataset source", limits.MAX_DATASET_SOURCE),
    _optional("dataset schema", limits.MAX_DATASET_SCHEMA),
    _optional("dataset profile", limits.MAX_DATASET_PROFILE),
    _at_most("input tag key", limits.MAX_INPUT_TAG_KEY),
    _at_most("input tag value", limits.MAX_INPUT_TAG_VALUE),
    Rule("artifact path", "relative, with `/`, and not leading upwards; no backslashes, drive letters or NUL", check_artifact_path),
    Rule("max_results", f"a whole number from 1 to {MAX_RESULTS:,}", check_max_results),
)
"""Values of params and tags of runs have no limit: they are kept whole, and shown whole."""

_CHECKS = {rule.item: rule.check for rule in RULES}


def checked(item: str, value: Any) -> Any:  # noqa: ANN401 - what the item is
    """Return a value as it is recorded if it obeys the rule of an item of the table. Raises `InvalidParameter`."""
    return _CHECKS[item](value)
