"""The verbs that change experiments, for the active store and for a client's. Each looks before it writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from flightlog.producer import lifecycle
from flightlog.producer.client import Producer
from flightlog.producer.context import context
from flightlog.producer.experiments import experiment_of_run, free_id
from flightlog.producer.fluent import is_synchronous
from flightlog.producer.operations import RunOperations
from flightlog.reading import experiment_from, experiment_named, reader_for
from flightlog.schema.entities import Experiment, LifecycleStage
from flightlog.schema.errors import AlreadyExists, InvalidParameter, InvalidState, NotFound, StoreUnavailable
from flightlog.schema.ids import now_ms
from flightlog.schema.limits import check_experiment_name, check_key
from flightlog.schema.rules import check_artifact_location


def create_experiment(
    name: str,
    artifact_location: str | None = None,
    tags: Mapping[str, Any] | None = None,
    trace_location: object = None,  # noqa: ARG001 - MLflow's signature
) -> str:
    """Create an experiment and return its id. Raises `AlreadyExists`, also for a deleted one of that name."""
    return create_experiment_with(context.producer, name, artifact_location, tags)


def delete_experiment(experiment_id: str) -> None:
    """Move an experiment and its runs to the deleted ones. Raises `NotFound`, also for a deleted one."""
    delete_experiment_with(context.producer, experiment_id)


def restore_experiment(experiment_id: str) -> None:
    """Make a deleted experiment and its runs active again. Raises `NotFound`, also for an active one."""
    restore_experiment_with(context.producer, experiment_id)


def set_experiment_tag(key: str, value: Any) -> None:  # noqa: ANN401 - becomes text
    """Set a tag of the active experiment."""
    producer, experiment_id = _active()
    _finish(producer.set_experiment_tag(experiment_id, key, value))


def set_experiment_tags(tags: Mapping[str, Any]) -> None:
    """Set several tags of the active experiment. All keys and values are checked before any is written."""
    producer, experiment_id = _active()
    for key, text in producer.texts("experiment tag", tags).items():
        _finish(producer.set_experiment_tag(experiment_id, key, text))


def delete_experiment_tag(key: str) -> None:
    """Delete a tag of the active experiment. Raises `NotFound` where it has none of that key."""
    producer, experiment_id = _active()
    delete_experiment_tag_with(producer, experiment_id, key)


def _active() -> tuple[Producer, str]:
    """Return the experiment in which the next run would be, and see that the store hears of it."""
    experiment, producer = experiment_of_run(None), context.producer
    if producer.known.experiment(experiment.experiment_id) is None and experiment.name:
        _finish(producer.create_experiment(experiment.experiment_id, experiment.name))
        producer.known.remember(experiment)
    return producer, experiment.experiment_id


def create_experiment_with(producer: Producer, name: str, artifact_location: str | None, tags: Mapping[str, Any] | None) -> str:
    """See `create_experiment`."""
    check_experiment_name(name)
    if artifact_location is not None:
        check_artifact_location(artifact_location, producer.settings.artifact_location_max_length)
    experiment_id = _free_experiment_id(producer, name)
    _finish(producer.create_experiment(experiment_id, name, artifact_location, tags))
    location, now = artifact_location or producer.location.artifact_location(experiment_id), now_ms()
    texts = producer.texts("experiment tag", tags or {})
    producer.known.remember(Experiment(experiment_id, name, location, LifecycleStage.ACTIVE, texts, now, now))
    return experiment_id


def _free_experiment_id(producer: Producer, name: str) -> str:
    """Return the id of a name, unless an experiment has that one which was renamed. Raises `AlreadyExists`."""
    try:
        store = reader_for(producer)
        is_taken = store.get_experiment_by_name(name) is not None
        experiment_id = free_id(producer, name, store.get_experiment)
    except StoreUnavailable as error:
        lifecycle.warn_once(
            f"experiment {name!r} is created without looking whether it exists, because the store cannot be reached: {error}"
        )
        is_taken, experiment_id = producer.known.named(name) is not None, producer.known.new_id(name)
    if is_taken or (producer.pending() and producer.known.named(name) is not None):  # made just now, and not in the store yet
        raise AlreadyExists(f"experiment {name!r} already exists; use set_experiment, or restore it if it is deleted")
    return experiment_id


def delete_experiment_with(producer: Producer, experiment_id: object) -> None:
    """See `delete_experiment`."""
    experiment = _found(producer, experiment_id)
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise NotFound(f"there is no active experiment with the id {experiment.experiment_id!r}: {experiment.name!r} is deleted already")
    _finish(producer.delete_experiment(experiment.experiment_id))
    producer.known.stage(experiment.experiment_id, LifecycleStage.DELETED)


def restore_experiment_with(producer: Producer, experiment_id: object) -> None:
    """See `restore_experiment`."""
    experiment = _found(producer, experiment_id)
    if experiment.lifecycle_stage == LifecycleStage.ACTIVE:
        raise NotFound(f"there is no deleted experiment with the id {experiment.experiment_id!r}: {experiment.name!r} is active")
    _finish(producer.restore_experiment(experiment.experiment_id))
    producer.known.stage(experiment.experiment_id, LifecycleStage.ACTIVE)


def rename_experiment_with(producer: Producer, experiment_id: object, new_name: object) -> None:
    """Give an experiment another name. Raises `InvalidState` for a deleted one, and `AlreadyExists`."""
    name, experiment = check_experiment_name(new_name), _found(producer, experiment_id)
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise InvalidState(f"experiment {experiment.name!r} is deleted and cannot be renamed; restore it first")
    owner = experiment_named(producer, name)
    if owner is not None and owner.experiment_id != experiment.experiment_id:
        raise AlreadyExists(f"experiment {owner.experiment_id} is already named {name!r}; choose another name")
    _finish(producer.rename_experiment(experiment.experiment_id, name))
    producer.known.remember(replace(experiment, name=name))


def set_experiment_tag_with(producer: Producer, experiment_id: object, key: str, value: object) -> None:
    """Set a tag of an active experiment."""
    experiment = _found(producer, experiment_id)
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise InvalidParameter(f"experiment {experiment.name!r} is deleted and cannot be changed; restore it first")
    _finish(producer.set_experiment_tag(experiment.experiment_id, key, value))


def delete_experiment_tag_with(producer: Producer, experiment_id: object, key: str) -> None:
    """Delete a tag of an experiment. Raises `NotFound` where it has none of that key."""
    experiment = _found(producer, experiment_id)
    if check_key("tag", key) not in experiment.tags:
        raise NotFound(f"experiment {experiment.name!r} has no tag {key!r}")
    _finish(producer.delete_experiment_tag(experiment.experiment_id, key))


def _found(producer: Producer, experiment_id: object) -> Experiment:
    return experiment_from(producer, experiment_id)


def _finish(operation: RunOperations) -> None:
    if is_synchronous():
        operation.wait()
