"""`flightlog gc`: removes deleted runs and experiments for good, with their artifacts and their events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import typer

from flightlog.cli import exits, output, places
from flightlog.cli.durations import milliseconds
from flightlog.cli.options import AsJson, Place, RunIds
from flightlog.cli.output import Column
from flightlog.cli.searches import find_experiment
from flightlog.schema.artifact_notes import note_path
from flightlog.schema.errors import FlightlogException, InvalidState
from flightlog.schema.fold import ArtifactState
from flightlog.schema.ids import experiment_subject, now_ms
from flightlog.schema.limits import check_run_id
from flightlog.schema.names import SNAPSHOTS
from flightlog.schema.settings import Location
from flightlog.stores.artifacts.removal import Holding, holding, remove
from flightlog.stores.purging import purge_block
from flightlog.stores.sql.deleted import DeletedExperiment, DeletedRun
from flightlog.stores.sql.store import SqlStore

RUN_COLUMNS = (
    Column("run"),
    Column("events", right=True),
    Column("ledger", right=True),
    Column("files", right=True),
    Column("size", right=True),
    Column("problem", folds=True),
)
EXPERIMENT_COLUMNS = (Column("experiment"), Column("name", folds=True), Column("runs that stay", right=True))


@dataclass(frozen=True)
class Candidate:
    """A run that would go, with its files. `problem` says why these cannot be looked at or removed; then the run stays."""

    run: DeletedRun
    artifacts: Sequence[ArtifactState]
    files: Holding | None
    problem: str | None = None


@dataclass(frozen=True)
class Plan:
    """What would go. `staying` is, by experiment, how many runs stay in it; it goes when none does."""

    runs: Sequence[Candidate]
    experiments: Sequence[DeletedExperiment]
    staying: dict[str, int]


def gc(
    place: Place = None,
    run: RunIds = None,
    experiment: Annotated[
        list[str] | None, typer.Option("--experiment", metavar="NAME", help="Only this experiment and its runs, by name or id; repeatable.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="AGE", help="Only what was deleted so long ago: 90s, 12h, 7d.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it. Without it, only what would go is shown.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove deleted runs and experiments for good: artifacts, tables, ledger. Without --yes it only shows what would go.

    What still comes of a purged run is dropped, wherever it comes from. Exits with 5 when something could not be removed.
    """
    location = places.find(place)
    before = now_ms() + 1 - (milliseconds(older_than) if older_than else 0)
    with places.opened_database(location) as store:
        plan = _plan(store, before, [check_run_id(run_id) for run_id in run or []], experiment or [])
        if yes:
            plan = _carry_out(store, location, plan)
        dropped = sum(item.dropped for item in store.tombstones())
    if as_json:
        output.print_json(_document(plan, dropped, done=yes))
    else:
        _print(plan, dropped, done=yes)
    if any(item.problem for item in plan.runs):
        raise typer.Exit(exits.PROBLEMS)


def _plan(store: SqlStore, before: int, run_ids: Sequence[str], names: Sequence[str]) -> Plan:
    chosen = {find_experiment(store, name).experiment_id for name in names}
    runs = [item for item in store.deleted_runs(before) if not chosen or item.experiment_id in chosen]
    experiments = [item for item in store.deleted_experiments(before) if not chosen or item.experiment_id in chosen]
    if run_ids:
        _check_deleted(store, run_ids, {item.run_id for item in runs})
        runs, experiments = [item for item in runs if item.run_id in run_ids], []
    candidates = [_candidate(store, item) for item in runs]
    return Plan(candidates, experiments, _staying(candidates, experiments))


def _check_deleted(store: SqlStore, run_ids: Sequence[str], deleted: set[str]) -> None:
    for run_id in run_ids:
        stage = store.get_run(run_id).info.lifecycle_stage
        if run_id not in deleted:
            raise InvalidState(f"run {run_id} is {stage} and cannot be purged; delete it first, or lower --older-than")


