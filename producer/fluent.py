"""The fluent API: the verbs that a script calls, on the active run of its context. Each body is little more than one call.

Signatures and results are MLflow's. Asynchronous is the default: a call returns when its event is in the journal. `synchronous=True` waits
for the commit and raises what the store said; `synchronous=False` returns a `RunOperations`.
"""

from __future__ import annotations

import os
import posixpath
import threading
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flightlog.producer import lifecycle
from flightlog.producer.context import Lookup, activate, active_runs, context, deactivate, under_way
from flightlog.producer.default_tags import default_tags
from flightlog.producer.documents import Readable, dictionary_bytes, figure_bytes, stream_bytes, text_bytes
from flightlog.producer.experiments import experiment_by_id, experiment_by_name, experiment_of_run
from flightlog.producer.operations import NOTHING, RunOperations
from flightlog.producer.run import ActiveRun
from flightlog.producer.system import switches
from flightlog.schema.artifact_paths import check_artifact_path
from flightlog.schema.entities import Experiment, LifecycleStage, Run, RunStatus
from flightlog.schema.errors import FlightlogException, InvalidParameter, NotFound, StoreUnavailable
from flightlog.schema.ids import new_run_id
from flightlog.schema.limits import check_run_id
from flightlog.schema.names import NOTE_TAG, PARENT_TAG, RUN_NAME_TAG

if TYPE_CHECKING:
    from flightlog.producer.client import Producer


def set_tracking_uri(uri: str | Path) -> None:
    """Use the store of this URI from now on, here and in the processes that this one starts; "" means that of the environment again.

    A path or `file:` is a flight folder, or it is a database URL.
    """
    context.set_tracking_uri(uri)


def get_tracking_uri() -> str:
    """Return the URI of the store in use."""
    return context.location.tracking_uri


def is_tracking_uri_set() -> bool:
    """Say whether a call or the environment chose the store."""
    return context.is_tracking_uri_set


def set_registry_uri(uri: str) -> None:
    """Keep the URI of a model registry, here and in the processes that this one starts; "" means the tracking URI. There is none yet."""
    context.chosen["registry_uri"] = str(uri)
    if uri:
        os.environ.pop("FLIGHTLOG_REGISTRY_URI", None)
        os.environ["MLFLOW_REGISTRY_URI"] = str(uri)
    lifecycle.warn_once("the URI of a model registry is kept and not used: there is no model registry yet")


def get_registry_uri() -> str:
    """Return the URI that `set_registry_uri` or the environment gave, else the tracking URI."""
    return context.chosen.get("registry_uri", context.settings.registry_uri) or get_tracking_uri()


def set_experiment(experiment_name: str | None = None, experiment_id: str | None = None, trace_location: object = None) -> Experiment:  # noqa: ARG001 - MLflow's signature
    """Make an experiment the active one of this process and of those that it starts. Give its name, which may be new, or its id.

    By name there is no round trip: the id is derived from the name, the store creates the experiment when it hears of it, and what this
    process does not know is returned as for a new one. Only where calls wait for the commit is the store asked. By id it always is.
    Raises `InvalidParameter` for an experiment that is known to be deleted, and `NotFound` for an unknown id.
    """
    if (experiment_name is None) == (experiment_id is None):
        raise InvalidParameter("set_experiment needs either experiment_name or experiment_id, and not both")
    experiment = experiment_by_id(experiment_id) if experiment_name is None else experiment_by_name(experiment_name)
    context.choose_experiment(experiment)
    return experiment


