"""What both modules return, as JSON in which nothing is left that no two runs have in common: ids, times of now, random names, folders."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path
from typing import Any

RUN_ID = re.compile(r"\b[0-9a-f]{32}\b")
RANDOM_NAME = re.compile(r"[a-z]+-[a-z]+-\d+")
ROOT = re.compile(r"(?:file://)?\S*/(?:mlruns|artifacts)/\d+(?=/|$)")
GIT_TAGS = "mlflow.source.git."
"""Whether they are there depends on where the script lies; one call asks for them."""
RECENTLY = 600_000
"""Milliseconds before now that count as now."""
RUN_FIELDS = ("info", "data", "inputs")
INFO_FIELDS = ("run_id", "run_name", "experiment_id", "user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri")
EXPERIMENT_FIELDS = ("experiment_id", "name", "artifact_location", "lifecycle_stage", "tags", "creation_time", "last_update_time")


class Labels:
    """The names of the variables to which runs and experiments were first assigned, by their ids."""

    def __init__(self) -> None:
        self.runs: dict[str, str] = {}
        self.experiments: dict[str, str] = {"0": "0"}

    def learn(self, name: str, value: Any) -> None:
        if hasattr(value, "info"):
            self.runs.setdefault(value.info.run_id, f"<run {name}>")
        elif hasattr(value, "lifecycle_stage"):
            self.experiments.setdefault(value.experiment_id, f"<experiment {name}>")
        elif isinstance(value, str) and value.isdigit():
            self.experiments.setdefault(value, f"<experiment {name}>")

    def experiment(self, experiment_id: str) -> str:
        return self.experiments.get(experiment_id, "<experiment>")


def neutral(value: Any, labels: Labels, field: str = "") -> Any:
    """Return a result as JSON, with labels in place of ids."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value, labels, field)
    if isinstance(value, int):
        return "<now>" if 0 <= time.time() * 1000 - value < RECENTLY else value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, dict):
        return {str(key): neutral(item, labels, str(key)) for key, item in value.items() if not str(key).startswith(GIT_TAGS)}
    if isinstance(value, (list, tuple, set)):
        return [neutral(item, labels, field) for item in value]
    return _object(value, labels)


def _text(value: str, labels: Labels, field: str) -> str:
    if field == "experiment_id" or value in labels.experiments:
        return labels.experiment(value)
    if field in ("run_name", "mlflow.runName") and RANDOM_NAME.fullmatch(value):
        return "<random name>"
    known = RUN_ID.sub(lambda found: labels.runs.get(found[0], "<run>"), value)
    return ROOT.sub("<root>", known).replace(str(Path.cwd()), "<folder>")


def _object(value: Any, labels: Labels) -> Any:
    if hasattr(value, "info") and hasattr(value, "data"):
        return _fields(value, RUN_FIELDS, labels)
    if hasattr(value, "run_id") and hasattr(value, "status"):
        return _fields(value, INFO_FIELDS, labels)
    if hasattr(value, "artifact_location"):
        return _fields(value, EXPERIMENT_FIELDS, labels)
    if hasattr(value, "iterrows"):
        return {name: [neutral(item, labels, name.rpartition(".")[2]) for item in value[name].tolist()] for name in value.columns}
    if hasattr(value, "tolist"):
        return neutral(value.tolist(), labels)
    if hasattr(value, "to_dictionary"):
        return neutral(value.to_dictionary(), labels)
    return f"<{type(value).__name__}>"


def _fields(value: Any, names: tuple[str, ...], labels: Labels) -> dict[str, Any]:
    return {name: neutral(getattr(value, name), labels, name) for name in names}
