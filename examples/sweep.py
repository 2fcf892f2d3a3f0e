"""A sweep over hyper-parameters: one run for the sweep, and in it a run for each trial; then the best of them, by a search.

Trials run in threads. Each thread has active runs of its own, so a trial names its parent instead of being nested in the code.
"""

from __future__ import annotations

import argparse
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import numpy as np

import flightlog as mlflow

DEGREES, PENALTIES = (1, 3, 5, 9, 15), (1e-6, 1e-3, 1e-1)


def trial(parent: str, degree: int, penalty: float, steps: int) -> None:
    """Fit a polynomial to noisy points of a sine, with a penalty on large coefficients, in a run of its own."""
    with mlflow.start_run(parent_run_id=parent, run_name=f"degree {degree}, penalty {penalty:g}"):
        mlflow.log_params({"degree": degree, "penalty": penalty})
        random = np.random.default_rng(7)
        x = random.uniform(-1, 1, 60)
        y = np.sin(3 * x) + random.normal(0, 0.2, 60)
        powers = np.vander(x, degree + 1)
        coefficients = np.zeros(degree + 1)
        rate = 1 / (np.linalg.norm(powers[:30], 2) ** 2 / 30 + penalty)
        for step in range(steps):
            error = powers[:30] @ coefficients - y[:30]
            coefficients -= rate * (powers[:30].T @ error / 30 + penalty * coefficients)
            mlflow.log_metric("training", float(np.mean(error**2)), step=step)
        mlflow.log_metric("validation", float(np.mean((powers[30:] @ coefficients - y[30:]) ** 2)))


def sweep(workers: int, steps: int) -> str:
    """Run all trials and return the id of the sweep's run, which is tagged with the best."""
    mlflow.set_experiment("sweep")
    with mlflow.start_run(run_name="polynomials") as run, ThreadPoolExecutor(workers) as pool:
        trials = [pool.submit(trial, run.info.run_id, degree, penalty, steps) for degree, penalty in product(DEGREES, PENALTIES)]
        for done in trials:
            done.result()
        [best] = trials_of(run.info.run_id, limit=1)
        mlflow.set_tag("best", best.info.run_id)
        mlflow.log_metric("validation", best.data.metrics["validation"])
    return run.info.run_id


def trials_of(run_id: str, limit: int = 1_000) -> list[mlflow.entities.Run]:
    """Return the trials of a sweep, the best first."""
    inside = f"tags.`mlflow.parentRunId` = '{run_id}'"
    return mlflow.search_runs(filter_string=inside, order_by=["metrics.validation ASC"], max_results=limit, output_format="list")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2, help="trials at a time (2)")
    parser.add_argument("--steps", type=int, default=300, help="steps of each descent (300)")
    parser.add_argument("--sync", action="store_true", help="make each logging call wait for its commit")
    options = parser.parse_args()
    mlflow.config.enable_async_logging(not options.sync)
    for run in trials_of(sweep(options.workers, options.steps)):
        print(f"{run.data.metrics['validation']:.4f}  {run.info.run_name}")


if __name__ == "__main__":
    main()
