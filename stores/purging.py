"""Purging: what a run or an experiment leaves behind when it is removed for good, and what becomes of events that come later.

A purge is an event of a writer of its own, so that a replay purges as well. With it goes everything that is projected of the subject, its
ledger and its dead letters. The positions stay, since journals that are still on their way are measured by them, and so does one fact of a
run: that it began in its experiment, without which the experiment might be another when the ledger is replayed.

What comes later of a purged run is dropped. An experiment may exist again under the same id, which follows from its name: there, what
happened up to the time of the purge is dropped, and what happened later counts.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.codec import decode, encode
from flightlog.schema.errors import DecodeError
from flightlog.schema.ids import new_writer_id
from flightlog.schema.records import Records
from flightlog.stores.base import Gap
from flightlog.stores.batches import experiment_of, indices_of
from flightlog.stores.experiments import is_experiment_id

PURGES = (e.RunPurged, e.ExperimentPurged)
CODES = tuple(purge.code for purge in PURGES)

Purge = e.RunPurged | e.ExperimentPurged


def purge_block(subject: str, time: int) -> Block:
    """Return the event that purges a run or an experiment; `time` is ms since the epoch."""
    event: Purge = e.RunPurged(time=time) if experiment_of(subject) is None else e.ExperimentPurged(time=time)
    return Block(subject, new_writer_id(), 0, {}, Records.of([encode(event)]))


def portions(items: Sequence[Block | Gap]) -> Iterator[list[Block | Gap]]:
    """Yield a batch in portions to be applied one after the other: each event that purges is one by itself."""
    parts = [part for item in items for part in _apart(item)]
    for purges, group in groupby(parts, lambda part: purge_of(part) is not None):
        if purges:
            yield from ([part] for part in group)
        else:
            yield list(group)


def _apart(item: Block | Gap) -> Iterator[Block | Gap]:
    """Yield a block in parts, so that an event that purges is alone."""
    places = [index for index in indices_of(item, CODES) if _decoded(item, index, PURGES)] if isinstance(item, Block) else []
    if not isinstance(item, Block) or not places or len(item.records) == 1:
        yield item
        return
    start = 0
    for index in places:
        if index > start:
            yield item.part(start, index)
        yield item.part(index, index + 1)
        start = index + 1
    if start < len(item.records):
        yield item.part(start, len(item.records))


def purge_of(item: Block | Gap) -> Purge | None:
    """Return the event of a block of one that purges something, None for any other."""
    if not isinstance(item, Block) or len(item.records) != 1 or not indices_of(item, CODES):
        return None
    event = _decoded(item, 0, PURGES)
    return event if isinstance(event, PURGES) else None


def founding(blocks: Iterable[Block]) -> tuple[int, Block] | None:
    """Return the place, among the blocks of a run, of the one that holds its start, and what stays of it: the experiment and the time."""
    for place, block in enumerate(blocks):
        for index in indices_of(block, (e.RunStarted.code,)):
            event = _decoded(block, index, (e.RunStarted,))
            if isinstance(event, e.RunStarted) and is_experiment_id(event.experiment_id):
                return place, Block(block.subject, block.writer, block.first_sequence + index, {}, Records.of([encode(_bare(event))]))
    return None


def _bare(event: e.RunStarted) -> e.RunStarted:
    return e.RunStarted(
        time=event.time,
        experiment_id=event.experiment_id,
        experiment_name=event.experiment_name,
        artifact_location=event.artifact_location,
        artifact_uri="",
        run_name="",
        start_time=event.start_time,
    )


def survivors(item: Block | Gap, purged: int) -> list[Block]:
    """Return what is left of an item of a subject that was purged at a time, ms: of a run nothing, of an experiment what came later."""
    if isinstance(item, Gap) or experiment_of(item.subject) is None:
        return []
    later = [index for index in range(len(item.records)) if _is_later(item, index, purged)]
    return [item.part(start, stop) for start, stop in _stretches(later)]


def _is_later(block: Block, index: int, time: int) -> bool:
    event = _decoded(block, index, (e.Event,))
    return event is not None and event.time > time


def _stretches(indices: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield start and end of each stretch of consecutive numbers."""
    for _, group in groupby(enumerate(indices), lambda item: item[1] - item[0]):
        numbers = [number for _, number in group]
        yield numbers[0], numbers[-1] + 1


def _decoded(block: Block, index: int, kinds: tuple[type[e.Event], ...]) -> e.Event | None:
    try:
        event = decode(block.records.payload(index), block.names)
    except DecodeError:
        return None
    return event if isinstance(event, kinds) else None
