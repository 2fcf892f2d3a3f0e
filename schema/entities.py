"""What a reader gets: runs, experiments and their parts, with MLflow's names and constructors.

All are values. Iterating over one yields (property, value) sorted by name, so `dict(run.info)` works; `to_dictionary()` gives plain
values for JSON or msgpack and `from_dictionary()` takes them back. Times are milliseconds since the epoch, UTC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Generic, TypeVar

T = TypeVar("T")


class RunStatus:
    """MLflow's numbers and names of a run's status."""

    RUNNING, SCHEDULED, FINISHED, FAILED, KILLED = 1, 2, 3, 4, 5
    _names = ("RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED")

    @staticmethod
    def from_string(status_str: str) -> int:
        """Return the number of a name; raises `ValueError` for an unknown one."""
        return _number_of("status of a run", status_str, RunStatus._names)

    @staticmethod
    def to_string(status: int) -> str:
        """Return the name of a number; raises `ValueError` for an unknown one."""
        return _name_of("status of a run", status, RunStatus._names)

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
    _names = ("active_only", "deleted_only", "all")

    @classmethod
    def from_string(cls, view_str: str) -> int:
        """Return the number of a name; raises `ValueError` for an unknown one."""
        return _number_of("view type", view_str, cls._names)

    @classmethod
    def to_string(cls, view_type: int) -> str:
        """Return the name of a number; raises `ValueError` for an unknown one."""
        return _name_of("view type", view_type, cls._names)


class SourceType:
    """MLflow's numbers and names of where a run came from."""

    NOTEBOOK, JOB, PROJECT, LOCAL, UNKNOWN = 1, 2, 3, 4, 5
    _names = ("NOTEBOOK", "JOB", "PROJECT", "LOCAL", "UNKNOWN")

    @staticmethod
    def from_string(status_str: str) -> int:
        """Return the number of a name; raises `ValueError` for an unknown one."""
        return _number_of("source type", status_str, SourceType._names)

    @staticmethod
    def to_string(status: int) -> str:
        """Return the name of a number; raises `ValueError` for an unknown one."""
        return _name_of("source type", status, SourceType._names)


def _number_of(kind: str, name: str, names: tuple[str, ...]) -> int:
    if name not in names:
        raise ValueError(f"{name!r} is no {kind}; use one of {', '.join(names)}")
    return names.index(name) + 1


def _name_of(kind: str, number: int, names: tuple[str, ...]) -> str:
    if not 1 <= number <= len(names):
        raise ValueError(f"{number!r} is no {kind}; use a number from 1 to {len(names)}")
    return names[number - 1]


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


Summaries = Callable[[], dict[str, MetricSummary]]


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
class ArtifactStatus(Entity):
    """How it stands with an artifact that was logged. `state` is stored, pending or failed; `reason` says why it is not stored yet.

    `sha256` is in hexadecimal, and None where nobody has worked it out yet.
    """

    path: str
    size: int
    sha256: str | None
    state: str
    reason: str | None


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
        self._points: list[Metric] | None = list(metrics or [])
        self._summaries: dict[str, MetricSummary] | Summaries = dict(metric_summaries or {})
        self.metrics: dict[str, float] = {metric.key: metric.value for metric in self._points}
        self.params: dict[str, str] = {param.key: param.value for param in params or []}
        self.tags: dict[str, str] = {tag.key: tag.value for tag in tags or []}

    @classmethod
    def deferred(cls, metrics: dict[str, float], params: dict[str, str], tags: dict[str, str], summaries: Summaries) -> RunData:
        """Build it from dicts of the last values; `summaries` is called by the first who asks for more than those."""
        data = cls()
        data._points, data._summaries = None, summaries
        data.metrics, data.params, data.tags = metrics, params, tags
        return data

    @property
    def metric_summaries(self) -> dict[str, MetricSummary]:
        """The summary of each metric."""
        if not isinstance(self._summaries, dict):
            self._summaries = self._summaries()
        return self._summaries

    @property
    def _metric_objs(self) -> list[Metric]:
        """The last point of each metric; MLflow has them under this name."""
        if self._points is None:
            summaries = self.metric_summaries.values()
            self._points = [Metric(item.key, item.last.value, item.last.timestamp, item.last.step) for item in summaries]
        return self._points

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_summaries": self.metric_summaries}

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
class Dataset(Entity):
    """What was told of a dataset; name and digest identify it. `source`, `schema` and `profile` are JSON."""

    name: str
    digest: str
    source_type: str
    source: str
    schema: str | None = None
    profile: str | None = None


@dataclass(frozen=True)
class InputTag(Entity):
    """A tag of a dataset that a run used, such as the context in which it did."""

    key: str
    value: str


@dataclass(frozen=True)
class DatasetInput(Entity):
    """A dataset that a run used, with tags that say what for."""

    dataset: Dataset
    tags: list[InputTag] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "tags", list(self.tags or []))

    def to_dictionary(self) -> dict[str, Any]:
        """Return plain values; the tags are a map."""
        return {"dataset": self.dataset.to_dictionary(), "tags": {tag.key: tag.value for tag in self.tags or []}}

    @classmethod
    def from_dictionary(cls, dictionary: dict[str, Any]) -> DatasetInput:
        """See `Entity.from_dictionary`."""
        tags = [InputTag(key, value) for key, value in dictionary.get("tags", {}).items()]
        return cls(Dataset.from_dictionary(dictionary["dataset"]), tags)


@dataclass(frozen=True)
class LoggedModelInput(Entity):
    """A model that a run used."""

    model_id: str


@dataclass(frozen=True)
class LoggedModelOutput(Entity):
    """A model that a run made, and the step at which it did."""

    model_id: str
    step: int


@dataclass(frozen=True)
class RunInputs(Entity):
    """Datasets and models that a run used, in the order in which they were logged first."""

    dataset_inputs: list[DatasetInput] = field(default_factory=list)
    model_inputs: list[LoggedModelInput] = field(default_factory=list)

    @classmethod
    def from_dictionary(cls, dictionary: dict[str, Any]) -> RunInputs:
        """See `Entity.from_dictionary`."""
        datasets = [DatasetInput.from_dictionary(item) for item in dictionary.get("dataset_inputs", [])]
        return cls(datasets, [LoggedModelInput(**item) for item in dictionary.get("model_inputs", [])])


@dataclass(frozen=True)
class RunOutputs(Entity):
    """Models that a run made, in the order in which they were logged first."""

    model_outputs: list[LoggedModelOutput] = field(default_factory=list)

    @classmethod
    def from_dictionary(cls, dictionary: dict[str, Any]) -> RunOutputs:
        """See `Entity.from_dictionary`."""
        return cls([LoggedModelOutput(**item) for item in dictionary.get("model_outputs", [])])


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

    def __hash__(self) -> int:
        return hash(self.info.run_id)

    def __repr__(self) -> str:
        return f"<Run: info={self.info!r}, data={self.data!r}>"


@dataclass(frozen=True)
class Experiment(Entity):
    """A named group of runs. `tags` is a dict; a list of `ExperimentTag` becomes one."""

    DEFAULT_EXPERIMENT_NAME: ClassVar[str] = "Default"

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str
    tags: dict[str, str] = None  # type: ignore[assignment]  # MLflow's default; it becomes a dict
    creation_time: int | None = None
    last_update_time: int | None = None

    def __post_init__(self) -> None:
        given: Any = self.tags or {}
        object.__setattr__(self, "tags", dict(given) if isinstance(given, dict) else {tag.key: tag.value for tag in given})

    def __hash__(self) -> int:
        return hash(self.experiment_id)


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
