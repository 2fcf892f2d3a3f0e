"""The meaning of the events: what each does to the state of a run or experiment.

This is the one definition. The memory store keeps these states; the SQL projector loads the rows that a batch touches into such a
state, folds, and writes back what changed (metrics, being many, are folded with numpy in `stores.sql`, and a property test holds the
two together).

Competing changes of a tag, a status or a lifecycle stage are decided by their *stamp* (time, writer, sequence), the greatest wins, so
the order of arrival across writers does not matter. Of a dataset or model that is logged to a run again, what has the least stamp stays.
A param keeps the value that arrived first. A change that loses to a later one is no
error; a param with another value is, and becomes a dead letter.

The exceptions are what the store itself observes, where the order of arrival is the fact. *Attempts* are numbered as they come. A writer
belongs to the attempt that was the newest when the first of its events came, or to the one that it began itself. And a *lost* run is one
whose silence was noticed: it takes no stamp, and whatever comes of the run later undoes it first. A replay keeps the order of arrival.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from flightlog.schema import events as e
from flightlog.schema.entities import (
    Attempt,
    Dataset,
    DatasetInput,
    Experiment,
    InputTag,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    MetricSummary,
    Param,
    Point,
    Run,
    RunData,
    RunInfo,
    RunInputs,
    RunOutputs,
    RunStatus,
    RunTag,
)
from flightlog.schema.names import CONTEXT_TAG, RUN_NAME_TAG

ModelRole = Literal["input", "output"]


class Stamp(NamedTuple):
    """Orders competing changes: ms since the epoch, then writer, then sequence."""

    time: int
    writer: str
    sequence: int


NEVER = Stamp(-1, "", -1)
LOST = "lost"
"""The reason of the status of a run whose writers fell silent."""
MAX_ATTEMPTS = 1_000
"""After the first. For a script that rewinds at every step, each rewind would take as long as all steps before it."""
MAX_COUNT = 2**63 - 1
"""A database counts in 64 bits; a sum stays at this."""


class Rejection(NamedTuple):
    """Why an event was not applied; becomes a dead letter."""

    reason: str
    message: str


class Stamped(NamedTuple):
    """A value and when it was set; None stands for a deleted one."""

    value: str | None
    stamp: Stamp


@dataclass(frozen=True)
class ArtifactState:
    """The newest artifact at a path. `state` is pending, stored or failed."""

    path: str
    size: int
    snapshot: str
    sha256: str | None
    stamp: Stamp
    state: str = "pending"
    reason: str | None = None


@dataclass(frozen=True)
class DatasetState:
    """A dataset that a run used, as it was logged to it first."""

    dataset: Dataset
    tags: dict[str, str]
    stamp: Stamp

    @property
    def context(self) -> str | None:
        """What the dataset was used for, as the tag for that says."""
        return self.tags.get(CONTEXT_TAG)


@dataclass(frozen=True)
class ModelState:
    """A model that a run used or made; the step is 0 for one that it used."""

    step: int
    stamp: Stamp


DatasetKey = tuple[str, str]
"""Name and digest."""
ModelKey = tuple[ModelRole, str]
"""What a model is to a run, and the model's id."""


class AttemptPoint(NamedTuple):
    """A point, and the attempt for which it counts."""

    attempt: int
    point: Point


