"""The fluent verbs for what a run used and made: datasets and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flightlog.producer.fluent import finish, target
from flightlog.producer.inputs import as_dataset, record_inputs, record_outputs
from flightlog.schema.entities import DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.names import CONTEXT_TAG


def log_input(
    dataset: Any = None,  # noqa: ANN401 - a dataset of flightlog.data, or of mlflow.data
    context: str | None = None,
    tags: Mapping[str, Any] | None = None,
    model: LoggedModelInput | None = None,
) -> None:
    """Log a dataset, or a model, that the active run uses. `context` says what for, such as `train`.

    Of a dataset that is logged to a run again, by name and digest, the first context and tags stay. The data are not stored.
    """
    given = _dataset_input(dataset, context, tags)
    producer, run_id = target(None)
    finish(record_inputs(producer, run_id, [given] if given else [], [model] if model else []), None)


def log_inputs(
    datasets: Sequence[Any] | None = None,
    contexts: Sequence[str | None] | None = None,
    tags_list: Sequence[Mapping[str, Any] | None] | None = None,
    models: Sequence[LoggedModelInput | None] | None = None,
) -> None:
    """Log several datasets, with a context and tags or None for each, and models that the active run uses."""
    datasets, contexts, tags_list = datasets or [], contexts or [], tags_list or []
    if not len(datasets) == len(contexts) == len(tags_list):
        lengths = f"{len(datasets)}, {len(contexts)} and {len(tags_list)}"
        raise InvalidParameter(f"datasets, contexts and tags_list must be of one length, not {lengths}; give None where there is none")
    given = [_dataset_input(*each) for each in zip(datasets, contexts, tags_list, strict=True)]
    producer, run_id = target(None)
    finish(record_inputs(producer, run_id, [item for item in given if item], [item for item in models or [] if item]), None)


def log_outputs(models: Sequence[LoggedModelOutput] | None = None) -> None:
    """Log models that the active run makes, each with its step."""
    producer, run_id = target(None)
    finish(record_outputs(producer, run_id, models or []), None)


def _dataset_input(dataset: Any, context: str | None, tags: Mapping[str, Any] | None) -> DatasetInput | None:  # noqa: ANN401 - see `log_input`
    if dataset is None:
        if context or tags:
            raise InvalidParameter(f"context {context!r} and tags {dict(tags or {})!r} need a dataset that they say something of")
        return None
    told = {**(tags or {}), **({CONTEXT_TAG: context} if context else {})}
    return DatasetInput(as_dataset(dataset), [InputTag(key, value) for key, value in told.items()])
