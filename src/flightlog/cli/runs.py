"""`flightlog runs`: lists runs and shows one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from flightlog.cli import exits, output, places
from flightlog.cli.options import AsJson, TrackingUri
from flightlog.cli.output import Column
from flightlog.cli.searches import all_experiments, find_experiment
from flightlog.schema.entities import Attempt, DatasetInput, DeadLetter, MetricSummary, Point, Run, RunInfo, ViewType
from flightlog.schema.fold import ArtifactState
from flightlog.schema.limits import check_run_id
from flightlog.schema.names import CONTEXT_TAG
from flightlog.stores.base import RunReader

LIST_COLUMNS = (
    Column("run"),
    Column("status"),
    Column("started"),
    Column("took", right=True),
    Column("experiment", folds=True),
    Column("name", folds=True),
)
METRIC_COLUMNS = (
    Column("metric", folds=True),
    *(Column(heading, right=True) for heading in ("count", "first", "last", "min", "max", "last step", "NaN, inf")),
)
PAIR_COLUMNS = (Column("key", folds=True), Column("value", folds=True))
ATTEMPT_COLUMNS = (Column("attempt", right=True), Column("began"), Column("from step", right=True))
DATASET_COLUMNS = (
    Column("dataset", folds=True),
    Column("digest"),
    Column("context"),
    Column("source", folds=True),
    Column("profile", folds=True),
)
MODEL_COLUMNS = (Column("model", folds=True), Column("is"), Column("step", right=True))
ARTIFACT_COLUMNS = (Column("artifact", folds=True), Column("size", right=True), Column("state"), Column("reason", folds=True))
LETTER_COLUMNS = (
    Column("writer"),
    Column("sequence", right=True),
    Column("events", right=True),
    Column("reason"),
    Column("message", folds=True),
)

MAX_SHOWN = 100
"""Characters of a source or a profile."""

app = typer.Typer(help="List, search and compare runs, or show one.", epilog=exits.SENTENCE, no_args_is_help=True)


@app.command("list", epilog=exits.SENTENCE)
def list_runs(
    tracking_uri: TrackingUri = None,
    experiment: Annotated[
        list[str] | None, typer.Option("--experiment", metavar="NAME", help="Only runs of this experiment, by name or id; repeatable.")
    ] = None,
    filter_string: Annotated[str, typer.Option("--filter", metavar="TEXT", help="Only runs that match, such as: metrics.loss < 0.1")] = "",
    order_by: Annotated[
        list[str] | None, typer.Option("--order-by", metavar="KEY", help="Such as: metrics.loss ASC; repeatable. Default: newest first.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, max=50_000, help="So many at the most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """List runs, newest first. Filter and order are in MLflow's search language, with parentheses, OR and NOT."""
    with places.opened(places.find(tracking_uri)) as store:
        names = _experiments(store, experiment or [])
        found = store.search_runs(list(names), filter_string, ViewType.ACTIVE_ONLY, limit, order_by)
    if as_json:
        output.print_json({"runs": [_document(run, names) for run in found], "has_more": found.token is not None})
        return
    output.print_table(LIST_COLUMNS, [_row(run.info, names) for run in found])
    if found.token:
        output.print_line(f"there are more than {limit}; --limit shows more")