def start_run(
    run_id: str | None = None,
    experiment_id: str | None = None,
    run_name: str | None = None,
    nested: bool = False,
    parent_run_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    log_system_metrics: bool | None = None,
) -> ActiveRun:
    """Start a run, or resume the one of `run_id` or else of `MLFLOW_RUN_ID`, and make it the active run of this context.

    Makes no round trip for a new run, unless its experiment is given by an id that this process does not know. `log_system_metrics` has
    the machine's figures logged in the background; None leaves that to `enable_system_metrics_logging`.
    """
    stack = _of_this_thread()
    if stack and not nested:
        raise FlightlogException(_already_active(stack[-1]))
    sampled = switches.is_wanted(log_system_metrics)
    resumed = run_id or context.take_run_id()
    if resumed is not None:
        run = _resume(check_run_id(resumed), run_name, tags, description)
    else:
        parent = _parent(stack, parent_run_id)
        run = _start(experiment_id, run_name, start_tags(tags, description, parent, run_name))
    activate(run)
    lifecycle.own(run)
    if sampled:
        switches.watch(run, resumed=resumed is not None)
    return run


def attach(run_id: str, log_system_metrics: bool | None = None) -> ActiveRun:
    """Make a run that another process has started the active one, without a round trip and without owning its status.

    This is what ranks and spawned workers use: each process has its own writer, and nobody waits for anybody. `log_system_metrics` logs
    the machine's figures under names that tell host and rank; None does so in the first rank of a host where it is switched on.
    """
    sampled = switches.is_wanted(log_system_metrics, attached=True)
    run = ActiveRun(_starting().unread_run(check_run_id(run_id)), context.producer, owned=False)
    activate(run)
    if sampled:
        switches.watch(run, attached=True)
    return run


def _of_this_thread() -> tuple[ActiveRun, ...]:
    """Return the active runs of this thread; those of the process that it was forked from, or of another thread, are left out."""
    home = (os.getpid(), threading.get_ident())
    return tuple(run for run in under_way() if run.home == home)


def _already_active(run: ActiveRun) -> str:
    """Return what to do about a run that is still active, as it is when a notebook's cell runs twice."""
    name = run.info.run_name or "unnamed"
    return (
        f"run {run.info.run_id} ({name}) is already active; end it first with end_run(), let it end by itself in a block, "
        "`with start_run():`, or start one inside it with start_run(nested=True)"
    )


def _parent(stack: tuple[ActiveRun, ...], parent_run_id: str | None) -> str | None:
    top = stack[-1].info.run_id if stack else None
    if parent_run_id:
        check_run_id(parent_run_id)
    if parent_run_id and top and parent_run_id != top:
        raise FlightlogException(f"the active run is {top}, so a run inside it cannot have the parent {parent_run_id}")
    return parent_run_id or top


def start_tags(tags: Mapping[str, Any] | None, description: str | None, parent: str | None, run_name: str | None) -> dict[str, str]:
    """Return the tags that a run begins with: the default ones, and over them what is given."""
    given = _described(tags, description)
    if run_name:
        given[RUN_NAME_TAG] = str(run_name)
    if parent is not None:
        given[PARENT_TAG] = parent
    return {**default_tags(context.settings.run_context), **given}


def _described(tags: Mapping[str, Any] | None, description: str | None) -> dict[str, str]:
    given = context.producer.texts("tag", tags or {})
    if description and NOTE_TAG in given:
        raise InvalidParameter(f"the description {description!r} and the tag {NOTE_TAG} mean the same; give one of them")
    return {**given, NOTE_TAG: str(description)} if description else given


def _start(experiment_id: str | None, run_name: str | None, tags: dict[str, str]) -> ActiveRun:
    producer = context.producer
    experiment = experiment_of_run(experiment_id)
    starting = _starting()
    run_id = new_run_id()
    event = starting.run_started(producer, run_id, experiment.experiment_id, experiment.name or None, run_name, tags)
    producer.start(run_id, event)
    return ActiveRun(producer.known.begin_run(starting.local_run(run_id, event)), producer)


def _starting() -> ModuleType:
    """Return what knows the events of a run's start; imported late, because pydantic takes as long as all the rest together."""
    from flightlog.producer import starting  # noqa: PLC0415 - as said

    return starting


