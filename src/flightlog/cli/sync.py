"""`flightlog sync`: brings what was logged offline, or waits in the spool, into a store."""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from flightlog.cli import exits, output, places, progress
from flightlog.cli.options import AsJson, TrackingUri
from flightlog.cli.output import counted
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.settings import Location, without_password
from flightlog.stores import open_store
from flightlog.worker.sources.copies import Shortage
from flightlog.worker.sync import Synced, sync_copies, sync_spool, sync_through_queue

SHOWN = 20
"""So many shortages and dead letters are listed; `--json` has all."""

LETTER_FIELDS = ("subject", "writer", "sequence", "count", "reason", "message")


def sync(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(metavar="FOLDER", help="Flight folders or folders of journals, of any machine. None: this machine's own spool."),
    ] = None,
    to: Annotated[str | None, typer.Option("--to", metavar="URI", help="The flight folder or database that they are brought to.")] = None,
    tracking_uri: TrackingUri = None,
    artifact_root: Annotated[
        str | None, typer.Option("--artifact-root", metavar="URI", help="Where artifacts are brought to. Default: that of the store.")
    ] = None,
    keep_artifact_uris: Annotated[
        bool, typer.Option("--keep-artifact-uris", help="Leave paths of artifacts as they are: this machine reaches them too.")
    ] = False,
    final: Annotated[
        bool, typer.Option("--final", help="Nothing will be added to the folders: file what is missing in them as lost.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring what was logged offline into a store, events, ids and times as they were; again, it brings only what is new.

    A FOLDER is only read: it may be somebody else's copy, on a read-only medium, or still be written. Without one, what this machine's own
    spool holds is filed into its store, through the queue where one is set, and freed.
    """
    target = _target(folders or [], to, tracking_uri, artifact_root, final)
    started = time.monotonic()
    with progress.shown(f"to {_where(target)}", "events", quiet=as_json) as watch:
        stored = watch.below("artifacts")
        if folders:
            with closing(open_store(target.database_url)) as store:
                synced = sync_copies(folders, target, store, final=final, rehome=not keep_artifact_uris, watch=watch, stored=stored)
        elif target.queue_uri is not None:
            synced = sync_through_queue(target, watch, stored)
        else:
            with closing(open_store(target.database_url)) as store:
                synced = sync_spool(target, store, watch, stored)
    _report(synced, target, time.monotonic() - started, as_json)
    if not synced.is_complete:
        raise typer.Exit(exits.PROBLEMS)


def _target(folders: list[Path], to: str | None, tracking_uri: str | None, artifact_root: str | None, final: bool) -> Location:
    if folders and to is None and tracking_uri is None:
        raise InvalidParameter("--to is missing: it names the flight folder or database that the folders are brought to")
    if not folders and final:
        raise InvalidParameter(
            "--final is about folders, and none is given; the own spool's worker knows by itself which writers have died"
        )
    location = places.find(to or tracking_uri, artifact_root=artifact_root)
    if not folders and location.queue_uri is None:
        places.check_exists(location)
    return replace(location, queue_uri=None) if folders else location


def _where(target: Location) -> str:
    return without_password(target.queue_uri or target.tracking_uri)


def _report(synced: Synced, target: Location, seconds: float, as_json: bool) -> None:
    if as_json:
        output.print_json(_document(synced, target, seconds))
        return
    what = f"{counted(synced.events, 'event')} of {counted(len(synced.runs), 'run')}, {counted(synced.artifacts, 'artifact')}"
    output.print_line(f"{what} in {seconds:.1f} s")
    if synced.open_journals:
        output.print_line(f"{counted(synced.open_journals, 'journal')} may still be written; another sync brings what is added")
    if synced.artifacts_missing:
        output.print_line(f"{counted(synced.artifacts_missing, 'artifact')} could not be found, or not be read, in the folders")
    _print_list([_sentence(item) for item in synced.shortages], "incomplete")
    _print_list([f"{item.subject}, writer {item.writer}, event {item.sequence}: {item.message}" for item in synced.letters], "not filed")


def _print_list(lines: list[str], word: str) -> None:
    for line in lines[:SHOWN]:
        output.print_line(f"{word}: {line}")
    if len(lines) > SHOWN:
        output.print_line(f"{word}: {len(lines) - SHOWN:,} more; --json lists all")


def _sentence(item: Shortage) -> str:
    """Return such as "events 0..99 of writer 12ab of run 34cd are missing: ..."."""
    events = f"events from {item.sequence} on" if item.end is None else f"events {item.sequence}..{item.end - 1}"
    return f"{events} of writer {item.writer} of {item.subject or 'an unknown run'} are missing: {item.message} ({item.folder})"


def _document(synced: Synced, target: Location, seconds: float) -> dict[str, Any]:
    return {
        "tracking_uri": None if target.queue_uri else without_password(target.tracking_uri),
        "queue_uri": without_password(target.queue_uri) if target.queue_uri else None,
        "complete": synced.is_complete,
        "events": synced.events,
        "runs": sorted(synced.runs),
        "seconds": seconds,
        "artifacts": synced.artifacts,
        "artifacts_missing": synced.artifacts_missing,
        "open_journals": synced.open_journals,
        "missing": [
            {
                "folder": str(item.folder),
                "subject": item.subject,
                "writer": item.writer,
                "sequence": item.sequence,
                "end": item.end,
                "message": item.message,
            }
            for item in synced.shortages
        ],
        "dead_letters": [{name: getattr(item, name) for name in LETTER_FIELDS} for item in synced.letters],
    }
