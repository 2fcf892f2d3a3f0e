"""Blocks taken apart: metric points as columns, all other events decoded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flightlog.schema.blocks import Block
from flightlog.schema.codec import decode
from flightlog.schema.columns import MetricColumns, split_metrics
from flightlog.schema.errors import DecodeError
from flightlog.schema.events import Event
from flightlog.schema.records import Ints
from flightlog.stores.batches import experiment_of
from flightlog.stores.sql.points import PointsBuilder, Series

TABLE_SIZE = 1 << 16
"""Metric ids below this are looked up in an array."""


@dataclass(frozen=True)
class OpenedBlock:
    """A block, its metric points, and its other events by index: decoded, or why that failed."""

    writer_id: int
    block: Block
    metrics: MetricColumns
    events: list[tuple[int, Event | DecodeError]]


def open_block(writer_id: int, block: Block) -> OpenedBlock:
    """Take a block apart. Metrics that break a rule are left to the decoder, which knows what to say about them."""
    if experiment_of(block.subject) is not None:
        return OpenedBlock(writer_id, block, _NONE, [(index, _decoded(block, index)) for index in range(len(block.records))])
    metrics, others = split_metrics(block.records)
    wrong = (metrics.time < 0) | ~_known(metrics.id, block)
    if wrong.any():
        refused = np.unique(metrics.event[wrong])
        metrics = _take(metrics, ~np.isin(metrics.event, refused))
        others = np.union1d(others, refused)
    return OpenedBlock(writer_id, block, metrics, [(index, _decoded(block, index)) for index in others.tolist()])


def add_points(opened: OpenedBlock, rows: slice, builder: PointsBuilder, attempt: int, floor: int | None) -> None:
    """Hand some of the points on to the batch, as those of an attempt that is hidden from the step `floor` on."""
    metrics = _take(opened.metrics, rows)
    if floor is None:
        _add(opened, metrics, builder, attempt, hidden=False)
    else:
        hidden = metrics.step >= floor
        _add(opened, _take(metrics, ~hidden), builder, attempt, hidden=False)
        _add(opened, _take(metrics, hidden), builder, attempt, hidden=True)


def _add(opened: OpenedBlock, metrics: MetricColumns, builder: PointsBuilder, attempt: int, *, hidden: bool) -> None:
    if not len(metrics):
        return
    ids, index = _distinct(metrics.id)
    subject, names = opened.block.subject, opened.block.names
    numbers = np.array([builder.number(Series(subject, names[number], attempt, hidden)) for number in ids.tolist()], np.int64)
    builder.add(numbers[index], metrics.step, metrics.time, metrics.value)


def _decoded(block: Block, index: int) -> Event | DecodeError:
    try:
        return decode(block.records.payload(index), block.names)
    except DecodeError as error:
        return error


def _known(ids: Ints, block: Block) -> npt.NDArray[np.bool_]:
    distinct, index = _distinct(ids)
    return np.array([number in block.names for number in distinct.tolist()], np.bool_)[index]


def _distinct(ids: Ints) -> tuple[Ints, Ints]:
    """Return the distinct ids in order, and for each row the place of its id among them."""
    if not len(ids) or int(ids.max()) >= TABLE_SIZE:
        distinct, index = np.unique(ids, return_inverse=True)
        return distinct, index
    distinct = np.flatnonzero(np.bincount(ids))
    table = np.zeros(TABLE_SIZE, np.int64)
    table[distinct] = np.arange(len(distinct))
    return distinct, table[ids]


def _take(metrics: MetricColumns, which: npt.NDArray[np.bool_] | slice) -> MetricColumns:
    return MetricColumns(metrics.event[which], metrics.id[which], metrics.step[which], metrics.time[which], metrics.value[which])


_NO_INTS = np.empty(0, np.int64)
_NONE = MetricColumns(_NO_INTS, _NO_INTS, _NO_INTS, _NO_INTS, np.empty(0))
