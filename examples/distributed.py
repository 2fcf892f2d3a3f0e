"""Data-parallel training in several processes that write to one run: one starts it, the ranks attach to it, none waits for another to log.

Under torchrun it is the same: rank 0 starts the run, its id goes to the others like any object (`broadcast_object_list`), they attach.
"""

from __future__ import annotations

import argparse
import multiprocessing
from multiprocessing.synchronize import Barrier
from typing import Any

import numpy as np

import flightlog

FEATURES = 20


def rank_main(rank: int, ranks: int, run_id: str, steps: int, gradients: Any, barrier: Barrier, sync: bool) -> None:  # noqa: ANN401, FBT001 - what a process is given
    """Do one rank's share of a logistic regression: its own data, a gradient of it, and all ranks' mean of those."""
    flightlog.config.enable_async_logging(not sync)
    shared = np.frombuffer(gradients.get_obj()).reshape(ranks, FEATURES)
    random = np.random.default_rng(rank)
    truth, weights = np.linspace(-1, 1, FEATURES), np.zeros(FEATURES)
    with flightlog.attach(run_id):  # no round trip; leaving the block does not end the run
        for step in range(steps):
            inputs = random.normal(size=(64, FEATURES))
            labels = inputs @ truth + random.normal(0, 0.1, 64) > 0
            guesses = 1 / (1 + np.exp(-inputs @ weights))
            flightlog.log_metric(f"loss/rank{rank}", float(-np.mean(np.log(np.where(labels, guesses, 1 - guesses)))), step=step)
            shared[rank] = inputs.T @ (guesses - labels) / 64
            barrier.wait()  # all gradients are there
            weights -= shared.mean(axis=0)
            barrier.wait()  # all have read them
            if rank == 0:
                flightlog.log_metric("alignment", float(weights @ truth / np.linalg.norm(weights) / np.linalg.norm(truth)), step=step)


def train(ranks: int, steps: int, *, sync: bool = False) -> str:
    """Train with so many processes and return the run's id."""
    fresh = multiprocessing.get_context("spawn")
    gradients, barrier = fresh.Array("d", ranks * FEATURES), fresh.Barrier(ranks)
    flightlog.set_experiment("distributed")
    with flightlog.start_run(tags={"ranks": ranks}) as run:
        arguments = (ranks, run.info.run_id, steps, gradients, barrier, sync)
        processes = [fresh.Process(target=rank_main, args=(rank, *arguments)) for rank in range(ranks)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError("a rank failed")  # and so the run does
    return run.info.run_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ranks", type=int, default=2, help="processes (2)")
    parser.add_argument("--steps", type=int, default=200, help="steps of each (200)")
    parser.add_argument("--sync", action="store_true", help="make each logging call wait for its commit")
    options = parser.parse_args()
    run = flightlog.get_run(train(options.ranks, options.steps, sync=options.sync))
    for key, summary in run.data.metric_summaries.items():
        print(f"{key}: {summary.count} points, from {summary.first.value:.3f} to {summary.last.value:.3f}")


if __name__ == "__main__":
    main()
