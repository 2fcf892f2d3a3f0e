"""What an MLflow installation has recorded, as values that do not say where they were kept."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flightlog.schema.columns import Floats
from flightlog.schema.entities import RunInputs, RunOutputs
from flightlog.schema.records import Ints


@dataclass(frozen=True)
class MlflowExperiment:
    """An experiment. Times are ms since the epoch, None where that version of MLflow did not keep them."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    creation_time: int | None
    last_update_time: int | None
    tags: Mapping[str, str]


@dataclass(frozen=True)
class MlflowRun:
    """A run without its metrics. Its name is the tag `mlflow.runName`. Times are ms since the epoch."""

    run_id: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | None
    lifecycle_stage: str
    deleted_time: int | None
    artifact_uri: str
    params: Mapping[str, str]
    tags: Mapping[str, str]
    inputs: RunInputs = field(default_factory=RunInputs)
    outputs: RunOutputs = field(default_factory=RunOutputs)


@dataclass(frozen=True)
class MlflowPoints:
    """Points of one run as equally long columns; `key` counts into `keys`."""

    keys: Sequence[str]
    key: Ints
    step: Ints
    time: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.key)


class MlflowHistory(Protocol):
    """Reads what MLflow has recorded, and changes nothing."""

    problems: list[str]
    """What could not be read, and why."""

    def experiments(self) -> list[MlflowExperiment]:
        """Return all experiments, also the deleted ones."""

    def runs(self, experiment_ids: Collection[str]) -> Iterator[list[MlflowRun]]:
        """Yield the runs of experiments, also the deleted ones, some at a time."""

    def counts(self, run_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """Return for each run how many points each of its metrics has."""

    def points(self, run_id: str, key: str | None = None) -> Iterator[MlflowPoints]:
        """Yield the points of a run, or of one metric of it, some at a time."""

    def left_out(self) -> dict[str, int]:
        """Return how many things of a kind there are that have no events here."""

    def close(self) -> None:
        """Let go of everything that was opened."""
