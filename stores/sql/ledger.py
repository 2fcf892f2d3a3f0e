"""Positions and ledger: what of a batch is due, and the blocks as they came."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Select, delete, func, select

from flightlog.schema.blocks import Block, decode_body, encode_body
from flightlog.schema.entities import DeadLetter, WriterStatus
from flightlog.schema.ids import WriterId
from flightlog.stores.base import Gap, WriterKey
from flightlog.stores.batches import due, end_of
from flightlog.stores.sql.rows import Values, fetch, insert_rows, upsert_rows
from flightlog.stores.sql.tables import archives, dead_letters, ledger, writers

FIRST_PAGE, LAST_PAGE = 16, 2048
"""Blocks that a reader of the ledger asks for at once: as many as have about `PAGE_BYTES`."""
PAGE_BYTES = 8 << 20


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
    rows = [ledger_row(part.writer_id, part.item) for part in admitted if isinstance(part.item, Block)]
    place = _place_after_archives(connection) if rows else None
    if place is not None:
        insert_rows(connection, ledger, [{"id": place, **rows.pop(0)}])
    insert_rows(connection, ledger, rows)


def _place_after_archives(connection: Connection) -> int | None:
    """Return the key of the next row where SQLite would choose one that an archived row had: it counts on from the greatest there is."""
    if connection.dialect.name != "sqlite":
        return None
    archived = connection.execute(select(func.max(archives.c.last_place))).scalar() or 0
    if not archived or archived < (connection.execute(select(func.max(ledger.c.id))).scalar() or 0):
        return None
    return archived + 1


def ledger_row(writer_id: int, block: Block) -> Values:
    """Return a block as a row of the ledger without its key."""
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


def drop_letters(connection: Connection, dropped: Sequence[DeadLetter]) -> int:
    """Delete dead letters; return how many there were."""
    count = 0
    for letter in dropped:
        writer = select(writers.c.id).where(writers.c.subject == letter.subject, writers.c.writer == letter.writer).scalar_subquery()
        item = dead_letters.c
        is_it = (item.writer_id == writer) & (item.sequence == letter.sequence) & (item.reason == letter.reason)
        count += connection.execute(delete(dead_letters).where(is_it)).rowcount
    return count


def blocks_after(
    connection: Connection, after: int, subject: str | None, known: Mapping[WriterKey, int], limit: int
) -> tuple[int, list[tuple[int, Block]]]:
    """Return the next blocks in the ledger's order, each with its place in it, and the last place that was looked at, -1 at the end.

    Those that end at or before a known position are left out, undecoded.
    """
    query = blocks_query().where(ledger.c.id > after).order_by(ledger.c.id).limit(limit)
    if subject is not None:
        query = query.where(writers.c.subject == subject)
    rows = connection.execute(query).all()
    blocks = [(row.id, block_of(row)) for row in rows if row.first_sequence + row.events > known.get((row.subject, row.writer), 0)]
    return (rows[-1].id if rows else -1), blocks


def blocks_query() -> Select[Any]:
    """Return a query for blocks, to be completed and given to `block_of`."""
    columns = (ledger.c.id, ledger.c.first_sequence, ledger.c["count"].label("events"), ledger.c.body, writers.c.subject, writers.c.writer)
    return select(*columns).join_from(ledger, writers)


def block_of(row: Any) -> Block:  # noqa: ANN401 - a row of `blocks_query`
    """Return a row of the ledger as a block. Raises `DecodeError` for a body that is damaged."""
    return Block(row.subject, WriterId(row.writer), row.first_sequence, *decode_body(row.body), row.body)


def next_limit(limit: int, blocks: Sequence[Block]) -> int:
    """Return how many blocks to ask for after a page: twice as many after a small one, half as many after a large one."""
    size = sum(len(block.records.buffer) for block in blocks)
    wanted = 2 * limit if size < PAGE_BYTES // 2 else limit // 2 if size > 2 * PAGE_BYTES else limit
    return min(max(wanted, FIRST_PAGE), LAST_PAGE)
