"""Roll down a parabola and log each step: the smallest run that has everything, for trying out a queue with many machines.

Where its events go is said by the environment: FLIGHTLOG_QUEUE_URI and FLIGHTLOG_SPOOL on a training machine of many, nothing on a laptop.
"""

from __future__ import annotations

import argparse

import flightlog as mlflow


def train(steps: int) -> str:
    """Log a run and return its id. The process waits at its end, for a while, until all of it is committed."""
    mlflow.set_experiment("parabola")
    with mlflow.start_run() as run:
        mlflow.log_params({"rate": 0.01, "start": 5.0})
        x = 5.0
        for step in range(steps):
            mlflow.log_metric("loss", x * x, step=step)
            x -= 0.01 * 2 * x
        mlflow.log_text(f"x = {x}\n", "result.txt")
    return run.info.run_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1_000, help="steps of the descent (1000)")
    parser.add_argument("--sync", action="store_true", help="make each logging call wait for its commit")
    options = parser.parse_args()
    mlflow.config.enable_async_logging(not options.sync)
    print(train(options.steps))


if __name__ == "__main__":
    main()
