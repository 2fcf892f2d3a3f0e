"""From events to rows. All but metrics are folded one by one over the rows that they touch; metrics, being many, with arrays.

The events are applied in the order of the batch; the rows are written in one global order of keys, so that two workers do not wait for
each other in a circle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection

from flightlog.schema.blocks import Block
from flightlog.schema.errors import DecodeError
from flightlog.schema.events import Event, MetricsLogged
from flightlog.schema.fold import Rejection, RunState, Stamp
from flightlog.stores.batches import event_letter, experiment_of, gap_letter
from flightlog.stores.experiments import apply_to_experiment, apply_to_run
from flightlog.stores.sql.experiments import SqlExperiments
from flightlog.stores.sql.history import save_points
from flightlog.stores.sql.ledger import Admitted, Letter
from flightlog.stores.sql.opened import OpenedBlock, add_points, open_blocks
from flightlog.stores.sql.points import PointsBuilder
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
    opened = open_blocks([(part.writer_id, part.item) for part in admitted if isinstance(part.item, Block)])
    runs = load_runs(connection, opened)
    following = iter(opened)
    parts = [next(following) if isinstance(part.item, Block) else part for part in admitted]
    present = {run_id: run.state for run_id, run in runs.items() if run.number is not None}
    projection = Projection(SqlExperiments(connection, present), runs, present, now)
    for part in parts:
        _apply(projection, part)
    _write(connection, projection)
    return projection.letters


def _apply(projection: Projection, part: OpenedBlock | Admitted) -> None:
    if isinstance(part, OpenedBlock):
        add_points(part, projection.points)
        (_apply_run_events if part.block.subject in projection.runs else _apply_experiment_events)(projection, part)
    elif not isinstance(part.item, Block):
        projection.letters.append(Letter(part.writer_id, gap_letter(part.item, projection.now)))


def _apply_run_events(projection: Projection, part: OpenedBlock) -> None:
    """Fold the events of a run in their order; the points between them count only for the time at which the run began."""
    run, metrics, row = projection.runs[part.block.subject], part.metrics, 0
    projection.present[run.state.run_id] = run.state
    for index, event in part.events:
        next_row = int(np.searchsorted(metrics.event, index))
        run.see_times(metrics.time[row:next_row])
        row = next_row
        _judge(projection, part, index, _apply_run_event(projection, run, event, _stamp(part, index, event)))
    run.see_times(metrics.time[row:])


def _apply_run_event(projection: Projection, run: OpenRun, event: Event | DecodeError, stamp: Stamp) -> Rejection | None:
    if isinstance(event, DecodeError):
        return Rejection(event.reason, event.message)
    if not isinstance(event, MetricsLogged):
        return apply_to_run(projection.book, run.state, event, stamp)
    run.see_times(np.array([event.time], np.int64))
    for key, value in event.points:
        projection.points.add_one((run.state.run_id, key), event.step, event.time, value)
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
    groups = projection.points.grouped()
    metrics = numbered(connection, metric_names.c.name, {name for _, name in groups.series})
    keys = [(numbers[run_id], metrics[name]) for run_id, name in groups.series]
    save_summaries(connection, keys, summarise(groups))
    save_points(connection, keys, groups)