def _resume(run_id: str, run_name: str | None, tags: Mapping[str, Any] | None, description: str | None) -> ActiveRun:
    producer = context.producer
    texts = {**_described(tags, description), **({RUN_NAME_TAG: str(run_name)} if run_name else {})}
    known = _known_run(run_id)
    producer.resume(run_id)
    for key, value in texts.items():
        producer.set_tag(run_id, key, value)
    known.data.tags.update(texts)
    info = replace(known.info, run_name=texts.get(RUN_NAME_TAG, known.info.run_name))
    return ActiveRun(Run(info, known.data, known.inputs, known.outputs), producer)


def _known_run(run_id: str) -> Run:
    """Return the run that is to be resumed. When the store cannot be reached, training goes on with what little is known."""
    if context.lookup is None:
        return _unread_run(run_id)
    try:
        run = _looked_up(run_id)
    except NotFound:
        if not context.producer.holds(run_id):
            raise
        lifecycle.warn_once(f"run {run_id} is resumed without reading it: it is not in the store yet, and no worker files it now")
        return _unread_run(run_id)
    except StoreUnavailable as error:
        lifecycle.warn_once(f"run {run_id} is resumed without reading it, because the store cannot be reached: {error}")
        return _unread_run(run_id)
    context.producer.known.stage_run(run_id, run.info.lifecycle_stage, run.info.experiment_id)
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise FlightlogException(f"cannot resume run {run_id}: it is deleted; restore it with restore_run first")
    chosen = context.experiment_id
    if chosen is not None and chosen != run.info.experiment_id:
        raise FlightlogException(
            f"run {run_id} belongs to experiment {run.info.experiment_id}, and the active experiment is {chosen}; call set_experiment first"
        )
    return Run(replace(run.info, status="RUNNING", status_reason=None), run.data, run.inputs, run.outputs)


def _unread_run(run_id: str) -> Run:
    """Return what this process knows of a run without reading it."""
    known = context.producer.known
    known.check_active(run_id)
    unread: Run = known.begun(run_id) or _starting().unread_run(run_id)
    return unread


def _looked_up(run_id: str) -> Run:
    """Return a run as the store knows it. One that another process has just begun on this machine is waited for."""
    found: list[Run] = []

    def is_filed() -> bool:
        try:
            found.append(_lookup().run(run_id))
        except NotFound:
            return False
        return True

    producer = context.producer
    if not is_filed() and producer.holds(run_id) and producer.can_arrive:
        producer.wait_until(is_filed, producer.settings.sync_timeout)
    return found[-1] if found else _lookup().run(run_id)


def _lookup() -> Lookup:
    if context.lookup is None:
        raise StoreUnavailable("there is nobody here who reads the store")
    return context.lookup


def end_run(status: str = "FINISHED") -> None:
    """End the active run of this context with a status: FINISHED, FAILED or KILLED. Without an active run nothing happens."""
    run = active_run()
    if run is None:
        return
    check_status(status)
    deactivate(run)
    lifecycle.end(run, status)


def check_status(status: str) -> str:
    """Return a status if it is one that a run can have."""
    if status not in {RunStatus.to_string(number) for number in RunStatus.all_status()}:
        raise InvalidParameter(f"{status!r} is no status of a run; use FINISHED, FAILED, KILLED, RUNNING or SCHEDULED")
    return status


def active_run() -> ActiveRun | None:
    """Return the active run of this context, or None."""
    stack = under_way()
    return stack[-1] if stack else None


def _active() -> ActiveRun:
    """Return the active run, starting one if there is none, as MLflow does."""
    return active_run() or start_run()


def rewind(step: int) -> None:
    """Begin a new attempt of the active run at a step, as after going back to a checkpoint. Then log as usual.

    Points that earlier attempts have logged at that step or later are kept, and shown only where their attempt is asked for.
    """
    run = active_run()
    if run is None:
        raise FlightlogException("there is no active run to rewind; resume one with start_run(run_id=...)")
    run.rewind(step)


