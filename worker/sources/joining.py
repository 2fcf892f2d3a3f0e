"""Joining the small blocks of one writer that wait together, so that a store that is behind has fewer of them to file."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

from flightlog.schema.blocks import Block
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Records
from flightlog.stores.base import Gap

SMALL, SMALL_BYTES = 1_000, 64 << 10
"""A block of fewer events and bytes costs a store less when it is joined to its neighbours than what it costs to encode it again."""
JOINED = 10_000
"""So many events are joined at the most."""


def join_small(items: Sequence[Block | Gap]) -> list[Block | Gap]:
    """Return the same events, those of consecutive small blocks of a writer in one. The order of each writer's events stays."""
    chains: list[list[Block | Gap]] = []
    open_chains: dict[WriterId, list[Block | Gap]] = {}
    for item in items:
        links = open_chains.get(item.writer)
        if links is not None and _fits(links, item):
            links.append(item)
        else:
            open_chains[item.writer] = links = [item]
            chains.append(links)
    return list(chain.from_iterable(map(_joined, chains)))


def _fits(links: Sequence[Block | Gap], item: Block | Gap) -> bool:
    first, last = links[0], links[-1]
    if not (isinstance(first, Block) and isinstance(last, Block) and isinstance(item, Block)):
        return False
    is_next = (item.subject, item.first_sequence) == (last.subject, last.end)
    return is_next and _is_small(item) and _is_small(last) and item.end - first.first_sequence <= JOINED


def _is_small(block: Block) -> bool:
    return len(block.records) < SMALL and len(block.records.buffer) < SMALL_BYTES


def _joined(links: list[Block | Gap]) -> list[Block | Gap]:
    blocks = [link for link in links if isinstance(link, Block)]
    names: dict[int, str] = {}
    for block in blocks:
        names.update(block.names)
    if len(links) < 2 or any(names[number] != name for block in blocks for number, name in block.names.items()):
        return links  # nothing to join, or the ids of its metrics have changed their meaning
    first = blocks[0]
    return [Block(first.subject, first.writer, first.first_sequence, names, Records.joined([block.records for block in blocks]))]
