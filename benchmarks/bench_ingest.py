"""How fast a worker files journals into SQLite, how much memory it takes, and what a point costs on disk.

    python benchmarks/bench_ingest.py [--points 2000000] [--rounds 3]

Journals are written first (1 run x 10 metrics; 100 runs x 100 metrics), each point by a call of its own, values random. A new process then
files them: timed from its first look at the spool to the last acknowledgement, without the interpreter's start. The floor, in turn with
it: a new process that inserts the same points as bare rows with `sqlite3.executemany`, 50,000 a transaction, from a list that is ready.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from measure import Figure, median, ratio, report

SHAPES = {"1 run x 10 metrics": (1, 10), "100 runs x 100 metrics": (100, 100)}
BARE = "create table points (run int, key int, step int, seq int, time int, value real, primary key (run, key, step, seq)) without rowid"


def write_journals(folder: Path, runs: int, keys: int, points: int) -> None:
    """Log the points in a process of their own, with no worker."""
    code = (
        "import sys, random, logging, flightlog\n"
        "logging.disable(logging.WARNING)\n"
        "runs, keys, points = map(int, sys.argv[1:])\n"
        "names = [f'metric_{k}' for k in range(keys)]\n"
        "draw = random.random\n"
        "for run in range(runs):\n"
        "    with flightlog.start_run(run_name=f'run-{run}'):\n"
        "        for step in range(points // runs // keys):\n"
        "            for name in names: flightlog.log_metric(name, draw(), step=step)\n"
    )
    environment = {**os.environ, "FLIGHTLOG_TRACKING_URI": str(folder), "FLIGHTLOG_START_WORKER": "0"}
    subprocess.run([sys.executable, "-c", code, str(runs), str(keys), str(points)], env=environment, check=True)


def file_journals(folder: Path) -> dict[str, Any]:
    """File a copy of the journals in this process; return what it took."""
    from flightlog.schema.settings import Settings, locate  # noqa: PLC0415 - only in the measured process
    from flightlog.stores import open_store  # noqa: PLC0415
    from flightlog.worker.spool import drain_spool  # noqa: PLC0415

    location = locate(folder, Settings())
    store = open_store(location.database_url)
    peak = Peak()
    start, cpu = time.perf_counter(), time.process_time()
    drain_spool(location, store)
    taken, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = peak.stop()
    while store.maintain():
        pass
    store.close()
    return {
        "seconds": taken,
        "cpu": cpu,
        "memory": memory,
        "bytes": checkpointed_size(folder / "tracking.db"),
        "count": counted(folder / "tracking.db"),
    }


class Peak(threading.Thread):
    """Watches this process's resident memory."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.over = threading.Event()
        self.peak = 0
        self.start()

    def run(self) -> None:
        """Look ten times a second."""
        process = psutil.Process()
        while not self.over.wait(0.1):
            self.peak = max(self.peak, process.memory_info().rss)

    def stop(self) -> int:
        """Return the peak in bytes."""
        self.over.set()
        self.join()
        return max(self.peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def insert_rows(folder: Path, runs: int, keys: int, points: int) -> dict[str, Any]:
    """Insert the same points as bare rows in this process; return what it took."""
    rows = bare_rows(runs, keys, points)
    database = folder / "bare.db"
    connection = sqlite3.connect(database, isolation_level=None)
    connection.execute("pragma journal_mode=wal")
    connection.execute("pragma synchronous=normal")
    connection.execute(BARE)
    start = time.perf_counter()
    for first in range(0, points, 50_000):
        connection.execute("begin")
        connection.executemany("insert into points values (?, ?, ?, ?, ?, ?)", rows[first : first + 50_000])
        connection.execute("commit")
    taken = time.perf_counter() - start
    connection.close()
    return {"seconds": taken, "bytes": checkpointed_size(database)}


def bare_rows(runs: int, keys: int, points: int) -> list[tuple[int, int, int, int, int, float]]:
    """Return the points as rows, in the order in which they are logged."""
    steps = points // runs // keys
    draw, now = random.random, time.time_ns() // 1_000_000
    return [(run, key, step, 0, now + step // 50, draw()) for run in range(runs) for step in range(steps) for key in range(keys)]


def checkpointed_size(database: Path) -> int:
    """Return a database's size once its log is merged into it."""
    connection = sqlite3.connect(database)
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    return database.stat().st_size


def counted(database: Path) -> int:
    """Return how many points the projection says there are."""
    connection = sqlite3.connect(database)
    count: int = connection.execute("select sum(count) from latest_metrics").fetchone()[0]
    connection.close()
    return count


def measure(shape: str, points: int, rounds: int, folder: Path) -> list[Figure]:
    """Measure one shape of journals."""
    runs, keys = SHAPES[shape]
    original = folder / "original"
    write_journals(original, runs, keys, points)
    ours: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    for number in range(rounds):
        copy = folder / f"copy-{number}"
        shutil.copytree(original, copy)
        ours.append(in_new_process("file", copy))
        shutil.rmtree(copy)
        rows = folder / f"bare-{number}"
        rows.mkdir()
        bare.append(in_new_process("rows", rows, runs, keys, points))
        shutil.rmtree(rows)
    shutil.rmtree(original)
    assert all(found["count"] == points for found in ours), f"{ours[0]['count']} points were filed, {points} logged"
    rate, floor = points / median([found["seconds"] for found in ours]), points / median([found["seconds"] for found in bare])
    gain = ratio([found["seconds"] for found in bare], [found["seconds"] for found in ours])
    size, bare_size = median([found["bytes"] for found in ours]) / points, median([found["bytes"] for found in bare]) / points
    memory = max(found["memory"] for found in ours) / 2**20
    return [
        Figure(f"{shape}: points/s filed", f"{rate:,.0f}", f"bare rows {floor:,.0f}", gain, 1.2, at_least=True),
        Figure(f"{shape}: bytes a point", f"{size:.1f}", f"bare rows {bare_size:.1f}", size, 24),
        Figure(f"{shape}: worker memory, MiB", f"{memory:.0f}", "in MiB", memory, 200),
    ]


def in_new_process(*arguments: object) -> dict[str, Any]:
    """Run one measurement in an interpreter of its own."""
    done = subprocess.run([sys.executable, __file__, "--measure", *map(str, arguments)], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=2_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        kind, folder, *numbers = given.measure
        found = file_journals(Path(folder)) if kind == "file" else insert_rows(Path(folder), *map(int, numbers))
        print(json.dumps(found))
        return
    figures = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            figures += measure(shape, given.points, given.rounds, Path(folder))
    report(f"Filing {given.points:,} points from journals into SQLite (medians of {given.rounds})", figures)


if __name__ == "__main__":
    main()
