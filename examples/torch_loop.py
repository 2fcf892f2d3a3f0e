"""A loop as one writes it with PyTorch, with a checkpoint after each epoch as an artifact, and `--resume RUN_ID` to go on from the last.

Without PyTorch the same loop trains the same network written with numpy: what this shows is the loop.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import flightlog as mlflow

Array = npt.NDArray[Any]


def moons(random: np.random.Generator, count: int = 1_000) -> tuple[Array, Array]:
    """Return points of two half moons that reach into each other, and 0 or 1: which moon each is of."""
    side, angle = random.integers(0, 2, count), random.uniform(0, np.pi, count)
    points = np.stack([np.cos(angle) + side, np.sin(angle) * (1 - 2 * side) + 0.3 * side], axis=1)
    return points + random.normal(0, 0.1, points.shape), side[:, None].astype(float)


class TorchNet:
    def __init__(self, rate: float) -> None:
        import torch  # noqa: PLC0415 - only where it is installed

        torch.manual_seed(7)
        self.torch = torch
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 32), torch.nn.Tanh(), torch.nn.Linear(32, 1)).double()
        self.optimizer = torch.optim.SGD(self.layers.parameters(), lr=rate)

    def step(self, points: Array, sides: Array) -> float:
        loss = self.torch.nn.functional.binary_cross_entropy_with_logits(self.layers(self.torch.tensor(points)), self.torch.tensor(sides))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return float(loss.item())

    def predict(self, points: Array) -> Array:
        return np.asarray(self.layers(self.torch.tensor(points)).detach()) > 0

    def state(self) -> dict[str, Array]:
        return {name: value.numpy() for name, value in self.layers.state_dict().items()}

    def load(self, state: Mapping[str, Array]) -> None:
        self.layers.load_state_dict({name: self.torch.tensor(value) for name, value in state.items()})


class NumpyNet:
    def __init__(self, rate: float) -> None:
        random = np.random.default_rng(7)
        self.rate = rate
        self.load({"w": random.normal(0, 0.7, (2, 32)), "b": np.zeros(32), "v": random.normal(0, 0.2, (32, 1)), "c": np.zeros(1)})

    def step(self, points: Array, sides: Array) -> float:
        units = np.tanh(points @ self.w + self.b)
        logits = units @ self.v + self.c
        slope = (1 / (1 + np.exp(-logits)) - sides) / len(sides)
        below = slope @ self.v.T * (1 - units**2)
        for value, gradient in zip(self.state().values(), (points.T @ below, below.sum(0), units.T @ slope, slope.sum(0)), strict=True):
            np.subtract(value, self.rate * gradient, out=value)
        return float(np.mean(np.logaddexp(0, logits) - logits * sides))

    def predict(self, points: Array) -> Array:
        return np.asarray(np.tanh(points @ self.w + self.b) @ self.v + self.c > 0)

    def state(self) -> dict[str, Array]:
        return {"w": self.w, "b": self.b, "v": self.v, "c": self.c}

    def load(self, state: Mapping[str, Array]) -> None:
        self.w, self.b, self.v, self.c = (state[name] for name in "wbvc")


def train(epochs: int, resume: str | None = None, *, batch: int = 50, rate: float = 0.5) -> str:
    """Train for so many epochs and return the run's id."""
    random = np.random.default_rng(7)
    points, sides = moons(random)
    net: TorchNet | NumpyNet = TorchNet(rate) if find_spec("torch") else NumpyNet(rate)
    mlflow.set_experiment("moons")
    with mlflow.start_run(run_id=resume) as run, tempfile.TemporaryDirectory() as folder:
        mlflow.log_params({"batch": batch, "rate": rate})
        first = restore(run.info.run_id, net, len(points) // batch) if resume else 0
        for epoch in range(first, first + epochs):
            order = random.permutation(len(points)).reshape(-1, batch)
            for number, which in enumerate(order):
                mlflow.log_metric("loss", net.step(points[which], sides[which]), step=epoch * len(order) + number)
            mlflow.log_metric("accuracy", float(np.mean(net.predict(points) == sides)), step=(epoch + 1) * len(order) - 1)
            np.savez(Path(folder, "checkpoint.npz"), allow_pickle=False, epoch=epoch + 1, **net.state())
            mlflow.log_artifact(Path(folder, "checkpoint.npz"))  # a copy is taken: the next epoch may write over it
    return run.info.run_id


def restore(run_id: str, net: TorchNet | NumpyNet, batches: int) -> int:
    """Load the last checkpoint; what was logged after it is hidden. Returns the epoch to go on with."""
    with np.load(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="checkpoint.npz")) as saved:
        net.load({name: saved[name] for name in saved.files if name != "epoch"})
        epoch = int(saved["epoch"])
    mlflow.rewind(step=epoch * batches)
    return epoch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data (10)")
    parser.add_argument("--resume", metavar="RUN_ID", help="go on with this run from its last checkpoint")
    parser.add_argument("--sync", action="store_true", help="make each logging call wait for its commit")
    options = parser.parse_args()
    mlflow.config.enable_async_logging(not options.sync)
    run = mlflow.get_run(train(options.epochs, options.resume))
    print(f"run {run.info.run_id}: accuracy {run.data.metrics['accuracy']:.3f} after {run.data.metric_summaries['loss'].count} batches")


if __name__ == "__main__":
    main()
