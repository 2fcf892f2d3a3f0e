"""Every public name of MLflow's tracking API is here with the same arguments, or is absent on purpose."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import flightlog
from flightlog import artifacts, config, entities

Shape = list[list[str | None]]

ASK = """
import contextlib, inspect, json, sys, warnings
warnings.simplefilter("ignore")
with contextlib.redirect_stdout(sys.stderr):
    import mlflow, mlflow.artifacts, mlflow.config, mlflow.entities, mlflow.exceptions
    from mlflow.utils import mlflow_tags

def shape(thing):
    parameters = inspect.signature(thing).parameters.values()
    return [[p.name, None if p.default is p.empty else repr(p.default), p.kind.name] for p in parameters]

def shapes(owner, names):
    found = {}
    for name in names:
        with contextlib.suppress(Exception):
            thing = getattr(owner, name)
            found[name] = shape(thing) if callable(thing) else None
    return found

def own(module):
    functions = [thing for thing in vars(module).values() if inspect.isfunction(thing) and thing.__module__ == module.__name__]
    return [function.__name__ for function in functions if function.__name__[0] != "_"]

client = [name for name, _ in inspect.getmembers(mlflow.MlflowClient, inspect.isfunction) if name[0] != "_"]
print(json.dumps({
    "fluent": shapes(mlflow, mlflow.__all__),
    "client": {"__init__": shape(mlflow.MlflowClient.__init__), **shapes(mlflow.MlflowClient, client)},
    "artifacts": shapes(mlflow.artifacts, own(mlflow.artifacts)),
    "config": shapes(mlflow.config, mlflow.config.__all__),
    "entities": shapes(mlflow.entities, mlflow.entities.__all__),
    "exception": shape(mlflow.exceptions.MlflowException),
    "tags": {name: value for name, value in vars(mlflow_tags).items() if name.startswith("MLFLOW_")},
}))
"""

MODELS = """
    ActiveModel clear_active_model create_external_model delete_logged_model_tag finalize_logged_model get_active_model_id get_logged_model
    import_checkpoints initialize_logged_model last_logged_model log_model_params pyfunc register_model search_logged_models
    search_model_versions search_registered_models set_active_model set_logged_model_tags set_model_version_tag
    evaluate validate_evaluation_results
"""
TRACES = """
    add_trace context delete_assessment delete_prompt_alias delete_trace_tag flush_trace_async_logging gateway get_active_trace_id
    get_assessment get_current_active_span get_last_active_trace_id get_trace load_prompt log_assessment log_expectation log_feedback
    log_issue log_trace override_feedback register_prompt search_prompts search_sessions search_traces set_prompt_alias set_trace_tag
    start_span start_span_no_context test trace update_assessment update_current_trace
"""
OTHER_PARTS = """
    create_workspace delete_workspace get_workspace list_workspaces set_workspace update_workspace autolog login run
"""
SIBLINGS = """
    log_input log_inputs log_outputs disable_system_metrics_logging enable_system_metrics_logging set_system_metrics_node_id
    set_system_metrics_samples_before_logging set_system_metrics_sampling_interval
"""
"""What other parts of the tracking API bring; it may be here."""
ABSENT = set(f"{MODELS} {TRACES} {OTHER_PARTS}".split())

CLIENT_FAMILIES = (
    "dataset", "mcp", "model", "prompt", "webhook", "workspace", "trace", "span", "log_outputs",
)  # fmt: skip
"""What the names of client methods hold that belong to models, the registry, traces and prompts."""
CLIENT_SIBLINGS = {"log_inputs"}
ARTIFACTS_ABSENT = {"load_image"}
"""Brought by the part that reads artifacts."""
RUN_FAMILY = """
    Experiment ExperimentTag FileInfo LifecycleStage Metric Param Run RunData RunInfo RunInputs RunOutputs RunStatus RunTag SourceType
    ViewType
""".split()
NOT_TAKEN = {
    "Experiment": ["workspace", "trace_location", "effective_trace_archival_retention"],
    "download_artifacts": ["registry_uri"],
}
"""Trailing arguments of MLflow's that are about what is absent."""


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-c", ASK], capture_output=True, text=True, check=True)
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def shape_of(thing: Callable[..., Any]) -> Shape:
    parameters = inspect.signature(thing).parameters.values()
    return [[item.name, None if item.default is item.empty else repr(item.default), item.kind.name] for item in parameters]


