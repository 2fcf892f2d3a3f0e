"""The ledger of a SQLite database that belongs to somebody else: read without changing a byte beside it, whatever medium it lies on.

SQLite makes files beside a database even to read it, unless it is told that nobody writes to it. That can be believed when there is no
write-ahead log. With one, the database and its log are copied to a temporary folder, between two moments at which neither had been
rewritten, and read there.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, inspect, select
from sqlalchemy.pool import NullPool

from flightlog.schema.blocks import Block, decode_body
from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import StoreUnavailable
from flightlog.schema.ids import WriterId
from flightlog.stores.base import Gap
from flightlog.stores.sql.engine import reading
from flightlog.stores.sql.rows import in_parts
from flightlog.stores.sql.tables import dead_letters, ledger, writers

ATTEMPTS = 5
"""How often a database that is being written is copied anew before it is given up."""
WAL_HEAD = 32
PAGE = 1000
BODIES = 16


@dataclass(frozen=True)
class LedgerWriter:
    """A writer as the database has it: its subject, and the sequence after all that was filed of it."""

    number: int
    subject: str
    writer: WriterId
    end: int


@contextmanager
def opened_copy(file: Path) -> Iterator[Engine]:
    """Give an engine that reads a database file. Raises `StoreUnavailable` where no copy can be had while somebody writes to it."""
    with tempfile.TemporaryDirectory(prefix="flightlog-ledger-") as folder:
        engine = _engine(_readable(file, Path(folder)))
        try:
            yield engine
        finally:
            engine.dispose()


def _engine(uri: str) -> Engine:
    return create_engine(f"sqlite:///{uri}&uri=true", poolclass=NullPool)


def _readable(file: Path, folder: Path) -> str:
    """Return the URI of a file that nobody writes to: the database itself, or a copy in a folder."""
    wal = file.with_name(file.name + "-wal")
    if not _head(wal):
        return f"{file.resolve().as_uri()}?immutable=1"
    for _ in range(ATTEMPTS):
        before = _marks(file, wal)
        for source in (file, wal):
            shutil.copyfile(source, folder / source.name)
        if _marks(file, wal) == before:
            return f"{(folder / file.name).as_uri()}?mode=rw"
    raise StoreUnavailable(f"the database {file} is being written too fast to be copied; sync it again when its worker has less to do")


def _marks(file: Path, wal: Path) -> tuple[int, int, bytes]:
    """Return what changes when a database is rewritten, or its log begun anew; a log that only grows leaves it."""
    status = file.stat()
    return status.st_mtime_ns, status.st_size, _head(wal)


def _head(file: Path) -> bytes:
    try:
        with file.open("rb") as content:
            return content.read(WAL_HEAD)
    except FileNotFoundError:
        return b""


def has_ledger(engine: Engine) -> bool:
    """Say whether a database is one of ours. Raises `StoreUnavailable` for what is no database."""
    with reading(engine) as connection:
        return all(inspect(connection).has_table(table.name) for table in (ledger, writers, dead_letters))


def ledger_items(engine: Engine, position: Callable[[str, WriterId], int]) -> Iterator[Block | Gap]:
    """Yield what a ledger has beyond `position`, in its order; what it never had of a writer comes as a gap, for the reason it gives.

    Holds few blocks at once.
    """
    with reading(engine) as connection:
        behind = {found.number: found for found in _writers(connection) if position(found.subject, found.writer) < found.end}
        if not behind:
            return
        due = {number: position(found.subject, found.writer) for number, found in behind.items()}
        letters = _letters(connection, due)
        for number, block in _blocks(connection, behind, due):
            yield from _missing(behind[number], due[number], block.first_sequence, letters)
            yield block
            due[number] = max(due[number], block.end)
    for number, found in behind.items():
        yield from _missing(found, due[number], found.end, letters)


def subjects(engine: Engine) -> set[str]:
    """Return the runs and experiments of which a ledger has events."""
    with reading(engine) as connection:
        return set(connection.execute(select(writers.c.subject).distinct()).scalars())


def _writers(connection: Connection) -> list[LedgerWriter]:
    columns = (writers.c.id, writers.c.subject, writers.c.writer, writers.c.next_sequence)
    rows = connection.execute(select(*columns).order_by(writers.c.id)).all()
    return [LedgerWriter(number, subject, WriterId(writer), end) for number, subject, writer, end in rows]


def _blocks(connection: Connection, behind: Mapping[int, LedgerWriter], due: Mapping[int, int]) -> Iterator[tuple[int, Block]]:
    """Yield the blocks that end after what is due of their writer."""
    place = 0
    columns = (ledger.c.id, ledger.c.writer_id, ledger.c.first_sequence, ledger.c["count"])
    while True:
        page = connection.execute(select(*columns).where(ledger.c.id > place).order_by(ledger.c.id).limit(PAGE)).all()
        if not page:
            return
        place = page[-1][0]
        wanted = {row[0]: row for row in page if row[1] in behind and row[2] + row[3] > due[row[1]]}
        for part in in_parts(wanted, BODIES):
            rows = connection.execute(select(ledger.c.id, ledger.c.body).where(ledger.c.id.in_(part)))
            bodies: dict[int, bytes] = {number: body for number, body in rows}  # noqa: C416 - a result looks like a mapping to dict()
            for number in part:
                yield wanted[number][1], _block(behind[wanted[number][1]], wanted[number], bodies[number])


def _block(writer: LedgerWriter, row: Any, body: bytes) -> Block:  # noqa: ANN401 - a row
    return Block(writer.subject, writer.writer, row[2], *decode_body(body))


def _letters(connection: Connection, due: Mapping[int, int]) -> dict[tuple[str, str], list[DeadLetter]]:
    """Return the dead letters of writers, which tell why the ledger lacks something."""
    item = dead_letters.c
    columns = (
        writers.c.subject,
        writers.c.writer,
        item.sequence,
        item.reason,
        item.message,
        item.payload,
        item.time,
        item["count"],
        writers.c.id,
    )
    found: dict[tuple[str, str], list[DeadLetter]] = {}
    for *fields, number in connection.execute(select(*columns).join_from(dead_letters, writers).order_by(item.sequence)):
        if number in due:
            letter = DeadLetter(*fields)
            found.setdefault((letter.subject, letter.writer), []).append(letter)
    return found


def _missing(writer: LedgerWriter, start: int, end: int, letters: Mapping[tuple[str, str], list[DeadLetter]]) -> Iterator[Gap]:
    """Yield gaps for the sequences from `start` to before `end`: one for each dead letter that speaks of them."""
    mine = [letter for letter in letters.get((writer.subject, writer.writer), []) if start <= letter.sequence < end]
    edges = [*(letter.sequence for letter in mine), end]
    if start < edges[0]:
        message = f"{edges[0] - start} events are missing in the ledger that was brought over"
        yield Gap(writer.subject, writer.writer, start, edges[0], "missing", message, count=edges[0] - start)
    for letter, following in zip(mine, edges[1:], strict=True):
        count = None if letter.count is None else following - letter.sequence
        yield Gap(writer.subject, writer.writer, letter.sequence, following, letter.reason, letter.message, letter.payload, count)
