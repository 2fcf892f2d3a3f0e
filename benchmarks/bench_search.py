"""How fast runs are found among 100,000 with 10 params, 10 metrics and 5 tags each, and experiments among 10,000.

    python benchmarks/bench_search.py [--runs 100000] [--rounds 7] [--only sqlite|postgres] [--keep FOLDER] [--postgres URL]

The floor of a search is the best of some statements written by hand that return the ids of the same runs and nothing else, on a connection
of the driver's own with its own settings; the search parses, finds, and returns whole runs. The PostgreSQL server is a private one with
durable settings. `--keep` keeps the SQLite database for the next time, and `--postgres` names a database of yours, which is filled if it
is empty.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import psycopg
from bench_databases import DurablePostgres
from bench_read import seconds
from many_runs import EXPERIMENT, fill
from measure import Figure, median, paired, ratio, report
from sqlalchemy import Engine

from flightlog.dataframes import runs_frame
from flightlog.schema.filters.order import parse_run_order
from flightlog.schema.filters.parser import parse_run_filter
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.stores.sql.engine import open_engine, reading
from flightlog.stores.sql.search import search_run_ids

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from services import running

EXPERIMENTS = 10_000
PAGE = 100
FILTER, ORDER = "metrics.acc > 0.5 and params.lr = '0.1'", ["metrics.loss"]
WALK = """
    SELECT r.id FROM latest_metrics l CROSS JOIN runs r
    WHERE r.id = l.run AND l.metric = {loss} AND r.experiment_id = 1 AND r.lifecycle_stage = 'active'
      AND EXISTS (SELECT 1 FROM latest_metrics a WHERE a.run = l.run AND a.metric = {acc} AND a.last_value > 0.5 {fence})
      AND EXISTS (SELECT 1 FROM params p WHERE p.run = l.run AND p.key = 'lr' AND p.value = '0.1' {fence})
    ORDER BY l.last_value LIMIT 100"""
JOIN = """
    SELECT r.id FROM latest_metrics l JOIN runs r ON r.id = l.run
      JOIN latest_metrics a ON a.run = l.run AND a.metric = {acc} JOIN params p ON p.run = l.run AND p.key = 'lr'
    WHERE l.metric = {loss} AND a.last_value > 0.5 AND p.value = '0.1' AND r.experiment_id = 1 AND r.lifecycle_stage = 'active'
    ORDER BY l.last_value LIMIT 100"""
SETS = """
    SELECT r.id FROM runs r LEFT JOIN latest_metrics l ON l.run = r.id AND l.metric = {loss}
    WHERE r.experiment_id = 1 AND r.lifecycle_stage = 'active'
      AND r.id IN (SELECT run FROM latest_metrics WHERE metric = {acc} AND last_value > 0.5)
      AND r.id IN (SELECT run FROM params WHERE key = 'lr' AND value = '0.1')
    ORDER BY l.last_value LIMIT 100"""
"""The ways to find a page: look at run after run in order until it is full, join, or collect all that match and sort."""

OTHERS: list[tuple[str, list[str]]] = [
    ("", []),
    (FILTER, []),
    ("metrics.acc > 0.9 OR NOT params.optimizer = 'sgd'", ["metrics.loss DESC"]),
    ("params.param_3 LIKE '%77%'", []),
    ("params.param_3 = '77'", ["metrics.loss"]),
    ("tags.team = 'vision' AND tags.`mlflow.user` != 'ada'", []),
    ("metrics.acc > 0.999 AND params.lr = '0.1' AND tags.team = 'vision'", ["metrics.loss"]),
    ("metrics.loss.min < 0.001", []),
    ("run_name = 'run-500'", []),
    (FILTER, ["params.param_3"]),
    ("", ["params.param_3"]),
    ("", ["metrics.loss.min"]),
    (FILTER, ["metrics.loss.min"]),
]


@contextmanager
def sqlite_url(given: argparse.Namespace) -> Iterator[str]:
    """Give the URL of the database in the folder to keep, or in one that is not kept."""
    with tempfile.TemporaryDirectory(prefix="flightlog-bench-") as folder:
        yield f"sqlite:///{Path(given.keep or folder).resolve() / 'many.db'}"


@contextmanager
def postgres_url(given: argparse.Namespace) -> Iterator[str]:
    """Give the URL of the database that was named, or of one on a private server."""
    if given.postgres:
        yield given.postgres
    else:
        with running(DurablePostgres) as server, server.database() as url:
            yield url


DATABASES = {"sqlite": sqlite_url, "postgres": postgres_url}


@contextmanager
def by_hand(kind: str, url: str) -> Iterator[list[Callable[[], list[Any]]]]:
    """Give calls that run the floor's statements."""
    fence = "OFFSET 0" if kind == "postgres" else ""
    connection: Any = (
        psycopg.connect(url.replace("+psycopg", "")) if kind == "postgres" else sqlite3.connect(url.removeprefix("sqlite:///"))
    )
    with closing(connection):
        ids = dict(connection.execute("SELECT name, id FROM metric_names WHERE name IN ('acc', 'loss')").fetchall())
        yield [partial(rows, connection, text.format(**ids, fence=fence)) for text in (WALK, JOIN, SETS)]


def rows(connection: Any, statement: str) -> list[Any]:  # noqa: ANN401 - a connection of either driver
    """Return the rows of a statement."""
    found: list[Any] = connection.execute(statement).fetchall()
    return found


