"""The fluent API: the verbs that a script calls, on the active run of its context. Each body is little more than one call.

Signatures and results are MLflow's. Asynchronous is the default: a call returns when its event is in the journal. `synchronous=True` waits
for the commit and raises what the store said; `synchronous=False` returns a `RunOperations`.
"""

from __future__ import annotations

import getpass
import json
import posixpath
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from flightlog.producer import lifecycle
from flightlog.producer.context import active_runs, context, last_run_id
from flightlog.producer.operations import NOTHING, RunOperations
from flightlog.producer.run import ActiveRun
from flightlog.producer.snapshots import check_artifact_path
from flightlog.schema.entities import Experiment, LifecycleStage, Run, RunStatus
from flightlog.schema.errors import FlightlogException, InvalidParameter, StoreUnavailable
from flightlog.schema.ids import DEFAULT_EXPERIMENT_ID, DEFAULT_EXPERIMENT_NAME, experiment_id_for, new_run_id, now_ms
from flightlog.schema.limits import check_experiment_name, check_key, check_run_id
from flightlog.schema.names import RUN_NAME_TAG

if TYPE_CHECKING:
    from flightlog.producer.client import Producer

PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"


def set_tracking_uri(uri: str | Path) -> None:
    """Use the store of this URI from now on: a path or `file:` for a flight folder, or a database URL."""
    context.set_tracking_uri(uri)


def get_tracking_uri() -> str:
    """Return the URI of the store in use."""
    return context.location.tracking_uri


def is_tracking_uri_set() -> bool:
    """Say whether a call or the environment chose the store."""
    return context.is_tracking_uri_set


def set_experiment(experiment_name: str | None = None, experiment_id: str | None = None, trace_location: object = None) -> Experiment:  # noqa: ARG001 - MLflow's signature
    """Make an experiment the active one of this process, creating it if its name is new. Give its name or its id.

    By name there is no round trip: the id is derived from the name, and the store creates the experiment when it hears of it.
    """
    if (experiment_name is None) == (experiment_id is None):
        raise InvalidParameter("set_experiment needs either experiment_name or experiment_id, and not both")
    if experiment_name is None:
        experiment = _experiment_by_id(str(experiment_id))
    else:
        experiment = _experiment_by_name(check_experiment_name(experiment_name))
    context.experiment_id, context.experiment_name = experiment.experiment_id, experiment.name
    return experiment


def _experiment_by_name(name: str) -> Experiment:
    experiment_id = experiment_id_for(name)
    context.producer.create_experiment(experiment_id, name)
    now = now_ms()
    return Experiment(experiment_id, name, context.location.artifact_location(experiment_id), LifecycleStage.ACTIVE, {}, now, now)


def _experiment_by_id(experiment_id: str) -> Experiment:
    if context.lookup is None:
        raise StoreUnavailable("an experiment can be chosen by id only where the store can be read; use its name")
    experiment = context.lookup.experiment(experiment_id)
    if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
        raise InvalidParameter(f"experiment {experiment.name!r} (id {experiment_id}) is deleted; restore it, or choose another")
    return experiment


def start_run(
    run_id: str | None = None,
    experiment_id: str | None = None,
    run_name: str | None = None,
    nested: bool = False,
    parent_run_id: str | None = None,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    log_system_metrics: bool | None = None,  # noqa: ARG001 - MLflow's signature
) -> ActiveRun:
    """Start a run, or resume the one of `run_id`, and make it the active run of this context. Makes no round trip for a new run."""
    stack = active_runs.get()
    if stack and not nested:
        active = stack[-1].info.run_id
        raise FlightlogException(
            f"run {active} is already active; end it with end_run(), or start one inside it with start_run(nested=True)"
        )
    resumed = run_id or context.settings.run_id if not stack else run_id
    if resumed is not None:
        run = _resume(check_run_id(resumed), run_name, tags, description)
    else:
        parent = _parent(stack, parent_run_id)
        run = _start(experiment_id, run_name, _start_tags(tags, description, parent, run_name))
    active_runs.set((*stack, run))
    last_run_id.set(run.info.run_id)
    lifecycle.own(run)
    return run