def differences(ours: dict[str, Any], theirs: dict[str, Shape | None]) -> list[str]:
    """Return what our functions do otherwise. One may take more at the end, and have a default where MLflow has none."""
    found = []
    for name, thing in ours.items():
        wanted = theirs.get(name)
        if wanted is None or not callable(thing):
            continue
        expected = [item for item in wanted if item[0] not in NOT_TAKEN.get(name, [])]
        actual = shape_of(thing)
        pairs = [(mine, its) for mine, its in zip(actual, expected, strict=False) if not (mine[0] == its[0] and mine[2] == its[2])]
        defaults = [(mine, its) for mine, its in zip(actual, expected, strict=False) if its[1] not in (None, mine[1])]
        extra = [item for item in actual[len(expected) :] if item[1] is None and "VAR_" not in str(item[2])]
        if pairs or defaults or extra or len(actual) < len(expected):
            found.append(f"{name}: {actual} is not {expected}")
    return found


def test_every_fluent_verb_takes_what_mlflows_takes(theirs: dict[str, Any]) -> None:
    names = {name for name in theirs["fluent"] if hasattr(flightlog, name) and not inspect.isclass(getattr(flightlog, name))}
    assert len(names) > 40
    assert differences({name: getattr(flightlog, name) for name in names}, theirs["fluent"]) == []


def test_no_fluent_name_is_missing_but_those_that_are_absent_on_purpose(theirs: dict[str, Any]) -> None:
    missing = {name for name in theirs["fluent"] if not hasattr(flightlog, name)}
    assert missing - set(SIBLINGS.split()) <= ABSENT
    assert missing >= ABSENT & set(theirs["fluent"]), "a name that is here now is not absent any more: take it off the list"


def test_every_client_method_takes_what_mlflows_takes(theirs: dict[str, Any]) -> None:
    names = {name for name in theirs["client"] if hasattr(flightlog.MlflowClient, name)}
    assert len(names) > 30
    assert differences({name: getattr(flightlog.MlflowClient, name) for name in names}, theirs["client"]) == []


def test_no_client_method_is_missing_but_those_of_absent_families(theirs: dict[str, Any]) -> None:
    missing = {name for name in theirs["client"] if not hasattr(flightlog.MlflowClient, name)} - CLIENT_SIBLINGS
    assert [name for name in missing if not any(family in name for family in CLIENT_FAMILIES) and name != "get_latest_versions"] == []


@pytest.mark.parametrize(("module", "name"), [(artifacts, "artifacts"), (config, "config")], ids=["artifacts", "config"])
def test_the_functions_of_a_module_take_what_mlflows_take(module: Any, name: str, theirs: dict[str, Any]) -> None:
    ours = {key: getattr(module, key) for key in theirs[name] if hasattr(module, key)}
    assert differences(ours, theirs[name]) == []
    assert set(theirs[name]) - set(ours) <= {*ABSENT, *SIBLINGS.split(), *ARTIFACTS_ABSENT}


def test_the_entities_of_the_run_family_are_built_as_mlflows(theirs: dict[str, Any]) -> None:
    values = [name for name in RUN_FAMILY if name not in ("LifecycleStage", "RunStatus", "SourceType", "ViewType")]
    loose = {"RunInputs", "RunOutputs"}  # MLflow demands the lists that are empty by default here
    assert differences({name: getattr(entities, name) for name in values if name not in loose}, theirs["entities"]) == []
    assert set(RUN_FAMILY) <= set(entities.__all__)


def test_the_exception_is_built_as_mlflows(theirs: dict[str, Any]) -> None:
    assert [item[0] for item in shape_of(flightlog.MlflowException)] == [item[0] for item in theirs["exception"]]


def test_the_tags_have_mlflows_names_and_keys(theirs: dict[str, Any]) -> None:
    from flightlog.utils import mlflow_tags  # noqa: PLC0415 - as a script does

    ours = {name: value for name, value in vars(mlflow_tags).items() if name.startswith("MLFLOW_")}
    assert len(ours) > 30
    assert {name: theirs["tags"].get(name) for name in ours} == ours


@pytest.mark.parametrize(
    "line",
    [
        "from flightlog.tracking import MlflowClient",
        "from flightlog.tracking.client import MlflowClient",
        "from flightlog.tracking.fluent import active_run, start_run",
        "from flightlog.exceptions import MlflowException, RestException",
        "from flightlog.entities import Metric, Param, RunTag, SourceType, ViewType",
        "from flightlog.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME",
        "from flightlog.config import enable_async_logging",
        "from flightlog.artifacts import download_artifacts",
        "import flightlog.tracking; flightlog.tracking.MlflowClient",
    ],
)
def test_the_paths_that_scripts_import_from_are_there(line: str) -> None:
    exec(line, {})
