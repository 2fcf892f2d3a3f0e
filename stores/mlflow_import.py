"""MLflow's history as events: read from wherever it was kept, filed through the ordinary `Sink`, and compared with what the store has then.

An MLflow installation keeps states, not events, and can be imported again after more was logged to it. What is to be filed is therefore
always a difference:

* Experiments and runs: between what MLflow says now, and what the events that earlier imports filed say, which are read from the ledger.
  One writer a run, named after the run, has them all; so it is the same wherever a copy of the installation stands.
* Metrics, which are only ever added to: where a metric has as many points here as there, and nobody else has logged to the run, nothing;
  where it has none here, all; else those points that are not here. Points are compared as a whole, step, time and value, so one that was
  logged for an earlier step is found too. A point that a later attempt hides is here.
* What the store has refused, and runs that were purged from it, are not filed again.

The times of the events are those at the source. A change for which MLflow keeps no time, such as of a tag, counts as made when the run
began, or with the newest that is known of it.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.codec import METRICS_HEAD, decode, encode
from flightlog.schema.columns import join_metrics
from flightlog.schema.entities import DeadLetter, Run, RunInputs, RunOutputs
from flightlog.schema.errors import DecodeError, NotFound
from flightlog.schema.fold import ExperimentState, RunState, Stamp, fold_experiment, fold_run
from flightlog.schema.ids import DEFAULT_EXPERIMENT_ID, WriterId, experiment_id_for, experiment_subject
from flightlog.schema.names import RUN_NAME_TAG
from flightlog.schema.records import Ints, Records
from flightlog.stores.base import Applied, History, Store
from flightlog.stores.experiments import is_experiment_id
from flightlog.stores.mlflow_history import MlflowExperiment, MlflowHistory, MlflowPoints, MlflowRun
from flightlog.stores.series import merged

BATCH_EVENTS = 50_000
MAX_DIFFERENCES = 1000
"""So many differences are described; all are counted."""

STATUSES = get_args(e.RunStatusName)

Apply = Callable[[Sequence[Block]], Applied]
Watch = Callable[[int], None]


@dataclass
class Counts:
    """How many there are of each kind."""

    experiments: int = 0
    runs: int = 0
    params: int = 0
    tags: int = 0
    inputs: int = 0
    points: int = 0


@dataclass
class Imported:
    """What an import came to. `target` counts what the store has of what `source` counts; `differences` describes what it lacks.

    `moved` are the experiments whose id was taken: their name, and their id there and here.
    """

    source: Counts = field(default_factory=Counts)
    target: Counts = field(default_factory=Counts)
    events: int = 0
    letters: list[DeadLetter] = field(default_factory=list)
    moved: list[tuple[str, str, str]] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    different: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether all that could be read is in the store, and all could be read."""
        return not self.different and not self.problems

    def differ(self, message: str) -> None:
        """Note a difference."""
        self.different += 1
        if len(self.differences) < MAX_DIFFERENCES:
            self.differences.append(message)


def import_mlflow(
    history: MlflowHistory, store: Store, apply: Apply, experiments: Collection[str] = (), watch: Watch = lambda _: None
) -> Imported:
    """File what MLflow has recorded and the store does not have yet, and compare; ids, names, times and states stay.

    `apply` files a batch into `store`. `experiments` names those to bring, none means all. `watch` is told how many events were filed.
    Raises `NotFound` for an experiment that the source does not have, `StoreUnavailable`.
    """
    importing = _Import(history, store, apply, watch)
    homes = importing.bring_experiments(_chosen(history.experiments(), experiments))
    for page in history.runs(homes):
        importing.bring_runs(page, homes)
    importing.imported.left_out = history.left_out()
    importing.imported.problems = list(dict.fromkeys(history.problems))  # what is compared is read again
    return importing.imported


def _chosen(found: Sequence[MlflowExperiment], names: Collection[str]) -> list[MlflowExperiment]:
    known = {experiment.name for experiment in found}
    for name in names:
        if name not in known:
            raise NotFound(f"the source has no experiment named {name!r}")
    return [experiment for experiment in found if not names or experiment.name in names]