def finish(operation: RunOperations, synchronous: bool | None, value: Any = None) -> Any:  # noqa: ANN401 - whatever the verb returns
    """Wait or not, as the call or the process asks, and return what MLflow returns."""
    if synchronous is None:
        synchronous = is_synchronous()
        if not synchronous:
            return value
    if synchronous:
        operation.wait()
        return value
    return operation


def is_synchronous() -> bool:
    """Say whether calls wait for the commit when they are not told otherwise."""
    return context.synchronous if context.synchronous is not None else not context.settings.asynchronous


def log_metric(
    key: str,
    value: float,
    step: int | None = None,
    synchronous: bool | None = None,
    timestamp: int | None = None,
    run_id: str | None = None,
    model_id: str | None = None,
    dataset: object = None,
) -> RunOperations | None:
    """Log a metric. `step` is 0 and `timestamp` (ms since the epoch) now when not given. Links dataset and model to the run, once."""
    stack = active_runs.get()
    if stack and run_id is None and synchronous is None and dataset is None and model_id is None:
        run = stack[-1]
        if not (run.ended or context.synchronous):
            run.recorder.metric(key, value, step, timestamp)
            return None
    producer, subject = _changeable(run_id)
    _link(producer, subject, dataset, model_id)
    return finish(producer.log_metric(subject, key, value, timestamp, step), synchronous)  # type: ignore[no-any-return]  # as finish says


def log_metrics(
    metrics: Mapping[str, float],
    step: int | None = None,
    synchronous: bool | None = None,
    run_id: str | None = None,
    timestamp: int | None = None,
    model_id: str | None = None,
    dataset: object = None,
) -> RunOperations | None:
    """Log several metrics at one step and time. Links dataset and model to the run, once."""
    stack = active_runs.get()
    if stack and run_id is None and synchronous is None and dataset is None and model_id is None:
        run = stack[-1]
        if not (run.ended or context.synchronous):
            run.recorder.metrics(metrics, step, timestamp)
            return None
    producer, subject = _changeable(run_id)
    _link(producer, subject, dataset, model_id)
    return finish(producer.log_metrics(subject, metrics, step, timestamp), synchronous)  # type: ignore[no-any-return]  # as finish says


def _link(producer: Producer, run_id: str, dataset: object, model_id: str | None) -> None:
    """Link what a metric was measured with to its run, once."""
    if dataset is None and model_id is None:
        return
    from flightlog.producer.inputs import use_dataset, use_model  # noqa: PLC0415 - few metrics name any

    if dataset is not None:
        use_dataset(producer, run_id, dataset)
    if model_id is not None:
        use_model(producer, run_id, model_id)


def target(run_id: str | None) -> tuple[Producer, str]:
    """Return where to record for a run, the active one for None."""
    if run_id is not None:
        return context.producer, run_id
    run = _active()
    return run.producer, run.info.run_id


def _changeable(run_id: str | None) -> tuple[Producer, str]:
    """Return the same, unless the run is known to be deleted, which takes artifacts and nothing else."""
    producer, subject = target(run_id)
    producer.known.check_active(subject)
    return producer, subject


def log_param(key: str, value: Any, synchronous: bool | None = None) -> Any:  # noqa: ANN401 - any value, returned as it came
    """Log a param as text and return its value. The first value of a key stays; another one later becomes a dead letter."""
    producer, run_id = _changeable(None)
    return finish(producer.log_param(run_id, key, value), synchronous, value)


def log_params(params: Mapping[str, Any], synchronous: bool | None = None, run_id: str | None = None) -> RunOperations | None:
    """Log several params. All keys and values are checked before any is written."""
    producer, subject = _changeable(run_id)
    texts = producer.texts("param", params)
    operations = [producer.log_param(subject, key, text) for key, text in texts.items()]
    return finish(sum(operations, NOTHING), synchronous)  # type: ignore[no-any-return]  # as finish says


