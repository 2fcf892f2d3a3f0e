"""How fast runs are read back: a long history as arrays, its envelope, and a run with many metrics.

    python benchmarks/bench_read.py [--points 1000000] [--rounds 7]

The floor is `fetchall` of the same points as bare rows from SQLite, in the same process. Every read of ours is one call on an open reader.
"""

from __future__ import annotations

import argparse
import logging
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench_ingest import BARE, bare_rows
from measure import Figure, median, paired, ratio, report

import flightlog
from flightlog.producer.context import context
from flightlog.schema.settings import Settings, locate
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.worker.spool import drain_spool


def seconds(call: Callable[[], object]) -> Callable[[], float]:
    """Return a call that says how long the given one takes."""

    def timed() -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    return timed


def fill(folder: Path, points: int) -> tuple[Store, str, str]:
    """Log one long history and one run with 1,000 metrics; return the store and the two run ids."""
    logging.disable(logging.WARNING)
    context.reset()
    flightlog.set_tracking_uri(folder)
    with flightlog.start_run() as long:
        for step, row in enumerate(bare_rows(1, 1, points)):
            flightlog.log_metric("loss", row[5], step=step)
    with flightlog.start_run() as wide:
        for step in range(20):
            flightlog.log_metrics({f"metric_{number}": number / (step + 1) for number in range(1000)}, step=step)
        flightlog.log_params({f"param_{number}": number for number in range(100)})
    location = locate(folder, Settings())
    store = open_store(location.database_url)
    drain_spool(location, store)
    while store.maintain():
        pass
    return store, long.info.run_id, wide.info.run_id


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=1_000_000)
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store, long, wide = fill(Path(name), given.points)
        bare = sqlite3.connect(Path(name) / "bare.db")
        bare.execute(BARE)
        bare.executemany("insert into points values (?, ?, ?, ?, ?, ?)", bare_rows(1, 1, given.points))
        bare.commit()
        query = "select * from points where run = 0 and key = 0 order by step, seq"
        assert len(store.metric_arrays(long, "loss")) == given.points
        fetch, arrays, envelope, run = paired(
            seconds(lambda: bare.execute(query).fetchall()),
            seconds(lambda: store.metric_arrays(long, "loss")),
            seconds(lambda: store.envelope(long, "loss", 1000)),
            seconds(lambda: store.get_run(wide)),
            rounds=given.rounds,
        )
        store.close()
    floor = f"fetchall {median(fetch) * 1e3:.0f} ms"
    figures = [
        Figure(f"{given.points:,} points as arrays", f"{median(arrays) * 1e3:.0f} ms", floor, ratio(arrays, fetch), 1 / 8),
        Figure("envelope of 1,000 buckets of them", f"{median(envelope) * 1e3:.0f} ms", floor, ratio(envelope, fetch), 1 / 20),
        Figure("get_run with 1,000 metrics", f"{median(run) * 1e3:.1f} ms", "in ms", median(run) * 1e3, 20),
    ]
    report(f"Reading back (medians of {given.rounds})", figures)


if __name__ == "__main__":
    main()