class _Import:
    """One import: what is still to be filed, and what it came to."""

    def __init__(self, history: MlflowHistory, store: Store, apply: Apply, watch: Watch) -> None:
        self.imported = Imported()
        self._history = history
        self._store = store
        self._apply = apply
        self._watch = watch
        self._blocks: list[Block] = []
        self._waiting = 0

    def bring_experiments(self, found: Sequence[MlflowExperiment]) -> dict[str, str]:
        """Bring experiments; return their ids here by those at the source."""
        homes = {experiment.experiment_id: self._bring_experiment(experiment) for experiment in found}
        for experiment in found:
            self._compare_experiment(experiment, homes[experiment.experiment_id])
        return homes

    def _bring_experiment(self, experiment: MlflowExperiment) -> str:
        writer = experiment_writer(experiment)
        home, is_joined = self._home(experiment, writer)
        if home != experiment.experiment_id:
            self.imported.moved.append((experiment.name, experiment.experiment_id, home))
        subject = experiment_subject(home)
        position = self._store.position(subject, writer)
        before = ExperimentState(home, "", "")
        filed = [(event, stamp) for _, event, stamp in self._filed(subject, writer) if event is not None] if position else []
        for event, stamp in filed:
            _fold_experiment(before, event, stamp)
        decides = not is_joined and home != DEFAULT_EXPERIMENT_ID
        events = experiment_events(before, experiment, home, is_created=bool(filed), decides=decides)
        self._add_events(subject, writer, position, events)
        self._flush()  # the next may have its name
        return home

    def _home(self, experiment: MlflowExperiment, writer: WriterId) -> tuple[str, bool]:
        """Return the id of an experiment here, and whether it was here before under its name: its own id wherever that is free."""
        derived = experiment_id_for(experiment.name)
        candidates = [item for item in (experiment.experiment_id, derived) if is_experiment_id(item)]
        for candidate in candidates:
            if self._store.position(experiment_subject(candidate), writer):
                return candidate, False
        named = self._store.get_experiment_by_name(experiment.name)
        if named is not None:
            return named.experiment_id, True
        return next((item for item in candidates if self._is_free(item)), derived), False

    def _is_free(self, experiment_id: str) -> bool:
        try:
            self._store.get_experiment(experiment_id)
        except NotFound:
            return True
        return False

    def _compare_experiment(self, experiment: MlflowExperiment, home: str) -> None:
        self.imported.source.experiments += 1
        if self._is_free(home):
            self.imported.differ(f"experiment {experiment.name!r} is not in the store")
        else:
            self.imported.target.experiments += 1

    def bring_runs(self, page: Sequence[MlflowRun], homes: dict[str, str]) -> None:
        """Bring some runs whole, then compare them with what the store has."""
        counts = self._history.counts([run.run_id for run in page])
        for run in page:
            self._bring_run(run, homes[run.experiment_id], counts[run.run_id])
        self._flush()
        for run in page:
            self._compare_run(run, counts[run.run_id])

    def _bring_run(self, run: MlflowRun, experiment_id: str, counts: dict[str, int]) -> None:
        writer = run_writer(run.run_id)
        position = self._store.position(run.run_id, writer)
        known = self._find(run.run_id)
        if position and known is None:  # it was purged here
            return
        before, refused = RunState(run.run_id), set[bytes]()
        if position and known is not None and not is_as(known, run):
            before, refused = self._imported(run.run_id, writer)
        if not position or before.started:
            position = self._add_events(run.run_id, writer, position, run_events(before, run, experiment_id), refused)
        for points in self._new_points(run.run_id, counts, known):
            position = self._add_points(run.run_id, writer, position, points)

    def _find(self, run_id: str) -> Run | None:
        try:
            return self._store.get_run(run_id)
        except NotFound:
            return None

    def _imported(self, run_id: str, writer: WriterId) -> tuple[RunState, set[bytes]]:
        """Return what the events that earlier imports filed say of a run, and those of them that break a rule, as they were filed."""
        state, refused = RunState(run_id), set[bytes]()
        for payload, event, stamp in self._filed(run_id, writer):
            if event is None:
                refused.add(payload)
            else:
                fold_run(state, event, stamp)
        return state, refused

    def _filed(self, subject: str, writer: WriterId) -> Iterator[tuple[bytes, e.Event | None, Stamp]]:
        """Yield what earlier imports filed about a subject, but for metrics; None for an event that cannot be read."""
        for block in self._store.ledger(subject):
            if block.writer == writer:
                for index, payload in enumerate(block.records.payloads()):
                    if payload[:1] != METRICS_HEAD[:1]:
                        event = _event(payload, block)
                        yield payload, event, Stamp(event.time if event else 0, writer, block.first_sequence + index)

    def _new_points(self, run_id: str, counts: dict[str, int], known: Run | None) -> Iterator[MlflowPoints]:
        """Yield the points that are not here. Only where nobody else has logged to the run do their numbers say whether there are any."""
        here = {key: summary.count for key, summary in known.data.metric_summaries.items()} if known else {}
        is_alone = known is None or all(item.writer == run_writer(run_id) for item in self._store.writers(run_id))
        if is_alone and not here:
            yield from self._history.points(run_id) if counts else ()
            return
        for key, count in counts.items():
            if is_alone and key not in here:
                yield from self._history.points(run_id, key)
            elif not is_alone or count > here[key]:
                yield from _beyond(list(self._history.points(run_id, key)), self._points_here(run_id, key))

    def _points_here(self, run_id: str, key: str) -> History:
        """Return the points of a metric that are here, with those that a later attempt hides."""
        attempts = self._store.attempts(run_id)
        return merged([self._store.metric_arrays(run_id, key, attempt=item.attempt) for item in attempts])

    def _add_points(self, run_id: str, writer: WriterId, position: int, points: MlflowPoints) -> int:
        records = join_metrics(points.key, points.step, np.maximum(points.time, 0), points.value)
        return self._add(Block(run_id, writer, position, dict(enumerate(points.keys)), records))

    def _add_events(self, subject: str, writer: WriterId, position: int, events: Iterable[e.Event], refused: Collection[bytes] = ()) -> int:
        payloads = [payload for payload in map(encode, events) if payload not in refused]
        return self._add(Block(subject, writer, position, {}, Records.of(payloads))) if payloads else position

    def _add(self, block: Block) -> int:
        """File a block with the next batch; return the sequence after it."""
        self._blocks.append(block)
        self._waiting += len(block.records)
        if self._waiting >= BATCH_EVENTS:
            self._flush()
        return block.end

    def _flush(self) -> None:
        if self._blocks:
            applied = self._apply(self._blocks)
            self.imported.events += applied.events
            self.imported.letters += applied.letters
            self._watch(applied.events)
        self._blocks, self._waiting = [], 0

    def _compare_run(self, run: MlflowRun, counts: dict[str, int]) -> None:
        wanted, points = identities(run.inputs, run.outputs), sum(counts.values())
        _count(self.imported.source, len(run.params), len(run.tags), len(wanted), points)
        known = self._find(run.run_id)
        if known is None:
            self.imported.differ(f"run {run.run_id} is not in the store")
            return
        params = sum(known.data.params.get(key) == value for key, value in run.params.items())
        tags = sum(known.data.tags.get(key) == value for key, value in run.tags.items())
        found = points - sum(map(len, self._new_points(run.run_id, counts, known)))
        inputs = len(wanted & identities(known.inputs, known.outputs))
        _count(self.imported.target, params, tags, inputs, found)
        if run.status not in STATUSES:
            self.imported.differ(f"run {run.run_id} has the status {run.status!r}, which is none of {', '.join(STATUSES)}")
        if params != len(run.params):
            self.imported.differ(f"run {run.run_id} has {len(run.params)} params, of which the store has {params}")
        if inputs != len(wanted):
            self.imported.differ(f"run {run.run_id} has {len(wanted)} datasets and models, of which the store has {inputs}")
        if found != points:
            self.imported.differ(f"run {run.run_id} has {points} points, of which the store has {found}")


