"""What a reader gets: runs, experiments and their parts, with MLflow's names and constructors.

All are values. Iterating over one yields (property, value) sorted by name, so `dict(run.info)` works; `to_dictionary()` gives plain
values for JSON or msgpack and `from_dictionary()` takes them back. Times are milliseconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class RunStatus:
    """MLflow's numbers and names of a run's status."""

    RUNNING, SCHEDULED, FINISHED, FAILED, KILLED = 1, 2, 3, 4, 5
    _names = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")

    @staticmethod
    def from_string(status: str) -> int:
        """Return the number of a name; raises `ValueError` for an unknown one."""
        return RunStatus._names.index(status) + 1

    @staticmethod
    def to_string(status: int) -> str:
        """Return the name of a number."""
        return RunStatus._names[status - 1]

    @staticmethod
    def is_terminated(status: int | str) -> bool:
        """Say whether a status is FINISHED, FAILED or KILLED."""
        name = status if isinstance(status, str) else RunStatus.to_string(status)
        return name in RunStatus._names[2:]

    @staticmethod
    def all_status() -> list[int]:
        """Return all numbers."""
        return [1, 2, 3, 4, 5]


class ViewType:
    """Which lifecycle stages a search looks at."""

    ACTIVE_ONLY, DELETED_ONLY, ALL = 1, 2, 3


class LifecycleStage:
    """Active or deleted."""

    ACTIVE = "active"
    DELETED = "deleted"


class PagedList(list[T], Generic[T]):
    """A list with the token of the next page, or None on the last."""

    def __init__(self, items: list[T], token: str | None = None) -> None:
        super().__init__(items)
        self.token = token

    def to_list(self) -> list[T]:
        """Return a plain list."""
        return list(self)


class Entity:
    """What all entities have; see the module's docstring."""

    def _properties(self) -> dict[str, Any]:
        return {item.name: getattr(self, item.name) for item in fields(self)}  # type: ignore[arg-type]  # subclasses are dataclasses

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        return iter(sorted(self._properties().items()))

    def to_dictionary(self) -> dict[str, Any]:
        """Return plain values."""
        return {key: _plain(value) for key, value in self._properties().items()}

    @classmethod
    def from_dictionary(cls, dictionary: dict[str, Any]) -> Any:  # noqa: ANN401 - Self needs Python 3.11
        """Build the entity from `to_dictionary()`'s result."""
        return cls(**dictionary)


def _plain(value: Any) -> Any:  # noqa: ANN401 - any field
    if isinstance(value, Entity):
        return value.to_dictionary()
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


@dataclass(frozen=True)
class Metric(Entity):
    """One point of a metric's history. `timestamp` is ms since the epoch."""

    key: str
    value: float
    timestamp: int
    step: int = 0
    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None
    run_id: str | None = None


@dataclass(frozen=True)
class Point(Entity):
    """Where a metric had a value."""

    value: float
    step: int
    timestamp: int


@dataclass(frozen=True)
class MetricSummary(Entity):
    """What the latest-metric projection keeps of one metric of a run.

    `last` is the point with the greatest (step, timestamp, value), `first` the one with the least, where NaN counts as 0 (MLflow's order).
    `min` and `max` leave NaN out and are None when every value is NaN; among equal values the earliest counts.
    """

    key: str
    last: Point
    first: Point
    min: Point | None
    max: Point | None
    count: int
    non_finite: int

    @classmethod
    def from_dictionary(cls, dictionary: dict[str, Any]) -> MetricSummary:
        """See `Entity.from_dictionary`."""
        points = {name: dictionary[name] and Point(**dictionary[name]) for name in ("last", "first", "min", "max")}
        return cls(**{**dictionary, **points})


@dataclass(frozen=True)
class Param(Entity):
    """A param. Equality looks at the key alone, as in MLflow."""

    key: str
    value: str = field(compare=False)


@dataclass(frozen=True)
class RunTag(Entity):
    """A tag of a run."""

    key: str
    value: str


@dataclass(frozen=True)
class ExperimentTag(Entity):
    """A tag of an experiment."""

    key: str
    value: str


@dataclass(frozen=True)
class FileInfo(Entity):
    """A file or folder among a run's artifacts; `path` is relative to their root, with `/`."""

    path: str
    is_dir: bool
    file_size: int | None


@dataclass(frozen=True)
class Attempt(Entity):
    """One of the attempts to do what a run is for; the first has the number 0. `time` is when it began, ms since the epoch.

    `from_step` is where one that was rewound begins: points of earlier attempts from that step on are hidden by default.
    """

    attempt: int
    time: int
    from_step: int | None = None


