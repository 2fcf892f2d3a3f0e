"""MLflow's file store, the folder `mlruns`: read, never written.

    mlruns/<experiment>/meta.yaml, tags/<key>
    mlruns/<experiment>/datasets/<id>/meta.yaml
    mlruns/<experiment>/<run>/meta.yaml, params/<key>, tags/<key>, metrics/<key>, inputs/<id>/meta.yaml, outputs/<id>/meta.yaml
    mlruns/.trash/<experiment>/...            deleted experiments

A key may have slashes; then it is a path. A metric's file has a line `timestamp value step` for each point; early versions wrote no step.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from flightlog.schema.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, RunInputs, RunOutputs
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.schema.names import RUN_NAME_TAG
from flightlog.stores.mlflow_history import MlflowExperiment, MlflowPoints, MlflowRun

META = "meta.yaml"
TRASH = ".trash"
STATUSES = {1: "RUNNING", 2: "SCHEDULED", 3: "FINISHED", 4: "FAILED", 5: "KILLED"}
RUNS = 200
"""Runs that are read at a time."""
LINES = 4 << 20
"""Bytes of a metric's file that are read at a time."""
LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
UNREADABLE = (OSError, ValueError, KeyError, TypeError, yaml.YAMLError)
"""What a damaged or foreign file raises."""