def _count(counts: Counts, params: int, tags: int, inputs: int, points: int) -> None:
    counts.runs += 1
    counts.params += params
    counts.tags += tags
    counts.inputs += inputs
    counts.points += points


def run_writer(run_id: str) -> WriterId:
    """Return the writer of what is imported of a run."""
    return _writer("run", run_id)


def experiment_writer(experiment: MlflowExperiment) -> WriterId:
    """Return the writer of what is imported of an experiment: its id alone is the same in every installation."""
    return _writer("experiment", experiment.experiment_id, str(experiment.creation_time), experiment.artifact_location)


def _writer(*parts: str) -> WriterId:
    return WriterId(hashlib.sha256("\0".join(("mlflow", *parts)).encode("utf-8", "surrogatepass")).hexdigest()[:32])


def experiment_events(
    before: ExperimentState, experiment: MlflowExperiment, home: str, *, is_created: bool, decides: bool
) -> Iterator[e.Event]:
    """Yield the events that lead from what was imported before to what an experiment is now.

    `decides` is False for an experiment that was here before: it keeps its name and lifecycle stage.
    """
    time = max(experiment.creation_time or 0, before.last_update_time, _newest(before.tags.values()))
    if not is_created:
        yield e.ExperimentCreated(
            time=time, experiment_id=home, name=experiment.name, artifact_location=experiment.artifact_location, tags=dict(experiment.tags)
        )
    elif decides and before.name != experiment.name:
        time = max(time, experiment.last_update_time or 0)
        yield e.ExperimentRenamed(time=time, name=experiment.name)
    tags = {key: tag.value for key, tag in before.tags.items()} if is_created else dict(experiment.tags)
    for key in sorted({*tags, *experiment.tags}):
        if tags.get(key) != experiment.tags.get(key):
            value = experiment.tags.get(key)
            yield e.ExperimentTagDeleted(time=time, key=key) if value is None else e.ExperimentTagSet(time=time, key=key, value=value)
    if decides and before.lifecycle_stage != experiment.lifecycle_stage:
        time = max(time, experiment.last_update_time or 0)
        yield e.ExperimentDeleted(time=time) if experiment.lifecycle_stage == "deleted" else e.ExperimentRestored(time=time)


