"""Ledgers that have left the database: which runs may go, what is moved, and where it is read from then."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, exists, insert, select

from flightlog.schema.errors import StoreUnavailable
from flightlog.schema.ids import now_ms
from flightlog.stores.archive import Header, Placed, Written, archived, fetched, write_archive
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.sql import ledger as blocks
from flightlog.stores.sql.rows import in_parts, insert_rows
from flightlog.stores.sql.tables import archives, ledger, runs, tombstones, writers

ENDED = ("FINISHED", "FAILED", "KILLED")


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
    query = select(*(archives.c[name] for name in Archive.__dataclass_fields__)).where(archives.c.id > after).order_by(archives.c.id)
    query = query.where(~exists().where(tombstones.c.subject == archives.c.subject))
    if subject is not None:
        query = query.where(archives.c.subject == subject)
    return [Archive(*row) for row in connection.execute(query)]


def purged(connection: Connection) -> list[Archive]:
    """Return the archives of runs that were purged: their files are to be deleted."""
    query = select(*(archives.c[name] for name in Archive.__dataclass_fields__))
    return [Archive(*row) for row in connection.execute(query.where(exists().where(tombstones.c.subject == archives.c.subject)))]


def forget(connection: Connection, archive: Archive) -> None:
    """Delete what the database knows of an archive."""
    connection.execute(delete(archives).where(archives.c.id == archive.id))


@dataclass(frozen=True)
class Sealed:
    """What was written of a run, and the ledger's rows (key, first sequence) that it holds."""

    written: Written
    events: int
    rows: Sequence[tuple[int, int]]


def seal(connection: Connection, subject: str, folder: str) -> Sealed | None:
    """Write what the ledger has of a run to a folder or bucket, and read it back. None where there is nothing."""
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
    with tempfile.TemporaryDirectory(prefix="flightlog-") as temporary:
        path = Path(temporary) / "archive"
        written = write_archive(path, header, ((row.id, blocks.block_of(row)) for row in rows))
        open_artifacts(folder).put(path, written.name)
    with fetched(folder, written.name, written.sha256) as _:
        return Sealed(written, events, [(row.id, row.first_sequence) for row in rows])


def move_out(connection: Connection, subject: str, folder: str, sealed: Sealed) -> None:
    """Note an archive and delete the rows that it holds. Raises `StoreUnavailable` when they are no longer what they were."""
    places = [place for place, _ in sealed.rows]
    now = {
        (row.id, row.first_sequence)
        for part in in_parts(places)
        for row in connection.execute(select(ledger.c.id, ledger.c.first_sequence).where(ledger.c.id.in_(part)))
    }
    if now != set(sealed.rows):
        raise StoreUnavailable(f"the ledger of run {subject} was changed while it was archived; archive it again")
    values = {
        "subject": subject,
        "uri": f"{folder.rstrip('/')}/{sealed.written.name}",
        "first_place": places[0],
        "last_place": places[-1],
        "events": sealed.events,
        "size": sealed.written.size,
        "sha256": sealed.written.sha256,
        "time": now_ms(),
    }
    connection.execute(insert(archives), [values])
    for part in in_parts(places):
        connection.execute(delete(ledger).where(ledger.c.id.in_(part)))


def move_in(connection: Connection, subject: str) -> list[Archive]:
    """Bring the archived ledger of a run back to where it was; return the archives, whose files and rows are no longer needed."""
    found = known(connection, subject)
    numbers = connection.execute(select(writers.c.writer, writers.c.id).where(writers.c.subject == subject))
    keys = {row.writer: row.id for row in numbers}
    for archive in found:
        insert_rows(connection, ledger, [_row(keys[block.writer], place, block) for place, block in archive.blocks()])
    return found


def _row(writer_id: int, place: int, block: Any) -> dict[str, Any]:  # noqa: ANN401 - a block
    return {"id": place, **blocks.ledger_row(writer_id, block)}


def remove_file(archive: Archive) -> None:
    """Delete an archive's file. Raises `OSError`, `InvalidParameter`."""
    folder, _, name = archive.uri.rpartition("/")
    open_artifacts(folder).delete(name)
