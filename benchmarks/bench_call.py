"""What a log call costs the training loop: median, tails, beside a busy thread, ten at once, and the whole CPU of a point.

    python benchmarks/bench_call.py [--calls 100000] [--rounds 5]

Each call is timed on its own with `perf_counter_ns`, with a worker running. The floor is `msgpack.packb` of the same tuple in the same
round; from both the median of an empty call, timed the same way, is taken off. Quoted are medians over the rounds.
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
from pathlib import Path
from time import perf_counter_ns

import msgpack
import psutil
from measure import Figure, median, quantile, report

Call = Callable[[int], object]


def timed(call: Call, count: int) -> list[int]:
    """Return the sorted nanoseconds of each of `count` calls."""
    taken = [0] * count
    gc.collect()
    for index in range(count):
        start = perf_counter_ns()
        call(index)
        taken[index] = perf_counter_ns() - start
    return sorted(taken)


class Worker:
    """A spool worker as a child process, so that its CPU time can be read."""

    def __init__(self, folder: Path) -> None:
        spool = folder / "journal"
        command = [sys.executable, "-m", "flightlog.worker.main", "--spool", str(spool), "--tracking-uri", str(folder), "--idle", "3600"]
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


def measure(worker: Worker, calls: int, rounds: int) -> None:
    """Run all rounds inside one run of flightlog and report."""
    import flightlog  # noqa: PLC0415 - the environment is set now

    now = time.time_ns() // 1_000_000
    log_metric, log_metrics, packb = flightlog.log_metric, flightlog.log_metrics, msgpack.packb
    values = [random.random() for _ in range(calls)]
    names = [f"metric_{number}" for number in range(10)]
    ten_tuples = [(name, values[number], 12, now) for number, name in enumerate(names)]
    ten = {name: values[number] for number, name in enumerate(names)}

    def empty(index: int) -> None:
        pass

    def pack(index: int) -> object:
        return packb(("loss", values[index], index, now))

    def log(index: int) -> object:
        return log_metric("loss", values[index], step=index)

    def pack_ten(_: int) -> object:
        return packb(ten_tuples)

    def log_ten(index: int) -> object:
        return log_metrics(ten, step=index)

    flightlog.start_run()
    timed(log, calls // 10), timed(log_ten, calls // 100)
    seen: dict[str, list[float]] = {}

    def note(**figures: float) -> None:
        for key, value in figures.items():
            seen.setdefault(key, []).append(value)

    for _ in range(rounds):
        nothing, packed, logged = timed(empty, calls), timed(pack, calls), timed(log, calls)
        flightlog.flush_async_logging()
        base = quantile(nothing, 0.5)
        p50 = quantile(logged, 0.5) - base
        note(packb=quantile(packed, 0.5) - base, p50=p50)
        note(
            p99=quantile(logged, 0.99) - base,
            p999=quantile(logged, 0.999) - base,
            max=logged[-1],
            empty_max=nothing[-1],
            packb_max=packed[-1],
        )
        over = busy()
        alone = quantile(logged, 0.99) - quantile(nothing, 0.99)
        nothing_busy, logged_busy = timed(empty, calls), timed(log, calls)
        over.set()
        note(alone=alone, beside=quantile(logged_busy, 0.99) - quantile(nothing_busy, 0.99))
        flightlog.flush_async_logging()
        packed_ten, logged_ten = timed(pack_ten, calls // 10), timed(log_ten, calls // 10)
        note(packb_ten=quantile(packed_ten, 0.5) - base, ten=quantile(logged_ten, 0.5) - base)
        flightlog.flush_async_logging()
        mine, other = time.process_time(), worker.cpu()
        for index in range(calls):
            log_metric("loss", values[index], step=index)
        flightlog.flush_async_logging()
        note(cpu=(time.process_time() - mine + worker.cpu() - other) / calls * 1e9, cpu_worker=(worker.cpu() - other) / calls * 1e9)
    flightlog.end_run()
    flightlog.flush_async_logging()
    m = {key: median(found) for key, found in seen.items()}
    figures = [
        Figure("log_metric, p50", f"{m['p50'] / 1e3:.2f} us", f"packb {m['packb'] / 1e3:.2f} us", m["p50"] / m["packb"], 4),
        Figure("log_metric, p99", f"{m['p99'] / 1e3:.1f} us", "its p50", m["p99"] / m["p50"], 8),
        Figure("log_metric, p99.9", f"{m['p999'] / 1e3:.1f} us", "its p50", m["p999"] / m["p50"], 40),
        Figure("log_metric, longest call of a round", f"{m['max'] / 1e6:.2f} ms", "in ms", m["max"] / 1e6, 5),
        Figure("the same, longest of all rounds", f"{max(seen['max']) / 1e6:.2f} ms", "in ms", max(seen["max"]) / 1e6, 5),
        Figure(
            "p99 added, beside a busy thread",
            f"{m['beside'] / 1e3:.1f} us",
            f"alone {m['alone'] / 1e3:.1f} us",
            m["beside"] / m["alone"],
            3,
        ),
        Figure(
            "log_metrics of ten, p50",
            f"{m['ten'] / 1e3:.2f} us",
            f"packb of ten {m['packb_ten'] / 1e3:.2f} us",
            m["ten"] / m["packb_ten"],
            4,
        ),
        Figure(
            "whole CPU a point, producer and worker",
            f"{m['cpu'] / 1e3:.2f} us",
            f"packb {m['packb'] / 1e3:.2f} us",
            m["cpu"] / m["packb"],
            15,
        ),
    ]
    report(
        f"A log call ({calls:,} calls a round, medians of {rounds} rounds)",
        figures,
        [
            f"the worker's part of the CPU: {m['cpu_worker'] / 1e3:.2f} us a point, from when it was ready",
            f"longest empty call {max(seen['empty_max']) / 1e6:.2f} ms, longest packb {max(seen['packb_max']) / 1e6:.2f} ms",
        ],
    )


if __name__ == "__main__":
    main()
