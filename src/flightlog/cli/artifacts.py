"""`flightlog artifacts`: lists, fetches and logs the artifacts of a run, and gives those that could not be stored another try."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import typer

from flightlog import artifacts as artifact_places
from flightlog.cli import exits, output, places
from flightlog.cli.options import AsJson, TrackingUri
from flightlog.cli.output import Column
from flightlog.client import Client
from flightlog.producer.context import context
from flightlog.schema.artifact_notes import note_path
from flightlog.schema.entities import FileInfo
from flightlog.schema.errors import JournalFull
from flightlog.schema.fold import ArtifactState
from flightlog.schema.limits import check_run_id
from flightlog.schema.names import SNAPSHOTS, is_snapshot
from flightlog.schema.settings import Location
from flightlog.stores.base import Outcome
from flightlog.stores.sql.store import SqlStore
from flightlog.worker.spool import drain_spool

LIST_COLUMNS = (Column("artifact", folds=True), Column("size", right=True), Column("state"), Column("reason", folds=True))
STORED = "stored"

RunId = Annotated[str, typer.Option("--run-id", "-r", metavar="ID", help="The run's id.")]
SomeRunId = Annotated[str | None, typer.Option("--run-id", "-r", metavar="ID", help="The run's id.")]
ArtifactPath = Annotated[str | None, typer.Option("--artifact-path", "-a", metavar="PATH", help="A path inside the run's artifacts.")]

app = typer.Typer(
    help="Artifacts of runs: list, fetch and log them, and give those that could not be stored another try.",
    epilog=exits.SENTENCE,
    no_args_is_help=True,
)


@app.command("list", epilog=exits.SENTENCE)
def list_artifacts(run_id: RunId, artifact_path: ArtifactPath = None, tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """List a folder of a run's artifacts, and below it what was logged to the run and is not stored."""
    _use(tracking_uri)
    client = Client()
    found = client.list_artifacts(check_run_id(run_id), artifact_path)
    unstored = [item for item in client.artifact_states(run_id) if item.state != STORED]
    if as_json:
        output.print_json(
            {"artifacts": [item.to_dictionary() for item in found], "not_stored": [item.to_dictionary() for item in unstored]}
        )
        return
    rows: list[tuple[object, ...]] = [_row(item) for item in found]
    rows += [(item.path, output.size(item.size), item.state, item.reason) for item in unstored]
    output.print_table(LIST_COLUMNS, rows)


def _row(item: FileInfo) -> tuple[object, ...]:
    if item.file_size is None:
        return f"{item.path}/", None, STORED, None
    return item.path, output.size(item.file_size), STORED, None


@app.command("download", epilog=exits.SENTENCE)
def download(
    run_id: SomeRunId = None,
    artifact_path: ArtifactPath = None,
    artifact_uri: Annotated[
        str | None,
        typer.Option("--artifact-uri", "-u", metavar="URI", help="In place of a run: a path, file:, s3: or runs:/<id>/<path>."),
    ] = None,
    dst_path: Annotated[
        str | None, typer.Option("--dst-path", "-d", metavar="FOLDER", help="Where to. Unset: a new temporary folder.")
    ] = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Fetch an artifact or a folder, and print where it is. What is not as it was logged is an error."""
    _use(tracking_uri)
    output.print_line(artifact_places.download_artifacts(artifact_uri, run_id, artifact_path, dst_path))


@app.command("log-artifact", epilog=exits.SENTENCE)
def log_artifact(
    run_id: RunId,
    local_file: Annotated[str, typer.Option("--local-file", "-l", metavar="FILE", help="The file to log.")],
    artifact_path: ArtifactPath = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Log a file as an artifact of a run, and wait until it is stored."""
    _use(tracking_uri)
    Client().log_artifact(check_run_id(run_id), local_file, artifact_path, synchronous=True)
    _check_nothing_was_dropped()
    output.print_line(f"logged {local_file} to run {run_id}")


@app.command("log-artifacts", epilog=exits.SENTENCE)
def log_artifacts(
    run_id: RunId,
    local_dir: Annotated[str, typer.Option("--local-dir", "-l", metavar="FOLDER", help="The folder whose contents are logged.")],
    artifact_path: ArtifactPath = None,
    tracking_uri: TrackingUri = None,
) -> None:
    """Log the contents of a folder as artifacts of a run, and wait until they are stored."""
    _use(tracking_uri)
    Client().log_artifacts(check_run_id(run_id), local_dir, artifact_path, synchronous=True)
    _check_nothing_was_dropped()
    output.print_line(f"logged what is in {local_dir} to run {run_id}")


def _use(tracking_uri: str | None) -> None:
    """Have the client look where the options say. Raises `NotFound` where there is nothing."""
    if tracking_uri is not None:
        context.set_tracking_uri(tracking_uri)
    places.check_exists(context.location)


def _check_nothing_was_dropped() -> None:
    """Raise `JournalFull` where an artifact was dropped: a script goes on then, and a command fails."""
    if context.producer.dropped():
        raise JournalFull("not all was logged: the spool or the disk is full, or cannot be written; free some space and do it again")


@app.command("retry", epilog=exits.SENTENCE)
def retry(
    run_id: Annotated[list[str], typer.Argument(metavar="RUN_ID", help="A run whose artifacts failed.")],
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Give artifacts that failed another try, as after a bucket was made or a permission given. Exits with 5 when some fail again.

    Their copies must still be in the spool of the machine that logged them.
    """
    location = places.find(tracking_uri)
    with places.opened_database(location) as store:
        failed = [(owner, item) for owner in map(check_run_id, run_id) for item in _failed(store, owner)]
        _reopen(store, location, failed)
        is_done = location.queue_uri is None and drain_spool(location, store) is not None
        wanted = {(owner, item.path) for owner, item in failed}
        now = [(owner, item) for owner in run_id for item in store.artifacts(owner) if (owner, item.path) in wanted]
    _print_retried(now, location, is_done=is_done, as_json=as_json)
    if any(item.state == "failed" for _, item in now):
        raise typer.Exit(exits.PROBLEMS)


def _failed(store: SqlStore, run_id: str) -> list[ArtifactState]:
    store.get_run(run_id)
    return [item for item in store.artifacts(run_id) if item.state == "failed"]


def _reopen(store: SqlStore, location: Location, failed: Sequence[tuple[str, ArtifactState]]) -> None:
    """Have the artifacts wait again, as if they had just been logged."""
    for _, item in failed:
        if is_snapshot(item.snapshot):
            note_path(location.spool / SNAPSHOTS / item.snapshot).unlink(missing_ok=True)
    store.settle_artifacts([Outcome(owner, replace(item, reason=None), "pending") for owner, item in failed])


def _print_retried(items: Sequence[tuple[str, ArtifactState]], location: Location, *, is_done: bool, as_json: bool) -> None:
    fields = ("path", "size", "sha256", "state", "reason")
    if as_json:
        output.print_json({"artifacts": [{"run_id": owner, **{name: getattr(item, name) for name in fields}} for owner, item in items]})
        return
    if not items:
        output.print_line("no artifact of these runs has failed")
        return
    output.print_table(LIST_COLUMNS, [(item.path, output.size(item.size), item.state, item.reason) for _, item in items])
    if not is_done:
        output.print_line("a worker stores them soon")
    elif any(item.state == "pending" and not _is_here(item, location) for _, item in items):
        output.print_line(f"what is pending is not in {location.spool}; the worker of the machine that logged it stores it")


def _is_here(item: ArtifactState, location: Location) -> bool:
    return is_snapshot(item.snapshot) and (location.spool / SNAPSHOTS / item.snapshot).exists()
