"""What both stores do with a batch before they look into its events: positions and dead letters."""

from __future__ import annotations

from dataclasses import replace

from flightlog.schema.blocks import Block
from flightlog.schema.codec import encode
from flightlog.schema.entities import DeadLetter
from flightlog.schema.events import RunLost
from flightlog.schema.ids import EXPERIMENT_SUBJECT, new_writer_id
from flightlog.schema.records import Records
from flightlog.stores.base import Gap


def due(item: Block | Gap, position: int) -> Block | Gap | None:
    """Return the part of an item that a store at `position` has yet to apply.

    None when there is none, or when the item starts past the position: then something before it is still to come.
    """
    first = item.first_sequence if isinstance(item, Block) else item.sequence
    if first > position or end_of(item) <= position:
        return None
    return item.since(position) if isinstance(item, Block) else _gap_since(item, position)


def end_of(item: Block | Gap) -> int:
    """Return the sequence after an item."""
    return item.end if isinstance(item, Block) else item.next_sequence


def _gap_since(gap: Gap, position: int) -> Gap:
    known = gap.count is not None and position > gap.sequence
    return replace(gap, sequence=position, count=gap.next_sequence - position if known else gap.count)


def event_letter(block: Block, index: int, reason: str, message: str, time: int) -> DeadLetter:
    """Return the dead letter of a block's event `index`."""
    return DeadLetter(block.subject, block.writer, block.first_sequence + index, reason, message, block.records.payload(index), time)


def gap_letter(gap: Gap, time: int) -> DeadLetter:
    """Return the dead letter that tells of a gap."""
    return DeadLetter(gap.subject, gap.writer, gap.sequence, gap.reason, gap.message, gap.payload, time, gap.count)


def lost_block(run_id: str, last_seen: int, time: int) -> Block:
    """Return the block, of a writer of its own, that takes a run for lost."""
    return Block(run_id, new_writer_id(), 0, {}, Records.of([encode(RunLost(time=time, last_seen=last_seen))]))


def experiment_of(subject: str) -> str | None:
    """Return the experiment id of an experiment's subject, None for a run's."""
    return subject[len(EXPERIMENT_SUBJECT) :] if subject.startswith(EXPERIMENT_SUBJECT) else None
