"""`flightlog status`: how far the events of each run have come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from flightlog.cli import exits, output, places
from flightlog.cli.options import AsJson, TrackingUri
from flightlog.cli.output import Column
from flightlog.cli.searches import runs_by_id
from flightlog.schema.entities import RunInfo
from flightlog.schema.errors import NotFound, StoreUnavailable
from flightlog.schema.ids import EXPERIMENT_SUBJECT, now_ms
from flightlog.schema.settings import Location, shown
from flightlog.stores.base import RunReader
from flightlog.worker.status import DAMAGE, Progress, Spool, WriterProgress, progress, read_spool

COLUMNS = (
    Column("run"),
    *(Column(heading, right=True) for heading in ("emitted", "journaled", "committed", "dropped", "dead", "damage", "lag", "oldest")),
    Column("writers"),
    Column("name, status", folds=True),
)


@dataclass(frozen=True)
class Overview:
    """Everything that the command tells. `every` is all there is, `runs` and `experiments` what is shown of it, `infos` of shown runs.

    `error` says why the store could not be asked: then the journals' headers tell what was committed when a worker last looked.
    """

    location: Location
    spool: Spool
    every: Sequence[Progress]
    runs: Sequence[Progress]
    experiments: Sequence[Progress]
    infos: Mapping[str, RunInfo]
    time: int
    error: str | None

    @property
    def is_clean(self) -> bool:
        """Whether no event was dropped, refused or damaged."""
        lost = any(item.dropped or item.dead_letters or item.damage for item in self.every)
        return not (lost or self.spool.corrupt or self.spool.unreadable)


def status(
    tracking_uri: TrackingUri = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show all runs, and the journals of experiments.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="Show so many runs, those with the newest activity.")] = 20,
    check: Annotated[bool, typer.Option("--check", help="Exit with 5 when events were dropped, dead-lettered or damaged.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show how far the events of each run have come and what was lost, newest activity first.

    Emitted is journaled and dropped together; lag is what is journaled and not committed. Looks from outside and changes nothing.
    """
    overview = survey(places.find(tracking_uri), None if show_all else limit)
    if as_json:
        output.print_json(document(overview))
    else:
        _print(overview)
    if overview.error:
        typer.echo(f"flightlog: {overview.error}", err=True)
        raise typer.Exit(exits.UNREACHABLE)
    if check and not overview.is_clean:
        raise typer.Exit(exits.PROBLEMS)


def survey(location: Location, limit: int | None) -> Overview:
    """Look at a place, showing so many runs, or with None all and the experiments too. Raises `NotFound` for one that does not exist.

    The spool is read before the store: what is committed in between must not look missing.
    """
    places.check_exists(location)
    spool = read_spool(location.spool)
    try:
        with places.opened(location) as store:
            return _overview(location, spool, limit, store)
    except NotFound:
        return _overview(location, spool, limit)
    except StoreUnavailable as error:
        return _overview(location, spool, limit, error=error.message)


def _overview(location: Location, spool: Spool, limit: int | None, store: RunReader | None = None, error: str | None = None) -> Overview:
    known = store.writers() if store else []
    letters = store.dead_letters() if store and any(writer.dead_letters for writer in known) else []
    now = now_ms()
    every = progress(spool, known, letters, now, store.dropped() if store else {})
    runs = [item for item in every if not is_experiment(item)][:limit]
    experiments = [item for item in every if is_experiment(item) and (limit is None or item.lag or item.dead_letters)]
    infos = {run.info.run_id: run.info for run in runs_by_id(store, [item.subject for item in runs])} if store else {}
    return Overview(location, spool, every, runs, experiments, infos, now, error)


def is_experiment(item: Progress) -> bool:
    """Say whether these are the events of an experiment and not of a run."""
    return item.subject.startswith(EXPERIMENT_SUBJECT)


def lag_seconds(oldest: int | None, now: int) -> float | None:
    """Return the age of the oldest event that is not committed."""
    return None if oldest is None else (now - oldest) / 1000


