"""The runs that a batch touches: loaded into states of the fold, and written back where they changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection, select

from flightlog.schema import events as e
from flightlog.schema.entities import Attempt
from flightlog.schema.errors import DecodeError
from flightlog.schema.fold import RunState, Stamped, hear
from flightlog.schema.names import RUN_NAME_TAG
from flightlog.schema.records import Ints
from flightlog.stores.batches import experiment_of
from flightlog.stores.sql.attempts import WriterAttempts, attempt_rows, load_attempts
from flightlog.stores.sql.inputs import dataset_identity, load_inputs, save_inputs
from flightlog.stores.sql.opened import OpenedBlock
from flightlog.stores.sql.rows import fetch, find_numbers, in_parts, insert_rows, upsert_rows
from flightlog.stores.sql.states import ARTIFACT_COLUMNS, artifact_of, artifact_row, path_hash, run_of, run_row, stamp_of, tag_row
from flightlog.stores.sql.tables import artifacts, attempts, params, runs, tags


@dataclass(frozen=True)
class OpenRun:
    """A run's state with those of its params, tags, artifacts, datasets and models that the batch touches.

    `number` is its `runs.id`, None for a new one.
    """

    number: int | None
    before: RunState
    state: RunState

    def hear_points(self, writer: str, times: Ints) -> None:
        """Note points of a writer, in order. The first time that is not 0 becomes the run's start, if it has none. See `fold.hear`."""
        if len(times):
            told = times[:0] if self.state.start_time else times[np.flatnonzero(times)[:1]]
            hear(self.state, writer, int(told[0]) if len(told) else 0)

    @property
    def new_attempts(self) -> list[Attempt]:
        """The attempts that the batch has begun."""
        return self.state.attempts[self.before.attempt :]


@dataclass(frozen=True)
class _Touched:
    """The keys that the events of a batch name."""

    params: set[str]
    tags: set[str]
    artifacts: set[str]
    datasets: set[str]
    models: set[str]


def load_runs(connection: Connection, blocks: Sequence[OpenedBlock], heard: WriterAttempts) -> dict[str, OpenRun]:
    """Return the runs that blocks speak of, in the order of their ids, new ones as placeholders. `heard` has the blocks' writers."""
    run_ids = sorted({item.block.subject for item in blocks if experiment_of(item.block.subject) is None})
    rows = fetch(connection, select(*(column for column in runs.c if column.name != "name")), runs.c.run_id, run_ids)
    states = {row.id: run_of(row) for row in rows}
    _load_parts(connection, states, _touched(event for item in blocks for _, event in item.events))
    for number, found in load_attempts(connection, [row.id for row in rows if row.attempt]).items():
        states[number].attempts = found
    numbers = {state.run_id: number for number, state in states.items()}
    befores = {state.run_id: state for state in states.values()}
    runs_by_id = {run_id: _opened(numbers.get(run_id), befores.get(run_id) or RunState(run_id)) for run_id in run_ids}
    for item in blocks:
        attempt = heard[item.writer_id]
        if attempt is not None and item.block.subject in runs_by_id:
            runs_by_id[item.block.subject].state.writers[item.block.writer] = attempt
    return runs_by_id


def _opened(number: int | None, state: RunState) -> OpenRun:
    copy = replace(state, params=dict(state.params), tags=dict(state.tags), artifacts=dict(state.artifacts))
    copy = replace(copy, datasets=dict(state.datasets), models=dict(state.models))
    return OpenRun(number, state, replace(copy, attempts=list(state.attempts), writers={}))


def _touched(events: Iterable[e.Event | DecodeError]) -> _Touched:
    touched = _Touched(set(), {RUN_NAME_TAG}, set(), set(), set())
    for event in events:
        match event:
            case e.ParamLogged():
                touched.params.add(event.key)
            case e.TagSet() | e.TagDeleted():
                touched.tags.add(event.key)
            case e.ArtifactLogged() | e.ArtifactSettled():
                touched.artifacts.add(path_hash(event.path))
            case e.DatasetLogged():
                touched.datasets.add(dataset_identity(event.name, event.digest))
            case e.ModelInputLogged() | e.ModelOutputLogged():
                touched.models.add(event.model_id)
            case e.RunStarted():
                touched.tags.update(event.tags)
    return touched


def _load_parts(connection: Connection, states: dict[int, RunState], touched: _Touched) -> None:
    for numbers in in_parts(states):
        for run, key, value in fetch(connection, select(params).where(params.c.run.in_(numbers)), params.c.key, sorted(touched.params)):
            states[run].params[key] = value
        for run, key, value, stamp in fetch(connection, select(tags).where(tags.c.run.in_(numbers)), tags.c.key, sorted(touched.tags)):
            states[run].tags[key] = Stamped(value, stamp_of(stamp))
        query = select(artifacts.c.run, *ARTIFACT_COLUMNS).where(artifacts.c.run.in_(numbers))
        for run, *row in fetch(connection, query, artifacts.c.path_hash, sorted(touched.artifacts)):
            artifact = artifact_of(row)
            states[run].artifacts[artifact.path] = artifact
        load_inputs(connection, states, numbers, touched.datasets, touched.models)


def save_runs(connection: Connection, opened: dict[str, OpenRun]) -> dict[str, int]:
    """Write what changed. Return the `runs.id` of every run."""
    numbers = _save_rows(connection, opened)
    changed = [(numbers[run_id], run) for run_id, run in sorted(opened.items())]
    insert_rows(
        connection,
        params,
        [
            {"run": number, "key": key, "value": value}
            for number, run in changed
            for key, value in sorted(run.state.params.items())
            if key not in run.before.params
        ],
    )
    upsert_rows(
        connection,
        tags,
        [
            tag_row("run", number, key, tag)
            for number, run in changed
            for key, tag in sorted(run.state.tags.items())
            if run.before.tags.get(key) != tag
        ],
    )
    upsert_rows(
        connection,
        artifacts,
        [
            artifact_row(number, artifact)
            for number, run in changed
            for path, artifact in sorted(run.state.artifacts.items())
            if run.before.artifacts.get(path) != artifact
        ],
    )
    save_inputs(connection, [(number, run.before, run.state) for number, run in changed])
    insert_rows(connection, attempts, [row for number, run in changed for row in attempt_rows(number, run.new_attempts)])
    return numbers


def _save_rows(connection: Connection, opened: dict[str, OpenRun]) -> dict[str, int]:
    rows = {run_id: run_row(run.state) for run_id, run in opened.items() if run.number is None or run_row(run.state) != run_row(run.before)}
    insert_rows(connection, runs, [row for run_id, row in rows.items() if opened[run_id].number is None])
    upsert_rows(connection, runs, [{"id": number, **row} for run_id, row in rows.items() if (number := opened[run_id].number) is not None])
    new = [run_id for run_id, run in opened.items() if run.number is None]
    found = {run_id: run.number for run_id, run in opened.items() if run.number is not None}
    return found | find_numbers(connection, runs.c.run_id, new)
