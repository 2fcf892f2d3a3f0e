"""How fast `flightlog import mlflow` brings a SQLite database of MLflow's over, and with how much memory.

    python benchmarks/bench_mlflow.py [--points 1000000] [--runs 10] [--rounds 3]

The floor is reading the same rows: `fetchmany` of the table `metrics`, run by run, in the order of insertion. Ours is the whole command
in a process of its own, start included: reading, filing into an empty SQLite store, comparing.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from measure import Figure, median, paired, ratio, report

DUMP = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "mlflow" / "3.17" / "mlflow.sql"
KEYS = 10
ORDERED = "SELECT key, step, timestamp, value, is_nan FROM metrics WHERE run_uuid = ? ORDER BY rowid"


def make(file: Path, runs: int, points: int) -> list[str]:
    """Make a database as MLflow makes it, with so many points in all; return the run ids."""
    chance = random.Random(7)
    ids = [f"{number:032x}" for number in range(runs)]
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript(DUMP.read_text(encoding="utf-8"))
        for run_id in ids:
            fields = (run_id, run_id, "FINISHED", 1_600_000_000_000, 1_600_000_001_000, "active", "s3://bucket/a", 1)
            names = "run_uuid, name, status, start_time, end_time, lifecycle_stage, artifact_uri, experiment_id"
            connection.execute(f"INSERT INTO runs({names}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", fields)  # noqa: S608 - of constants
            rows = (
                (f"metric_{row % KEYS}", chance.random(), 1_600_000_000_000 + row, run_id, row // KEYS) for row in range(points // runs)
            )
            connection.executemany("INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan) VALUES (?, ?, ?, ?, ?, 0)", rows)
        connection.commit()
    return ids


def read(file: Path, ids: list[str]) -> float:
    """Return the seconds that reading takes."""
    start = time.perf_counter()
    with closing(sqlite3.connect(file)) as connection:
        for run_id in ids:
            cursor = connection.execute(ORDERED, (run_id,))
            while cursor.fetchmany(50_000):
                pass
    return time.perf_counter() - start


def bring(file: Path, points: int) -> float:
    """Return the seconds that the command takes."""
    target = file.with_name("target")
    shutil.rmtree(target, ignore_errors=True)
    command = [sys.executable, "-m", "flightlog", "import", "mlflow", f"sqlite:///{file}", "--to", str(target), "--json"]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    taken = time.perf_counter() - start
    assert json.loads(done.stdout)["target"]["points"] >= points
    return taken


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=1_000_000)
    options.add_argument("--runs", type=int, default=10)
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "mlflow.db"
        ids = make(file, given.runs, given.points)
        reads, brings = paired(lambda: read(file, ids), lambda: bring(file, given.points), rounds=given.rounds)
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    rate = f"{given.points / median(brings):,.0f}/s"
    figures = [
        Figure(f"{given.points:,} points from MLflow's SQLite", rate, f"reading {median(reads):.2f} s", ratio(brings, reads), 5),
        Figure("memory of the process meanwhile", f"{memory:.0f} MiB", "in MiB", memory, 300),
    ]
    report(f"Importing from MLflow (medians of {given.rounds})", figures)


if __name__ == "__main__":
    main()
