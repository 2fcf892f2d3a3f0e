"""What a run used and made, as events: datasets with their tags, and models. Everything is checked before anything is written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

from flightlog.producer import lifecycle
from flightlog.producer.client import Producer
from flightlog.producer.operations import RunOperations
from flightlog.schema import events as e
from flightlog.schema import limits
from flightlog.schema.entities import Dataset, DatasetInput, LoggedModelInput
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.ids import monotone_ms
from flightlog.schema.limits import as_step, check_run_id, check_text
from flightlog.schema.rules import checked

MAX_REMEMBERED = 10_000
_FIELDS = ("name", "digest", "source_type", "source", "schema", "profile")
_used: WeakKeyDictionary[Producer, set[tuple[str, ...]]] = WeakKeyDictionary()
"""What this process has linked to runs beside metrics: datasets by run, name and digest, models by run and id."""

Build = Callable[[int], e.Event]
"""Makes an event of a time."""


def record_inputs(producer: Producer, run_id: str, datasets: Sequence[Any], models: Sequence[Any]) -> RunOperations:
    """Record what a run used: dataset inputs and model inputs, flightlog's or MLflow's."""
    return _record(producer, run_id, [*map(_dataset_event, datasets), *map(_model_input_event, models)])


def record_outputs(producer: Producer, run_id: str, models: Sequence[Any]) -> RunOperations:
    """Record what a run made: model outputs, flightlog's or MLflow's."""
    operation = _record(producer, run_id, list(map(_model_output_event, models)))
    for model in models:
        _note_link(producer, (run_id, model.model_id))
    return operation


def use_dataset(producer: Producer, run_id: str, dataset: Any) -> None:  # noqa: ANN401 - see `as_dataset`
    """Record once that a run used a dataset, however often it is said."""
    told = as_dataset(dataset)
    if not _is_linked(producer, (run_id, told.name, told.digest)):
        record_inputs(producer, run_id, [DatasetInput(told)], [])
        _note_link(producer, (run_id, told.name, told.digest))


def use_model(producer: Producer, run_id: str, model_id: str) -> None:
    """Record once that a run used a model, unless it has made it. Says once that more is not kept."""
    lifecycle.warn_once("a model_id given with a metric links the model to the run; which points belong to the model is not kept yet")
    if not _is_linked(producer, (run_id, model_id)):
        record_inputs(producer, run_id, [], [LoggedModelInput(model_id)])
        _note_link(producer, (run_id, model_id))


def _is_linked(producer: Producer, link: tuple[str, ...]) -> bool:
    return link in _used.get(producer, ())


def _note_link(producer: Producer, link: tuple[str, ...]) -> None:
    known = _used.setdefault(producer, set())
    if len(known) >= MAX_REMEMBERED:
        known.clear()
    known.add(link)


def as_dataset(given: Any) -> Dataset:  # noqa: ANN401 - flightlog's or MLflow's
    """Return what is to be logged of a dataset: one of `flightlog.data`, of `mlflow.data`, or the entity itself of either."""
    told = given._to_mlflow_entity() if hasattr(given, "_to_mlflow_entity") else given  # noqa: SLF001 - MLflow's name
    if not all(hasattr(told, name) for name in _FIELDS):
        raise InvalidParameter(
            f"a dataset must be one that flightlog.data makes, such as flightlog.data.from_pandas(df), not {type(given).__name__}"
        )
    return Dataset(*(getattr(told, name) for name in _FIELDS))


def _record(producer: Producer, run_id: str, builds: Iterable[Build]) -> RunOperations:
    recorder = producer.recorder(check_run_id(run_id))
    return RunOperations([(producer, recorder.journal, recorder.event(build(monotone_ms()))) for build in builds])


def _dataset_event(item: Any) -> Build:  # noqa: ANN401 - a dataset input, flightlog's or MLflow's
    dataset = as_dataset(getattr(item, "dataset", item))
    for name in _FIELDS:
        checked(f"dataset {name.replace('_', ' ')}", getattr(dataset, name))
    fields: dict[str, Any] = {"name": dataset.name, "digest": dataset.digest, "source_type": dataset.source_type, "source": dataset.source}
    fields |= {"dataset_schema": dataset.schema, "profile": dataset.profile, "tags": _tags(getattr(item, "tags", None) or ())}
    return lambda time: e.DatasetLogged.model_validate({"time": time, **fields})


def _tags(tags: Iterable[Any]) -> dict[str, str]:
    return {checked("input tag key", tag.key): checked("input tag value", None if tag.value is None else str(tag.value)) for tag in tags}


def _model_input_event(item: Any) -> Build:  # noqa: ANN401 - a model input, flightlog's or MLflow's
    model_id = check_text("model id", item.model_id, limits.MAX_MODEL_ID)
    return lambda time: e.ModelInputLogged(time=time, model_id=model_id)


def _model_output_event(item: Any) -> Build:  # noqa: ANN401 - a model output, flightlog's or MLflow's
    model_id, step = check_text("model id", item.model_id, limits.MAX_MODEL_ID), as_step(item.step)
    return lambda time: e.ModelOutputLogged(time=time, model_id=model_id, step=step)
