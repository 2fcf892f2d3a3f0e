"""A store that refuses some events gets all others; those become dead letters."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flightlog.schema.blocks import Block
from flightlog.schema.codec import encode
from flightlog.schema.errors import StoreUnavailable
from flightlog.schema.events import ParamLogged
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Records
from flightlog.stores.base import Applied, Gap
from flightlog.stores.memory import MemoryStore
from flightlog.worker.poison import apply_around_poison


class PickyStore(MemoryStore):
    """Refuses every batch with a payload that contains the given bytes."""

    def __init__(self, poison: bytes, error: Exception) -> None:
        super().__init__()
        self.poison, self.error, self.tried = poison, error, 0

    def apply(self, items: Sequence[Block | Gap]) -> Applied:
        self.tried += 1
        for item in items:
            if isinstance(item, Block) and any(self.poison in payload for payload in item.records.payloads()):
                raise self.error
        return super().apply(items)


def block(writer: str, keys: list[str]) -> Block:
    payloads = [encode(ParamLogged(time=number, key=key, value="v")) for number, key in enumerate(keys)]
    return Block("run", WriterId(writer * 32), 0, {}, Records.of(payloads))


def test_only_the_refused_event_becomes_a_dead_letter() -> None:
    store = PickyStore(b"poison", ValueError("cannot hold it"))
    keys = [f"k{number}" for number in range(100)]
    keys[37] = "poison"
    applied = apply_around_poison(store, [block("a", keys), block("b", ["x", "y"])])
    assert sorted(store.get_run("run").data.params) == sorted({*keys, "x", "y"} - {"poison"})
    assert applied.positions == {"a" * 32: 100, "b" * 32: 2}
    (letter,) = store.dead_letters()
    assert (letter.sequence, letter.reason, b"poison" in letter.payload) == (37, "refused", True)
    assert "ValueError: cannot hold it" in letter.message
    assert store.tried < 25


def test_several_refused_events_are_all_found() -> None:
    store = PickyStore(b"poison", ValueError("no"))
    apply_around_poison(store, [block("a", ["poison", "a", "poison2", "b", "poison3"])])
    assert [letter.sequence for letter in store.dead_letters()] == [0, 2, 4]
    assert sorted(store.get_run("run").data.params) == ["a", "b"]


def test_a_store_that_is_away_refuses_nothing() -> None:
    store = PickyStore(b"k", StoreUnavailable("away"))
    with pytest.raises(StoreUnavailable):
        apply_around_poison(store, [block("a", ["k"])])
    assert store.tried == 1
    assert store.dead_letters() == []