def _candidate(store: SqlStore, run: DeletedRun) -> Candidate:
    artifacts = store.artifacts(run.run_id)
    if not run.artifact_uri:
        return Candidate(run, artifacts, Holding(0, 0))
    try:
        return Candidate(run, artifacts, holding(run.run_id, run.artifact_uri, [item.path for item in artifacts]))
    except (FlightlogException, OSError) as error:
        return Candidate(run, artifacts, None, f"its artifacts cannot be looked at: {error}")


def _staying(candidates: Sequence[Candidate], experiments: Sequence[DeletedExperiment]) -> dict[str, int]:
    going = [item.run.experiment_id for item in candidates if item.problem is None]
    return {item.experiment_id: item.runs - going.count(item.experiment_id) for item in experiments}


def _carry_out(store: SqlStore, location: Location, plan: Plan) -> Plan:
    """Purge: of each run first the files, then all else in one transaction, so that a crash leaves nothing that nobody knows of."""
    candidates = [_purge_run(store, location, item) for item in plan.runs]
    staying = _staying(candidates, plan.experiments)
    for experiment in plan.experiments:
        if not staying[experiment.experiment_id]:
            store.apply([purge_block(experiment_subject(experiment.experiment_id), now_ms())])
    store.remove_purged_archives()
    store.shrink()
    return Plan(candidates, plan.experiments, staying)


def _purge_run(store: SqlStore, location: Location, item: Candidate) -> Candidate:
    if item.problem is not None:
        return item
    try:
        if item.run.artifact_uri:
            remove(item.run.run_id, item.run.artifact_uri, [artifact.path for artifact in item.artifacts])
        for snapshot in {artifact.snapshot for artifact in item.artifacts if artifact.snapshot.isalnum()}:
            file = location.spool / SNAPSHOTS / snapshot
            file.unlink(missing_ok=True)
            note_path(file).unlink(missing_ok=True)
    except (FlightlogException, OSError) as error:
        return Candidate(item.run, item.artifacts, item.files, f"its artifacts cannot be removed: {error}")
    store.apply([purge_block(item.run.run_id, now_ms())])
    return item


def _document(plan: Plan, dropped: int, *, done: bool) -> dict[str, Any]:
    return {
        "done": done,
        "runs": [{**asdict(item.run), **_files(item), "problem": item.problem} for item in plan.runs],
        "experiments": [{**asdict(item), "staying": plan.staying[item.experiment_id]} for item in plan.experiments],
        "total": {name: sum(row[name] for row in _sizes(plan)) for name in ("events", "ledger_bytes", "artifact_files", "artifact_bytes")},
        "dropped_later": dropped,
    }


def _files(item: Candidate) -> dict[str, int | None]:
    files, size = (item.files.files, item.files.bytes) if item.files else (None, None)
    return {"artifact_files": files, "artifact_bytes": size}


def _sizes(plan: Plan) -> Iterator[dict[str, int]]:
    for item in plan.runs:
        if item.problem is None and item.files is not None:
            files = {"artifact_files": item.files.files, "artifact_bytes": item.files.bytes}
            yield {"events": item.run.events, "ledger_bytes": item.run.ledger_bytes, **files}


def _print(plan: Plan, dropped: int, *, done: bool) -> None:
    output.print_table(RUN_COLUMNS, [_row(item) for item in plan.runs])
    if plan.experiments:
        output.print_line("")
        rows = [(item.experiment_id, item.name, plan.staying[item.experiment_id]) for item in plan.experiments]
        output.print_table(EXPERIMENT_COLUMNS, rows)
    going = sum(item.problem is None for item in plan.runs)
    experiments = sum(not plan.staying[item.experiment_id] for item in plan.experiments)
    verb = "removed" if done else "would be removed"
    output.print_line("")
    output.print_line(f"{output.counted(going, 'run')} and {output.counted(experiments, 'experiment')} {verb}")
    if dropped:
        output.print_line(f"{output.counted(dropped, 'event')} of what was purged came later and went the same way")
    if not done and (going or experiments):
        output.print_line("nothing has been removed; --yes does it")


def _row(item: Candidate) -> tuple[object, ...]:
    files = (item.files.files, output.size(item.files.bytes)) if item.files else (None, None)
    return item.run.run_id, item.run.events, output.size(item.run.ledger_bytes), *files, item.problem