@app.command("show", epilog=exits.SENTENCE)
def show_run(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="The run's id.")],
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show one run: what it is, its attempts, params, tags, metrics, datasets, models and artifacts, and events that could not be filed."""
    with places.opened(places.find(tracking_uri)) as store:
        run = store.get_run(check_run_id(run_id))
        attempts, artifacts = store.attempts(run_id), store.artifacts(run_id)
        letters, dropped = store.dead_letters(run_id), store.dropped().get(run_id, 0)
        experiment = store.get_experiment(run.info.experiment_id).name
    if as_json:
        output.print_json(_whole_document(run, experiment, attempts, artifacts, letters, dropped))
    else:
        _print_run(run, experiment, attempts, artifacts, letters, dropped)


def _experiments(store: RunReader, chosen: Sequence[str]) -> dict[str, str]:
    """Return the names of the chosen experiments by id, of all active ones when none is chosen."""
    found = [find_experiment(store, item) for item in chosen] or all_experiments(store, ViewType.ACTIVE_ONLY)
    return {experiment.experiment_id: experiment.name for experiment in found}


def _document(run: Run, names: Mapping[str, str]) -> dict[str, Any]:
    experiment = {"experiment_name": names.get(run.info.experiment_id)}
    return {**run.info.to_dictionary(), **experiment, "params": run.data.params, "tags": run.data.tags, "metrics": run.data.metrics}


def _row(info: RunInfo, names: Mapping[str, str]) -> tuple[object, ...]:
    name = names.get(info.experiment_id, info.experiment_id)
    return info.run_id, info.status, output.moment(info.start_time), _duration(info), name, info.run_name


def _duration(info: RunInfo) -> str:
    return output.span(None if info.end_time is None else (info.end_time - info.start_time) / 1000)


def _whole_document(
    run: Run,
    experiment: str,
    attempts: Sequence[Attempt],
    artifacts: Sequence[ArtifactState],
    letters: Sequence[DeadLetter],
    dropped: int,
) -> dict[str, Any]:
    return {
        "info": {**run.info.to_dictionary(), "experiment_name": experiment},
        "attempts": [attempt.to_dictionary() for attempt in attempts],
        "params": run.data.params,
        "tags": run.data.tags,
        "metrics": {key: _metric(summary) for key, summary in run.data.metric_summaries.items()},
        "inputs": run.inputs.to_dictionary(),
        "outputs": run.outputs.to_dictionary(),
        "artifacts": [_fields(item, "path", "size", "sha256", "state", "reason") for item in artifacts],
        "dead_letters": [_fields(item, "writer", "sequence", "count", "reason", "message", "time") for item in letters],
        "dropped": dropped,
    }


def _fields(item: object, *names: str) -> dict[str, Any]:
    return {name: getattr(item, name) for name in names}


def _metric(summary: MetricSummary) -> dict[str, Any]:
    return {name: value for name, value in summary.to_dictionary().items() if name != "key"}


def _print_run(
    run: Run,
    experiment: str,
    attempts: Sequence[Attempt],
    artifacts: Sequence[ArtifactState],
    letters: Sequence[DeadLetter],
    dropped: int,
) -> None:
    output.print_facts(_facts(run.info, experiment, dropped))
    if len(attempts) > 1:
        rows = [(item.attempt, output.moment(item.time), item.from_step) for item in attempts]
        _print_section("Attempts", ATTEMPT_COLUMNS, rows)
    _print_section("Params", PAIR_COLUMNS, sorted(run.data.params.items()))
    _print_section("Tags", PAIR_COLUMNS, sorted(run.data.tags.items()))
    _print_section("Metrics", METRIC_COLUMNS, [_metric_row(run.data.metric_summaries[key]) for key in sorted(run.data.metric_summaries)])
    _print_section("Datasets", DATASET_COLUMNS, [_dataset_row(item) for item in run.inputs.dataset_inputs])
    _print_section("Models", MODEL_COLUMNS, _model_rows(run))
    _print_section("Artifacts", ARTIFACT_COLUMNS, [(item.path, output.size(item.size), item.state, item.reason) for item in artifacts])
    unfiled = [(item.writer, item.sequence, item.count, item.reason, item.message) for item in letters]
    _print_section("Events that could not be filed", LETTER_COLUMNS, unfiled)


def _facts(info: RunInfo, experiment: str, dropped: int) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [
        ("run", info.run_id),
        ("name", info.run_name),
        ("experiment", f"{experiment} ({info.experiment_id})"),
        ("status", info.status if info.lifecycle_stage == "active" else f"{info.status}, {info.lifecycle_stage}"),
        *([("reason", info.status_reason)] if info.status_reason else []),
        ("user", info.user_id),
        ("started", output.moment(info.start_time)),
        ("ended", output.moment(info.end_time)),
        ("took", _duration(info)),
        ("artifacts at", info.artifact_uri),
    ]
    return [*facts, ("events dropped", dropped)] if dropped else facts


def _metric_row(summary: MetricSummary) -> tuple[object, ...]:
    values = (_value(point) for point in (summary.first, summary.last, summary.min, summary.max))
    return summary.key, summary.count, *values, summary.last.step, summary.non_finite


def _dataset_row(item: DatasetInput) -> tuple[object, ...]:
    context = next((tag.value for tag in item.tags or [] if tag.key == CONTEXT_TAG), None)
    dataset = item.dataset
    return dataset.name, dataset.digest, context, _excerpt(dataset.source), _excerpt(dataset.profile)


def _excerpt(text: str | None) -> str | None:
    return text if text is None or len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _model_rows(run: Run) -> list[tuple[object, ...]]:
    used = [(item.model_id, "used", None) for item in run.inputs.model_inputs]
    return [*used, *((item.model_id, "made", item.step) for item in run.outputs.model_outputs)]


def _value(point: Point | None) -> float | None:
    return None if point is None else point.value


def _print_section(title: str, columns: Sequence[Column], rows: Sequence[Sequence[object]]) -> None:
    if rows:
        output.print_line("")
        output.print_table(columns, rows, title)
