"""How fast the histories of many runs and metrics are read into Arrow in one call, from SQLite and from PostgreSQL.

    python benchmarks/bench_history.py [--runs 50] [--keys 20] [--points 10000] [--rounds 5] [--only sqlite|postgres]

The points, with random values and times some milliseconds apart, are applied to a store in batches of 50,000, and chunks are merged as
housekeeping does. The floor, in turn with each read: the arrays of the result (number of the run, number of the key, step, time and value,
32 bytes a point) copied once with numpy into new memory. A read is one call on an open reader, after a first one that is not counted: the
operating system has the file in its cache, and this process has had memory of that size before.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bench_read import seconds
from measure import Figure, median, paired, ratio, report

from flightlog.columnar import arrow_table
from flightlog.histories import batches_from, stream_from
from flightlog.schema.blocks import Block
from flightlog.schema.columns import join_metrics
from flightlog.schema.ids import WriterId
from flightlog.stores import open_store
from flightlog.stores.base import Portion, Store

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from contracts.facts import block, started
from services import PostgresServer, running

BATCH = 50_000
SAMPLE = 1_000
FIRST_TIME = 1_700_000_000_000


def fill(store: Store, runs: int, keys: int, points: int) -> list[str]:
    """Apply the points of all runs, a run after the other; return the run ids."""
    run_ids = [f"{number:032x}" for number in range(runs)]
    for run_id in run_ids:
        writer = WriterId(run_id)
        store.apply([block(run_id, started("7", "seven"), writer=writer)])
        whole = points_of(run_id, writer, keys, points)
        for start in range(0, keys * points, BATCH):
            store.apply([whole.part(start, min(start + BATCH, keys * points))])
    while store.maintain():
        pass
    return run_ids


def points_of(run_id: str, writer: WriterId, keys: int, points: int) -> Block:
    """Return the points of a run as one block: at each step all metrics."""
    random = np.random.default_rng(int(run_id, 16))
    step = np.repeat(np.arange(points), keys)
    time = np.repeat(FIRST_TIME + np.cumsum(random.integers(0, 40, points)), keys)
    records = join_metrics(np.tile(np.arange(keys), points), step, time, random.random(keys * points))
    return Block(run_id, writer, 1, {key: f"metric_{key}" for key in range(keys)}, records)


def buffers(table: Any) -> list[np.ndarray[Any, Any]]:  # noqa: ANN401 - pyarrow has no types
    """Return the arrays that a table consists of, dictionaries left out."""
    words = [chunk.indices for name in ("run_id", "key") for chunk in table[name].chunks]
    numbers = [chunk.view("int64") for name in ("step", "timestamp") for chunk in table[name].chunks] + table["value"].chunks
    return [array.to_numpy() for array in (*words, *numbers)]


def measure(kind: str, store: Store, given: argparse.Namespace) -> list[Figure]:
    """Measure one store."""
    run_ids = fill(store, given.runs, given.keys, given.points)
    count = given.runs * given.keys * given.points
    table = arrow_table(batches_from(store, run_ids, None, Portion()))
    assert table.num_rows == count
    arrays = buffers(table)
    assert sum(array.nbytes for array in arrays) == 32 * count

    def streamed() -> None:
        for _ in stream_from(store, run_ids, None, Portion()):
            pass

    copy, read, stream, sample = paired(
        seconds(lambda: [array.copy() for array in arrays]),
        seconds(lambda: arrow_table(batches_from(store, run_ids, None, Portion()))),
        seconds(streamed),
        seconds(lambda: arrow_table(batches_from(store, run_ids, None, Portion(sample=SAMPLE)))),
        rounds=given.rounds,
    )
    floor = f"copy {median(copy) * 1e3:.0f} ms"
    name = f"{kind}: {count:,} points"
    return [
        Figure(f"{name} to Arrow", f"{median(read) * 1e3:.0f} ms", floor, ratio(read, copy), 10),
        Figure(f"{name} to Arrow", f"{median(read) * 1e3:.0f} ms", "in seconds", median(read), 1),
        Figure(f"{name} as a stream", f"{median(stream) * 1e3:.0f} ms", floor, ratio(stream, copy), 10),
        Figure(f"{name}, samples of {SAMPLE:,}", f"{median(sample) * 1e3:.0f} ms", floor, ratio(sample, copy), 10),
    ]


@contextmanager
def sqlite() -> Iterator[str]:
    """Give the URL of a new file."""
    with tempfile.TemporaryDirectory(prefix="flightlog-bench-") as folder:
        yield f"sqlite:///{folder}/tracking.db"


@contextmanager
def postgres() -> Iterator[str]:
    """Give the URL of a database of a private server."""
    with running(PostgresServer) as server, server.database() as url:
        yield url


KINDS: dict[str, Callable[[], Any]] = {"sqlite": sqlite, "postgres": postgres}


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=50)
    options.add_argument("--keys", type=int, default=20)
    options.add_argument("--points", type=int, default=10_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--only", choices=KINDS)
    given = options.parse_args()
    figures: list[Figure] = []
    for kind in [given.only] if given.only else KINDS:
        with KINDS[kind]() as url:
            store = open_store(url)
            figures += measure(kind, store, given)
            store.close()
    report(f"Histories of {given.runs} runs x {given.keys} keys (medians of {given.rounds})", figures)


if __name__ == "__main__":
    main()
