"""What can be searched for and sorted by: the fields of runs and of experiments, and the operators of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from flightlog.schema.filters.nodes import Field, Kind, Operator

NUMBERS: tuple[Operator, ...] = ("=", "!=", ">", ">=", "<", "<=")
TEXTS: tuple[Operator, ...] = ("=", "!=", "LIKE", "ILIKE")
LISTS: tuple[Operator, ...] = ("IN", "NOT IN")
NULLS: tuple[Operator, ...] = ("IS NULL", "IS NOT NULL")


@dataclass(frozen=True)
class Vocabulary:
    """The words of one search. `kinds` gives the kind of a prefix, `aliases` the proper name of an attribute."""

    kinds: Mapping[str, Kind]
    attributes: Mapping[str, tuple[Operator, ...]]
    aliases: Mapping[str, str]

    def operators(self, field: Field) -> tuple[Operator, ...]:
        """Return the operators that a field of this vocabulary has."""
        return self.attributes[field.key] if field.kind == "attribute" else OPERATORS[field.kind]


OPERATORS: dict[Kind, tuple[Operator, ...]] = {
    "metric": NUMBERS,
    "param": TEXTS + NULLS,
    "tag": TEXTS + NULLS,
    "dataset": TEXTS + LISTS,
}
DATASET_KEYS = ("name", "digest", "context")

_ATTRIBUTE_KINDS: dict[str, Kind] = dict.fromkeys(("attribute", "attributes", "attr"), "attribute")
_TAG_KINDS: dict[str, Kind] = dict.fromkeys(("tag", "tags"), "tag")

RUNS = Vocabulary(
    kinds={
        **dict.fromkeys(("metric", "metrics"), "metric"),
        **dict.fromkeys(("param", "params", "parameter", "parameters"), "param"),
        **_TAG_KINDS,
        **_ATTRIBUTE_KINDS,
        "run": "attribute",
        **dict.fromkeys(("dataset", "datasets"), "dataset"),
    },
    attributes={
        "run_id": TEXTS + LISTS,
        "run_name": TEXTS,
        "status": TEXTS,
        "artifact_uri": TEXTS,
        "user_id": TEXTS,
        "start_time": NUMBERS,
        "end_time": NUMBERS,
    },
    aliases={"created": "start_time", "Created": "start_time", **dict.fromkeys(("run name", "Run name", "Run Name"), "run_name")},
)

RUN_ORDER = replace(
    RUNS,
    kinds={prefix: kind for prefix, kind in RUNS.kinds.items() if kind != "dataset"},
    aliases={"created": "start_time", "Created": "start_time"},
)

EXPERIMENTS = Vocabulary(
    kinds={**_TAG_KINDS, **_ATTRIBUTE_KINDS},
    attributes={"name": TEXTS, "experiment_id": ("=", "!=", *LISTS), "creation_time": NUMBERS, "last_update_time": NUMBERS},
    aliases={},
)

EXPERIMENT_ORDER = replace(EXPERIMENTS, kinds=_ATTRIBUTE_KINDS)