def document(overview: Overview) -> dict[str, Any]:
    """Return the document that `--json` prints; see docs/cli.md."""
    return {
        "tracking_uri": shown(overview.location.tracking_uri),
        "database": shown(overview.location.database_url),
        "spool": str(overview.location.spool),
        "worker_running": overview.spool.worker_running,
        "store_error": overview.error,
        "damage": {
            "dead_letters": sum(item.damage for item in overview.every),
            "corrupt_files": [str(path) for path in overview.spool.corrupt],
            "unreadable_files": [str(path) for path in overview.spool.unreadable],
        },
        "total": _totals(overview.every),
        "runs": [_run(item, overview) for item in overview.runs],
        "experiments": [_experiment(item, overview) for item in overview.experiments],
    }


def _totals(items: Sequence[Progress]) -> dict[str, int]:
    names = ("emitted", "journaled", "committed", "dropped", "dead_letters", "lag")
    renamed = {"dead_letters": "dead_lettered", "lag": "lag_events"}
    return {renamed.get(name, name): sum(getattr(item, name) for item in items) for name in names}


def _run(item: Progress, overview: Overview) -> dict[str, Any]:
    info = overview.infos.get(item.subject)
    return {
        "run_id": item.subject,
        "run_name": info and info.run_name,
        "experiment_id": info and info.experiment_id,
        "status": info and info.status,
        **_counts(item, overview.time),
    }


def _experiment(item: Progress, overview: Overview) -> dict[str, Any]:
    return {"experiment_id": item.subject.removeprefix(EXPERIMENT_SUBJECT), **_counts(item, overview.time)}


def _counts(item: Progress, now: int) -> dict[str, Any]:
    return {
        **_totals([item]),
        "lag_seconds": lag_seconds(item.oldest, now),
        "damage": item.damage,
        "reasons": dict(item.reasons),
        "updated": item.updated,
        "writers": [_writer(writer, now) for writer in item.writers],
    }


def _writer(writer: WriterProgress, now: int) -> dict[str, Any]:
    return {
        "writer": writer.writer,
        "state": writer.state,
        "host": writer.host,
        "pid": writer.pid,
        "journaled": writer.journaled,
        "committed": writer.committed,
        "dropped": writer.dropped,
        "lag_events": writer.lag,
        "lag_seconds": lag_seconds(writer.oldest, now),
    }


def _print(overview: Overview) -> None:
    output.print_table(COLUMNS, [_row(item, overview) for item in (*overview.runs, *overview.experiments)])
    hidden = len(overview.every) - len(overview.runs) - len(overview.experiments)
    if hidden:
        output.print_line(f"{hidden} more with older activity, or experiments without anything outstanding; --all shows them")
    output.print_line("a worker is running" if overview.spool.worker_running else "no worker is running")
    _print_damage(overview)


def _row(item: Progress, overview: Overview) -> tuple[object, ...]:
    info = overview.infos.get(item.subject)
    counts = (item.emitted, item.journaled, item.committed, item.dropped, item.dead_letters, item.damage, item.lag)
    name = f"{info.run_name}, {info.status}" if info else None
    return item.subject, *counts, output.span(lag_seconds(item.oldest, overview.time)), _states(item.writers), name


def _states(writers: Sequence[WriterProgress]) -> str:
    """Return such as "2 alive, 1 closed"; a writer of which the spool holds nothing any more is done."""
    states = [writer.state or "done" for writer in writers]
    return ", ".join(f"{states.count(state)} {state}" for state in ("alive", "dead", "closed", "done") if state in states)


def _print_damage(overview: Overview) -> None:
    for item in overview.every:
        if item.damage:
            found = ", ".join(f"{item.reasons[reason]} {reason}" for reason in DAMAGE if reason in item.reasons)
            output.print_line(f"journals of {item.subject} were damaged ({found}); flightlog runs show tells what is missing")
    for path in (*overview.spool.corrupt, *overview.spool.unreadable):
        output.print_line(f"not readable as a whole: {path}")