def measure_filter(kind: str, url: str, store: Store, rounds: int) -> list[Figure]:
    """Measure the search by a metric and a param, in the order of a metric."""
    ours = partial(store.search_runs, [EXPERIMENT], FILTER, max_results=PAGE, order_by=ORDER)
    engine = open_engine(url)
    with by_hand(kind, url) as statements:
        assert len({tuple(row[0] for row in statement()) for statement in statements}) == 1, "the floor's statements disagree"
        measured, ids, *bare = paired(seconds(ours), seconds(partial(page_of_ids, engine)), *map(seconds, statements), rounds=rounds)
    engine.dispose()
    assert len(ours()) == PAGE
    floor = min(bare, key=median)
    whole, alone = median(measured) * 1e3, median(ids) * 1e3
    shown = f"by hand {' / '.join(f'{median(each) * 1e3:.1f}' for each in bare)} ms"
    return [
        Figure(f"{kind}: filter by metric and param, order by metric", f"{whole:.1f} ms", shown, ratio(measured, floor), 3),
        Figure(f"{kind}: the same, finding the ids alone", f"{alone:.1f} ms", shown, ratio(ids, floor), 3),
        Figure(f"{kind}: the same whole, ms", f"{whole:.1f} ms", "in ms", whole, 100),
    ]


def page_of_ids(engine: Engine) -> list[int]:
    """Return the keys of the runs on the first page."""
    with reading(engine) as connection:
        return search_run_ids(connection, [EXPERIMENT], parse_run_filter(FILTER), parse_run_order(ORDER), 1, PAGE, None)[0]


def measure_pages(kind: str, url: str, store: Store, runs: int, rounds: int) -> list[Figure]:
    """Measure the first page of all runs and a late one."""
    found: list[Figure] = []
    for size in (100, 200):
        late = min(500, runs // size)
        search = partial(store.search_runs, [EXPERIMENT], max_results=size)
        token = token_after(url, (late - 1) * size)
        assert len(search(page_token=token)) == size
        first, last = paired(seconds(search), seconds(partial(search, page_token=token)), rounds=rounds)
        name, floor = f"{kind}: page {late} of {size} runs a page", f"page 1 {median(first) * 1e3:.1f} ms"
        found.append(Figure(name, f"{median(last) * 1e3:.1f} ms", floor, ratio(last, first), 2))
    return found


def token_after(url: str, count: int) -> str | None:
    """Return the token of the page after so many runs, whatever the size of the pages."""
    engine, token = open_engine(url), None
    with reading(engine) as connection:
        for part in [50_000] * (count // 50_000) + [count % 50_000] * bool(count % 50_000):
            _, token = search_run_ids(connection, [EXPERIMENT], None, parse_run_order(None), 1, part, token)
    engine.dispose()
    return token


def measure_frame(kind: str, store: Store, rounds: int) -> Figure:
    """Measure the pandas output."""

    def frame() -> pd.DataFrame:
        return runs_frame([store.search_run_columns([EXPERIMENT], max_results=10_000)[0]])

    lists, frames = paired(seconds(lambda: store.search_runs([EXPERIMENT], max_results=10_000)), seconds(frame), rounds=min(rounds, 3))
    took = median(frames)
    return Figure(f"{kind}: 10,000 runs as a DataFrame, s", f"{took:.2f} s", f"as entities {median(lists):.2f} s", took, 1.5)


def measure_experiments(kind: str, store: Store, rounds: int) -> Figure:
    """Measure a search of experiments."""
    text = "tags.team = 'vision' AND name LIKE '%7%'"
    search = partial(store.search_experiments, filter_string=text, max_results=PAGE, order_by=["name"])
    assert len(search()) == PAGE
    took = median(paired(seconds(search), rounds=rounds)[0]) * 1e3
    return Figure(f"{kind}: search among {EXPERIMENTS:,} experiments, ms", f"{took:.1f} ms", "in ms", took, 100)


def others(kind: str, store: Store, rounds: int) -> list[str]:
    """Say how long other searches take."""
    lines = []
    for text, order in OTHERS:
        search = seconds(partial(store.search_runs, [EXPERIMENT], text, max_results=PAGE, order_by=order))
        took = median(paired(search, rounds=min(rounds, 3))[0])
        lines.append(f"{kind}: {took * 1e3:6.1f} ms for {text or 'all runs'}{f' ORDER BY {order[0]}' if order else ''}")
    return lines


def measure(kind: str, url: str, given: argparse.Namespace) -> tuple[Sequence[Figure], Sequence[str]]:
    """Measure everything on one database."""
    with closing(open_store(url)) as store:
        start = time.perf_counter()
        fill(store, given.runs, EXPERIMENTS)
        filled = f"{kind}: filled in {time.perf_counter() - start:.0f} s"
        if kind == "postgres":
            with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
                connection.execute("VACUUM ANALYZE")
        figures = [
            *measure_filter(kind, url, store, given.rounds),
            *measure_pages(kind, url, store, given.runs, given.rounds),
            measure_frame(kind, store, given.rounds),
            measure_experiments(kind, store, given.rounds),
        ]
        return figures, [filled, *others(kind, store, given.rounds)]


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--only", choices=DATABASES)
    options.add_argument("--keep", metavar="FOLDER")
    options.add_argument("--postgres", metavar="URL")
    given = options.parse_args()
    figures: list[Figure] = []
    notes: list[str] = []
    for kind in [given.only] if given.only else DATABASES:
        with DATABASES[kind](given) as url:
            more, lines = measure(kind, url, given)
            figures += more
            notes += lines
    report(f"Searching among {given.runs:,} runs (medians of {given.rounds})", figures, notes)


if __name__ == "__main__":
    main()