def attach(run_id: str) -> ActiveRun:
    """Make a run that another process has started the active one, without a round trip and without owning its status.

    This is what ranks and spawned workers use: each process has its own writer, and nobody waits for anybody.
    """
    run = ActiveRun(_starting().unread_run(check_run_id(run_id)), context.producer, owned=False)
    active_runs.set((*active_runs.get(), run))
    last_run_id.set(run_id)
    return run


def _parent(stack: tuple[ActiveRun, ...], parent_run_id: str | None) -> str | None:
    top = stack[-1].info.run_id if stack else None
    if parent_run_id and top and parent_run_id != top:
        raise FlightlogException(f"the active run is {top}, so a run inside it cannot have the parent {parent_run_id}")
    return parent_run_id or top


def _start_tags(tags: Mapping[str, Any] | None, description: str | None, parent: str | None, run_name: str | None) -> dict[str, str]:
    given = {check_key("tag", key): str(value) for key, value in (tags or {}).items()}
    if description is not None and given.setdefault(NOTE_TAG, description) != description:
        raise InvalidParameter(f"description {description!r} and the tag {NOTE_TAG} {given[NOTE_TAG]!r} differ; give one of them")
    if run_name is not None and given.get(RUN_NAME_TAG, run_name) != run_name:
        raise InvalidParameter(f"run_name {run_name!r} and the tag {RUN_NAME_TAG} {given[RUN_NAME_TAG]!r} differ; give one of them")
    if parent is not None:
        given[PARENT_TAG] = parent
    return {**_default_tags(), **given}


def _default_tags() -> dict[str, str]:
    return {
        "mlflow.user": _user(),
        "mlflow.source.name": sys.argv[0] if sys.argv and sys.argv[0] else "<console>",
        "mlflow.source.type": "LOCAL",
    }


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a user id without a name, as in containers
        return "unknown"


def _start(experiment_id: str | None, run_name: str | None, tags: dict[str, str]) -> ActiveRun:
    producer = context.producer
    experiment_id, experiment_name = _choose_experiment(experiment_id)
    starting = _starting()
    run_id = new_run_id()
    event = starting.run_started(producer, run_id, experiment_id, experiment_name, run_name, tags)
    producer.start(run_id, event)
    return ActiveRun(starting.local_run(run_id, event), producer)


def _starting() -> ModuleType:
    """Return what knows the events of a run's start; imported late, because pydantic takes as long as all the rest together."""
    from flightlog.producer import starting  # noqa: PLC0415 - as said

    return starting


def _choose_experiment(experiment_id: str | None) -> tuple[str, str | None]:
    settings = context.settings
    if experiment_id is not None:
        return str(experiment_id), None
    if context.experiment_id is not None:
        return context.experiment_id, context.experiment_name
    if settings.experiment_name is not None:
        return experiment_id_for(settings.experiment_name), settings.experiment_name
    if settings.experiment_id is not None:
        return settings.experiment_id, None
    return DEFAULT_EXPERIMENT_ID, DEFAULT_EXPERIMENT_NAME


def _resume(run_id: str, run_name: str | None, tags: Mapping[str, Any] | None, description: str | None) -> ActiveRun:
    producer = context.producer
    known = _known_run(run_id)
    producer.resume(run_id)
    for key, value in {
        **(tags or {}),
        **({NOTE_TAG: description} if description else {}),
        **({RUN_NAME_TAG: run_name} if run_name else {}),
    }.items():
        producer.set_tag(run_id, key, value)
    return ActiveRun(known, producer)


def _known_run(run_id: str) -> Run:
    """Return the run that is to be resumed. When the store cannot be reached, training goes on with what little is known."""
    unread: Run = _starting().unread_run(run_id)
    if context.lookup is None:
        return unread
    try:
        run = context.lookup.run(run_id)
    except StoreUnavailable as error:
        lifecycle.warn_once(f"run {run_id} is resumed without reading it, because the store cannot be reached: {error}")
        return unread
    if run.info.lifecycle_stage != LifecycleStage.ACTIVE:
        raise FlightlogException(f"cannot resume run {run_id}: it is deleted; restore it with restore_run first")
    chosen = context.experiment_id
    if chosen is not None and chosen != run.info.experiment_id:
        raise FlightlogException(
            f"run {run_id} belongs to experiment {run.info.experiment_id}, and the active experiment is {chosen}; call set_experiment first"
        )
    return Run(replace(run.info, status="RUNNING", status_reason=None), run.data, run.inputs, run.outputs)


