"""Runs are found by the first digits of their ids, however many there are."""

from __future__ import annotations

import pytest

from contracts.facts import block, started
from flightlog.cli import searches
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.stores.memory import MemoryStore


@pytest.fixture
def store() -> MemoryStore:
    """Give a store in which many runs have ids that a pattern takes for that of the oldest one."""
    store = MemoryStore()
    for time, run_id in enumerate(("a_first", *(f"ab{number}" for number in range(9)))):
        store.apply([block(run_id, started(time=time))])
    return store


def test_a_run_is_found_behind_many_that_only_resemble_it(store: MemoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(searches, "PAGE", 2)
    assert [run.info.run_id for run in searches.find_runs(store, ["a_", "ab7", "a_first"])] == ["a_first", "ab7"]


def test_digits_that_no_run_or_several_runs_begin_with_are_refused(store: MemoryStore) -> None:
    with pytest.raises(InvalidParameter, match="several run ids: ab8, ab7, ab6; give more"):
        searches.find_runs(store, ["ab"])
    with pytest.raises(NotFound, match="no run has the id 'b_'"):
        searches.find_runs(store, ["b_"])