@dataclass
class RunState:
    """Everything that the events of a run say, but for metrics in bulk. `started` is False until a RunStarted has come.

    `lost_status` is what the status was before the run was lost, None while it is not. `attempts` are those after the first; `writers`
    has the attempt of each writer of whom an event has come.
    """

    run_id: str
    experiment_id: str = "0"
    user_id: str = "unknown"
    status: str = "RUNNING"
    start_time: int = 0
    end_time: int | None = None
    status_reason: str | None = None
    lost_status: str | None = None
    lifecycle_stage: str = LifecycleStage.ACTIVE
    artifact_uri: str | None = None
    started: bool = False
    status_stamp: Stamp = NEVER
    lifecycle_stamp: Stamp = NEVER
    dropped: int = 0
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, Stamped] = field(default_factory=dict)
    artifacts: dict[str, ArtifactState] = field(default_factory=dict)
    datasets: dict[DatasetKey, DatasetState] = field(default_factory=dict)
    models: dict[ModelKey, ModelState] = field(default_factory=dict)
    metrics: dict[str, MetricSummary] = field(default_factory=dict)
    history: dict[str, list[AttemptPoint]] = field(default_factory=dict)
    attempts: list[Attempt] = field(default_factory=list)
    writers: dict[str, int] = field(default_factory=dict)

    @property
    def attempt(self) -> int:
        """The number of the newest attempt."""
        return len(self.attempts)

    @property
    def run_name(self) -> str | None:
        """The value of the tag that names the run."""
        tag = self.tags.get(RUN_NAME_TAG)
        return tag.value if tag else None

    def to_run(self) -> Run:
        """Return the entity that a reader gets."""
        info = RunInfo(
            self.run_id,
            self.experiment_id,
            self.user_id,
            self.status,
            self.start_time,
            self.end_time,
            self.lifecycle_stage,
            self.artifact_uri,
            self.run_name,
            self.status_reason,
        )
        data = run_data(self.metrics.values(), self.params, {key: tag.value for key, tag in self.tags.items()})
        return Run(info, data, run_inputs(self.datasets.values(), self.models), run_outputs(self.models))


def run_data(summaries: Iterable[MetricSummary], params: dict[str, str], tags: dict[str, str | None]) -> RunData:
    """Return the data part of a run; tags whose value is None are deleted ones."""
    ordered = sorted(summaries, key=lambda summary: summary.key)
    return RunData(
        [Metric(item.key, item.last.value, item.last.timestamp, item.last.step) for item in ordered],
        [Param(key, value) for key, value in sorted(params.items())],
        [RunTag(key, value) for key, value in sorted(tags.items()) if value is not None],
        {item.key: item for item in ordered},
    )


def run_inputs(datasets: Iterable[DatasetState], models: Mapping[ModelKey, ModelState]) -> RunInputs:
    """Return what a run used, in the order of the stamps."""
    ordered = sorted(datasets, key=lambda item: item.stamp)
    inputs = [DatasetInput(item.dataset, [InputTag(key, value) for key, value in sorted(item.tags.items())]) for item in ordered]
    return RunInputs(inputs, [LoggedModelInput(model_id) for model_id, _ in _models(models, "input")])


def run_outputs(models: Mapping[ModelKey, ModelState]) -> RunOutputs:
    """Return what a run made, in the order of the stamps."""
    return RunOutputs([LoggedModelOutput(model_id, state.step) for model_id, state in _models(models, "output")])


def _models(models: Mapping[ModelKey, ModelState], role: ModelRole) -> list[tuple[str, ModelState]]:
    if not models:  # as nearly always
        return []
    found = [(model_id, state) for (known, model_id), state in models.items() if known == role]
    return sorted(found, key=lambda item: item[1].stamp)


@dataclass
class ExperimentState:
    """Everything that the events of an experiment say."""

    experiment_id: str
    name: str
    artifact_location: str
    lifecycle_stage: str = LifecycleStage.ACTIVE
    creation_time: int = 0
    last_update_time: int = 0
    lifecycle_stamp: Stamp = NEVER
    name_stamp: Stamp = NEVER
    tags: dict[str, Stamped] = field(default_factory=dict)

    def to_experiment(self) -> Experiment:
        """Return the entity that a reader gets."""
        tags = {key: tag.value for key, tag in sorted(self.tags.items()) if tag.value is not None}
        return Experiment(
            self.experiment_id,
            self.name,
            self.artifact_location,
            self.lifecycle_stage,
            tags,
            self.creation_time,
            self.last_update_time,
        )


def fold_run(state: RunState, event: e.Event, stamp: Stamp) -> Rejection | None:
    """Apply an event to its run. Returns why not, if not."""
    handler = RUN_HANDLERS.get(type(event))
    if handler is None:
        return Rejection("wrong-subject", f"{type(event).__name__} is no event of a run")
    if not isinstance(event, e.RunLost):
        hear(state, stamp.writer, event.time)
    return handler(state, event, stamp)