@dataclass(frozen=True)
class RunInfo(Entity):
    """A run's identity and state; `status` is a name. `end_time` is None until the run first ended.

    `status_reason` says why a run did not finish: one line about an exception, or "lost" for a run whose writers fell silent.
    """

    run_id: str
    experiment_id: str
    user_id: str
    status: str
    start_time: int
    end_time: int | None
    lifecycle_stage: str
    artifact_uri: str | None = None
    run_name: str | None = None
    status_reason: str | None = None

    def _properties(self) -> dict[str, Any]:
        """Return what iterating gives: MLflow's properties, and no others."""
        return {key: value for key, value in super()._properties().items() if key != "status_reason"}

    def to_dictionary(self) -> dict[str, Any]:
        """See `Entity.to_dictionary`."""
        return super()._properties()

    @property
    def run_uuid(self) -> str:
        """The run id under its older name."""
        return self.run_id


class RunData(Entity):
    """A run's latest metrics, params and tags as dicts. `metric_summaries` also has first, min, max and counts."""

    def __init__(
        self,
        metrics: list[Metric] | None = None,
        params: list[Param] | None = None,
        tags: list[RunTag] | None = None,
        metric_summaries: dict[str, MetricSummary] | None = None,
    ) -> None:
        self._metric_objs = list(metrics or [])
        self.metrics: dict[str, float] = {metric.key: metric.value for metric in self._metric_objs}
        self.params: dict[str, str] = {param.key: param.value for param in params or []}
        self.tags: dict[str, str] = {tag.key: tag.value for tag in tags or []}
        self.metric_summaries: dict[str, MetricSummary] = dict(metric_summaries or {})

    def _properties(self) -> dict[str, Any]:
        return {"metrics": self.metrics, "params": self.params, "tags": self.tags}

    def to_dictionary(self) -> dict[str, Any]:
        """Return the three dicts."""
        return {key: dict(value) for key, value in self._properties().items()}

    @classmethod
    def from_dictionary(cls, dictionary: dict[str, Any]) -> RunData:
        """Build it from the three dicts; times and steps of the metrics are not among them and become 0."""
        metrics = [Metric(key, value, 0, 0) for key, value in dictionary["metrics"].items()]
        params = [Param(key, value) for key, value in dictionary["params"].items()]
        tags = [RunTag(key, value) for key, value in dictionary["tags"].items()]
        return cls(metrics, params, tags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, RunData) and self.to_dictionary() == other.to_dictionary()

    __hash__ = None  # type: ignore[assignment]  # holds dicts

    def __repr__(self) -> str:
        return f"RunData(metrics={self.metrics!r}, params={self.params!r}, tags={self.tags!r})"


@dataclass(frozen=True)
class RunInputs(Entity):
    """Datasets and models that a run used."""

    dataset_inputs: list[Any] = field(default_factory=list)
    model_inputs: list[Any] = field(default_factory=list)


@dataclass(frozen=True)
class RunOutputs(Entity):
    """Models that a run made."""

    model_outputs: list[Any] = field(default_factory=list)


class Run(Entity):
    """A run, composed of its parts."""

    def __init__(
        self, run_info: RunInfo, run_data: RunData, run_inputs: RunInputs | None = None, run_outputs: RunOutputs | None = None
    ) -> None:
        self._info, self._data = run_info, run_data
        self._inputs, self._outputs = run_inputs or RunInputs(), run_outputs or RunOutputs()

    @property
    def info(self) -> RunInfo:
        """Identity and state."""
        return self._info

    @property
    def data(self) -> RunData:
        """Latest metrics, params, tags."""
        return self._data

    @property
    def inputs(self) -> RunInputs:
        """Datasets and models used."""
        return self._inputs

    @property
    def outputs(self) -> RunOutputs:
        """Models made."""
        return self._outputs

    def _properties(self) -> dict[str, Any]:
        return {"info": self.info, "data": self.data, "inputs": self.inputs, "outputs": self.outputs}

    @classmethod
    def from_dictionary(cls, dictionary: dict[str, Any]) -> Run:
        """See `Entity.from_dictionary`."""
        return cls(
            RunInfo.from_dictionary(dictionary["info"]),
            RunData.from_dictionary(dictionary["data"]),
            RunInputs.from_dictionary(dictionary.get("inputs", {})),
            RunOutputs.from_dictionary(dictionary.get("outputs", {})),
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and self.to_dictionary() == other.to_dictionary()

    __hash__ = None  # type: ignore[assignment]  # holds dicts

    def __repr__(self) -> str:
        return f"<Run: info={self.info!r}, data={self.data!r}>"


@dataclass(frozen=True)
class Experiment(Entity):
    """A named group of runs. `tags` is a dict."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    tags: dict[str, str] = field(default_factory=dict)
    creation_time: int | None = None
    last_update_time: int | None = None


@dataclass(frozen=True)
class DeadLetter(Entity):
    """An event that could not be projected, with its bytes. `reason` is a word, `message` says what was wrong.

    For a damaged journal, where there are no whole events, `sequence` is the first that is missing and `count` how many are, or None
    when that cannot be known.
    """

    subject: str
    writer: str
    sequence: int
    reason: str
    message: str
    payload: bytes
    time: int
    count: int | None = 1


@dataclass(frozen=True)
class WriterStatus(Entity):
    """How far the store has come with one writer: everything before `committed` is in it. `updated` is when, ms."""

    subject: str
    writer: str
    committed: int
    dead_letters: int
    updated: int
