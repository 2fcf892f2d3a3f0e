"""Runs as columns: what a table of many runs needs, without an object for each run and value."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from flightlog.schema.entities import Run

Floats = npt.NDArray[np.float64]
Texts = list[str | None]
INFO = ("run_id", "experiment_id", "status", "artifact_uri", "start_time", "end_time")


@dataclass(frozen=True)
class RunColumns:
    """Equally long columns: `info` those of `INFO`, the others one for each key that any of the runs has.

    A metric that a run does not have is NaN, a param or tag None. Keys stand in the order in which the runs have them first.
    """

    info: dict[str, list[Any]]
    metrics: dict[str, Floats]
    params: dict[str, Texts]
    tags: dict[str, Texts]

    def __len__(self) -> int:
        return len(self.info["run_id"])


def columns_of(runs: Sequence[Run]) -> RunColumns:
    """Return runs as columns."""
    data = [run.data for run in runs]
    metrics = {key: np.array([item.metrics.get(key, math.nan) for item in data]) for key in _keys(item.metrics for item in data)}
    params: dict[str, Texts] = {key: [item.params.get(key) for item in data] for key in _keys(item.params for item in data)}
    tags: dict[str, Texts] = {key: [item.tags.get(key) for item in data] for key in _keys(item.tags for item in data)}
    return RunColumns({name: [getattr(run.info, name) for run in runs] for name in INFO}, metrics, params, tags)


def joined(pages: Sequence[RunColumns]) -> RunColumns:
    """Return pages, one below the other."""
    if len(pages) == 1:
        return pages[0]
    info = {name: [value for page in pages for value in page.info[name]] for name in INFO}
    missing = [np.full(len(page), math.nan) for page in pages]
    metrics = {
        key: np.concatenate([page.metrics.get(key, nothing) for page, nothing in zip(pages, missing, strict=True)])
        for key in _keys(page.metrics for page in pages)
    }
    lengths = [len(page) for page in pages]
    params, tags = (_joined_texts(parts, lengths) for parts in ([page.params for page in pages], [page.tags for page in pages]))
    return RunColumns(info, metrics, params, tags)


def _joined_texts(parts: Sequence[dict[str, Texts]], lengths: Sequence[int]) -> dict[str, Texts]:
    nothing: list[Texts] = [[None] * length for length in lengths]
    found: dict[str, Texts] = {key: [] for key in _keys(parts)}
    for key, column in found.items():
        for part, missing in zip(parts, nothing, strict=True):
            column.extend(part.get(key, missing))
    return found


def _keys(dicts: Iterable[dict[str, Any]]) -> dict[str, None]:
    return dict.fromkeys(key for item in dicts for key in item)
