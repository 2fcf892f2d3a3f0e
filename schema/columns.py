"""The metrics among many records, as columns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from flightlog.schema.codec import (
    ARRAY16,
    INT64,
    MAX_POINTS,
    METRIC_ARRAY_OFFSET,
    METRIC_POINTS_OFFSET,
    METRICS_HEAD,
    POINT_SIZE,
    pack_metric,
    single_marker,
)
from flightlog.schema.records import Bytes, Ints, Records

Floats = npt.NDArray[np.float64]

_HEAD_DTYPE = np.dtype({"names": ["time", "step"], "formats": [">u8", ">i8"], "offsets": [4, 13], "itemsize": METRIC_POINTS_OFFSET})
_POINT_DTYPE = np.dtype({"names": ["id", "value"], "formats": [">u4", ">f8"], "offsets": [1, 6], "itemsize": POINT_SIZE})
_EVENT_DTYPE = np.dtype(
    {
        "names": ["time", "step", "id", "value"],
        "formats": [">u8", ">i8", ">u4", ">f8"],
        "offsets": [4, 13, METRIC_POINTS_OFFSET + 1, METRIC_POINTS_OFFSET + 6],
        "itemsize": METRIC_POINTS_OFFSET + POINT_SIZE,
    }
)
"""An event of one point as a row."""


@dataclass(frozen=True)
class MetricColumns:
    """Metric points, one row each. `event` is the index of the record that the point came from; rows are in its order."""

    event: Ints
    id: Ints
    step: Ints
    time: Ints
    value: Floats

    def __len__(self) -> int:
        return len(self.id)


def split_metrics(records: Records) -> tuple[MetricColumns, Ints]:
    """Return the points of all metric events in their fixed-width form, and the indices of all other records."""
    parts: list[MetricColumns] = []
    others: list[Ints] = []
    for indices, matrix in records.groups():
        mask = _is_metrics(matrix)
        if not mask.all():
            others.append(indices[~mask])
            indices, matrix = indices[mask], matrix[mask]  # noqa: PLW2901 - the rest of this group
        if len(indices):
            parts.append(_columns(indices, matrix))
    other = np.sort(np.concatenate(others)) if others else np.empty(0, np.int64)
    return _merge(parts), other


def join_metrics(metric_id: Ints, step: Ints, time: Ints, value: Floats) -> Records:
    """Return one metric event for each row, in its fixed-width form; what `split_metrics` takes apart. Times are not negative."""
    size = METRIC_POINTS_OFFSET + POINT_SIZE
    row = np.frombuffer(pack_metric(METRICS_HEAD, 0, INT64, 0, single_marker(0), 0.0), np.uint8)
    matrix = np.empty((len(value), size), np.uint8)
    matrix[:] = row
    head = matrix.reshape(-1).view(_EVENT_DTYPE)
    head["time"], head["step"], head["id"], head["value"] = time, step, metric_id, value
    return Records(matrix.reshape(-1), size * np.arange(len(value)), np.full(len(value), size))


def _is_metrics(matrix: Bytes) -> npt.NDArray[np.bool_]:
    count, length = matrix.shape
    points, rest = divmod(length - METRIC_POINTS_OFFSET, POINT_SIZE)
    if not 1 <= points <= MAX_POINTS or rest:
        return np.zeros(count, np.bool_)
    expected = METRICS_HEAD + bytes([INT64, ARRAY16]) + (2 * points).to_bytes(2, "big") + b"\xce\xcb" * points
    starts = METRIC_POINTS_OFFSET + POINT_SIZE * np.arange(points)
    places = [0, 1, 2, 3, 12, METRIC_ARRAY_OFFSET, METRIC_ARRAY_OFFSET + 1, METRIC_ARRAY_OFFSET + 2]
    places += np.column_stack((starts, starts + 5)).ravel().tolist()
    mask = np.ones(count, np.bool_)
    for place, byte in zip(places, expected, strict=True):
        mask &= matrix[:, place] == byte
    return mask


def _columns(indices: Ints, matrix: Bytes) -> MetricColumns:
    points = (matrix.shape[1] - METRIC_POINTS_OFFSET) // POINT_SIZE
    head = np.ascontiguousarray(matrix[:, :METRIC_POINTS_OFFSET]).view(_HEAD_DTYPE).ravel()
    point = np.ascontiguousarray(matrix[:, METRIC_POINTS_OFFSET:]).view(_POINT_DTYPE).ravel()
    return MetricColumns(
        event=np.repeat(indices, points),
        id=point["id"].astype(np.int64),
        step=np.repeat(head["step"].astype(np.int64), points),
        time=np.repeat(head["time"].astype(np.int64), points),
        value=point["value"].astype(np.float64),
    )


def _merge(parts: list[MetricColumns]) -> MetricColumns:
    if len(parts) == 1:
        return parts[0]
    empty = np.empty(0, np.int64)
    parts = [MetricColumns(empty, empty, empty, empty, np.empty(0)), *parts]
    event = np.concatenate([part.event for part in parts])
    order = np.argsort(event, kind="stable")
    return MetricColumns(
        event[order],
        np.concatenate([part.id for part in parts])[order],
        np.concatenate([part.step for part in parts])[order],
        np.concatenate([part.time for part in parts])[order],
        np.concatenate([part.value for part in parts])[order],
    )
