"""A complete store in memory: the fold's states in dicts. It is also what the SQL store is held equal to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar, cast

import numpy as np

from flightlog.schema.blocks import Block
from flightlog.schema.codec import decode
from flightlog.schema.entities import (
    Attempt,
    DeadLetter,
    Experiment,
    LifecycleStage,
    Metric,
    PagedList,
    Point,
    Run,
    RunStatus,
    ViewType,
    WriterStatus,
)
from flightlog.schema.errors import DecodeError, NotFound
from flightlog.schema.filters import evaluate
from flightlog.schema.filters.order import parse_experiment_order, parse_run_order
from flightlog.schema.filters.paging import experiment_keys
from flightlog.schema.filters.parser import parse_experiment_filter, parse_run_filter
from flightlog.schema.fold import ArtifactState, ExperimentState, Rejection, RunState, Stamp, is_visible, set_lifecycle
from flightlog.schema.ids import WriterId, now_ms
from flightlog.stores import sampling, series
from flightlog.stores.base import (
    ALL_POINTS,
    BATCH_POINTS,
    Applied,
    Envelope,
    Gap,
    Histories,
    History,
    Outcome,
    PendingArtifact,
    Portion,
    Tombstone,
    WriterKey,
)
from flightlog.stores.batches import after_positions, due, end_of, event_letter, experiment_of, gap_letter, lost_block, without_named
from flightlog.stores.experiments import apply_to_experiment, apply_to_run, default_experiment, purge_refusal
from flightlog.stores.purging import PURGES, founding, portions, purge_of, survivors
from flightlog.stores.run_columns import RunColumns, columns_of

P = ParamSpec("P")
R = TypeVar("R")


def _one_at_a_time(method: Callable[Concatenate[MemoryStore, P], R]) -> Callable[Concatenate[MemoryStore, P], R]:
    @wraps(method)
    def locked(self: MemoryStore, *args: P.args, **kwargs: P.kwargs) -> R:
        with self._lock:
            return method(self, *args, **kwargs)

    return cast("Callable[Concatenate[MemoryStore, P], R]", locked)


class MemoryStore:
    """A `Store` that forgets everything with the process. Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._runs: dict[str, RunState] = {}
        self._experiments = _Experiments(self._runs)
        self._writers: dict[tuple[str, WriterId], WriterStatus] = {}
        self._ledger: list[Block] = []
        self._letters: list[DeadLetter] = []
        self._tombstones: dict[str, Tombstone] = {}
        self._homes: dict[str, str | None] = {}

    @_one_at_a_time
    def position(self, subject: str, writer: WriterId) -> int:
        """See `Sink.position`."""
        status = self._writers.get((subject, writer))
        return status.committed if status else 0

    @_one_at_a_time
    def apply(self, items: Sequence[Block | Gap]) -> Applied:
        """See `Sink.apply`."""
        applied = Applied()
        events = 0
        for item in (item for portion in portions(items) for item in portion):
            position = self.position(item.subject, item.writer)
            part = due(item, position)
            if part is not None:
                kept = self._kept(part)
                letters = [letter for each in kept for letter in self._file(each)]
                applied.letters.extend(letters)
                self._letters += letters
                position = end_of(part)
                self._move(part, position)
                events += sum(len(each.records) for each in kept if isinstance(each, Block))
            applied.positions[item.writer] = position
        return replace(applied, events=events)

    def _move(self, part: Block | Gap, position: int) -> None:
        key = (part.subject, part.writer)
        self._writers[key] = WriterStatus(*key, position, 0, now_ms())

    def _kept(self, part: Block | Gap) -> Sequence[Block | Gap]:
        """Return what of an item is not of a subject that was purged before."""
        tombstone = self._tombstones.get(part.subject)
        if tombstone is None:
            return [part]
        kept = survivors(part, tombstone.time)
        dropped = len(part.records) - sum(len(each.records) for each in kept) if isinstance(part, Block) else 0
        self._tombstones[part.subject] = replace(tombstone, dropped=tombstone.dropped + dropped)
        return kept

    def _file(self, part: Block | Gap) -> list[DeadLetter]:
        if isinstance(part, Gap):
            return [gap_letter(part, now_ms())]
        if (purge := purge_of(part)) and purge_refusal(self._experiments, part.subject, purge) is None:
            self._purge(part.subject, purge.time)
        self._ledger.append(part)
        letters = []
        for index in range(len(part.records)):
            rejection = self._apply_event(part, index)
            if rejection is not None:
                letters.append(event_letter(part, index, *rejection, now_ms()))
        return letters

    def _apply_event(self, block: Block, index: int) -> Rejection | None:
        experiment_id = experiment_of(block.subject)
        run = (
            None
            if experiment_id is not None or block.subject in self._tombstones
            else self._runs.setdefault(block.subject, RunState(block.subject))
        )
        try:
            event = decode(block.records.payload(index), block.names)
        except DecodeError as error:
            return Rejection(error.reason, error.message)
        if isinstance(event, PURGES):
            return purge_refusal(self._experiments, block.subject, event)
        stamp = Stamp(event.time, block.writer, block.first_sequence + index)
        if run is not None:
            return apply_to_run(self._experiments, run, event, stamp)
        return apply_to_experiment(self._experiments, experiment_id or "", event, stamp)

    def _purge(self, subject: str, time: int) -> None:
        """Forget a run or an experiment, but for the positions of its writers and that a run began; see `purging`."""
        run = self._runs.pop(subject, None)
        experiment_id = experiment_of(subject)
        if experiment_id is not None:
            self._experiments.states.pop(experiment_id, None)
        gone = {subject, *(run_id for run_id, home in self._homes.items() if home == experiment_id)}
        mine = [block for block in self._ledger if block.subject == subject]
        start = founding(mine) if experiment_id is None else None
        place = self._ledger.index(mine[start[0]]) if start else None
        self._ledger = [
            start[1] if start and index == place else block
            for index, block in enumerate(self._ledger)
            if block.subject not in gone or (start and index == place) or (block.subject != subject and purge_of(block))
        ]
        self._letters = [letter for letter in self._letters if letter.subject != subject]
        self._homes[subject] = run.experiment_id if run else None
        dropped = self._tombstones[subject].dropped if subject in self._tombstones else 0
        self._tombstones[subject] = Tombstone(subject, time, dropped)

    @_one_at_a_time
    def tombstones(self) -> list[Tombstone]:
        """See `RunReader.tombstones`."""
        return [tombstone for _, tombstone in sorted(self._tombstones.items())]

    @_one_at_a_time
    def pending_artifacts(self, limit: int = 1000, after: PendingArtifact | None = None) -> list[PendingArtifact]:
        """See `Sink.pending_artifacts`."""
        found = sorted(self._pending(), key=_place)
        return [item for item in found if after is None or _place(item) > _place(after)][:limit]

    @_one_at_a_time
    def pending_snapshots(self, snapshots: Collection[str]) -> list[PendingArtifact]:
        """See `Sink.pending_snapshots`."""
        return [item for item in self._pending() if item[2].snapshot in snapshots]

    @_one_at_a_time
    def homeless_snapshots(self, snapshots: Collection[str]) -> dict[str, str]:
        """See `Sink.homeless_snapshots`."""
        found = {item.snapshot: run for run, item in self._unstored() if item.state == "pending" and run.artifact_uri is None}
        return {name: found[name].run_id for name in snapshots if name in found}

    @_one_at_a_time
    def unwanted_snapshots(self, snapshots: Collection[str]) -> set[str]:
        """See `Sink.unwanted_snapshots`."""
        wanted = {item.snapshot for _, item in self._unstored()}
        return without_named({name for name in snapshots if name not in wanted}, self._letters)

    def _pending(self) -> Iterator[PendingArtifact]:
        for run, artifact in self._unstored():
            if run.artifact_uri is not None and artifact.state == "pending":
                yield run.run_id, run.artifact_uri, artifact

    def _unstored(self) -> Iterator[tuple[RunState, ArtifactState]]:
        for run in self._runs.values():
            yield from ((run, artifact) for artifact in run.artifacts.values() if artifact.state != "stored")

    @_one_at_a_time
    def settle_artifact(self, run_id: str, artifact: ArtifactState, state: str, reason: str | None = None) -> None:
        """See `Sink.settle_artifact`."""
        artifacts = self._runs[run_id].artifacts if run_id in self._runs else {}
        known = artifacts.get(artifact.path)
        if known is not None and known.stamp == artifact.stamp:
            artifacts[artifact.path] = replace(known, state=state, reason=reason, sha256=artifact.sha256 or known.sha256)

    @_one_at_a_time
    def settle_artifacts(self, outcomes: Sequence[Outcome]) -> None:
        """See `Sink.settle_artifacts`."""
        for outcome in outcomes:
            self.settle_artifact(outcome.run_id, outcome.artifact, outcome.state, outcome.reason)

    @_one_at_a_time
    def mark_lost(self, silent_ms: int, living: Collection[str] = ()) -> int:
        """See `Sink.mark_lost`."""
        now = now_ms()
        seen = {run_id: max(item.updated for item in self.writers(run_id)) for run_id in self._under_way() if run_id not in living}
        lost = [lost_block(run_id, last_seen, now) for run_id, last_seen in seen.items() if last_seen < now - silent_ms]
        return self.apply(lost).events

    def _under_way(self) -> list[str]:
        return [run.run_id for run in self._runs.values() if run.started and not RunStatus.is_terminated(run.status)]

    def maintain(self) -> bool:
        """See `Sink.maintain`. There is nothing to do."""
        return False

    @_one_at_a_time
    def get_run(self, run_id: str) -> Run:
        """See `RunReader.get_run`."""
        if run_id not in self._runs:
            raise NotFound(f"no run has the id {run_id!r}")
        return self._runs[run_id].to_run()

    @_one_at_a_time
    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Run]:
        """See `RunReader.search_runs`."""
        node, wanted = parse_run_filter(filter_string), {str(key) for key in experiment_keys(experiment_ids)}
        states = (
            run
            for run in self._runs.values()
            if run.experiment_id in wanted and _visible(run.lifecycle_stage, run_view_type) and evaluate.matches(node, run)
        )
        query = (sorted(wanted), node, run_view_type)
        page, token = evaluate.page(states, parse_run_order(order_by), max_results, page_token, query)
        return PagedList([run.to_run() for run in page], token)

    def search_run_columns(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> tuple[RunColumns, str | None]:
        """See `RunReader.search_run_columns`."""
        page = self.search_runs(experiment_ids, filter_string, run_view_type, max_results, order_by, page_token)
        return columns_of(page), page.token

    @_one_at_a_time
    def get_experiment(self, experiment_id: str) -> Experiment:
        """See `RunReader.get_experiment`."""
        state = self._experiments.get(experiment_id)
        if state is None:
            raise NotFound(f"no experiment has the id {experiment_id!r}")
        return state.to_experiment()

    @_one_at_a_time
    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """See `RunReader.get_experiment_by_name`."""
        experiment_id = self._experiments.named(name)
        return None if experiment_id is None else self.get_experiment(experiment_id)

    @_one_at_a_time
    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Experiment]:
        """See `RunReader.search_experiments`."""
        node = parse_experiment_filter(filter_string)
        states = (
            state
            for state in self._experiments.states.values()
            if _visible(state.lifecycle_stage, view_type) and evaluate.matches(node, state)
        )
        page, token = evaluate.page(states, parse_experiment_order(order_by), max_results, page_token, (node, view_type))
        return PagedList([state.to_experiment() for state in page], token)

    @_one_at_a_time
    def attempts(self, run_id: str) -> list[Attempt]:
        """See `RunReader.attempts`."""
        run = self._runs.get(run_id)
        return [Attempt(0, run.start_time), *run.attempts] if run else []

    @_one_at_a_time
    def metric_history(self, run_id: str, key: str, attempt: int | None = None) -> list[Metric]:
        """See `RunReader.metric_history`."""
        return series.to_metrics(key, self.metric_arrays(run_id, key, attempt=attempt))

    @_one_at_a_time
    def metric_arrays(
        self, run_id: str, key: str, start_step: int | None = None, end_step: int | None = None, attempt: int | None = None
    ) -> History:
        """See `RunReader.metric_arrays`."""
        points = self._points(run_id, key, attempt)
        history = History(
            np.array([point.step for point in points], np.int64),
            np.array([point.timestamp for point in points], np.int64),
            np.array([point.value for point in points], np.float64),
        )
        return series.between(series.ordered(history), start_step, end_step)

    def metric_histories(
        self,
        run_ids: Sequence[str],
        keys: Sequence[str] | None = None,
        portion: Portion = ALL_POINTS,
        batch_points: int = BATCH_POINTS,
    ) -> Iterator[Histories]:
        """See `RunReader.metric_histories`."""
        owners = [(run_id, key) for run_id in dict.fromkeys(run_ids) for key in dict.fromkeys(self._keys(run_id) if keys is None else keys)]
        return sampling.batches(((owner, self._portion(*owner, portion)) for owner in owners), batch_points)

    def metric_keys(self, run_ids: Sequence[str]) -> list[str]:
        """See `RunReader.metric_keys`."""
        return sorted({key for run_id in run_ids for key in self._keys(run_id)})

    @_one_at_a_time
    def _keys(self, run_id: str) -> list[str]:
        return sorted(self._runs[run_id].history) if run_id in self._runs else []

    def _portion(self, run_id: str, key: str, portion: Portion) -> History:
        return sampling.sampled(self.metric_arrays(run_id, key, portion.start_step, portion.end_step, portion.attempt), portion.sample)

    def _points(self, run_id: str, key: str, attempt: int | None) -> list[Point]:
        run = self._runs.get(run_id)
        if run is None:
            return []
        found = run.history.get(key, [])
        return [item.point for item in found if (is_visible(run, item) if attempt is None else item.attempt == attempt)]

    @_one_at_a_time
    def envelope(
        self,
        run_id: str,
        key: str,
        buckets: int = 1000,
        start_step: int | None = None,
        end_step: int | None = None,
        attempt: int | None = None,
    ) -> Envelope:
        """See `RunReader.envelope`."""
        return series.envelope_of(self.metric_arrays(run_id, key, attempt=attempt), buckets, start_step, end_step)

    @_one_at_a_time
    def artifacts(self, run_id: str) -> list[ArtifactState]:
        """See `RunReader.artifacts`."""
        run = self._runs.get(run_id)
        return [artifact for _, artifact in sorted(run.artifacts.items())] if run else []

    @_one_at_a_time
    def dead_letters(self, subject: str | None = None, writer: str | None = None) -> list[DeadLetter]:
        """See `RunReader.dead_letters`."""
        return [letter for letter in self._letters if subject in (None, letter.subject) and writer in (None, letter.writer)]

    @_one_at_a_time
    def dropped(self) -> dict[str, int]:
        """See `RunReader.dropped`."""
        return {run.run_id: run.dropped for run in self._runs.values() if run.dropped}

    @_one_at_a_time
    def writers(self, subject: str | None = None) -> list[WriterStatus]:
        """See `RunReader.writers`."""
        letters = Counter((letter.subject, letter.writer) for letter in self._letters)
        found = (status for key, status in sorted(self._writers.items()) if subject in (None, key[0]))
        return [replace(status, dead_letters=letters[status.subject, status.writer]) for status in found]

    def ledger(self, subject: str | None = None, known: Mapping[WriterKey, int] | None = None) -> Iterator[Block]:
        """See `RunReader.ledger`."""
        return after_positions([block for block in self._ledger if subject in (None, block.subject)], known or {})

    def close(self) -> None:
        """See `Sink.close`. There is nothing to let go of."""


class _Experiments:
    """The `ExperimentBook` of this store."""

    def __init__(self, runs: dict[str, RunState]) -> None:
        default = default_experiment()
        self.states: dict[str, ExperimentState] = {default.experiment_id: default}
        self._runs = runs

    def get(self, experiment_id: str) -> ExperimentState | None:
        return self.states.get(experiment_id)

    def named(self, name: str) -> str | None:
        return next((key for key, state in self.states.items() if state.name == name), None)

    def put(self, state: ExperimentState) -> None:
        self.states[state.experiment_id] = state

    def population(self, experiment_id: str) -> int:
        return sum(run.experiment_id == experiment_id for run in self._runs.values())

    def cascade(self, experiment_id: str, stage: str, stamp: Stamp) -> None:
        for run in self._runs.values():
            if run.experiment_id == experiment_id:
                set_lifecycle(run, stage, stamp)


def _place(item: PendingArtifact) -> tuple[str, str]:
    run_id, _, artifact = item
    return run_id, artifact.path


def _visible(stage: str, view_type: int) -> bool:
    if view_type == ViewType.ALL:
        return True
    return (stage == LifecycleStage.DELETED) == (view_type == ViewType.DELETED_ONLY)
