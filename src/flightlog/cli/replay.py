"""`flightlog replay`: applies the events of one place to another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from flightlog.cli import output, places, sources
from flightlog.cli.options import AsJson, RunIds
from flightlog.cli.progress import bar
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.ids import WriterId
from flightlog.schema.limits import check_run_id
from flightlog.schema.settings import without_password
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.stores.replay import Replayed, Source, replay


def replay_command(
    source: Annotated[
        str,
        typer.Option("--from", metavar="URI", help="Flight folder, database URL, folder of journals, or folder or s3:// URI of archives."),
    ],
    target: Annotated[str, typer.Option("--to", metavar="URI", help="Flight folder or database URL; made where it is not there.")],
    run: RunIds = None,
    as_json: AsJson = False,
) -> None:
    """Apply the events of one place to another: ids and times stay, and what is there already is left as it is.

    It can be stopped and started again at any time. Artifacts stay where they are.
    """
    run_ids = [check_run_id(run_id) for run_id in run or []]
    location = places.find(target)
    if not source.startswith("s3:") and places.find(source).database_url == location.database_url:
        raise InvalidParameter(f"--from and --to name the same store, {without_password(location.database_url)}")
    with sources.opened(source, run_ids) as opened:
        store = open_store(location.database_url)
        try:
            replayed = _replay(opened, store)
        finally:
            store.close()
    _print(replayed, source, target, as_json=as_json)


def _replay(source: Source, store: Store) -> Replayed:
    known = {(item.subject, WriterId(item.writer)): item.committed for item in store.writers()}
    with bar("replaying", source.events(known)) as tell:
        return replay(source, store, tell)


def _print(replayed: Replayed, source: str, target: str, *, as_json: bool) -> None:
    if as_json:
        places_shown = {"from": without_password(source), "to": without_password(target)}
        output.print_json({**places_shown, **asdict(replayed), "events_per_second": replayed.rate})
        return
    taken = f"{output.counted(replayed.events, 'event')} in {output.span(replayed.seconds)}, {replayed.rate:,.0f} a second"
    output.print_line(f"replayed {taken}, from {without_password(source)} to {without_password(target)}")
    for line in _losses(replayed):
        output.print_line(line)


def _losses(replayed: Replayed) -> Sequence[str]:
    lines = []
    if replayed.gaps:
        lines.append(f"{output.counted(replayed.gaps, 'range')} of events are not in the source; dead letters tell of them")
    if replayed.letters:
        lines.append(f"{output.counted(replayed.letters, 'new dead letter')}; flightlog dead-letters list shows them")
    return lines
