"""What system metrics cost: the processor time of a sample, and what a log call takes while another thread samples.

    python benchmarks/bench_system.py [--samples 500] [--calls 100000] [--rounds 7]

The floor of a sample is the bare calls of psutil that read the same. The calls are timed one by one, without and with a sampler that takes
ten samples a second, a hundred times as many as it does by default; the two take turns. GPUs are no part of it.
"""

from __future__ import annotations

import argparse
import os
import random
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial

import psutil
from bench_call import timed
from measure import Figure, median, paired, quantile, ratio, report

import flightlog
from flightlog.producer.run import ActiveRun
from flightlog.producer.system.counters import Counter, machine_counters
from flightlog.producer.system.sampler import Pace, Sampler

OFTEN = Pace(0.1, 1)


def counters(_: ExitStack) -> Sequence[Counter]:
    """Return this machine's counters."""
    return machine_counters(psutil)


def sampler_of(run: ActiveRun, pace: Pace) -> Sampler:
    """Return a sampler that logs to a run."""

    def log(point: Mapping[str, float], step: int, timestamp: int) -> None:
        run.recorder.sample({f"system/{name}": value for name, value in point.items()}, step, timestamp)

    return Sampler(counters, pace, log)


def bare() -> None:
    """Read what a sample reads."""
    psutil.cpu_percent(), psutil.virtual_memory(), psutil.disk_usage("/"), psutil.net_io_counters()


def processor_time(work: Callable[[], object], count: int) -> float:
    """Return the microseconds of processor time that a piece of work takes."""
    start = time.thread_time()
    for _ in range(count):
        work()
    return (time.thread_time() - start) / count * 1e6


def timed_beside(run: ActiveRun, call: partial[list[int]], *, sampled: bool) -> list[int]:
    """Time calls, with or without a thread that samples beside them."""
    if not sampled:
        return call()
    sampler = sampler_of(run, OFTEN)
    sampler.start()
    try:
        return call()
    finally:
        sampler.stop()


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--samples", type=int, default=500)
    options.add_argument("--calls", type=int, default=100_000)
    options.add_argument("--rounds", type=int, default=7)
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(FLIGHTLOG_TRACKING_URI=folder)
        with flightlog.start_run() as run:
            report("System metrics", measure(run, given.samples, given.calls, given.rounds))
        flightlog.flush_async_logging()


def measure(run: ActiveRun, samples: int, calls: int, rounds: int) -> list[Figure]:
    """Return the figures."""
    sampler = sampler_of(run, Pace(3600.0, 1))
    take = partial(sampler._take_sample, machine_counters(psutil), 1)  # noqa: SLF001 - what its thread does with each beat
    floors, ours = paired(partial(processor_time, partial(bare), samples), partial(processor_time, take, samples), rounds=rounds)
    values = [random.random() for _ in range(calls)]

    def log(index: int) -> None:
        flightlog.log_metric("loss", values[index], step=index)

    call = partial(timed, log, calls)
    without, beside = paired(partial(timed_beside, run, call, sampled=False), partial(timed_beside, run, call, sampled=True), rounds=rounds)
    figures = [Figure("a sample, processor time", f"{median(ours):.0f} us", f"psutil {median(floors):.0f} us", ratio(ours, floors), 1.5)]
    for name, share, reach in (("p50", 0.5, 1.1), ("p99", 0.99, 1.5), ("p99.9", 0.999, 2.0)):
        alone, sampled = ([float(quantile(turn, share)) for turn in turns] for turns in (without, beside))
        figures.append(
            Figure(
                f"log_metric beside ten samples a second, {name}",
                f"{median(sampled) / 1e3:.2f} us",
                f"without {median(alone) / 1e3:.2f} us",
                ratio(sampled, alone),
                reach,
            )
        )
    return figures


if __name__ == "__main__":
    main()