def set_tag(key: str, value: Any, synchronous: bool | None = None) -> RunOperations | None:  # noqa: ANN401 - any value
    """Set a tag as text. The latest value counts."""
    producer, run_id = _changeable(None)
    return finish(producer.set_tag(run_id, key, value), synchronous)  # type: ignore[no-any-return]  # as finish says


def set_tags(tags: Mapping[str, Any], synchronous: bool | None = None) -> RunOperations | None:
    """Set several tags. All keys and values are checked before any is written."""
    producer, run_id = _changeable(None)
    operations = [producer.set_tag(run_id, key, text) for key, text in producer.texts("tag", tags).items()]
    return finish(sum(operations, NOTHING), synchronous)  # type: ignore[no-any-return]  # as finish says


def delete_tag(key: str) -> None:
    """Delete a tag of the active run."""
    producer, run_id = _changeable(None)
    finish(producer.delete_tag(run_id, key), None)


def log_artifact(
    local_path: str | Path, artifact_path: str | None = None, run_id: str | None = None, synchronous: bool | None = None
) -> RunOperations | None:
    """Log a file, or a folder with its name, as an artifact. A copy is taken before the call returns, and stored in the background.

    With `synchronous=True` the call waits until it is stored, and raises why it could not be.
    """
    producer, subject = target(run_id)
    return finish(producer.log_artifact(subject, local_path, artifact_path), synchronous)  # type: ignore[no-any-return]  # as finish says


def log_artifacts(
    local_dir: str | Path, artifact_path: str | None = None, run_id: str | None = None, synchronous: bool | None = None
) -> RunOperations | None:
    """Log a folder's contents as artifacts; see `log_artifact`."""
    producer, subject = target(run_id)
    return finish(producer.log_artifacts(subject, local_dir, artifact_path), synchronous)  # type: ignore[no-any-return]  # as finish says


def log_text(text: str, artifact_file: str, run_id: str | None = None) -> None:
    """Log text as an artifact in UTF-8."""
    producer, subject = target(run_id)
    finish(producer.log_bytes(subject, text_bytes(text), artifact_file), None)


def log_dict(dictionary: Any, artifact_file: str, run_id: str | None = None) -> None:  # noqa: ANN401 - any JSON value
    """Log a dictionary or list as a JSON artifact, or as YAML where the name ends in .yml or .yaml."""
    producer, subject = target(run_id)
    finish(producer.log_bytes(subject, dictionary_bytes(dictionary, artifact_file), artifact_file), None)


def log_stream(stream: Readable, artifact_file: str, run_id: str | None = None) -> None:
    """Log what is left in a binary file or `io.BytesIO` as an artifact."""
    producer, subject = target(run_id)
    finish(producer.log_bytes(subject, stream_bytes(stream), artifact_file), None)


def log_figure(figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None) -> None:  # noqa: ANN401 - matplotlib's or plotly's
    """Log a matplotlib or plotly figure as an artifact; the file's name gives the format. Raises `TypeError` for anything else."""
    producer, subject = target(None)
    finish(producer.log_bytes(subject, figure_bytes(figure, artifact_file, save_kwargs), artifact_file), None)


def get_artifact_uri(artifact_path: str | None = None) -> str:
    """Return the URI of the active run's artifacts, or of one of them."""
    run = _active()
    root = run.info.artifact_uri or _looked_up(run.info.run_id).info.artifact_uri
    if root is None:
        raise StoreUnavailable(f"where the artifacts of run {run.info.run_id} are is not known before the store has heard of its start")
    inside = check_artifact_path(artifact_path)
    return posixpath.join(root, inside) if inside else root


def flush_async_logging() -> None:
    """Wait until the store has committed everything that this process has logged. Raises `NotCommitted` if it takes too long."""
    lifecycle.settle_all(context.settings.sync_timeout)


def flush_artifact_async_logging() -> None:
    """Wait until all artifacts that this process has logged are there to be read. Raises `NotCommitted` if it takes too long."""
    lifecycle.settle_all_artifacts(context.settings.sync_timeout)
