"""Joining small blocks: the same events in the same order for each writer, whatever comes between."""

from __future__ import annotations

from flightlog.schema.blocks import Block
from flightlog.schema.records import Records
from flightlog.stores.base import Gap
from flightlog.worker.sources.joining import JOINED, SMALL, SMALL_BYTES, join_small
from journals import OTHER_WRITER, RUN, WRITER
from queues import block

OTHER_RUN = "b" * 32


def events(items: list[Block | Gap]) -> list[tuple[str, str, int, int, list[bytes]]]:
    """Return what each block holds."""
    return [
        (item.subject, item.writer, item.first_sequence, item.end, list(item.records.payloads()))
        for item in items
        if isinstance(item, Block)
    ]


def numbered(first: int, count: int, names: dict[int, str] | None = None) -> Block:
    return Block(RUN, WRITER, first, names or {}, Records.of([b"%d" % number for number in range(first, first + count)]))


def test_consecutive_blocks_of_a_writer_become_one_between_those_of_another() -> None:
    theirs = [block("x", writer=OTHER_WRITER), block("y", writer=OTHER_WRITER, first=1)]
    items = [block("a", "b"), theirs[0], block("c", first=2), theirs[1], block("d", first=3)]
    assert events(join_small(items)) == events([block("a", "b", "c", "d"), block("x", "y", writer=OTHER_WRITER)])


def test_what_is_sliced_from_a_larger_buffer_joins_as_well() -> None:
    whole = numbered(0, 20)
    assert events(join_small([whole.part(5, 8), whole.part(8, 20)])) == events([whole.part(5, 20)])


def test_what_is_no_continuation_stays_by_itself() -> None:
    gap = Gap(RUN, WRITER, 2, 3, "corrupt", "it is", b"", 1)
    alone: list[list[Block | Gap]] = [
        [block("a"), block("b", first=2)],
        [block("a"), block("a")],
        [block("a"), block("b", first=1, subject=OTHER_RUN)],
        [block("a", "b"), gap, block("d", first=3)],
        [numbered(0, SMALL), numbered(SMALL, 1)],
        [block("a"), Block(RUN, WRITER, 1, {}, Records.of([bytes(SMALL_BYTES)])), block("c", first=2)],
        [block("a")],
    ]
    for items in alone:
        assert join_small(items) == items


def test_names_are_joined_unless_an_id_has_changed_its_meaning() -> None:
    joined = join_small([numbered(0, 1, {1: "loss"}), numbered(1, 1, {1: "loss", 2: "acc"})])
    assert [item.names for item in joined if isinstance(item, Block)] == [{1: "loss", 2: "acc"}]
    changed: list[Block | Gap] = [numbered(0, 1, {1: "loss"}), numbered(1, 1, {1: "acc"})]
    assert join_small(changed) == changed


def test_a_joined_block_has_a_limit() -> None:
    each = SMALL - 1
    joined = join_small([numbered(number * each, each) for number in range(40)])
    sizes = [len(item.records) for item in joined if isinstance(item, Block)]
    assert max(sizes) <= JOINED
    assert sum(sizes) == 40 * each
    assert len(sizes) == 4