def hear(state: RunState, writer: str, time: int) -> None:
    """Note that a writer has said something: its run began at that time or before, has an attempt of that writer, and is not lost."""
    if not state.start_time:
        state.start_time = time
    state.writers.setdefault(writer, state.attempt)
    if state.lost_status is not None:
        state.status, state.end_time, state.status_reason = state.lost_status, None, None
        state.lost_status = None


def hidden_from(attempts: Sequence[Attempt], attempt: int) -> int | None:
    """Return the step from which on the points of an attempt are hidden by later ones; None when none are."""
    return hidden_steps(attempts)[attempt]


def hidden_steps(attempts: Sequence[Attempt]) -> list[int | None]:
    """Return the same for all attempts from 0 on, when `attempts` are those after the first, in order."""
    floors: list[int | None] = [None]
    for later in reversed(attempts):
        known = [step for step in (floors[-1], later.from_step) if step is not None]
        floors.append(min(known, default=None))
    return floors[::-1]


def fold_experiment(state: ExperimentState, event: e.Event, stamp: Stamp) -> Rejection | None:
    """Apply an event to its experiment. Returns why not, if not."""
    handler = EXPERIMENT_HANDLERS.get(type(event))
    if handler is None:
        return Rejection("wrong-subject", f"{type(event).__name__} is no event of an experiment")
    return handler(state, event, stamp)


def _metrics_logged(state: RunState, event: e.MetricsLogged, stamp: Stamp) -> None:
    for key, value in event.points:
        point = AttemptPoint(state.writers[stamp.writer], Point(value, event.step, event.time))
        state.history.setdefault(key, []).append(point)
        _summarise(state, key, point)


def _summarise(state: RunState, key: str, item: AttemptPoint) -> None:
    if is_visible(state, item):
        one = summary_of(key, item.point)
        before = state.metrics.get(key)
        state.metrics[key] = merge_summaries(before, one) if before else one


def is_visible(state: RunState, item: AttemptPoint) -> bool:
    """Say whether no later attempt began at the point's step or before it."""
    floor = hidden_from(state.attempts, item.attempt)
    return floor is None or item.point.step < floor


def summary_of(key: str, point: Point) -> MetricSummary:
    """Return the summary of a single point."""
    number = None if math.isnan(point.value) else point
    return MetricSummary(key, point, point, number, number, 1, int(not math.isfinite(point.value)))


def merge_summaries(a: MetricSummary, b: MetricSummary) -> MetricSummary:
    """Return the summary of the points of both. Commutative and associative, so any split of a history gives the same."""
    return MetricSummary(
        a.key,
        last=max(a.last, b.last, key=history_order),
        first=min(a.first, b.first, key=history_order),
        min=_least(a.min, b.min, 1),
        max=_least(a.max, b.max, -1),
        count=a.count + b.count,
        non_finite=a.non_finite + b.non_finite,
    )


def history_order(point: Point) -> tuple[int, int, float, bool, float]:
    """Return MLflow's order of points: (step, timestamp, value), NaN counting as 0 and coming after it, -0.0 before 0.0."""
    nan = math.isnan(point.value)
    return point.step, point.timestamp, 0.0 if nan else point.value, nan, 0.0 if nan else math.copysign(1.0, point.value)


def _least(a: Point | None, b: Point | None, sign: int) -> Point | None:
    if a is None or b is None:
        return a or b
    return min(a, b, key=lambda point: (sign * point.value, point.step, point.timestamp, math.copysign(1.0, point.value)))


def _param_logged(state: RunState, event: e.ParamLogged, _: Stamp) -> Rejection | None:
    known = state.params.setdefault(event.key, event.value)
    if known == event.value:
        return None
    return Rejection(
        "param-conflict",
        f"param {event.key!r} of run {state.run_id} is already {known[:200]!r} and cannot become {event.value[:200]!r}; "
        "log another key, or start another run",
    )


def _tag_set(state: RunState, event: e.TagSet, stamp: Stamp) -> None:
    _set_tag(state.tags, event.key, event.value, stamp)


def _tag_deleted(state: RunState, event: e.TagDeleted, stamp: Stamp) -> None:
    _set_tag(state.tags, event.key, None, stamp)


