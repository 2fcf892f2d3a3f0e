"""Positions and ledger: what of a batch is due, and the blocks as they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, func, select

from flightlog.schema.blocks import Block, decode_body, encode_body
from flightlog.schema.entities import DeadLetter, WriterStatus
from flightlog.schema.ids import WriterId
from flightlog.stores.base import Gap
from flightlog.stores.batches import due, end_of
from flightlog.stores.sql.rows import Values, fetch, insert_rows, upsert_rows
from flightlog.stores.sql.tables import dead_letters, ledger, writers

PAGE = 16
"""Blocks that a reader of the ledger holds at once."""

WriterKey = tuple[str, WriterId]


@dataclass(frozen=True)
class Admitted:
    """A part of a batch that is due, and the key of its writer (`writers.id`)."""

    writer_id: int
    item: Block | Gap


@dataclass(frozen=True)
class Letter:
    """A dead letter and the key of its writer."""

    writer_id: int
    letter: DeadLetter


def admit(connection: Connection, items: Sequence[Block | Gap], now: int) -> tuple[list[Admitted], dict[WriterId, int]]:
    """Move the positions over all items of a batch that are due. Return those, and every writer's position after the batch."""
    stored = _stored(connection, {(item.subject, item.writer) for item in items})
    positions = {(item.subject, item.writer): stored.get((item.subject, item.writer), (0, 0))[1] for item in items}
    parts: list[Block | Gap] = []
    for item in items:
        part = due(item, positions[item.subject, item.writer])
        if part is not None:
            parts.append(part)
            positions[item.subject, item.writer] = end_of(part)
    moved = sorted({(part.subject, part.writer) for part in parts})
    numbers = _move(connection, {key: positions[key] for key in moved}, {key: number for key, (number, _) in stored.items()}, now)
    admitted = [Admitted(numbers[part.subject, part.writer], part) for part in parts]
    return admitted, {writer: position for (_, writer), position in positions.items()}


def _stored(connection: Connection, keys: set[WriterKey]) -> dict[WriterKey, tuple[int, int]]:
    """Return key and position of the writers that are known, and hold these rows where the database can."""
    columns = (writers.c.subject, writers.c.writer, writers.c.id, writers.c.next_sequence)
    query = select(*columns).order_by(writers.c.subject, writers.c.writer).with_for_update()
    rows = fetch(connection, query, writers.c.subject, sorted({subject for subject, _ in keys}))
    return {(row.subject, row.writer): (row.id, row.next_sequence) for row in rows if (row.subject, row.writer) in keys}


def _move(connection: Connection, positions: dict[WriterKey, int], numbers: dict[WriterKey, int], now: int) -> dict[WriterKey, int]:
    rows = {key: _writer_row(key, position, now) for key, position in positions.items()}
    new = [row for key, row in rows.items() if key not in numbers]
    insert_rows(connection, writers, new)
    upsert_rows(connection, writers, [{"id": numbers[key], **row} for key, row in rows.items() if key in numbers])
    if not new:
        return numbers
    return {key: number for key, (number, _) in _stored(connection, set(positions)).items()}


def _writer_row(key: WriterKey, position: int, now: int) -> Values:
    return {"subject": key[0], "writer": key[1], "next_sequence": position, "updated": now}


def keep(connection: Connection, admitted: Sequence[Admitted]) -> None:
    """Write the blocks of a batch into the ledger."""
    insert_rows(connection, ledger, [_ledger_row(part.writer_id, part.item) for part in admitted if isinstance(part.item, Block)])


def _ledger_row(writer_id: int, block: Block) -> Values:
    body = encode_body(block.names, block.records) if block.body is None else block.body
    return {"writer_id": writer_id, "first_sequence": block.first_sequence, "count": len(block.records), "body": body}


def keep_letters(connection: Connection, letters: Sequence[Letter]) -> None:
    """Write dead letters."""
    insert_rows(connection, dead_letters, [_letter_row(item.writer_id, item.letter) for item in letters])


def _letter_row(writer_id: int, letter: DeadLetter) -> Values:
    return {
        "writer_id": writer_id,
        "sequence": letter.sequence,
        "count": letter.count,
        "reason": letter.reason,
        "message": letter.message,
        "payload": letter.payload,
        "time": letter.time,
    }


def position(connection: Connection, subject: str, writer: WriterId) -> int:
    """Return the next sequence that the store expects of a writer; 0 for a new one."""
    query = select(writers.c.next_sequence).where(writers.c.subject == subject, writers.c.writer == writer)
    return connection.execute(query).scalar() or 0


def statuses(connection: Connection, subject: str | None) -> list[WriterStatus]:
    """Return how far the store has come with each writer, in order of subject and writer."""
    letters = select(func.count()).where(dead_letters.c.writer_id == writers.c.id).scalar_subquery()
    query = select(writers.c.subject, writers.c.writer, writers.c.next_sequence, letters, writers.c.updated)
    if subject is not None:
        query = query.where(writers.c.subject == subject)
    return [WriterStatus(*row) for row in sorted(tuple(row) for row in connection.execute(query))]


def letters(connection: Connection, subject: str | None, writer: str | None) -> list[DeadLetter]:
    """Return dead letters, oldest first."""
    item = dead_letters.c
    columns = (writers.c.subject, writers.c.writer, item.sequence, item.reason, item.message, item.payload, item.time, item["count"])
    query = select(*columns).join_from(dead_letters, writers).order_by(item.id)
    if subject is not None:
        query = query.where(writers.c.subject == subject)
    if writer is not None:
        query = query.where(writers.c.writer == writer)
    return [DeadLetter(*row) for row in connection.execute(query)]


def blocks_after(connection: Connection, after: int, subject: str | None) -> list[tuple[int, Block]]:
    """Return the next blocks in the ledger's order, each with its place in it; none at the end."""
    columns = (ledger.c.id, ledger.c.first_sequence, ledger.c.body, writers.c.subject, writers.c.writer)
    query = select(*columns).join_from(ledger, writers).where(ledger.c.id > after).order_by(ledger.c.id).limit(PAGE)
    if subject is not None:
        query = query.where(writers.c.subject == subject)
    return [
        (number, Block(found, WriterId(writer), first_sequence, *decode_body(body), body))
        for number, first_sequence, body, found, writer in connection.execute(query)
    ]
