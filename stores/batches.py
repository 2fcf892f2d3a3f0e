"""What both stores do with a batch before they look into its events: positions and dead letters."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from flightlog.schema.blocks import Block
from flightlog.schema.codec import encode
from flightlog.schema.entities import DeadLetter
from flightlog.schema.events import RunLost
from flightlog.schema.ids import EXPERIMENT_SUBJECT, new_writer_id
from flightlog.schema.records import Records
from flightlog.stores.base import Gap, WriterKey


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


def without_named(snapshots: Collection[str], letters: Sequence[DeadLetter]) -> set[str]:
    """Return those of the snapshots that no dead letter names: its event may be given another try."""
    return {name for name in snapshots if not any(name.encode() in letter.payload for letter in letters)}


def lost_block(run_id: str, last_seen: int, time: int) -> Block:
    """Return the block, of a writer of its own, that takes a run for lost."""
    return Block(run_id, new_writer_id(), 0, {}, Records.of([encode(RunLost(time=time, last_seen=last_seen))]))


def experiment_of(subject: str) -> str | None:
    """Return the experiment id of an experiment's subject, None for a run's."""
    return subject[len(EXPERIMENT_SUBJECT) :] if subject.startswith(EXPERIMENT_SUBJECT) else None


def indices_of(block: Block, codes: Collection[int]) -> list[int]:
    """Return the places of those events in a block that have one of the type codes, or may have: few others are among them.

    Nearly all events begin with an array of up to 15 items and a code below 128, which is seen without decoding.
    """
    records = block.records
    if not records.lengths.all():
        return list(range(len(records)))
    first = records.buffer[records.offsets]
    second = records.buffer[np.minimum(records.offsets + 1, len(records.buffer) - 1)]
    is_usual = (first >= 0x94) & (first <= 0x9F) & (second < 0x80)
    found: list[int] = np.flatnonzero(~is_usual | np.isin(second, list(codes))).tolist()
    return found


def after_positions(blocks: Iterable[Block], known: Mapping[WriterKey, int]) -> Iterator[Block]:
    """Yield the blocks that do not end at or before a known position."""
    return (block for block in blocks if block.end > known.get((block.subject, block.writer), 0))