def end_run(status: str = "FINISHED") -> None:
    """End the active run of this context with a status: FINISHED, FAILED or KILLED. Without an active run nothing happens."""
    stack = active_runs.get()
    if not stack:
        return
    check_status(status)
    active_runs.set(stack[:-1])
    lifecycle.end(stack[-1], status)


def check_status(status: str) -> str:
    """Return a status if it is one that a run can have."""
    if status not in {RunStatus.to_string(number) for number in RunStatus.all_status()}:
        raise InvalidParameter(f"{status!r} is no status of a run; use FINISHED, FAILED, KILLED, RUNNING or SCHEDULED")
    return status


def active_run() -> ActiveRun | None:
    """Return the active run of this context, or None."""
    stack = active_runs.get()
    return stack[-1] if stack else None


def _active() -> ActiveRun:
    """Return the active run, starting one if there is none, as MLflow does."""
    stack = active_runs.get()
    return stack[-1] if stack else start_run()


def rewind(step: int) -> None:
    """Begin a new attempt of the active run at a step, as after going back to a checkpoint. Then log as usual.

    Points that earlier attempts have logged at that step or later are kept, and shown only where their attempt is asked for.
    """
    stack = active_runs.get()
    if not stack:
        raise FlightlogException("there is no active run to rewind; resume one with start_run(run_id=...)")
    stack[-1].rewind(step)


def _finish(operation: RunOperations, synchronous: bool | None, value: Any = None) -> Any:  # noqa: ANN401 - whatever the verb returns
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
    model_id: str | None = None,  # noqa: ARG001 - MLflow's signature
    dataset: object = None,  # noqa: ARG001 - MLflow's signature
) -> RunOperations | None:
    """Log a metric. `step` is 0 and `timestamp` (ms since the epoch) now when not given."""
    stack = active_runs.get()
    if stack and run_id is None and synchronous is None and not context.synchronous:
        stack[-1].recorder.metric(key, value, step, timestamp)
        return None
    producer, subject = _target(run_id)
    return _finish(producer.log_metric(subject, key, value, timestamp, step), synchronous)  # type: ignore[no-any-return]  # as _finish says


def log_metrics(
    metrics: Mapping[str, float],
    step: int | None = None,
    synchronous: bool | None = None,
    run_id: str | None = None,
    timestamp: int | None = None,
    model_id: str | None = None,  # noqa: ARG001 - MLflow's signature
    dataset: object = None,  # noqa: ARG001 - MLflow's signature
) -> RunOperations | None:
    """Log several metrics at one step and time."""
    stack = active_runs.get()
    if stack and run_id is None and synchronous is None and not context.synchronous:
        stack[-1].recorder.metrics(metrics, step, timestamp)
        return None
    producer, subject = _target(run_id)
    return _finish(producer.log_metrics(subject, metrics, step, timestamp), synchronous)  # type: ignore[no-any-return]  # as _finish says


def _target(run_id: str | None) -> tuple[Producer, str]:
    if run_id is not None:
        return context.producer, run_id
    run = _active()
    return run.producer, run.info.run_id


def log_param(key: str, value: Any, synchronous: bool | None = None) -> Any:  # noqa: ANN401 - any value, returned as it came
    """Log a param as text and return its value. The first value of a key stays; another one later becomes a dead letter."""
    producer, run_id = _target(None)
    return _finish(producer.log_param(run_id, key, value), synchronous, value)


def log_params(params: Mapping[str, Any], synchronous: bool | None = None, run_id: str | None = None) -> RunOperations | None:
    """Log several params. All keys are checked before any is written."""
    producer, subject = _target(run_id)
    for key in params:
        check_key("param", key)
    operations = [producer.log_param(subject, key, value) for key, value in params.items()]
    return _finish(sum(operations, NOTHING), synchronous)  # type: ignore[no-any-return]  # as _finish says