def _set_tag(tags: dict[str, Stamped], key: str, value: str | None, stamp: Stamp) -> None:
    if key not in tags or tags[key].stamp < stamp:
        tags[key] = Stamped(value, stamp)


def _artifact_logged(state: RunState, event: e.ArtifactLogged, stamp: Stamp) -> None:
    known = state.artifacts.get(event.path)
    if known is None or known.stamp < stamp:
        state.artifacts[event.path] = ArtifactState(event.path, event.size, event.snapshot, event.sha256, stamp)


def _artifact_settled(state: RunState, event: e.ArtifactSettled, _: Stamp) -> None:
    """Note the outcome, unless a newer artifact has come at the path."""
    known = state.artifacts.get(event.path)
    if known is not None and known.snapshot == event.snapshot:
        state.artifacts[event.path] = replace(known, state=event.state, reason=event.reason, sha256=event.sha256 or known.sha256)


def _dataset_logged(state: RunState, event: e.DatasetLogged, stamp: Stamp) -> None:
    key = (event.name, event.digest)
    known = state.datasets.get(key)
    if known is None or stamp < known.stamp:
        dataset = Dataset(event.name, event.digest, event.source_type, event.source, event.dataset_schema, event.profile)
        state.datasets[key] = DatasetState(dataset, dict(event.tags), stamp)


def _model_input_logged(state: RunState, event: e.ModelInputLogged, stamp: Stamp) -> None:
    _add_model(state, ("input", event.model_id), ModelState(0, stamp))


def _model_output_logged(state: RunState, event: e.ModelOutputLogged, stamp: Stamp) -> None:
    _add_model(state, ("output", event.model_id), ModelState(event.step, stamp))


def _add_model(state: RunState, key: ModelKey, model: ModelState) -> None:
    known = state.models.get(key)
    if known is None or model.stamp < known.stamp:
        state.models[key] = model


def _run_started(state: RunState, event: e.RunStarted, stamp: Stamp) -> None:
    if not state.started:
        state.started = True
        state.experiment_id = event.experiment_id
        state.user_id = event.user_id
        state.start_time = event.start_time
        state.artifact_uri = event.artifact_uri
    _set_tag(state.tags, RUN_NAME_TAG, event.run_name, stamp)
    for key, value in event.tags.items():
        _set_tag(state.tags, key, value, stamp)
    _set_status(state, "RUNNING", stamp)


def _set_status(state: RunState, status: str, stamp: Stamp, reason: str | None = None) -> bool:
    if stamp <= state.status_stamp:
        return False
    state.status, state.status_stamp, state.status_reason = status, stamp, reason
    return True


def _run_resumed(state: RunState, event: e.RunResumed, stamp: Stamp) -> Rejection | None:
    _set_status(state, "RUNNING", stamp)
    return _begin_attempt(state, event.time, stamp.writer, None)


def _begin_attempt(state: RunState, time: int, writer: str, from_step: int | None) -> Rejection | None:
    if state.attempt >= MAX_ATTEMPTS:
        message = (
            f"run {state.run_id} has {MAX_ATTEMPTS} attempts already, the most that are kept; go back to a checkpoint, not at every step"
        )
        return Rejection("too-many-attempts", message)
    state.attempts.append(Attempt(state.attempt + 1, time, from_step))
    state.writers[writer] = state.attempt
    return None


def _run_rewound(state: RunState, event: e.RunRewound, stamp: Stamp) -> Rejection | None:
    refusal = _begin_attempt(state, event.time, stamp.writer, event.step)
    if refusal is None:
        _summarise_anew(state)
    return refusal


def _summarise_anew(state: RunState) -> None:
    state.metrics.clear()
    for key, points in state.history.items():
        for item in points:
            _summarise(state, key, item)


def _run_lost(state: RunState, event: e.RunLost, _: Stamp) -> None:
    """Take a run for lost. The status keeps its stamp, so a late end of the run counts as if nobody had thought so."""
    if not RunStatus.is_terminated(state.status):
        state.lost_status = state.status
        state.status, state.end_time, state.status_reason = "FAILED", event.last_seen, LOST


