"""What a log call costs the training loop: median, tails, beside a busy thread, ten at once, and the whole CPU of a point.

    python benchmarks/bench_call.py [--calls 100000] [--rounds 5]

Each call is timed on its own with `perf_counter_ns`, with a worker running. The floor is `msgpack.packb` of the same tuple; from both the
median of an empty call, timed the same way, is taken off. The three take turns, 2,000 calls each, so that a machine whose speed drifts
treats them alike; a ratio is the median over the turns, a tail that of all calls of a round. Quoted are medians over the rounds.
"""

from __future__ import annotations

import argparse
import gc
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from time import perf_counter_ns

import msgpack
import psutil
from measure import Figure, median, paired, quantile, ratio, report

import flightlog
from flightlog.producer import doorbell

Call = Callable[[int], object]
TURN = 2000


def timed(call: Call, count: int) -> list[int]:
    """Return the sorted nanoseconds of each of `count` calls."""
    taken = [0] * count
    for index in range(count):
        start = perf_counter_ns()
        call(index)
        taken[index] = perf_counter_ns() - start
    return sorted(taken)


@dataclass(frozen=True)
class Turns:
    """What an empty call, a floor and a call of ours took, turn by turn, in sorted nanoseconds."""

    empty: list[list[int]]
    floor: list[list[int]]
    ours: list[list[int]]

    @staticmethod
    def of(empty: Call, floor: Call, ours: Call, count: int) -> Turns:
        """Time `count` calls of each, in turn."""
        gc.collect()
        size = min(TURN, count)
        return Turns(*paired(*(partial(timed, call, size) for call in (empty, floor, ours)), rounds=count // size))

    def medians(self, which: str) -> list[float]:
        """Return the median of each turn less that of the empty calls."""
        return [quantile(turn, 0.5) - quantile(empty, 0.5) for turn, empty in zip(getattr(self, which), self.empty, strict=True)]

    def tail(self, which: str, share: float) -> float:
        """Return a quantile over all turns."""
        return quantile(sorted(chain.from_iterable(getattr(self, which))), share)


class Worker:
    """A spool worker as a child process, so that its CPU time can be read."""

    def __init__(self, folder: Path) -> None:
        spool = folder / "journal"
        command = [sys.executable, "-m", "flightlog.worker.main", "--spool", str(spool), "--tracking-uri", str(folder), "--idle", "3600"]
        command += ["--nice", str(doorbell.NICE)]
        self.process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while not (spool / "doorbell").exists():
            if self.process.poll() is not None:
                raise SystemExit("the worker did not start")
            time.sleep(0.05)
        self.times = psutil.Process(self.process.pid)

    def cpu(self) -> float:
        """Return the CPU seconds used so far."""
        used = self.times.cpu_times()
        return used.user + used.system

    def stop(self) -> None:
        """End it and wait."""
        self.process.terminate()
        self.process.wait(30)


def busy() -> threading.Event:
    """Start a thread that computes in pure Python until the event is set."""
    over = threading.Event()

    def compute() -> None:
        total = 0
        while not over.is_set():
            for number in range(1000):
                total += number * number

    threading.Thread(target=compute, daemon=True).start()
    return over


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--calls", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=5)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as name:
        os.environ.update(FLIGHTLOG_TRACKING_URI=name, FLIGHTLOG_START_WORKER="0")
        worker = Worker(Path(name))
        try:
            measure(worker, given.calls, given.rounds)
        finally:
            worker.stop()


class Calls:
    """The calls that are compared, on the same values."""

    def __init__(self, count: int) -> None:
        now = time.time_ns() // 1_000_000
        self.values = [random.random() for _ in range(count)]
        self.one = [("loss", value, step, now) for step, value in enumerate(self.values)]
        self.ten = {f"metric_{number}": self.values[number] for number in range(10)}
        self.ten_tuples = [(name, value, 12, now) for name, value in self.ten.items()]

    def empty(self, index: int) -> None:
        """Do nothing."""

    def pack(self, index: int) -> object:
        """Pack what `log` logs."""
        return msgpack.packb(self.one[index])

    def log(self, index: int) -> object:
        """Log one metric."""
        return flightlog.log_metric("loss", self.values[index], step=index)

    def pack_ten(self, _: int) -> object:
        """Pack what `log_ten` logs."""
        return msgpack.packb(self.ten_tuples)

    def log_ten(self, index: int) -> object:
        """Log ten metrics."""
        return flightlog.log_metrics(self.ten, step=index)


def measure(worker: Worker, count: int, rounds: int) -> None:
    """Run all rounds inside one run of flightlog and report."""
    calls = Calls(count)
    flightlog.start_run()
    timed(calls.log, count // 10), timed(calls.log_ten, count // 100)
    found = [one_round(worker, calls, count) for _ in range(rounds)]
    flightlog.end_run()
    flightlog.flush_async_logging()
    figures, notes = summary({name: [figures[name] for figures in found] for name in found[0]})
    report(f"A log call ({count:,} calls a round, medians of {rounds} rounds)", figures, notes)


def one_round(worker: Worker, calls: Calls, count: int) -> dict[str, float]:
    """Measure everything once; times in nanoseconds."""
    one = Turns.of(calls.empty, calls.pack, calls.log, count)
    flightlog.flush_async_logging()
    over = busy()
    beside = Turns.of(calls.empty, calls.empty, calls.log, count)
    over.set()
    flightlog.flush_async_logging()
    ten = Turns.of(calls.empty, calls.pack_ten, calls.log_ten, count // 10)
    flightlog.flush_async_logging()
    base = median([quantile(turn, 0.5) for turn in one.empty])
    return {
        "packb": median(one.medians("floor")),
        "p50": median(one.medians("ours")),
        "times_packb": ratio(one.medians("ours"), one.medians("floor")),
        "p99": one.tail("ours", 0.99) - base,
        "p999": one.tail("ours", 0.999) - base,
        "max": one.tail("ours", 1),
        "empty_max": max(one.tail("empty", 1), one.tail("floor", 1)),
        "alone": one.tail("ours", 0.99) - one.tail("empty", 0.99),
        "beside": beside.tail("ours", 0.99) - beside.tail("empty", 0.99),
        "packb_ten": median(ten.medians("floor")),
        "ten": median(ten.medians("ours")),
        "times_packb_ten": ratio(ten.medians("ours"), ten.medians("floor")),
        **cpu_of(worker, calls, count),
    }


def cpu_of(worker: Worker, calls: Calls, count: int) -> dict[str, float]:
    """Return the CPU nanoseconds of a point, of both processes and of the worker, and of packing in the same moment."""
    packing = time.process_time()
    for index in range(count):
        calls.pack(index)
    packing = time.process_time() - packing
    mine, other = time.process_time(), worker.cpu()
    for index in range(count):
        calls.log(index)
    flightlog.flush_async_logging()
    mine, other = time.process_time() - mine, worker.cpu() - other
    return {"cpu": (mine + other) / count * 1e9, "cpu_worker": other / count * 1e9, "cpu_packb": packing / count * 1e9}


def summary(found: dict[str, list[float]]) -> tuple[list[Figure], list[str]]:
    """Return the table's lines and notes for what the rounds found."""
    m = {name: median(values) for name, values in found.items()}
    longest = max(found["max"])

    def us(name: str) -> str:
        return f"{m[name] / 1e3:.2f} us"

    figures = [
        Figure("log_metric, p50", us("p50"), f"packb {us('packb')}", m["times_packb"], 4),
        Figure("log_metric, p99", us("p99"), "its p50", ratio(found["p99"], found["p50"]), 8),
        Figure("log_metric, p99.9", us("p999"), "its p50", ratio(found["p999"], found["p50"]), 40),
        Figure("log_metric, longest call of a round", f"{m['max'] / 1e6:.2f} ms", "in ms", m["max"] / 1e6, 5),
        Figure("the same, longest of all rounds", f"{longest / 1e6:.2f} ms", "in ms", longest / 1e6, 5),
        Figure("p99 added, beside a busy thread", us("beside"), f"alone {us('alone')}", ratio(found["beside"], found["alone"]), 3),
        Figure("log_metrics of ten, p50", us("ten"), f"packb of ten {us('packb_ten')}", m["times_packb_ten"], 4),
        Figure(
            "whole CPU a point, producer and worker", us("cpu"), f"packb {us('cpu_packb')}", ratio(found["cpu"], found["cpu_packb"]), 15
        ),
    ]
    notes = [
        f"the worker's part of the CPU: {us('cpu_worker')} a point, from when it was ready",
        f"longest empty call or packb of all rounds: {max(found['empty_max']) / 1e6:.2f} ms",
    ]
    return figures, notes


if __name__ == "__main__":
    main()
