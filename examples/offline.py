"""Training where there is no network: events stay in journals in a folder, and `flightlog sync` brings them to a store later.

The folder may be copied to another machine in between, and may be synced again and again: what has arrived does not arrive twice.
There is no `--sync` here: a call that waits for its commit would wait for the store that there is not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

os.environ["FLIGHTLOG_START_WORKER"] = "false"  # journals alone; in earnest an export in the job's script

import flightlog as mlflow


def train(folder: Path, steps: int) -> str:
    """Find a root of x^3 - x - 2 by bisection, as if this were a node without a network; return the run's id."""
    mlflow.set_tracking_uri(folder)
    mlflow.set_experiment("offline")
    with mlflow.start_run(run_name="bisection") as run:
        mlflow.log_params({"low": 1.0, "high": 2.0})
        low, high = 1.0, 2.0
        for step in range(steps):
            middle = (low + high) / 2
            low, high = (middle, high) if middle**3 - middle - 2 < 0 else (low, middle)
            mlflow.log_metrics({"low": low, "high": high, "width": high - low}, step=step)
        mlflow.log_dict({"root": low}, "result.json")
    return run.info.run_id


def sync(folder: Path, store: str) -> str:
    """Do what somebody does in a shell where the network is; return what the command said."""
    command = [sys.executable, "-m", "flightlog", "sync", str(folder), "--to", store]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=40, help="steps of the bisection (40)")
    parser.add_argument("--folder", type=Path, default=Path("offline"), help="the folder of the offline run (./offline)")
    parser.add_argument("--to", default="central", metavar="URI", help="the store that it is brought to later (./central)")
    options = parser.parse_args()
    run_id = train(options.folder, options.steps)
    print(sync(options.folder, options.to), end="")
    print(sync(options.folder, options.to), end="")  # brings nothing, for there is nothing new
    client = mlflow.Client(options.to)
    run = client.get_run(run_id)
    print(f"{run.info.run_name} {run.info.status}: {run.data.metrics['low']!r}, {len(client.get_metric_history(run_id, 'width'))} points")
    print("artifacts:", ", ".join(item.path for item in client.list_artifacts(run_id)))


if __name__ == "__main__":
    main()