class MlflowFiles:
    """An `MlflowHistory` in a folder `mlruns`. What cannot be read is passed over and stands in `problems`."""

    def __init__(self, root: Path) -> None:
        """Look at the folder. Raises `NotFound`, or `InvalidParameter` for a folder that has no experiment."""
        if not root.is_dir():
            raise NotFound(f"there is no folder {root}")
        self.problems: list[str] = []
        self._root = root
        self._homes = {path.name: path for path in (*_folders(root / TRASH), *_folders(root)) if (path / META).is_file()}
        if not self._homes:
            raise InvalidParameter(f"{root} is no MLflow file store: it holds no folder with a {META}")

    def experiments(self) -> list[MlflowExperiment]:
        """See `MlflowHistory.experiments`."""
        found = (self._guarded(path, _experiment) for path in self._homes.values())
        return [experiment for experiment in found if experiment is not None]

    def runs(self, experiment_ids: Collection[str]) -> Iterator[list[MlflowRun]]:
        """See `MlflowHistory.runs`."""
        page: list[MlflowRun] = []
        for folder in self._run_folders(experiment_ids):
            run = self._guarded(folder, _run)
            page += [run] if run is not None else []
            if len(page) == RUNS:
                yield page
                page = []
        if page:
            yield page

    def counts(self, run_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """See `MlflowHistory.counts`."""
        return {run_id: {key: _count(file) for key, file in _files(self._run_folder(run_id) / "metrics")} for run_id in run_ids}

    def points(self, run_id: str, key: str | None = None) -> Iterator[MlflowPoints]:
        """See `MlflowHistory.points`. In the order of the files."""
        for name, file in _files(self._run_folder(run_id) / "metrics"):
            if key in (None, name):
                yield from self._points(name, file)

    def left_out(self) -> dict[str, int]:
        """See `MlflowHistory.left_out`."""
        models = len(_folders(self._root / "models"))
        return {"registered models": models} if models else {}

    def close(self) -> None:
        """See `MlflowHistory.close`."""

    def _run_folders(self, experiment_ids: Collection[str]) -> Iterator[Path]:
        for name, home in self._homes.items():
            if name in experiment_ids:
                yield from (
                    folder for folder in _folders(home) if (folder / META).is_file() and folder.name not in ("tags", "datasets", "traces")
                )

    def _run_folder(self, run_id: str) -> Path:
        found = (home / run_id for home in self._homes.values() if (home / run_id / META).is_file())
        return next(found, self._root / run_id)

    def _points(self, key: str, file: Path) -> Iterator[MlflowPoints]:
        with file.open(encoding="utf-8", errors="replace") as content:
            while lines := content.readlines(LINES):
                try:
                    yield _columns(key, lines)
                except (ValueError, OverflowError):
                    yield _columns(key, [line for line in lines if self._is_point(file, line)])

    def _is_point(self, file: Path, line: str) -> bool:
        try:
            _columns("", [line])
        except (ValueError, OverflowError) as error:
            self.problems.append(f"{file}: {line[:100]!r} is no point: {error}")
            return False
        return True

    def _guarded(self, folder: Path, read: Any) -> Any:  # noqa: ANN401 - what `read` gives, or None
        try:
            return read(folder)
        except UNREADABLE as error:
            self.problems.append(f"{folder} cannot be read: {type(error).__name__}: {error}")
            return None


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return keys and files below a folder."""
    found = (Path(root, name) for root, _, names in os.walk(folder) for name in names)
    return sorted((path.relative_to(folder).as_posix(), path) for path in found)


def _texts(folder: Path) -> dict[str, str]:
    return {key: file.read_bytes().decode("utf-8") for key, file in _files(folder)}


def _meta(folder: Path) -> dict[str, Any]:
    meta = yaml.load((folder / META).read_text(encoding="utf-8"), LOADER)  # noqa: S506 - the loader is a safe one
    if not isinstance(meta, dict):
        raise TypeError(f"{META} must be a map, not {type(meta).__name__}")
    return meta


def _experiment(folder: Path) -> MlflowExperiment:
    meta = _meta(folder)
    return MlflowExperiment(
        experiment_id=folder.name,
        name=str(meta["name"]),
        artifact_location=str(meta.get("artifact_location") or ""),
        lifecycle_stage="deleted" if folder.parent.name == TRASH else str(meta.get("lifecycle_stage", "active")),
        creation_time=_time(meta.get("creation_time")),
        last_update_time=_time(meta.get("last_update_time")),
        tags=_texts(folder / "tags"),
    )


def _run(folder: Path) -> MlflowRun:
    meta = _meta(folder)
    tags = _texts(folder / "tags")
    if meta.get("run_name") and RUN_NAME_TAG not in tags:
        tags[RUN_NAME_TAG] = str(meta["run_name"])
    return MlflowRun(
        run_id=folder.name,
        experiment_id=folder.parent.name,
        user_id=str(meta.get("user_id") or ""),
        status=_status(meta.get("status", 1)),
        start_time=_time(meta.get("start_time")) or 0,
        end_time=_time(meta.get("end_time")),
        lifecycle_stage=str(meta.get("lifecycle_stage", "active")),
        deleted_time=_time(meta.get("deleted_time")),
        artifact_uri=str(meta.get("artifact_uri") or ""),
        params=_texts(folder / "params"),
        tags=tags,
        inputs=_inputs(folder),
        outputs=_outputs(folder),
    )


def _inputs(folder: Path) -> RunInputs:
    edges = [_meta(path) for path in _folders(folder / "inputs")]
    datasets = [_dataset_input(folder.parent / "datasets", edge) for edge in edges if edge["source_type"] == "DATASET"]
    return RunInputs(datasets, [LoggedModelInput(str(edge["source_id"])) for edge in edges if edge["source_type"] != "DATASET"])


def _dataset_input(datasets: Path, edge: dict[str, Any]) -> DatasetInput:
    told = _meta(datasets / str(edge["source_id"]))
    tags = [InputTag(str(key), str(value)) for key, value in (edge.get("tags") or {}).items()]
    names = {name: str(told[name]) for name in ("name", "digest", "source_type", "source")}
    return DatasetInput(Dataset(**names, schema=told.get("schema"), profile=told.get("profile")), tags)


def _outputs(folder: Path) -> RunOutputs:
    edges = [_meta(path) for path in _folders(folder / "outputs")]
    return RunOutputs([LoggedModelOutput(str(edge["source_id"]), int(edge.get("step") or 0)) for edge in edges])


def _time(value: object) -> int | None:
    return None if value is None else int(str(value))


def _status(value: object) -> str:
    """Return a status by its number, or its name as early versions wrote it."""
    return STATUSES[value] if isinstance(value, int) else str(value)


def _count(file: Path) -> int:
    with file.open("rb") as content:
        return sum(bool(line.strip()) for line in content)


def _columns(key: str, lines: Sequence[str]) -> MlflowPoints:
    """Return lines as columns. Raises `ValueError` for one that is no point."""
    fields = [[*line.split(), "0"][:3] for line in lines if line.strip()]
    if any(len(row) < 3 for row in fields):
        raise ValueError("a point has a timestamp, a value and a step")
    time = np.array([int(row[0]) for row in fields], np.int64)
    value = np.array([float(row[1]) for row in fields], np.float64)
    step = np.array([int(row[2]) for row in fields], np.int64)
    return MlflowPoints([key], np.zeros(len(fields), np.int64), step, time, value)
