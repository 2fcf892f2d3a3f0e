"""Blocks taken apart: metric points as columns, all other events decoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flightlog.schema.blocks import Block
from flightlog.schema.codec import decode
from flightlog.schema.columns import MetricColumns, split_metrics
from flightlog.schema.errors import DecodeError
from flightlog.schema.events import Event
from flightlog.schema.records import Ints, Records
from flightlog.stores.batches import experiment_of
from flightlog.stores.sql.points import PointsBuilder

FEW = 64
FEW_BYTES = 1 << 16
"""Blocks of at most so many events and bytes are taken apart together: for each by itself the calls would take longer than the work."""
TABLE_SIZE = 1 << 16
"""Metric ids below this are looked up in an array."""


@dataclass(frozen=True)
class OpenedBlock:
    """A block, its metric points, and its other events by index: decoded, or why that failed."""

    writer_id: int
    block: Block
    metrics: MetricColumns
    events: list[tuple[int, Event | DecodeError]]


def open_blocks(parts: Sequence[tuple[int, Block]]) -> list[OpenedBlock]:
    """Take blocks apart, each given with the key of its writer."""
    small = [place for place, (_, block) in enumerate(parts) if _is_small(block)]
    split = dict(zip(small, _split_together([parts[place][1].records for place in small]), strict=True))
    return [_open_block(writer_id, block, split.get(place)) for place, (writer_id, block) in enumerate(parts)]


def _is_small(block: Block) -> bool:
    return len(block.records) <= FEW and int(block.records.lengths.sum()) <= FEW_BYTES and experiment_of(block.subject) is None


def _split_together(records: Sequence[Records]) -> Iterator[tuple[MetricColumns, Ints]]:
    """Yield what `split_metrics` returns for each of the records."""
    metrics, others = split_metrics(Records.of([payload for each in records for payload in each.payloads()]))
    bounds = np.cumsum([0, *map(len, records)])
    rows, places = np.searchsorted(metrics.event, bounds).tolist(), np.searchsorted(others, bounds).tolist()
    for index, start in enumerate(bounds[:-1].tolist()):
        mine = slice(rows[index], rows[index + 1])
        columns = (metrics.id[mine], metrics.step[mine], metrics.time[mine], metrics.value[mine])
        yield MetricColumns(metrics.event[mine] - start, *columns), others[places[index] : places[index + 1]] - start


def _open_block(writer_id: int, block: Block, split: tuple[MetricColumns, Ints] | None) -> OpenedBlock:
    """Take a block apart. Metrics that break a rule are left to the decoder, which knows what to say about them."""
    if experiment_of(block.subject) is not None:
        return OpenedBlock(writer_id, block, _NONE, [(index, _decoded(block, index)) for index in range(len(block.records))])
    metrics, others = split or split_metrics(block.records)
    wrong = (metrics.time < 0) | ~_known(metrics.id, block)
    if wrong.any():
        refused = np.unique(metrics.event[wrong])
        metrics = _take(metrics, ~np.isin(metrics.event, refused))
        others = np.union1d(others, refused)
    return OpenedBlock(writer_id, block, metrics, [(index, _decoded(block, index)) for index in others.tolist()])


def add_points(opened: OpenedBlock, builder: PointsBuilder) -> None:
    """Hand the points on to the batch."""
    metrics, subject = opened.metrics, opened.block.subject
    if not len(metrics):
        return
    if len(metrics) <= FEW:
        few = [builder.number((subject, opened.block.names[number])) for number in metrics.id.tolist()]
        builder.add(np.array(few, np.int64), metrics.step, metrics.time, metrics.value)
        return
    ids, index = _distinct(metrics.id)
    numbers = np.array([builder.number((subject, opened.block.names[number])) for number in ids.tolist()], np.int64)
    builder.add(numbers[index], metrics.step, metrics.time, metrics.value)


def _decoded(block: Block, index: int) -> Event | DecodeError:
    try:
        return decode(block.records.payload(index), block.names)
    except DecodeError as error:
        return error


def _known(ids: Ints, block: Block) -> npt.NDArray[np.bool_]:
    if len(ids) <= FEW:
        return np.array([number in block.names for number in ids.tolist()], np.bool_)
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


def _take(metrics: MetricColumns, which: npt.NDArray[np.bool_]) -> MetricColumns:
    return MetricColumns(metrics.event[which], metrics.id[which], metrics.step[which], metrics.time[which], metrics.value[which])


_NO_INTS = np.empty(0, np.int64)
_NONE = MetricColumns(_NO_INTS, _NO_INTS, _NO_INTS, _NO_INTS, np.empty(0))
