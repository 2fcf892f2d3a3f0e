"""`flightlog import`: brings over what other trackers have recorded."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

import typer

from flightlog.cli import exits, output, places, progress
from flightlog.cli.options import AsJson, TrackingUri
from flightlog.cli.output import Column, counted
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.settings import DATABASE_SCHEMES, Location, without_password
from flightlog.stores import open_store
from flightlog.stores.mlflow_files import MlflowFiles
from flightlog.stores.mlflow_history import MlflowHistory
from flightlog.stores.mlflow_import import Imported, import_mlflow
from flightlog.stores.sql.mlflow_database import MlflowDatabase
from flightlog.worker.poison import apply_around_poison

SHOWN = 20
"""So many differences and problems are listed; `--json` has more."""
COLUMNS = (Column("of"), Column("at the source", right=True), Column("in the store", right=True))

app = typer.Typer(help="Bring over what other trackers have recorded.", epilog=exits.SENTENCE, no_args_is_help=True)


@app.callback()
def _root() -> None:
    """Bring over what other trackers have recorded."""


@app.command("mlflow", epilog=exits.SENTENCE)
def mlflow(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="MLflow's database URL, or its folder mlruns.")],
    to: Annotated[str | None, typer.Option("--to", metavar="URI", help="The flight folder or database that it is brought to.")] = None,
    tracking_uri: TrackingUri = None,
    experiment: Annotated[
        list[str] | None, typer.Option("--experiment", metavar="NAME", help="Only the experiment of this name; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Bring over experiments and runs of MLflow with their ids, times, params, tags and metric histories; again, only what is new.

    SOURCE is only read. At the end, what it has and what the store has of it are counted and compared.
    """
    if to is None and tracking_uri is None:
        raise InvalidParameter("--to is missing: it names the flight folder or database that the runs are brought to")
    target = places.find(to or tracking_uri)
    started = time.monotonic()
    history = open_history(source)
    try:
        imported = _import(history, target, experiment or [], as_json)
    finally:
        history.close()
    _report(imported, source, target, time.monotonic() - started, as_json)
    if not imported.is_complete:
        raise typer.Exit(exits.PROBLEMS)


def open_history(source: str) -> MlflowHistory:
    """Open a database or a folder of MLflow's to be read. Raises `InvalidParameter`, `NotFound`, `StoreUnavailable`."""
    scheme = source.partition(":")[0].partition("+")[0] if "://" in source else ""
    if scheme in (*DATABASE_SCHEMES, "mariadb", "postgres"):
        return MlflowDatabase(source)
    if scheme not in ("", "file"):
        raise InvalidParameter(
            f"source {without_password(source)!r} is neither a database URL nor a folder; a server's runs are in its database"
        )
    return MlflowFiles(Path(unquote(urlsplit(source).path) if scheme or source.startswith("file:") else source))


def _import(history: MlflowHistory, target: Location, experiments: list[str], as_json: bool) -> Imported:
    store = open_store(target.database_url)
    try:
        with progress.shown(f"to {without_password(target.tracking_uri)}", "events", quiet=as_json) as watch:
            return import_mlflow(history, store, partial(apply_around_poison, store), experiments, watch)
    finally:
        store.close()


def _report(imported: Imported, source: str, target: Location, seconds: float, as_json: bool) -> None:
    if as_json:
        output.print_json(_document(imported, source, target, seconds))
        return
    source_counts, target_counts = asdict(imported.source), asdict(imported.target)
    output.print_table(COLUMNS, [(kind, count, target_counts[kind]) for kind, count in source_counts.items()])
    output.print_line(f"{counted(imported.events, 'new event')} in {seconds:.1f} s")
    for name, there, here in imported.moved:
        output.print_line(f"experiment {name!r} has the id {here} here: {there} is taken, or the name was here before")
    for kind, count in imported.left_out.items():
        output.print_line(f"not brought over, as there are no events for it: {count:,} {kind}")
    _print_list(imported.differences, imported.different, "differs")
    _print_list(imported.problems, len(imported.problems), "not read")
    letters = [f"{item.subject}, event {item.sequence}: {item.message}" for item in imported.letters]
    _print_list(letters, len(letters), "not filed")


def _print_list(lines: list[str], count: int, word: str) -> None:
    for line in lines[:SHOWN]:
        output.print_line(f"{word}: {line}")
    if count > SHOWN:
        output.print_line(f"{word}: {count - SHOWN:,} more")


def _document(imported: Imported, source: str, target: Location, seconds: float) -> dict[str, Any]:
    return {
        "source_uri": without_password(source),
        "tracking_uri": without_password(target.tracking_uri),
        "complete": imported.is_complete,
        "events": imported.events,
        "seconds": seconds,
        "source": asdict(imported.source),
        "target": asdict(imported.target),
        "moved_experiments": [{"name": name, "source_id": there, "id": here} for name, there, here in imported.moved],
        "left_out": imported.left_out,
        "different": imported.different,
        "differences": imported.differences,
        "problems": imported.problems,
        "dead_letters": [
            {name: getattr(item, name) for name in ("subject", "writer", "sequence", "reason", "message")} for item in imported.letters
        ],
    }
