"""Ledgers that have left the database: which runs may go, what is moved, and where it is read from then.

A file is announced before it is written, and counts once its rows have left the ledger, in one transaction with that. So whoever is killed
in between leaves no file of which nobody knows: the next call for the run, or its purge, removes it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Exists, Select, delete, exists, insert, select, update

from flightlog.schema.errors import StoreUnavailable
from flightlog.schema.ids import now_ms
from flightlog.stores.archive import Header, Placed, Written, archived, fetched, write_archive
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.sql import ledger as blocks
from flightlog.stores.sql.rows import in_parts, insert_rows
from flightlog.stores.sql.tables import archives, ledger, runs, tombstones, writers

ENDED = ("FINISHED", "FAILED", "KILLED")
WRITING, KEPT, GOING = "writing", "kept", "going"
"""The states of an archive; see `tables.archives`."""


@dataclass(frozen=True)
class Archive:
    """An archive as the database knows it. `uri` is its folder, `/` and its name."""

    id: int
    subject: str
    uri: str
    first_place: int
    events: int
    size: int
    sha256: str

    def blocks(self, after: int = 0) -> Iterator[Placed]:
        """Yield the blocks whose places come after a given one. Raises as `archive.fetched` does."""
        folder, _, name = self.uri.rpartition("/")
        return ((place, block) for place, block in archived(folder, name, self.sha256) if place > after)


def ended_runs(connection: Connection, before: int) -> list[str]:
    """Return the runs that ended before a time, ms, and have something in the ledger, in order of their ids."""
    has_ledger = exists().where(ledger.c.writer_id == writers.c.id, writers.c.subject == runs.c.run_id)
    query = select(runs.c.run_id).where(runs.c.status.in_(ENDED), runs.c.end_time < before, has_ledger)
    return sorted(connection.execute(query).scalars())


def known(connection: Connection, subject: str | None = None, after: int = 0) -> list[Archive]:
    """Return the archives of all runs, or of one, that were not purged; those with keys after a given one."""
    query = _query().where(archives.c.id > after, archives.c.state == KEPT, ~_is_purged()).order_by(archives.c.id)
    if subject is not None:
        query = query.where(archives.c.subject == subject)
    return _archives(connection, query)


def _query() -> Select[Any]:
    return select(*(archives.c[name] for name in Archive.__dataclass_fields__))


def _is_purged() -> Exists:
    return exists().where(tombstones.c.subject == archives.c.subject)


def _archives(connection: Connection, query: Select[Any]) -> list[Archive]:
    return [Archive(*row) for row in connection.execute(query)]


def purged(connection: Connection) -> list[Archive]:
    """Return the archives of runs that were purged: their files are to be deleted."""
    return _archives(connection, _query().where(_is_purged()))


def write_off(connection: Connection, subject: str) -> list[Archive]:
    """Give up the files of a run that are being written; return those that nobody needs: they are to be deleted."""
    mine = archives.c.subject == subject
    connection.execute(update(archives).where(mine, archives.c.state == WRITING).values(state=GOING))
    return _archives(connection, _query().where(mine, archives.c.state == GOING))


def forget(connection: Connection, archive: Archive) -> None:
    """Delete what the database knows of an archive."""
    connection.execute(delete(archives).where(archives.c.id == archive.id))


@dataclass(frozen=True)
class Sealed:
    """What was written of a run, and the ledger's rows (key, first sequence) that it holds."""

    written: Written
    events: int
    rows: Sequence[tuple[int, int]]


def seal(connection: Connection, subject: str, path: Path) -> Sealed | None:
    """Write what the ledger has of a run to a local file. None where there is nothing."""
    query = blocks.blocks_query().where(writers.c.subject == subject).order_by(ledger.c.id)
    rows = connection.execute(query).all()
    if not rows:
        return None
    positions = connection.execute(select(writers.c.writer, writers.c.next_sequence).where(writers.c.subject == subject))
    ends = {row.writer: row.next_sequence for row in positions}
    kept = [(row.writer, row.first_sequence, row.first_sequence + row.events) for row in rows]
    letters = [
        letter
        for letter in blocks.letters(connection, subject, None)
        if not any(writer == letter.writer and first <= letter.sequence < end for writer, first, end in kept)
    ]
    events = sum(row.events for row in rows)
    header = Header(subject, now_ms(), events, len(rows), ends, letters)
    written = write_archive(path, header, ((row.id, blocks.block_of(row)) for row in rows))
    return Sealed(written, events, [(row.id, row.first_sequence) for row in rows])


def announce(connection: Connection, subject: str, folder: str, sealed: Sealed) -> int:
    """Note a file that is about to be written to a folder or bucket; return the key of the archive."""
    values = {
        "subject": subject,
        "uri": f"{folder.rstrip('/')}/{sealed.written.name}",
        "first_place": sealed.rows[0][0],
        "last_place": sealed.rows[-1][0],
        "events": sealed.events,
        "size": sealed.written.size,
        "sha256": sealed.written.sha256,
        "time": now_ms(),
        "state": WRITING,
    }
    [number] = connection.execute(insert(archives).values(values)).inserted_primary_key or (0,)
    return int(number)


def put_file(path: Path, folder: str, written: Written) -> None:
    """Bring a file to its folder or bucket, and read it back. Raises `OSError`, or `DecodeError` when it did not arrive whole."""
    open_artifacts(folder).put(path, written.name)
    with fetched(folder, written.name, written.sha256):
        pass


def move_out(connection: Connection, subject: str, number: int, sealed: Sealed) -> None:
    """Delete the rows that an archive holds, which counts from now on. Raises `StoreUnavailable` when they are no longer what they were."""
    places = [place for place, _ in sealed.rows]
    now = {
        (row.id, row.first_sequence)
        for part in in_parts(places)
        for row in connection.execute(select(ledger.c.id, ledger.c.first_sequence).where(ledger.c.id.in_(part)))
    }
    is_mine = (archives.c.id == number) & (archives.c.state == WRITING)
    if now != set(sealed.rows) or not connection.execute(update(archives).where(is_mine).values(state=KEPT)).rowcount:
        raise StoreUnavailable(f"the ledger of run {subject} was changed while it was archived; archive it again")
    for part in in_parts(places):
        connection.execute(delete(ledger).where(ledger.c.id.in_(part)))


def move_in(connection: Connection, subject: str) -> None:
    """Bring the archived ledger of a run back to where it was; nobody needs the files then."""
    numbers = connection.execute(select(writers.c.writer, writers.c.id).where(writers.c.subject == subject))
    keys = {row.writer: row.id for row in numbers}
    for archive in known(connection, subject):
        insert_rows(connection, ledger, [_row(keys[block.writer], place, block) for place, block in archive.blocks()])
        connection.execute(update(archives).where(archives.c.id == archive.id).values(state=GOING))


def _row(writer_id: int, place: int, block: Any) -> dict[str, Any]:  # noqa: ANN401 - a block
    return {"id": place, **blocks.ledger_row(writer_id, block)}


def remove_file(archive: Archive) -> None:
    """Delete an archive's file. Raises `OSError`, `InvalidParameter`."""
    folder, _, name = archive.uri.rpartition("/")
    open_artifacts(folder).delete(name)
