"""Which experiment a run belongs to: by name without a round trip, by id with one where this process does not know it yet."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from flightlog.producer import lifecycle
from flightlog.producer.context import Lookup, context
from flightlog.schema.entities import Experiment, LifecycleStage
from flightlog.schema.errors import InvalidParameter, NotFound, StoreUnavailable
from flightlog.schema.ids import DEFAULT_EXPERIMENT_ID, DEFAULT_EXPERIMENT_NAME, experiment_id_for, now_ms
from flightlog.schema.limits import check_experiment_id, check_experiment_name

if TYPE_CHECKING:
    from flightlog.producer.client import Producer


def experiment_by_name(name: object) -> Experiment:
    """Return the active experiment of a name, which the store creates when it hears of it first.

    The store is asked only where calls wait for it anyway, or where the experiment was deleted by this process.
    """
    checked = check_experiment_name(name)
    producer = context.producer
    known = producer.known.named(checked)
    is_in_doubt = known is not None and known.lifecycle_stage != LifecycleStage.ACTIVE
    if context.lookup is not None and (is_in_doubt or (known is None and lifecycle.is_waiting_at_end())):
        known = context.lookup.experiment_named(checked) or _new(free_id(producer, checked, context.lookup.experiment), checked)
    experiment = _remember(_active(known or _new(producer.known.new_id(checked), checked)))
    operation = producer.create_experiment(experiment.experiment_id, checked, experiment.artifact_location)  # harmless when it is there
    if lifecycle.is_waiting_at_end():
        operation.wait()
    return experiment


def free_id(producer: Producer, name: str, experiment: Callable[[str], Experiment]) -> str:
    """Return the id for a new experiment of a name, which no experiment has that was renamed. `experiment` looks one up by its id."""
    while True:
        found = producer.known.new_id(name)
        try:
            producer.known.remember(experiment(found))
        except NotFound:
            return found


def experiment_by_id(experiment_id: object) -> Experiment:
    """Return the active experiment of an id. Raises `NotFound`, `InvalidParameter` for a deleted one, or `StoreUnavailable`."""
    checked = check_experiment_id(experiment_id)
    known = context.producer.known.experiment(checked)
    if known is None and checked == DEFAULT_EXPERIMENT_ID:
        known = _new(checked, DEFAULT_EXPERIMENT_NAME)
    return known or _remember(_active(_lookup().experiment(checked)))


def experiment_of_run(experiment_id: object) -> Experiment:
    """Return the experiment of a run that starts: the given one, else the active one, else that of the environment, else the default.

    One that is given by its id, and cannot be looked up because the store cannot be reached, is taken on trust.
    """
    if experiment_id is not None:
        return _trusted(check_experiment_id(experiment_id))
    if context.experiment_id is not None:
        known = context.producer.known
        if known.is_deleted(context.experiment_id):
            return _trusted(context.experiment_id)
        return known.experiment(context.experiment_id) or _new(context.experiment_id, context.experiment_name or "")
    return _of_environment() or _new(DEFAULT_EXPERIMENT_ID, DEFAULT_EXPERIMENT_NAME)


def _of_environment() -> Experiment | None:
    name, experiment_id = context.settings.experiment_name, context.settings.experiment_id
    if name is not None:
        found = _named_in_environment(name, experiment_id)
        if experiment_id not in (None, found.experiment_id):
            raise InvalidParameter(
                f"MLFLOW_EXPERIMENT_ID is {experiment_id!r}, but the experiment {name!r} of MLFLOW_EXPERIMENT_NAME has the id "
                f"{found.experiment_id!r}; set one of the two"
            )
        return found
    if experiment_id is None:
        return None
    try:
        return _trusted(experiment_id)
    except NotFound as error:
        raise InvalidParameter(f"MLFLOW_EXPERIMENT_ID is {experiment_id!r}: {error}; set MLFLOW_EXPERIMENT_NAME to create one") from error


def _named_in_environment(name: str, experiment_id: str | None) -> Experiment:
    """Return the experiment of a name; where its id is given and is not the one that follows from the name, as the store knows it."""
    if experiment_id in (None, experiment_id_for(name)) or context.lookup is None:
        return experiment_by_name(name)
    try:
        found = context.lookup.experiment_named(name)
    except StoreUnavailable as error:
        lifecycle.warn_once(f"experiment {name!r} is taken to have the id {experiment_id}, because the store cannot be reached: {error}")
        found = _new(str(experiment_id), name)
    return _remember(_active(found)) if found else experiment_by_name(name)


def _trusted(experiment_id: str) -> Experiment:
    try:
        return experiment_by_id(experiment_id)
    except StoreUnavailable as error:
        lifecycle.warn_once(
            f"experiment {experiment_id} is used without looking whether it exists, because the store cannot be reached: {error}"
        )
        return _new(experiment_id, "")


def _lookup() -> Lookup:
    if context.lookup is None:
        raise StoreUnavailable("an experiment can be chosen by id only where the store can be read; use its name")
    return context.lookup


def _remember(experiment: Experiment) -> Experiment:
    context.producer.locations.learn(experiment.experiment_id, experiment.artifact_location)
    return context.producer.known.remember(experiment)


def _active(experiment: Experiment) -> Experiment:
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        identity = f"{experiment.name!r} (id {experiment.experiment_id})"
        raise InvalidParameter(f"experiment {identity} is deleted; restore it with restore_experiment, or choose another")
    return experiment


def _new(experiment_id: str, name: str) -> Experiment:
    """Return an experiment as it is when it is new."""
    now = now_ms()
    return Experiment(experiment_id, name, context.producer.locations.of(experiment_id), LifecycleStage.ACTIVE, {}, now, now)
