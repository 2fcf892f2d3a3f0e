"""What happens when a store refuses a batch for good: the events that it refuses are found by halving and become dead letters."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

from flightlog.schema.blocks import Block
from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.base import Applied, Gap, Sink

log = logging.getLogger("flightlog.worker")


def apply_around_poison(sink: Sink, items: Sequence[Block | Gap]) -> Applied:
    """Apply a batch; where the store refuses it, apply its halves, down to the single event, which is set aside with the reason.

    A writer of whom the store takes not even the dead letter stays at its position, so its journal is kept. Raises `StoreUnavailable`,
    which is no refusal: the same batch may succeed later.
    """
    try:
        return sink.apply(items)
    except StoreUnavailable:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a store raises, only the event that it cannot take is left out
        halves = _halves(items)
        if halves:
            log.warning("the store refuses a batch, trying its halves: %s", error)
            return _joined([apply_around_poison(sink, half) for half in halves])
        return _apply_letter(sink, items[0], error)


def _apply_letter(sink: Sink, item: Block | Gap, error: Exception) -> Applied:
    """Apply a dead letter in place of a single event. Where the store refuses even that, say so; its position stays."""
    letter = _set_aside(item, error) if isinstance(item, Block) else item
    log.error("the store refuses event %d of %s, which becomes a dead letter: %s", letter.sequence, letter.subject, error)
    for attempt in (letter, replace(letter, message=f"the store refused it: {type(error).__name__}", payload=b"")):
        try:
            return sink.apply([attempt])
        except StoreUnavailable:
            raise
        except Exception as another:  # noqa: BLE001 - whatever a store raises, the other writers' events go on
            log.error("the store refuses the dead letter of event %d of %s as well: %s", letter.sequence, letter.subject, another)
    return Applied({letter.writer: letter.sequence})


def _halves(items: Sequence[Block | Gap]) -> list[Sequence[Block | Gap]]:
    """Return both halves of a batch, or of its only block; nothing for a single event."""
    if len(items) > 1:
        middle = len(items) // 2
        return [items[:middle], items[middle:]]
    only = items[0]
    if isinstance(only, Block) and len(only.records) > 1:
        middle = len(only.records) // 2
        return [[only.part(0, middle)], [only.part(middle, len(only.records))]]
    return []


def _set_aside(block: Block, error: Exception) -> Gap:
    message = f"the store refused it: {type(error).__name__}: {error}"
    return Gap(block.subject, block.writer, block.first_sequence, block.end, "refused", message, block.records.payload(0), 1)


def _joined(parts: Sequence[Applied]) -> Applied:
    positions = {writer: position for part in parts for writer, position in part.positions.items()}
    return Applied(positions, [letter for part in parts for letter in part.letters], sum(part.events for part in parts))
