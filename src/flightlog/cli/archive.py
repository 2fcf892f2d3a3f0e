"""`flightlog archive`: moves the events of ended runs out of the database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from flightlog.cli import exits, output, places
from flightlog.cli.durations import milliseconds
from flightlog.cli.options import AsJson, Place, RunIds
from flightlog.cli.output import Column
from flightlog.schema.errors import FlightlogException
from flightlog.schema.ids import now_ms
from flightlog.schema.limits import check_run_id
from flightlog.stores.replay import check_runs
from flightlog.stores.sql.store import SqlStore

COLUMNS = (Column("run"), Column("events", right=True), Column("size", right=True), Column("file or problem", folds=True))


@dataclass(frozen=True)
class Outcome:
    """What became of one run."""

    run_id: str
    name: str | None = None
    size: int = 0
    sha256: str | None = None
    events: int = 0
    problem: str | None = None


def archive(
    place: Place = None,
    to: Annotated[str, typer.Option("--to", metavar="FOLDER", help="A folder, or s3://bucket/prefix.")] = "",
    run: RunIds = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Only runs that ended so long ago: 90s, 12h, 7d.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Move the events of ended runs into compressed files, from where replay and verify read them; what readers see of the runs stays.

    Exits with 5 when a run could not be archived; it is as it was then.
    """
    if not to:
        raise typer.BadParameter("say where to, with --to")
    folder = to.rstrip("/") if "://" in to else str(Path(to).resolve())
    before = now_ms() + 1 - (milliseconds(older_than) if older_than else 0)
    run_ids = [check_run_id(run_id) for run_id in run or []]
    with places.opened_database(places.find(place)) as store:
        check_runs(store, run_ids)
        found = [_archive(store, run_id, folder) for run_id in run_ids or store.ended_runs(before)]
        store.shrink()
    if as_json:
        output.print_json({"to": folder, "archived": [asdict(item) for item in found]})
    else:
        _print(found)
    if any(item.problem for item in found):
        raise typer.Exit(exits.PROBLEMS)


def _archive(store: SqlStore, run_id: str, folder: str) -> Outcome:
    try:
        sealed = store.archive(run_id, folder)
    except (FlightlogException, OSError) as error:
        return Outcome(run_id, problem=str(error))
    if sealed is None:
        return Outcome(run_id)
    return Outcome(run_id, sealed.written.name, sealed.written.size, sealed.written.sha256, sealed.events)


def _print(found: Sequence[Outcome]) -> None:
    output.print_table(COLUMNS, [(item.run_id, item.events, output.size(item.size), item.problem or item.name) for item in found])
    moved = [item for item in found if item.name]
    events, size = sum(item.events for item in moved), sum(item.size for item in moved)
    output.print_line("")
    output.print_line(f"{output.counted(events, 'event')} of {output.counted(len(moved), 'run')} archived, {output.size(size)}")
