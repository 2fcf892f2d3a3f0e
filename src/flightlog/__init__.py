"""flightlog: a flight recorder for training runs, with MLflow's tracking API.

    import flightlog as mlflow

The verbs that write are here from the start; those that read, and what needs SQLAlchemy, are imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from flightlog import _wiring as _wiring
from flightlog.producer.fluent import (
    active_run,
    attach,
    delete_tag,
    end_run,
    flush_artifact_async_logging,
    flush_async_logging,
    get_artifact_uri,
    get_registry_uri,
    get_tracking_uri,
    is_tracking_uri_set,
    log_artifact,
    log_artifacts,
    log_dict,
    log_figure,
    log_metric,
    log_metrics,
    log_param,
    log_params,
    log_stream,
    log_text,
    rewind,
    set_experiment,
    set_registry_uri,
    set_tag,
    set_tags,
    set_tracking_uri,
    start_run,
)
from flightlog.producer.run import ActiveRun
from flightlog.producer.system.switches import (
    disable_system_metrics_logging,
    enable_system_metrics_logging,
    set_system_metrics_node_id,
    set_system_metrics_samples_before_logging,
    set_system_metrics_sampling_interval,
)
from flightlog.schema.errors import FlightlogException, MlflowException

if TYPE_CHECKING:
    from flightlog import artifacts, config, data, entities, exceptions, testing, tracking, types
    from flightlog.client import Client, MlflowClient
    from flightlog.diagnosis import doctor
    from flightlog.experiments import (
        create_experiment,
        delete_experiment,
        delete_experiment_tag,
        restore_experiment,
        set_experiment_tag,
        set_experiment_tags,
    )
    from flightlog.histories import get_metric_histories, stream_metric_histories
    from flightlog.images import Image, log_image
    from flightlog.inputs import log_input, log_inputs, log_outputs
    from flightlog.reading import (
        delete_run,
        get_attempts,
        get_experiment,
        get_experiment_by_name,
        get_parent_run,
        get_run,
        last_active_run,
        restore_run,
        search_experiments,
        search_runs,
    )
    from flightlog.tables import load_table, log_table

__version__ = "0.1.0"

_LAZY = {
    name: f"flightlog.{module}"
    for module, names in {
        "client": "Client MlflowClient",
        "diagnosis": "doctor",
        "experiments": (
            "create_experiment delete_experiment delete_experiment_tag restore_experiment set_experiment_tag set_experiment_tags"
        ),
        "histories": "get_metric_histories stream_metric_histories",
        "images": "Image log_image",
        "inputs": "log_input log_inputs log_outputs",
        "reading": (
            "delete_run get_attempts get_experiment get_experiment_by_name get_parent_run get_run last_active_run restore_run "
            "search_experiments search_runs"
        ),
        "tables": "load_table log_table",
    }.items()
    for name in names.split()
}
_MODULES = ("artifacts", "config", "data", "entities", "exceptions", "testing", "tracking", "types")

__all__ = [
    "ActiveRun",
    "Client",
    "FlightlogException",
    "Image",
    "MlflowClient",
    "MlflowException",
    "active_run",
    "artifacts",
    "attach",
    "config",
    "create_experiment",
    "data",
    "delete_experiment",
    "delete_experiment_tag",
    "delete_run",
    "delete_tag",
    "disable_system_metrics_logging",
    "doctor",
    "enable_system_metrics_logging",
    "end_run",
    "entities",
    "exceptions",
    "flush_artifact_async_logging",
    "flush_async_logging",
    "get_artifact_uri",
    "get_attempts",
    "get_experiment",
    "get_experiment_by_name",
    "get_metric_histories",
    "get_parent_run",
    "get_registry_uri",
    "get_run",
    "get_tracking_uri",
    "is_tracking_uri_set",
    "last_active_run",
    "load_table",
    "log_artifact",
    "log_artifacts",
    "log_dict",
    "log_figure",
    "log_image",
    "log_input",
    "log_inputs",
    "log_metric",
    "log_metrics",
    "log_outputs",
    "log_param",
    "log_params",
    "log_stream",
    "log_table",
    "log_text",
    "restore_experiment",
    "restore_run",
    "rewind",
    "search_experiments",
    "search_runs",
    "set_experiment",
    "set_experiment_tag",
    "set_experiment_tags",
    "set_registry_uri",
    "set_system_metrics_node_id",
    "set_system_metrics_samples_before_logging",
    "set_system_metrics_sampling_interval",
    "set_tag",
    "set_tags",
    "set_tracking_uri",
    "start_run",
    "stream_metric_histories",
    "testing",
    "tracking",
    "types",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any member
    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    elif name in _MODULES:
        value = import_module(f"flightlog.{name}")
    else:
        raise AttributeError(f"module 'flightlog' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
