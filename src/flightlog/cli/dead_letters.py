"""`flightlog dead-letters`: lists events that could not be filed, shows one, gives them another try, or deletes them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

import msgpack
import typer

from flightlog.cli import exits, output, places
from flightlog.cli.options import AsJson, RunIds, TrackingUri, Yes
from flightlog.cli.output import Column
from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.stores.base import RunReader
from flightlog.stores.sql.store import SqlStore

COLUMNS = (
    Column("letter"),
    Column("run or experiment"),
    Column("events", right=True),
    Column("reason"),
    Column("since"),
    Column("message", folds=True),
)
SHORT = 12
"""Digits of the writer in a letter's name."""
EXCERPT = 256

Letters = Annotated[
    list[str] | None, typer.Argument(metavar="LETTER", help="Its name in the list: some digits of the writer, -, the sequence.")
]
Reason = Annotated[str | None, typer.Option("--reason", metavar="WORD", help="Only those with this reason.")]

app = typer.Typer(
    help="Events that could not be filed: list them, show one, give them another try, or delete them.",
    epilog=exits.SENTENCE,
    no_args_is_help=True,
)


@app.command("list", epilog=exits.SENTENCE)
def list_letters(
    run: RunIds = None,
    reason: Reason = None,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="So many at the most.")] = 50,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """List dead letters, oldest first."""
    with places.opened(places.find(tracking_uri)) as store:
        found = _chosen(store, [], run, reason)
    if as_json:
        output.print_json({"dead_letters": [_document(letter) for letter in found[:limit]], "has_more": len(found) > limit})
        return
    rows = [(name_of(item), item.subject, item.count, item.reason, output.moment(item.time), item.message) for item in found[:limit]]
    output.print_table(COLUMNS, rows)
    if len(found) > limit:
        output.print_line(f"there are {len(found):,}; --limit shows more")


@app.command("show", epilog=exits.SENTENCE)
def show_letter(
    letter: Annotated[str, typer.Argument(metavar="LETTER", help="Its name in the list: some digits of the writer, -, the sequence.")],
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Show one dead letter with its bytes, and what they say if they can be read."""
    with places.opened(places.find(tracking_uri)) as store:
        [found] = _chosen(store, [letter], None, None)
    document = {**_document(found), "payload": found.payload.hex(), "event": _event(found.payload)}
    if as_json:
        output.print_json(document)
    else:
        shown = {**document, "time": output.moment(found.time), "payload": _excerpt(found.payload)}
        output.print_facts([(key.replace("_", " "), str(value)) for key, value in shown.items()])


@app.command("retry", epilog=exits.SENTENCE)
def retry_letters(
    letters: Letters = None, run: RunIds = None, reason: Reason = None, tracking_uri: TrackingUri = None, as_json: AsJson = False
) -> None:
    """Give events another try, as after an upgrade or when the database was mended: nothing is ever counted twice.

    Exits with 5 when some are dead letters still.
    """
    with places.opened_database(places.find(tracking_uri)) as store:
        chosen = _chosen(store, letters or [], run, reason)
        refusals = store.retry(chosen)
        left = [
            item for item in _chosen(store, [], sorted({item.subject for item in chosen}), None) if _key(item) in set(map(_key, chosen))
        ]
    _print_retried(chosen, left, {subject: why for subject, why in refusals.items() if why}, as_json=as_json)
    if left:
        raise typer.Exit(exits.PROBLEMS)


@app.command("drop", epilog=exits.SENTENCE)
def drop_letters(
    letters: Letters = None,
    run: RunIds = None,
    reason: Reason = None,
    yes: Yes = False,
    tracking_uri: TrackingUri = None,
    as_json: AsJson = False,
) -> None:
    """Delete dead letters. What they tell of stays out; events that the ledger has become letters again when they are projected anew."""
    with places.opened_database(places.find(tracking_uri)) as store:
        chosen = _chosen(store, letters or [], run, reason)
        if chosen and not yes:
            typer.confirm(f"delete {output.counted(len(chosen), 'dead letter')} for good?", abort=True, err=True)
        dropped = store.drop_letters(chosen)
    if as_json:
        output.print_json({"dropped": dropped})
    else:
        output.print_line(f"deleted {output.counted(dropped, 'dead letter')}")


def _chosen(store: RunReader | SqlStore, names: Sequence[str], subjects: Sequence[str] | None, reason: str | None) -> list[DeadLetter]:
    """Return the letters that are named, or all, of some subjects and with a reason. Raises `NotFound` for a name that fits none."""
    every = [letter for letter in store.dead_letters() if (not subjects or letter.subject in subjects) and reason in (None, letter.reason)]
    return [letter for name in names for letter in _named(every, name)] if names else every


def _named(letters: Sequence[DeadLetter], name: str) -> list[DeadLetter]:
    writer, dash, sequence = name.rpartition("-")
    if not dash or not writer or not sequence.isdecimal():
        raise InvalidParameter(f"{name!r} names no dead letter; it must be as in the list: digits of the writer, -, the sequence")
    found = [letter for letter in letters if letter.writer.startswith(writer) and letter.sequence == int(sequence)]
    if not found:
        raise NotFound(f"there is no dead letter {name!r}")
    if len({letter.writer for letter in found}) > 1:
        raise InvalidParameter(f"{name!r} names {len(found)} dead letters; give more digits of the writer")
    return found


def name_of(letter: DeadLetter) -> str:
    """Return what a letter is called in lists."""
    return f"{letter.writer[:SHORT]}-{letter.sequence}"


def _key(letter: DeadLetter) -> tuple[str, str, int]:
    return letter.subject, letter.writer, letter.sequence


def _document(letter: DeadLetter) -> dict[str, Any]:
    names = ("subject", "writer", "sequence", "count", "reason", "message", "time")
    return {"letter": name_of(letter), **{name: getattr(letter, name) for name in names}, "size": len(letter.payload)}


def _event(payload: bytes) -> str | None:
    """Return what msgpack bytes say, cut short; None where they are none."""
    try:
        return repr(msgpack.unpackb(payload, strict_map_key=False))[: 4 * EXCERPT]
    except (ValueError, TypeError, msgpack.UnpackException):
        return None


def _excerpt(payload: bytes) -> str:
    return payload[:EXCERPT].hex(" ") + (" ..." if len(payload) > EXCERPT else "")


def _print_retried(chosen: Sequence[DeadLetter], left: Sequence[DeadLetter], refusals: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"retried": len(chosen), "left": [_document(letter) for letter in left], "refused": refusals})
        return
    output.print_line(f"{output.counted(len(chosen) - len(left), 'event')} filed, {len(left):,} still a dead letter")
    for line in _reasons(left, refusals):
        output.print_line(line)


def _reasons(left: Sequence[DeadLetter], refusals: dict[str, str]) -> Iterator[str]:
    for letter in left:
        yield f"{name_of(letter)}: {letter.reason}: {refusals.get(letter.subject, letter.message)}"
