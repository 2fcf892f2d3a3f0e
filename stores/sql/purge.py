"""Purging in the database: what is removed, what stays, and what becomes of events that come later. See `stores.purging`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from sqlalchemy import Connection, Select, delete, insert, select, update

from flightlog.schema.blocks import Block, encode_body
from flightlog.stores.base import Gap, Tombstone
from flightlog.stores.batches import experiment_of
from flightlog.stores.experiments import purge_refusal
from flightlog.stores.purging import founding, purge_of, survivors
from flightlog.stores.sql import archives
from flightlog.stores.sql.experiments import SqlExperiments
from flightlog.stores.sql.ledger import Admitted, block_of, blocks_query
from flightlog.stores.sql.repair import delete_parts
from flightlog.stores.sql.rows import fetch, in_parts
from flightlog.stores.sql.tables import dead_letters, experiment_tags, experiments, ledger, runs, tombstones, writers

BLOCKS = 20
"""Blocks that are read at a time."""


def without_purged(connection: Connection, admitted: Sequence[Admitted]) -> list[Admitted]:
    """Return what of a batch is not of subjects that were purged before, and count the rest."""
    purged = _purged(connection, {part.item.subject for part in admitted})
    if not purged:
        return list(admitted)
    kept: list[Admitted] = []
    for part in admitted:
        time = purged.get(part.item.subject)
        left: Sequence[Block | Gap] = [part.item] if time is None else survivors(part.item, time)
        kept += [Admitted(part.writer_id, item) for item in left]
        if time is not None and isinstance(part.item, Block):
            _count(
                connection, part.item.subject, len(part.item.records) - sum(len(item.records) for item in left if isinstance(item, Block))
            )
    return kept


def _purged(connection: Connection, subjects: Iterable[str]) -> dict[str, int]:
    rows = fetch(connection, select(tombstones.c.subject, tombstones.c.time), tombstones.c.subject, sorted(subjects))
    return {row.subject: row.time for row in rows}


def _count(connection: Connection, subject: str, dropped: int) -> None:
    statement = update(tombstones).where(tombstones.c.subject == subject)
    connection.execute(statement.values(dropped=tombstones.c.dropped + dropped))


def is_purge(connection: Connection, admitted: Sequence[Admitted]) -> bool:
    """Purge what the only event of a batch purges; say whether it did."""
    event = purge_of(admitted[0].item) if len(admitted) == 1 else None
    if event is None:
        return False
    subject = admitted[0].item.subject
    if purge_refusal(SqlExperiments(connection, {}), subject, event) is not None:
        return False
    experiment_id = experiment_of(subject)
    home: int | None = None
    if experiment_id is None:
        home = _remove_run(connection, subject)
    else:
        _remove_experiment(connection, subject, int(experiment_id))
    _forget(connection, subject)
    _bury(connection, subject, event.time, home)
    return True


def _remove_run(connection: Connection, run_id: str) -> int | None:
    """Remove a run with its ledger, but for the fact that it began; return its experiment."""
    home = connection.execute(select(runs.c.experiment_id).where(runs.c.run_id == run_id)).scalar()
    delete_parts(connection, run_id)
    connection.execute(delete(runs).where(runs.c.run_id == run_id))
    archives.move_in(connection, run_id)
    places = [row.id for row in connection.execute(_places(writers.c.subject == run_id).order_by(ledger.c.id))]
    start = founding(_blocks(connection, places))
    kept = None if start is None else places[start[0]]
    _delete_ledger(connection, [place for place in places if place != kept])
    if start is not None:
        block = start[1]
        values = {"first_sequence": block.first_sequence, "count": 1, "body": encode_body(block.names, block.records)}
        connection.execute(update(ledger).where(ledger.c.id == kept).values(values))
    return home


def _blocks(connection: Connection, places: Sequence[int]) -> Iterator[Block]:
    """Yield blocks, a few in memory at a time."""
    for part in in_parts(places, BLOCKS):
        yield from map(block_of, connection.execute(blocks_query().where(ledger.c.id.in_(part)).order_by(ledger.c.id)))


def _remove_experiment(connection: Connection, subject: str, experiment_id: int) -> None:
    """Remove an experiment with its ledger, and what the purged runs in it had left."""
    connection.execute(delete(experiment_tags).where(experiment_tags.c.experiment_id == experiment_id))
    connection.execute(delete(experiments).where(experiments.c.experiment_id == experiment_id))
    _delete_ledger(connection, [row.id for row in connection.execute(_places(writers.c.subject == subject))])
    inside = select(tombstones.c.subject).where(tombstones.c.experiment_id == experiment_id)
    rows = connection.execute(blocks_query().where(writers.c.subject.in_(inside)))
    _delete_ledger(connection, [row.id for row in rows if purge_of(block_of(row)) is None])


def _places(condition: Any) -> Select[tuple[int]]:  # noqa: ANN401 - a condition
    return select(ledger.c.id).join_from(ledger, writers).where(condition)


def _delete_ledger(connection: Connection, places: Iterable[int]) -> None:
    for part in in_parts(places):
        connection.execute(delete(ledger).where(ledger.c.id.in_(part)))


def _forget(connection: Connection, subject: str) -> None:
    mine = select(writers.c.id).where(writers.c.subject == subject)
    connection.execute(delete(dead_letters).where(dead_letters.c.writer_id.in_(mine)))


def _bury(connection: Connection, subject: str, time: int, home: int | None) -> None:
    known = connection.execute(update(tombstones).where(tombstones.c.subject == subject).values(time=time, experiment_id=home))
    if not known.rowcount:
        connection.execute(insert(tombstones).values(subject=subject, time=time, experiment_id=home, dropped=0))


def all_tombstones(connection: Connection) -> list[Tombstone]:
    """Return what was purged, in order of the subjects."""
    rows = connection.execute(select(tombstones.c.subject, tombstones.c.time, tombstones.c.dropped))
    return sorted((Tombstone(*row) for row in rows), key=lambda item: item.subject)
