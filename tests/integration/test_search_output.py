"""What a search gives back: pages, lists, columns and frames of the same runs."""

from __future__ import annotations

import csv
import io
import math
import pickle
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

import flightlog
from contracts.facts import block, exact_summary, metric, param, started, tag
from flightlog import reading
from flightlog.cli.tables import CsvRows
from flightlog.entities import Run, ViewType
from flightlog.schema import events as e
from flightlog.schema.errors import InvalidParameter
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.stores.run_columns import RunColumns, columns_of, joined


def run_id(number: int) -> str:
    return f"{number:032x}"


@pytest.fixture(params=["memory:", "sqlite"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Give a store with five runs, each of which has something that no other has."""
    with closing(open_store(request.param if request.param == "memory:" else f"sqlite:///{tmp_path / 'tracking.db'}")) as store:
        for number in range(5):
            points = [
                metric("loss", 9.0),
                metric("loss", math.nan if number == 2 else float(number), 1),
                metric(f"only {number}", math.inf),
            ]
            facts = [param("lr", "0.1"), param(f"p{number}", ""), tag("team", "a"), tag("gone", "x"), e.TagDeleted(time=2000, key="gone")]
            end = [e.RunEnded(time=3000, status="FINISHED", end_time=3000)] * (number % 2)
            store.apply([block(run_id(number), started("1", "one", 1000 + number), *points, *facts, *end)])
        yield store


@pytest.mark.parametrize("limit", [1, 2, 4, 5])
def test_columns_hold_what_the_runs_hold_page_by_page(store: Store, limit: int) -> None:
    token: str | None = None
    pages: list[RunColumns] = []
    while token or not pages:
        runs = store.search_runs(["1"], "metrics.loss >= 0 OR params.p2 = ''", max_results=limit, order_by=["params.lr"], page_token=token)
        asked = (["1"], "metrics.loss >= 0 OR params.p2 = ''", ViewType.ACTIVE_ONLY, limit, ["params.lr"], token)
        columns, token = store.search_run_columns(*asked)
        assert repr(columns) == repr(columns_of(runs))
        assert token == runs.token
        pages.append(columns)
    assert joined(pages).info["run_id"] == [run_id(number) for number in (4, 3, 2, 1, 0)]
    assert "gone" not in joined(pages).tags


def test_a_frame_and_a_list_of_many_pages_are_those_of_one(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "reader", lambda: store)
    frame = flightlog.search_runs(["1"])
    runs = flightlog.search_runs(["1"], output_format="list")
    monkeypatch.setattr(reading, "PAGE", 2)
    pd.testing.assert_frame_equal(flightlog.search_runs(["1"]), frame)
    assert flightlog.search_runs(["1"], output_format="list") == runs
    assert list(flightlog.search_runs(["1"], max_results=3).run_id) == list(frame.run_id[:3])
    assert len(flightlog.search_runs(["1"], max_results=0)) == 0
    assert list(frame.columns[:8]) == [*columns_of([]).info, "metrics.loss", "metrics.only 4"]
    assert list(frame["metrics.loss"].isna()) == [False, False, True, False, False]
    assert list(frame["params.p3"]) == [None, "", None, None, None]
    assert frame.end_time.isna().tolist() == [True, False, True, False, True]


def test_no_runs_are_a_frame_without_rows(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "reader", lambda: store)
    frame = flightlog.search_runs(["1"], "params.lr = 'none'")
    assert (len(frame), list(frame.columns)) == (0, list(columns_of([]).info))


def test_a_found_run_knows_its_summaries_also_after_a_journey(store: Store) -> None:
    found = store.search_runs(["1"], "metrics.loss.first = 9 AND metrics.loss = 1")
    travelled: list[Run] = pickle.loads(pickle.dumps(list(found)))
    for run in (*found, *travelled):
        assert run == store.get_run(run_id(1))
        summaries = run.data.metric_summaries
        assert exact_summary(summaries["loss"]) == ["loss", [("1.0", 1, 1000), ("9.0", 0, 1000), ("1.0", 1, 1000), ("9.0", 0, 1000)], 2, 0]
        assert [point.key for point in run.data._metric_objs] == list(summaries) == ["loss", "only 1"]


def test_the_experiments_to_search_are_checked(store: Store) -> None:
    with pytest.raises(InvalidParameter, match="decimal number"):
        store.search_runs(["one"])
    assert [len(store.search_runs(ids)) for ids in (["01"], ["1", "1"], ["2"], [])] == [5, 5, 0, 0]


def test_pages_of_an_order_with_as_many_keys_as_are_allowed_follow_each_other(store: Store) -> None:
    order = [f"metrics.m{number}" for number in range(20)]
    whole = [run.info.run_id for run in store.search_runs(["1"], order_by=order)]
    paged, token = [], None
    while True:
        page = store.search_runs(["1"], max_results=2, order_by=order, page_token=token)
        paged += [run.info.run_id for run in page]
        token = page.token
        if token is None:
            break
    assert (paged, len(paged) > 2) == (whole, True)


def test_what_ends_a_line_is_quoted_in_csv() -> None:
    rows = [["a", "50%\rdone"], ["b", "x\ny"]]
    file = io.StringIO(newline="")
    CsvRows(file, ["run_id", "value"]).write(rows)
    file.seek(0)
    assert list(csv.reader(file)) == [["run_id", "value"], *rows]
