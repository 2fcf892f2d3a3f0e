"""From events to rows. All but metrics are folded one by one over the rows that they touch; metrics, being many, with arrays.

The events are applied in the order of the batch; the rows are written in one global order of keys, so that two workers do not wait for
each other in a circle. A batch in which a run is rewound is projected in stages: what comes before is written first, since the summaries
of the run are then made anew from the rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection

from flightlog.schema.blocks import Block
from flightlog.schema.entities import MetricSummary
from flightlog.schema.errors import DecodeError
from flightlog.schema.events import Event, MetricsLogged, RunResumed, RunRewound
from flightlog.schema.fold import Rejection, RunState, Stamp, hear, hidden_from, merge_summaries
from flightlog.stores.batches import event_letter, experiment_of, gap_letter
from flightlog.stores.experiments import apply_to_experiment, apply_to_run
from flightlog.stores.sql.attempts import WriterAttempts, load_writer_attempts, save_writer_attempts, summarise_anew
from flightlog.stores.sql.experiments import SqlExperiments
from flightlog.stores.sql.history import Key, save_points
from flightlog.stores.sql.ledger import Admitted, Letter
from flightlog.stores.sql.opened import OpenedBlock, add_points, open_blocks
from flightlog.stores.sql.points import Groups, PointsBuilder, Series
from flightlog.stores.sql.rows import numbered
from flightlog.stores.sql.runs import OpenRun, load_runs, save_runs
from flightlog.stores.sql.summaries import save_summaries, summarise
from flightlog.stores.sql.tables import metric_names


@dataclass(frozen=True)
class Projection:
    """What a batch comes to, before the rows are written. `present` are the runs of which an event has come already."""

    book: SqlExperiments
    runs: dict[str, OpenRun]
    present: dict[str, RunState]
    now: int
    points: PointsBuilder = field(default_factory=PointsBuilder)
    letters: list[Letter] = field(default_factory=list)


def project(connection: Connection, admitted: Sequence[Admitted], now: int) -> list[Letter]:
    """Apply what is due and write the rows. Return the dead letters."""
    before = load_writer_attempts(connection, (part.writer_id for part in admitted))
    heard = dict(before)
    letters = [letter for stage in _stages(admitted) for letter in _project(connection, stage, heard, now)]
    save_writer_attempts(connection, before, heard)
    return letters


def _stages(admitted: Sequence[Admitted]) -> Iterator[list[OpenedBlock | Admitted]]:
    """Yield the batch in parts: the event that rewinds a run is the first of its part."""
    opened = iter(open_blocks([(part.writer_id, part.item) for part in admitted if isinstance(part.item, Block)]))
    stage: list[OpenedBlock | Admitted] = []
    for part in admitted:
        for piece in _pieces(next(opened)) if isinstance(part.item, Block) else [part]:
            if stage and isinstance(piece, OpenedBlock) and _rewinds(piece)[:1] == [0]:
                yield stage
                stage = []
            stage.append(piece)
    if stage:
        yield stage


def _pieces(opened: OpenedBlock) -> list[OpenedBlock]:
    """Return a block in pieces where it rewinds its run."""
    block = opened.block
    cuts = [0, *(index for index in _rewinds(opened) if index), len(block.records)]
    if len(cuts) == 2:
        return [opened]
    return open_blocks([(opened.writer_id, block.part(start, stop)) for start, stop in itertools.pairwise(cuts)])


def _rewinds(opened: OpenedBlock) -> list[int]:
    return [index for index, event in opened.events if isinstance(event, RunRewound)]


def _project(connection: Connection, parts: Sequence[OpenedBlock | Admitted], heard: WriterAttempts, now: int) -> list[Letter]:
    """Project a stage; `heard` has the attempts of the writers, and is brought up to date."""
    blocks = [part for part in parts if isinstance(part, OpenedBlock)]
    runs = load_runs(connection, blocks, heard)
    present = {run_id: run.state for run_id, run in runs.items() if run.number is not None}
    projection = Projection(SqlExperiments(connection, present), runs, present, now)
    for part in parts:
        _apply(projection, part)
    _write(connection, projection)
    for part in blocks:
        if part.block.subject in runs:
            heard[part.writer_id] = runs[part.block.subject].state.writers.get(part.block.writer)
    return projection.letters


def _apply(projection: Projection, part: OpenedBlock | Admitted) -> None:
    if isinstance(part, OpenedBlock):
        (_apply_run_events if part.block.subject in projection.runs else _apply_experiment_events)(projection, part)
    elif not isinstance(part.item, Block):
        projection.letters.append(Letter(part.writer_id, gap_letter(part.item, projection.now)))


def _apply_run_events(projection: Projection, part: OpenedBlock) -> None:
    """Fold the events of a run in their order. The points between them are handed on together as long as they are of one attempt."""
    run, metrics, row, handed = projection.runs[part.block.subject], part.metrics, 0, 0
    projection.present[run.state.run_id] = run.state
    for index, event in part.events:
        next_row = int(np.searchsorted(metrics.event, index))
        run.hear_points(part.block.writer, metrics.time[row:next_row])
        row = next_row
        if isinstance(event, (RunResumed, RunRewound)):
            _hand_on(projection, run, part, slice(handed, row))
            handed = row
        _judge(projection, part, index, _apply_run_event(projection, run, event, _stamp(part, index, event)))
    run.hear_points(part.block.writer, metrics.time[row:])
    _hand_on(projection, run, part, slice(handed, None))


def _hand_on(projection: Projection, run: OpenRun, part: OpenedBlock, rows: slice) -> None:
    if len(part.metrics.event[rows]):
        attempt = run.state.writers[part.block.writer]
        add_points(part, rows, projection.points, attempt, hidden_from(run.state.attempts, attempt))


def _apply_run_event(projection: Projection, run: OpenRun, event: Event | DecodeError, stamp: Stamp) -> Rejection | None:
    if isinstance(event, DecodeError):
        return Rejection(event.reason, event.message)
    if not isinstance(event, MetricsLogged):
        return apply_to_run(projection.book, run.state, event, stamp)
    hear(run.state, stamp.writer, event.time)
    attempt = run.state.writers[stamp.writer]
    floor = hidden_from(run.state.attempts, attempt)
    hidden = floor is not None and event.step >= floor
    for key, value in event.points:
        projection.points.add_one(Series(run.state.run_id, key, attempt, hidden), event.step, event.time, value)
    return None


def _apply_experiment_events(projection: Projection, part: OpenedBlock) -> None:
    for index, event in part.events:
        _judge(projection, part, index, _apply_experiment_event(projection, part, event, _stamp(part, index, event)))


def _apply_experiment_event(projection: Projection, part: OpenedBlock, event: Event | DecodeError, stamp: Stamp) -> Rejection | None:
    if isinstance(event, DecodeError):
        return Rejection(event.reason, event.message)
    return apply_to_experiment(projection.book, experiment_of(part.block.subject) or "", event, stamp)


def _stamp(part: OpenedBlock, index: int, event: Event | DecodeError) -> Stamp:
    time = event.time if isinstance(event, Event) else 0
    return Stamp(time, part.block.writer, part.block.first_sequence + index)


def _judge(projection: Projection, part: OpenedBlock, index: int, rejection: Rejection | None) -> None:
    if rejection is not None:
        letter = event_letter(part.block, index, *rejection, projection.now)
        projection.letters.append(Letter(part.writer_id, letter))


def _write(connection: Connection, projection: Projection) -> None:
    numbers = save_runs(connection, projection.runs)
    for run_id, run in projection.runs.items():
        for attempt in run.new_attempts:
            if attempt.from_step is not None:
                summarise_anew(connection, numbers[run_id], run.state.attempts, attempt.from_step)
    groups = projection.points.grouped()
    metrics = numbered(connection, metric_names.c.name, {series.metric for series in groups.series})
    keys = [(numbers[series.run_id], metrics[series.metric], series.attempt) for series in groups.series]
    visible = _visible_summaries(keys, groups)
    save_summaries(connection, list(visible), list(visible.values()))
    save_points(connection, keys, groups)


def _visible_summaries(keys: Sequence[Key], groups: Groups) -> dict[tuple[int, int], MetricSummary]:
    """Return the summary of each metric of a run, by `runs.id` and `metric_names.id`, over all attempts and without hidden points."""
    found: dict[tuple[int, int], MetricSummary] = {}
    for (run, metric, _), series, summary in zip(keys, groups.series, summarise(groups), strict=True):
        if not series.hidden:
            known = found.get((run, metric))
            found[run, metric] = merge_summaries(known, summary) if known else summary
    return found
