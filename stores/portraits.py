"""What a run or an experiment is, in a form in which two stores can be compared, and a digest of it that every store gives alike.

A portrait maps the name of a part (`info`, `params`, `history loss`, ...) to plain values. A float stands as its 8 bytes, big-endian, so
that NaN equals itself and -0.0 differs from 0.0; all NaNs are one. A history stands as its number of points and the SHA-256 of its columns:
steps, timestamps, values, each little-endian, 8 bytes a number. What a store learned by itself is left out: whether an artifact is stored,
and when.

    digest = SHA-256 of msgpack [[part, value], ...], in the order of the parts' names, maps as lists of pairs in the order of their keys
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterable, Mapping
from typing import Any

import msgpack
import numpy as np

from flightlog.schema.entities import Experiment, MetricSummary, Point, Run
from flightlog.schema.fold import ArtifactState
from flightlog.stores.base import History, RunReader

Portrait = Mapping[str, Any]

NAN = struct.pack(">d", math.nan)
ABSENT: Portrait = {}
"""The portrait of what is not there."""


def run_portrait(reader: RunReader, run_id: str, dropped: int) -> Portrait:
    """Return the portrait of a run; `dropped` is how many events it lost. Reads one history at a time. Raises `NotFound`."""
    run = reader.get_run(run_id)
    summaries = run.data.metric_summaries
    return {
        "info": plain(run.info.to_dictionary()),
        "params": plain(run.data.params),
        "tags": plain(run.data.tags),
        "artifacts": [_artifact(artifact) for artifact in reader.artifacts(run_id)],
        "dropped": dropped,
        **_inputs(run),
        **{f"metric {key}": _summary(summary) for key, summary in summaries.items()},
        **{f"history {key}": history_digest(reader.metric_arrays(run_id, key)) for key in summaries},
        **_attempts(reader, run_id, summaries),
    }


def _inputs(run: Run) -> dict[str, Any]:
    """Return what a run used and made, where it did; of a run that did not, the portrait is as it was when there was no such thing."""
    parts = {"inputs": run.inputs.to_dictionary(), "outputs": run.outputs.to_dictionary()}
    return {name: plain(part) for name, part in parts.items() if any(part.values())}


def _attempts(reader: RunReader, run_id: str, keys: Iterable[str]) -> dict[str, Any]:
    """Return the attempts of a run that has several, and what each has of the metrics that are shown, hidden points included."""
    found = reader.attempts(run_id)
    if len(found) < 2:
        return {}
    numbers = [attempt.attempt for attempt in found]
    histories = {
        f"history {key}, attempt {number}": history_digest(reader.metric_arrays(run_id, key, attempt=number))
        for key in keys
        for number in numbers
    }
    return {"attempts": [[attempt.attempt, attempt.time, attempt.from_step] for attempt in found], **histories}


def experiment_portrait(experiment: Experiment) -> Portrait:
    """Return the portrait of an experiment."""
    return {name: plain(value) for name, value in experiment.to_dictionary().items()}


def _artifact(artifact: ArtifactState) -> list[Any]:
    return [artifact.path, artifact.size, artifact.snapshot, artifact.sha256, list(artifact.stamp)]


def _summary(summary: MetricSummary) -> list[Any]:
    ends = [_point(point) for point in (summary.last, summary.first, summary.min, summary.max)]
    return [*ends, summary.count, summary.non_finite]


def _point(point: Point | None) -> list[Any] | None:
    return None if point is None else [plain(point.value), point.step, point.timestamp]


def history_digest(history: History) -> list[Any]:
    """Return how many points a history has, and the SHA-256 of its columns."""
    value = np.where(np.isnan(history.value), np.nan, history.value)
    digest = hashlib.sha256()
    for column, kind in ((history.step, "<i8"), (history.timestamp, "<i8"), (value, "<f8")):
        digest.update(np.ascontiguousarray(column, kind).data)
    return [len(history), digest.hexdigest()]


def plain(value: Any) -> Any:  # noqa: ANN401 - any field
    """Return a value as msgpack has it in one way only: maps as ordered pairs, floats as bytes."""
    if isinstance(value, Mapping):
        return [[key, plain(item)] for key, item in sorted(value.items())]
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float):
        return NAN if math.isnan(value) else struct.pack(">d", value)
    return value


def digest_of(portrait: Portrait) -> str:
    """Return the digest of a portrait, 64 hexadecimal digits."""
    packed = msgpack.packb(plain(portrait), unicode_errors="surrogatepass")
    return hashlib.sha256(packed).hexdigest()