def run_events(before: RunState, run: MlflowRun, experiment_id: str) -> Iterator[e.Event]:
    """Yield the events that lead from what was imported of a run before to what it is now."""
    state = copy.deepcopy(before)
    time = max(run.start_time, _newest(before.tags.values()), before.status_stamp.time, before.lifecycle_stamp.time, 0)
    if not state.started:
        start = _started(run, experiment_id, time)
        fold_run(state, start, Stamp(time, "", 0))
        yield start
    for key, value in run.params.items():
        if state.params.get(key) != value:
            yield e.ParamLogged(time=time, key=key, value=value)
    yield from _tag_changes(state, run, time)
    yield from _new_inputs(state, run)
    if run.status in STATUSES and (state.status, state.end_time) != (run.status, run.end_time):
        time = max(time, run.end_time or 0)
        yield _status_change(run, time)
    if state.lifecycle_stage != run.lifecycle_stage:
        time = max(time, run.end_time or 0, run.deleted_time or 0)
        yield e.RunDeleted(time=time) if run.lifecycle_stage == "deleted" else e.RunRestored(time=time)


def _started(run: MlflowRun, experiment_id: str, time: int) -> e.RunStarted:
    return e.RunStarted(
        time=time,
        experiment_id=experiment_id,
        artifact_uri=run.artifact_uri,
        run_name=run.tags.get(RUN_NAME_TAG, ""),
        user_id=run.user_id or "unknown",
        start_time=max(run.start_time, 0),
        tags={key: value for key, value in run.tags.items() if key != RUN_NAME_TAG},
    )


def _tag_changes(state: RunState, run: MlflowRun, time: int) -> Iterator[e.Event]:
    now = {key: tag.value for key, tag in state.tags.items() if tag.value is not None}
    for key in sorted({*now, *run.tags}):
        if now.get(key) != run.tags.get(key):
            value = run.tags.get(key)
            yield e.TagDeleted(time=time, key=key) if value is None else e.TagSet(time=time, key=key, value=value)


