"""A ledger of somebody else's is read as it is, holes included, and its file is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.facts import RUN, WRITER, block, everything, param, tag
from flightlog.schema.blocks import Block
from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.base import Gap
from flightlog.stores.memory import MemoryStore
from flightlog.stores.sql import ledger_file
from flightlog.stores.sql.ledger_file import has_ledger, ledger_items, opened_copy
from flightlog.stores.sql.store import SqlStore

HOLE = Gap(RUN, WRITER, 2, 5, "corrupt", "damaged", b"rest", 3)
END = Gap(RUN, WRITER, 6, 7, "torn", "cut", b"", None)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A database whose ledger lacks two places in one writer's events."""
    file = tmp_path / "tracking.db"
    store = SqlStore(f"sqlite:///{file}")
    store.apply([block(RUN, tag("a", "1"), param("p", "1")), HOLE, block(RUN, tag("b", "2"), first=5), END])
    store.close()
    return file


def replay(file: Path, store: MemoryStore) -> list[Block | Gap]:
    with opened_copy(file) as engine:
        items = list(ledger_items(engine, store.position))
    store.apply(items)
    return items


def test_holes_come_as_gaps_with_their_reasons_and_all_of_it_once(file: Path) -> None:
    store = MemoryStore()
    items = replay(file, store)
    assert [item for item in items if isinstance(item, Gap)] == [HOLE, END]
    origin = SqlStore(f"sqlite:///{file}")
    assert everything(store, [RUN]) == everything(origin, [RUN])
    origin.close()
    assert replay(file, store) == []


def test_a_store_that_has_a_part_gets_the_rest(file: Path) -> None:
    store = MemoryStore()
    store.apply([block(RUN, tag("a", "1"), param("p", "1")), Gap(RUN, WRITER, 2, 3, "corrupt", "damaged", b"", 1)])
    replay(file, store)
    assert (store.position(RUN, WRITER), store.get_run(RUN).data.tags) == (7, {"a": "1", "b": "2"})
    assert [(letter.sequence, letter.reason) for letter in store.dead_letters()] == [(2, "corrupt"), (3, "missing"), (6, "torn")]


def test_reading_makes_no_file_beside_the_database(file: Path) -> None:
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    replay(file, MemoryStore())
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


def test_a_database_that_changes_while_it_is_copied_is_copied_again_and_given_up_in_the_end(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.with_name(file.name + "-wal").write_bytes(b"x" * 64)
    changes = iter(range(1000))
    monkeypatch.setattr(ledger_file, "_marks", lambda *_: next(changes))
    with pytest.raises(StoreUnavailable, match="too fast"), opened_copy(file):
        pass
    assert next(changes) == 2 * ledger_file.ATTEMPTS


@pytest.mark.parametrize("content", [b"", b"nonsense" * 1000], ids=["empty", "no database"])
def test_what_is_no_ledger_is_told_apart(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "other.db"
    file.write_bytes(content)
    with opened_copy(file) as engine:
        if content:
            with pytest.raises(StoreUnavailable):
                has_ledger(engine)
        else:
            assert not has_ledger(engine)