def set_tag(key: str, value: Any, synchronous: bool | None = None) -> RunOperations | None:  # noqa: ANN401 - any value
    """Set a tag as text. The latest value counts."""
    producer, run_id = _target(None)
    return _finish(producer.set_tag(run_id, key, value), synchronous)  # type: ignore[no-any-return]  # as _finish says


def set_tags(tags: Mapping[str, Any], synchronous: bool | None = None) -> RunOperations | None:
    """Set several tags. All keys are checked before any is written."""
    producer, run_id = _target(None)
    for key in tags:
        check_key("tag", key)
    operations = [producer.set_tag(run_id, key, value) for key, value in tags.items()]
    return _finish(sum(operations, NOTHING), synchronous)  # type: ignore[no-any-return]  # as _finish says


def delete_tag(key: str) -> None:
    """Delete a tag of the active run."""
    producer, run_id = _target(None)
    _finish(producer.delete_tag(run_id, key), None)


def log_artifact(local_path: str | Path, artifact_path: str | None = None, run_id: str | None = None) -> None:
    """Log a file, or a folder with its name, as an artifact. A copy is taken before the call returns."""
    producer, subject = _target(run_id)
    _finish(producer.log_artifact(subject, local_path, artifact_path), None)


def log_artifacts(local_dir: str | Path, artifact_path: str | None = None, run_id: str | None = None) -> None:
    """Log a folder's contents as artifacts."""
    producer, subject = _target(run_id)
    _finish(producer.log_artifacts(subject, local_dir, artifact_path), None)


def log_text(text: str, artifact_file: str, run_id: str | None = None) -> None:
    """Log text as an artifact in UTF-8."""
    producer, subject = _target(run_id)
    _finish(producer.log_bytes(subject, text.encode(), artifact_file), None)


def log_dict(dictionary: Any, artifact_file: str, run_id: str | None = None) -> None:  # noqa: ANN401 - any JSON value
    """Log a dictionary or list as a JSON artifact, or as YAML where the name ends in .yml or .yaml."""
    producer, subject = _target(run_id)
    _finish(producer.log_bytes(subject, dump_dictionary(dictionary), artifact_file), None)


def dump_dictionary(dictionary: Any) -> bytes:  # noqa: ANN401 - any JSON value
    """Return the bytes of a `log_dict` artifact. JSON is read by every YAML reader, so .yml needs no other writer."""
    return json.dumps(dictionary, indent=2, default=str).encode()


def log_figure(figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None) -> None:  # noqa: ANN401 - matplotlib's or plotly's
    """Log a matplotlib or plotly figure as an artifact; the file's name gives the format."""
    producer, subject = _target(None)
    _finish(producer.log_bytes(subject, figure_bytes(figure, artifact_file, dict(save_kwargs or {})), artifact_file), None)


def figure_bytes(figure: Any, artifact_file: str, save_kwargs: dict[str, Any]) -> bytes:  # noqa: ANN401 - matplotlib's or plotly's
    """Return a figure as the bytes of a file of that name. Raises `TypeError` for what is no figure."""
    import io  # noqa: PLC0415 - figures are rare

    extension = posixpath.splitext(artifact_file)[1].lstrip(".") or "png"
    if hasattr(figure, "savefig"):
        buffer = io.BytesIO()
        figure.savefig(buffer, **{"format": extension, **save_kwargs})
        return buffer.getvalue()
    if hasattr(figure, "to_image"):
        html = extension == "html"
        return (
            figure.to_html(**{"include_plotlyjs": "cdn", **save_kwargs}).encode()
            if html
            else bytes(figure.to_image(format=extension, **save_kwargs))
        )
    raise TypeError(f"a figure must be matplotlib's or plotly's, not {type(figure).__name__}")


def get_artifact_uri(artifact_path: str | None = None) -> str:
    """Return the URI of the active run's artifacts, or of one of them."""
    run = _active()
    inside = check_artifact_path(artifact_path)
    return posixpath.join(str(run.info.artifact_uri), inside) if inside else str(run.info.artifact_uri)


def flush_async_logging() -> None:
    """Wait until the store has committed everything that this process has logged. Raises `NotCommitted` if it takes too long."""
    lifecycle.settle_all(context.settings.sync_timeout)
