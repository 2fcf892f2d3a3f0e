"""What a short run costs the script: `start_run`, ten metrics, `end_run`, thousands of times.

    python benchmarks/bench_runs.py [--runs 10000] [--rounds 3]

A worker files the runs meanwhile. The floor is what each run cannot do without, because a kill must not lose it: a file of its own, with
room on the disk, mapped, renamed, written to and closed. Both take turns, 500 runs each, so that a machine whose disk is busy treats
them alike; how long a file takes to make differs by twenty times between folders of one ext4 file system.
Beside it stands the first `start_run` of a process, in a repository and outside one.
"""

from __future__ import annotations

import argparse
import mmap
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from measure import Figure, median, paired, ratio, report

import flightlog

TURN = 500
METRICS = 10
SEGMENT = 64 << 10
FIRST = """
import time, flightlog
flightlog.set_tracking_uri({!r})
start = time.perf_counter()
flightlog.start_run()
print(time.perf_counter() - start)
"""


def seconds_of_runs(count: int) -> float:
    """Return the seconds for one run, over `count` runs."""
    start = time.perf_counter()
    for _ in range(count):
        flightlog.start_run()
        for number in range(METRICS):
            flightlog.log_metric(f"metric {number}", 0.5, step=number)
        flightlog.end_run()
    return (time.perf_counter() - start) / count


def seconds_of_files(folder: Path, count: int) -> float:
    """Return the seconds for one file, over `count` files."""
    start = time.perf_counter()
    for number in range(count):
        hidden = folder / f"{number}.new"
        descriptor = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        os.posix_fallocate(descriptor, 0, SEGMENT)
        mapped = mmap.mmap(descriptor, SEGMENT)
        os.close(descriptor)
        hidden.rename(folder / f"{number}.seg")
        mapped[0:4096] = bytes(4096)
        mapped[4096:5120] = bytes(1024)
        mapped.close()
    taken = (time.perf_counter() - start) / count
    for number in range(count):
        (folder / f"{number}.seg").unlink()
    return taken


def first_start(folder: Path, script: Path) -> float:
    """Return the seconds of the first `start_run` of a new process whose script lies there."""
    script.write_text(FIRST.format(str(folder)), encoding="utf-8")
    environment = {**os.environ, "FLIGHTLOG_START_WORKER": "false", "FLIGHTLOG_EXIT_TIMEOUT": "0"}
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout)


def repository(folder: Path) -> Path:
    """Make a repository with one commit."""
    from dulwich import porcelain  # noqa: PLC0415 - not needed by what is measured

    folder.mkdir()
    (folder / "a.txt").write_text("a", encoding="utf-8")
    porcelain.init(folder)
    porcelain.add(folder, paths=[str(folder / "a.txt")])
    porcelain.commit(folder, message=b"one", author=b"a <a@b>", committer=b"a <a@b>")
    return folder


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3, help="processes of which the first start_run is timed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "files").mkdir()
        flightlog.set_tracking_uri(root / "flightlogs")
        seconds_of_runs(1)
        rounds = max(arguments.runs // TURN, 1)
        runs, files = paired(partial(seconds_of_runs, TURN), partial(seconds_of_files, root / "files", TURN), rounds=rounds)
        flightlog.flush_async_logging()
        scripts = {"outside a repository": root / "plain.py", "in a repository": repository(root / "project") / "script.py"}
        firsts = {
            place: median([first_start(root / "first", script) for _ in range(arguments.rounds)]) for place, script in scripts.items()
        }
    report("Short runs", figures(runs, files, firsts))


def figures(runs: list[float], files: list[float], firsts: dict[str, float]) -> list[Figure]:
    """Return the lines of the table."""
    rate, fastest = 1 / median(runs), 1 / min(runs)
    name = f"start_run, {METRICS} metrics, end_run"
    return [
        Figure(f"{name}: over the floor", f"{median(runs) * 1e6:.0f} us", f"{median(files) * 1e6:.0f} us", ratio(runs, files), 4),
        Figure(f"{name}: a second", f"{rate:,.0f} (best turn {fastest:,.0f})", "none", rate, 2000, at_least=True),
        *(Figure(f"first start_run {place}", f"{seconds * 1e3:.0f} ms", "none", seconds * 1e3, 150) for place, seconds in firsts.items()),
    ]


if __name__ == "__main__":
    main()
