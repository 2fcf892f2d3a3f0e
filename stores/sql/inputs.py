"""What runs used and made: datasets and models, loaded into states of the fold, written back, and read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, select

from flightlog.schema.entities import Dataset, RunInputs, RunOutputs
from flightlog.schema.fold import DatasetKey, DatasetState, ModelKey, ModelState, RunState, run_inputs, run_outputs
from flightlog.stores.sql.rows import Values, fetch, upsert_rows
from flightlog.stores.sql.states import stamp_of, stamp_text
from flightlog.stores.sql.tables import dataset_inputs, run_models

InputsAndOutputs = tuple[RunInputs, RunOutputs]

_DATASETS = dataset_inputs.c
DATASET_COLUMNS = tuple(
    _DATASETS[name] for name in ("name", "digest", "source_type", "source", "dataset_schema", "profile", "tags", "stamp")
)
MODEL_COLUMNS = tuple(run_models.c[name] for name in ("role", "model_id", "step", "stamp"))


def dataset_identity(name: str, digest: str) -> str:
    """Return what stands for a dataset in a key: a name may be longer than an index allows."""
    return hashlib.sha256(f"{len(name)}:{name}{digest}".encode()).hexdigest()


def load_inputs(
    connection: Connection, states: Mapping[int, RunState], numbers: Sequence[int], identities: Iterable[str], model_ids: Iterable[str]
) -> None:
    """Put the datasets and models that a batch names into the states of runs, by `runs.id`."""
    datasets = select(_DATASETS.run, *DATASET_COLUMNS).where(_DATASETS.run.in_(numbers))
    for run, *row in fetch(connection, datasets, _DATASETS.identity, sorted(identities)):
        key, state = _dataset_of(row)
        states[run].datasets[key] = state
    models = select(run_models.c.run, *MODEL_COLUMNS).where(run_models.c.run.in_(numbers))
    for run, *row in fetch(connection, models, run_models.c.model_id, sorted(model_ids)):
        model_key, model = _model_of(row)
        states[run].models[model_key] = model


def save_inputs(connection: Connection, changed: Sequence[tuple[int, RunState, RunState]]) -> None:
    """Write the datasets and models that differ in a run's state, given by `runs.id`, from those of the state before."""
    datasets = (
        dataset_row(number, item)
        for number, before, state in changed
        for key, item in sorted(state.datasets.items())
        if before.datasets.get(key) != item
    )
    upsert_rows(connection, dataset_inputs, sorted(datasets, key=lambda row: (row["run"], row["identity"])))
    models = [
        model_row(number, key, item)
        for number, before, state in changed
        for key, item in sorted(state.models.items())
        if before.models.get(key) != item
    ]
    upsert_rows(connection, run_models, models)


def read_inputs(connection: Connection, numbers: Sequence[int]) -> dict[int, InputsAndOutputs]:
    """Return what runs used and made, by `runs.id`."""
    datasets: dict[int, list[DatasetState]] = {number: [] for number in numbers}
    models: dict[int, dict[ModelKey, ModelState]] = {number: {} for number in numbers}
    for run, *row in fetch(connection, select(_DATASETS.run, *DATASET_COLUMNS), _DATASETS.run, numbers):
        datasets[run].append(_dataset_of(row)[1])
    for run, *row in fetch(connection, select(run_models.c.run, *MODEL_COLUMNS), run_models.c.run, numbers):
        key, model = _model_of(row)
        models[run][key] = model
    return dict(_each(numbers, datasets, models))


def _each(
    numbers: Sequence[int], datasets: Mapping[int, list[DatasetState]], models: Mapping[int, dict[ModelKey, ModelState]]
) -> Iterator[tuple[int, InputsAndOutputs]]:
    for number in numbers:
        yield number, (run_inputs(datasets[number], models[number]), run_outputs(models[number]))


def _dataset_of(row: Sequence[Any]) -> tuple[DatasetKey, DatasetState]:
    *told, tags, stamp = row
    dataset = Dataset(*told)
    return (dataset.name, dataset.digest), DatasetState(dataset, json.loads(tags), stamp_of(stamp))


def dataset_row(run: int, state: DatasetState) -> Values:
    """Return a state as a row of `dataset_inputs`."""
    dataset = state.dataset
    return {
        "run": run,
        "identity": dataset_identity(dataset.name, dataset.digest),
        **{name: getattr(dataset, name) for name in ("name", "digest", "source_type", "source", "profile")},
        "dataset_schema": dataset.schema,
        "context": state.context,
        "tags": json.dumps(state.tags, sort_keys=True),
        "stamp": stamp_text(state.stamp),
    }


def _model_of(row: Sequence[Any]) -> tuple[ModelKey, ModelState]:
    role, model_id, step, stamp = row
    return (role, model_id), ModelState(step, stamp_of(stamp))


def model_row(run: int, key: ModelKey, state: ModelState) -> Values:
    """Return a state as a row of `run_models`."""
    role, model_id = key
    return {"run": run, "role": role, "model_id": model_id, "step": state.step, "stamp": stamp_text(state.stamp)}
