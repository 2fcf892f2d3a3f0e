"""The SQL store keeps the contract on SQLite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import select

from contracts.facts import RUN, block, metric, started, tag
from contracts.store_contract import StoreContract
from flightlog.schema.blocks import Block, decode_body, encode_body
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.stores.sql.engine import reading
from flightlog.stores.sql.opened import FEW
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.sql.tables import ledger


class TestSqliteStore(StoreContract):
    def make_store(self) -> Store:
        return open_store(f"sqlite:///{Path.cwd() / 'tracking.db'}")


@pytest.fixture
def store() -> Iterator[SqlStore]:
    with closing(SqlStore(f"sqlite:///{Path.cwd() / 'tracking.db'}")) as store:
        yield store


def arrived(item: Block) -> Block:
    """Return a block as it is when it came in a body of its own, which differs from what encoding again would make."""
    body = encode_body({**item.names, 999: "unused"}, item.records)
    return replace(item, body=body)


def bodies(store: SqlStore) -> list[bytes]:
    """Return what the ledger keeps."""
    with reading(store._engine) as connection:
        return list(connection.execute(select(ledger.c.body).order_by(ledger.c.id)).scalars())


def test_the_ledger_keeps_the_body_in_which_a_block_came(store: SqlStore) -> None:
    item = arrived(block(RUN, started(), metric("loss", 1.0)))
    store.apply([item])
    assert bodies(store) == [item.body]


def test_the_ledger_encodes_the_part_of_a_block_that_is_new(store: SqlStore) -> None:
    item = arrived(block(RUN, started(), metric("loss", 1.0), tag("a", "1")))
    store.apply([item.part(0, 1)])
    store.apply([item])
    assert [decode_body(body)[1].lengths.tolist() for body in bodies(store)] == [
        item.records.lengths[:1].tolist(),
        item.records.lengths[1:].tolist(),
    ]
    assert item.since(1).body is None
    assert item.since(0).body == item.part(0, 3).body == item.body
    assert replace(item, body=None) == item


@pytest.mark.parametrize("events", [FEW - 1, FEW, FEW + 1])
def test_small_and_large_blocks_of_one_batch_are_told_apart(store: SqlStore, events: int) -> None:
    facts = [metric("loss", float(step), step) for step in range(events)]
    store.apply([block(f"{number:032x}", b"junk", *facts[: number * 20 + 1], tag("a", "1"), *facts) for number in range(4)])
    for number in range(4):
        run = store.get_run(f"{number:032x}")
        assert (run.data.metric_summaries["loss"].count, run.data.tags) == (number * 20 + 1 + events, {"a": "1"})
    assert [letter.sequence for letter in store.dead_letters()] == [0, 0, 0, 0]
