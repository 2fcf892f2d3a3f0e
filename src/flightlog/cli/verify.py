"""`flightlog verify`: is what a store shows what its ledger says; and if not, mends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flightlog.cli import exits, output, places
from flightlog.cli.options import AsJson, Place, RunIds
from flightlog.cli.output import Column
from flightlog.cli.progress import bar
from flightlog.schema.limits import check_run_id
from flightlog.schema.settings import without_password
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.verify import Verified, verify

COLUMNS = (Column("run or experiment"), Column("events", right=True), Column("digest"), Column("state"))
DIFFERENCE_COLUMNS = (Column("run or experiment"), Column("part", folds=True), Column("expected", folds=True), Column("found", folds=True))
SHORT = 16
"""Digits of a digest in a table."""


def verify_command(
    place: Place = None,
    run: RunIds = None,
    repair: Annotated[bool, typer.Option("--repair", help="Project what differs anew from its ledger, and verify it again.")] = False,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=0, help="Show so many of those that are sound.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Prove, run by run, that what a store shows is what its ledger says, and print a digest of each that is the same on every database.

    Exits with 5 when something differs, or did until it was repaired.
    """
    run_ids = [check_run_id(run_id) for run_id in run or []]
    location = places.find(place)
    with places.opened_database(location) as store:
        found = _verify(store, run_ids)
        after = _repair(store, found) if repair else {}
    if as_json:
        output.print_json({"tracking_uri": without_password(location.tracking_uri), **_document(found, after)})
    else:
        _print(found, after, limit)
    if any(item.differences for item in found):
        raise typer.Exit(exits.PROBLEMS)


def _verify(store: SqlStore, run_ids: Sequence[str]) -> list[Verified]:
    with bar("reading the ledger", sum(item.committed for item in store.writers())) as tell:
        return list(verify(store, run_ids, tell))


def _repair(store: SqlStore, found: Sequence[Verified]) -> dict[str, Verified]:
    """Mend what differs; return what verifying it again says."""
    subjects = [item.subject for item in found if item.differences]
    if not subjects:
        return {}
    store.repair(subjects)
    return {item.subject: item for item in verify(store) if item.subject in subjects}


def _state(item: Verified, after: dict[str, Verified]) -> str:
    if item.is_moving:
        return "being written"
    if not item.differences:
        return "sound"
    again = after.get(item.subject)
    return "differs" if item.subject not in after or (again and again.differences) else "repaired"


def _document(found: Sequence[Verified], after: dict[str, Verified]) -> dict[str, Any]:
    every = [{**_item(item), "state": _state(item, after)} for item in found]
    return {"verified": every, "differing": sum(bool(item.differences) for item in found), "events": sum(item.events for item in found)}


def _item(item: Verified) -> dict[str, Any]:
    differences = [{key: _hex(value) for key, value in asdict(difference).items()} for difference in item.differences]
    return {"subject": item.subject, "events": item.events, "digest": item.digest, "differences": differences}


def _hex(value: Any) -> Any:  # noqa: ANN401 - any part of a portrait
    """Return a value with the floats, which are bytes in a portrait, as hexadecimal digits."""
    if isinstance(value, (list, tuple)):
        return [_hex(item) for item in value]
    return value.hex() if isinstance(value, bytes) else value


def _print(found: Sequence[Verified], after: dict[str, Verified], limit: int) -> None:
    sound = [item for item in found if not item.differences]
    shown = [*sound[:limit], *(item for item in found if item.differences)]
    output.print_table(COLUMNS, [(item.subject, item.events, (item.digest or "-")[:SHORT], _state(item, after)) for item in shown])
    rows = list(_difference_rows(found))
    if rows:
        output.print_line("")
        output.print_table(DIFFERENCE_COLUMNS, rows, "What differs from the ledger")
    moving = sum(item.is_moving for item in found)
    differing = len(found) - len(sound)
    output.print_line("")
    output.print_line(f"{len(sound) - moving:,} sound, {differing:,} differing, {moving:,} being written and not verified")


def _difference_rows(found: Sequence[Verified]) -> Iterator[tuple[object, ...]]:
    for item in found:
        for difference in item.differences:
            yield item.subject, difference.part, str(_hex(difference.expected)), str(_hex(difference.found))
