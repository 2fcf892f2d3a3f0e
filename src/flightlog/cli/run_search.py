"""`flightlog runs search`: finds runs and prints the columns asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import typer

from flightlog.cli import output, places, run_columns, searches
from flightlog.cli.options import AsJson, Filter, InExperiment, OrderBy, TrackingUri
from flightlog.cli.output import Column
from flightlog.cli.tables import CsvRows
from flightlog.schema.entities import Run, ViewType

SHOWN = ("run_id", "run_name", "experiment_name", "status", "start_time", "metrics.*")
"""The columns of a table when none are chosen."""
VIEWS = {"active": ViewType.ACTIVE_ONLY, "deleted": ViewType.DELETED_ONLY, "all": ViewType.ALL}
TIMES = ("start_time", "end_time")

View = Literal["active", "deleted", "all"]
Output = Literal["table", "json", "csv"]


def search_runs(
    tracking_uri: TrackingUri = None,
    experiment: InExperiment = None,
    filter_string: Filter = "",
    order_by: OrderBy = None,
    columns: Annotated[
        str,
        typer.Option("--columns", metavar="NAMES", help="Such as: run_id,metrics.loss,metrics.loss.min,params.*; separated by commas."),
    ] = "",
    view: Annotated[View, typer.Option("--view", help="Which runs: those that are not deleted, those that are, or both.")] = "active",
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="So many at the most.")] = 100,
    form: Annotated[Output, typer.Option("--output", help="A table for people, one JSON document, or CSV.")] = "table",
    as_json: AsJson = False,
) -> None:
    """Find runs, newest first, and print them with the columns asked for. Filter and order are in MLflow's search language."""
    patterns = run_columns.check([name.strip() for name in columns.split(",") if name.strip()])
    with places.opened(places.find(tracking_uri)) as store:
        names = searches.experiment_names(store, experiment or [], VIEWS[view])
        pages = searches.run_pages(store, list(names), filter_string, VIEWS[view], order_by, limit + 1)
        found = [run for page in pages for run in page]
    runs, has_more = found[:limit], len(found) > limit
    _print("json" if as_json else form, runs, patterns, names, has_more=has_more)


def _print(form: Output, runs: Sequence[Run], patterns: Sequence[str], names: run_columns.ExperimentNames, *, has_more: bool) -> None:
    known = {name for run in runs for name in run_columns.keys_of(run)}
    if form == "table":
        _print_table(runs, run_columns.expand(patterns or SHOWN, known), names)
        if has_more:
            output.print_line(f"there are more than {len(runs)}; --limit shows more")
        return
    columns = run_columns.expand(patterns or run_columns.EVERYTHING, known)
    getters = [run_columns.getter(column, names) for column in columns]
    rows = [[get(run) for get in getters] for run in runs]
    if form == "json":
        output.print_json({"runs": [dict(zip(columns, row, strict=True)) for row in rows], "has_more": has_more})
    else:
        CsvRows(output.data_stream(), columns).write(rows)


def _print_table(runs: Sequence[Run], columns: Sequence[str], names: run_columns.ExperimentNames) -> None:
    getters = [run_columns.getter(column, names) for column in columns]
    rows = [[_shown(column, get(run)) for column, get in zip(columns, getters, strict=True)] for run in runs]
    output.print_table([Column(name, right=name.startswith("metrics."), folds=_folds(name)) for name in columns], rows)


def _shown(column: str, value: object) -> object:
    return output.moment(value) if column in TIMES and isinstance(value, int) else value


def _folds(column: str) -> bool:
    return column not in ("run_id", "experiment_id", "status", *TIMES) and not column.startswith("metrics.")