def _writer_alive(state: RunState, event: e.WriterAlive, stamp: Stamp) -> None:
    """Change nothing: that the event has come says all."""


def _run_status_changed(state: RunState, event: e.RunStatusChanged, stamp: Stamp) -> None:
    _set_status(state, event.status, stamp)


def _run_ended(state: RunState, event: e.RunEnded, stamp: Stamp) -> None:
    if _set_status(state, event.status, stamp, event.reason):
        state.end_time = event.end_time


def _run_deleted(state: RunState, _: e.RunDeleted, stamp: Stamp) -> None:
    set_lifecycle(state, LifecycleStage.DELETED, stamp)


def _run_restored(state: RunState, _: e.RunRestored, stamp: Stamp) -> None:
    set_lifecycle(state, LifecycleStage.ACTIVE, stamp)


def set_lifecycle(state: RunState | ExperimentState, stage: str, stamp: Stamp) -> bool:
    """Move a run or experiment to a lifecycle stage, unless a later event has decided; deleting an experiment does so for its runs."""
    if stamp <= state.lifecycle_stamp:
        return False
    state.lifecycle_stage, state.lifecycle_stamp = stage, stamp
    return True


def _events_dropped(state: RunState, event: e.EventsDropped, _: Stamp) -> None:
    state.dropped = min(state.dropped + event.count, MAX_COUNT)


def _experiment_created(state: ExperimentState, event: e.ExperimentCreated, stamp: Stamp) -> None:
    for key, value in event.tags.items():
        _set_tag(state.tags, key, value, stamp)


def _experiment_tag_set(state: ExperimentState, event: e.ExperimentTagSet, stamp: Stamp) -> None:
    _set_tag(state.tags, event.key, event.value, stamp)


def _experiment_tag_deleted(state: ExperimentState, event: e.ExperimentTagDeleted, stamp: Stamp) -> None:
    _set_tag(state.tags, event.key, None, stamp)


def _experiment_renamed(state: ExperimentState, event: e.ExperimentRenamed, stamp: Stamp) -> None:
    if stamp > state.name_stamp:
        state.name, state.name_stamp = event.name, stamp
        state.last_update_time = max(state.last_update_time, event.time)


def _experiment_deleted(state: ExperimentState, event: e.ExperimentDeleted, stamp: Stamp) -> None:
    if set_lifecycle(state, LifecycleStage.DELETED, stamp):
        state.last_update_time = max(state.last_update_time, event.time)


def _experiment_restored(state: ExperimentState, event: e.ExperimentRestored, stamp: Stamp) -> None:
    if set_lifecycle(state, LifecycleStage.ACTIVE, stamp):
        state.last_update_time = max(state.last_update_time, event.time)


Handler = Callable[[Any, Any, Stamp], "Rejection | None"]

RUN_HANDLERS: dict[type[e.Event], Handler] = {
    e.MetricsLogged: _metrics_logged,
    e.ParamLogged: _param_logged,
    e.TagSet: _tag_set,
    e.TagDeleted: _tag_deleted,
    e.ArtifactLogged: _artifact_logged,
    e.RunStarted: _run_started,
    e.RunResumed: _run_resumed,
    e.RunStatusChanged: _run_status_changed,
    e.RunEnded: _run_ended,
    e.RunDeleted: _run_deleted,
    e.RunRestored: _run_restored,
    e.EventsDropped: _events_dropped,
    e.WriterAlive: _writer_alive,
    e.RunRewound: _run_rewound,
    e.RunLost: _run_lost,
    e.ArtifactSettled: _artifact_settled,
    e.DatasetLogged: _dataset_logged,
    e.ModelInputLogged: _model_input_logged,
    e.ModelOutputLogged: _model_output_logged,
}

EXPERIMENT_HANDLERS: dict[type[e.Event], Handler] = {
    e.ExperimentCreated: _experiment_created,
    e.ExperimentTagSet: _experiment_tag_set,
    e.ExperimentTagDeleted: _experiment_tag_deleted,
    e.ExperimentRenamed: _experiment_renamed,
    e.ExperimentDeleted: _experiment_deleted,
    e.ExperimentRestored: _experiment_restored,
}
