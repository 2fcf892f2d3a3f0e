"""Events that the store refused when they came, and that get their place in the ledger after all.

The ledger's order is that of its keys, and within a writer also that of the sequences. So a late event takes the key of the block that
follows it, that one the key of the next, and so on; only blocks of this one writer change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, delete, select

from flightlog.schema.blocks import Block, decode_body, encode_body
from flightlog.schema.entities import DeadLetter
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Records
from flightlog.stores.sql.rows import in_parts, insert_rows
from flightlog.stores.sql.tables import ledger, writers

REFUSED = "refused"


def find(connection: Connection, letters: Sequence[DeadLetter]) -> list[Block]:
    """Return the events of those dead letters that are not in the ledger and whose bytes were kept."""
    return [_block(connection, letter) for letter in letters if is_whole(letter) and not _is_kept(connection, letter)]


def is_whole(letter: DeadLetter) -> bool:
    """Say whether a dead letter is that of an event which the store refused, and has all its bytes."""
    return letter.reason == REFUSED and letter.count == 1 and bool(letter.payload)


def _is_kept(connection: Connection, letter: DeadLetter) -> bool:
    before = _blocks_of(letter.subject, letter.writer).where(ledger.c.first_sequence <= letter.sequence)
    row = connection.execute(before.order_by(ledger.c.first_sequence.desc()).limit(1)).first()
    return row is not None and letter.sequence < row.first_sequence + row.events


def _block(connection: Connection, letter: DeadLetter) -> Block:
    """Return the event as a block. The metric names are those of the blocks around it: a writer's ids keep their meaning."""
    query = _blocks_of(letter.subject, letter.writer)
    before = query.where(ledger.c.first_sequence < letter.sequence).order_by(ledger.c.first_sequence.desc()).limit(1)
    after = query.where(ledger.c.first_sequence > letter.sequence).order_by(ledger.c.first_sequence).limit(1)
    names: dict[int, str] = {}
    for statement in (after, before):
        for row in connection.execute(statement):
            names |= decode_body(row.body)[0]
    return Block(letter.subject, WriterId(letter.writer), letter.sequence, names, Records.of([letter.payload]))


def _blocks_of(subject: str, writer: str) -> Any:  # noqa: ANN401 - a select of four columns
    columns = (ledger.c.id, ledger.c.first_sequence, ledger.c["count"].label("events"), ledger.c.body)
    return select(*columns).join_from(ledger, writers).where(writers.c.subject == subject, writers.c.writer == writer)


def insert(connection: Connection, blocks: Sequence[Block]) -> None:
    """Give events their places in the ledger."""
    for block in blocks:
        _insert(connection, block)


def _insert(connection: Connection, block: Block) -> None:
    owner = select(writers.c.id).where(writers.c.subject == block.subject, writers.c.writer == block.writer)
    writer_id = connection.execute(owner).scalar_one()
    query = _blocks_of(block.subject, block.writer).where(ledger.c.first_sequence > block.first_sequence).order_by(ledger.c.id)
    later = connection.execute(query).all()
    for part in in_parts([row.id for row in later]):
        connection.execute(delete(ledger).where(ledger.c.id.in_(part)))
    contents = [_content(writer_id, block.first_sequence, 1, encode_body(block.names, block.records))]
    contents += [_content(writer_id, row.first_sequence, row.events, row.body) for row in later]
    insert_rows(connection, ledger, [{"id": row.id, **content} for row, content in zip(later, contents, strict=False)])
    insert_rows(connection, ledger, contents[-1:])


def _content(writer_id: int, first_sequence: int, count: int, body: bytes) -> dict[str, Any]:
    return {"writer_id": writer_id, "first_sequence": first_sequence, "count": count, "body": body}