def _new_inputs(state: RunState, run: MlflowRun) -> Iterator[e.Event]:
    """Yield datasets and models that are new. They are not checked here: what breaks a rule is for the store to refuse, and is told.

    Their time is always the same, so that what was refused is known again by its bytes.
    """
    time = max(run.start_time, 0)
    for item in run.inputs.dataset_inputs:
        told = item.dataset
        if (told.name, told.digest) not in state.datasets:
            fields: dict[str, Any] = {"name": told.name, "digest": told.digest, "source_type": told.source_type, "source": told.source}
            fields |= {"dataset_schema": told.schema, "profile": told.profile}
            yield e.DatasetLogged.model_construct(time=time, **fields, tags={tag.key: tag.value for tag in item.tags or []})
    for used in run.inputs.model_inputs:
        if ("input", used.model_id) not in state.models:
            yield e.ModelInputLogged.model_construct(time=time, model_id=used.model_id)
    for made in run.outputs.model_outputs:
        if ("output", made.model_id) not in state.models:
            yield e.ModelOutputLogged.model_construct(time=time, model_id=made.model_id, step=made.step)


def identities(inputs: RunInputs, outputs: RunOutputs) -> set[tuple[str, ...]]:
    """Return what identifies each thing that a run used or made."""
    datasets = {("dataset", item.dataset.name, item.dataset.digest) for item in inputs.dataset_inputs}
    used = {("used", item.model_id) for item in inputs.model_inputs}
    return datasets | used | {("made", item.model_id) for item in outputs.model_outputs}


def _status_change(run: MlflowRun, time: int) -> e.Event:
    if run.end_time is not None:
        return e.RunEnded.model_validate({"time": time, "status": run.status, "end_time": max(run.end_time, 0)})
    return e.RunStatusChanged.model_validate({"time": time, "status": run.status})


def _newest(tags: Iterable[object]) -> int:
    return max((tag.stamp.time for tag in tags), default=0)  # type: ignore[attr-defined]


def is_as(known: Run, run: MlflowRun) -> bool:
    """Say whether the store has a run just as it is at the source, but for metrics."""
    info = known.info
    state = (info.status, info.end_time, info.lifecycle_stage)
    if not identities(run.inputs, run.outputs) <= identities(known.inputs, known.outputs):
        return False
    return state == (run.status, run.end_time, run.lifecycle_stage) and (known.data.params, known.data.tags) == (run.params, run.tags)


def _fold_experiment(state: ExperimentState, event: e.Event, stamp: Stamp) -> None:
    if isinstance(event, e.ExperimentCreated):
        state.name = event.name
    fold_experiment(state, event, stamp)


def _event(payload: bytes, block: Block) -> e.Event | None:
    try:
        return decode(payload, block.names)
    except DecodeError:  # it breaks a rule, or is of a later version; that one knows
        return None


def _beyond(pages: Sequence[MlflowPoints], here: History) -> Iterator[MlflowPoints]:
    """Yield the points of one metric of which the store has fewer than the source."""
    for page in pages[:1]:
        step, time, value = (np.concatenate([getattr(item, name) for item in pages]) for name in ("step", "time", "value"))
        new = _is_new(_rows(step, np.maximum(time, 0), value), _rows(here.step, here.timestamp, here.value))
        for start in range(0, int(new.sum()), BATCH_EVENTS):
            part = np.flatnonzero(new)[start : start + BATCH_EVENTS]
            yield MlflowPoints(page.keys, np.zeros(len(part), np.int64), step[part], time[part], value[part])


def _rows(step: Ints, time: Ints, value: npt.NDArray[np.float64]) -> Ints:
    """Return points as rows of integers that are equal where the points are; all NaNs are."""
    bits = np.where(np.isnan(value), np.float64("nan"), value).view(np.int64)
    return np.column_stack((step, time, bits))


def _is_new(source: Ints, here: Ints) -> npt.NDArray[np.bool_]:
    """Say of each row of the source whether it is one more than there are of its kind here."""
    _, group = np.unique(np.concatenate((here, source)), axis=0, return_inverse=True)
    group = group.ravel()
    order = np.argsort(group, kind="stable")  # those that are here come first in their group
    starts = np.flatnonzero(np.concatenate(([True], np.diff(group[order]) > 0)))
    rank = np.empty(len(group), np.int64)
    rank[order] = np.arange(len(group)) - np.repeat(starts, np.diff(np.append(starts, len(group))))
    known = np.bincount(group[: len(here)], minlength=int(group.max()) + 1)
    kind = group[len(here) :]
    new: npt.NDArray[np.bool_] = rank[len(here) :] - known[kind] >= known[kind]
    return new
