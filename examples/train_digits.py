"""Train a small network on scikit-learn's digits, log everything worth a look at every batch, and say what the logging cost.

Only the import line knows flightlog: everything else is MLflow's API. Each logging call is timed, so that the table at the end is about
this machine and this run. `--sync` makes every call wait for its commit instead, to see the difference.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from sklearn.datasets import load_digits

import flightlog as mlflow

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

CLASSES = 10
EPOCHS, SYNC_EPOCHS = 120, 1
"""A synchronous call waits for a commit, some milliseconds, so `--sync` trains for fewer epochs unless told otherwise."""

console = Console()


@dataclass(frozen=True)
class Plan:
    """What the run is about; logged as its params."""

    epochs: int
    batch_size: int
    hidden_units: int = 128
    learning_rate: float = 0.2
    validation_share: float = 0.2
    seed: int = 7


@dataclass(frozen=True)
class Digits:
    """Images as rows of 64 brightnesses from 0 to 1, and the digits they show."""

    images: Floats
    labels: Ints

    def take(self, which: Ints) -> Digits:
        return Digits(self.images[which], self.labels[which])

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Layer:
    """Weights and biases, or the gradient of the loss with respect to them."""

    weights: Floats
    biases: Floats

    def minus(self, gradient: Layer, rate: float) -> Layer:
        return Layer(self.weights - rate * gradient.weights, self.biases - rate * gradient.biases)

    def norm(self) -> float:
        return math.sqrt(float(np.vdot(self.weights, self.weights) + np.vdot(self.biases, self.biases)))


@dataclass(frozen=True)
class Network:
    """One hidden layer of rectified units, then softmax."""

    hidden: Layer
    output: Layer

    def minus(self, gradient: Network, rate: float) -> Network:
        return Network(self.hidden.minus(gradient.hidden, rate), self.output.minus(gradient.output, rate))


@dataclass(frozen=True)
class Forward:
    """What a network makes of a batch: the hidden units, and the probability of each class."""

    units: Floats
    probabilities: Floats


class Stopwatch:
    """Calls a function, and remembers by its name how many nanoseconds each call took."""

    def __init__(self) -> None:
        self.times: dict[str, array[int]] = defaultdict(lambda: array("q"))

    def __call__(self, verb: Callable[..., Any], *args: Any, **options: Any) -> None:  # noqa: ANN401 - whatever the verb takes
        start = time.perf_counter_ns()
        verb(*args, **options)
        self.times[verb.__name__].append(time.perf_counter_ns() - start)

    def seconds(self) -> float:
        return sum(map(sum, self.times.values())) / 1e9


@dataclass(frozen=True)
class Outcome:
    """What was measured. Times are seconds."""

    run_id: str
    points: int
    training: float
    logging: float
    commit: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, report, read back; return 0 if everything that was logged was read."""
    options = parse(arguments)
    if options.folder:
        mlflow.set_tracking_uri(options.folder)
    if options.sync:
        mlflow.config.enable_async_logging(False)  # noqa: FBT003 - MLflow's signature
        console.print(f"Synchronous: each call waits for its commit, so this is {options.epochs} epoch(s) long, and {EPOCHS} otherwise.")
    stopwatch = Stopwatch()
    outcome = run(Plan(options.epochs, options.batch_size), stopwatch)
    print_calls(stopwatch)
    print_outcome(outcome)
    return read_back(outcome)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=positive, help=f"passes over the data ({EPOCHS}, or {SYNC_EPOCHS} with --sync)")
    parser.add_argument("--batch-size", type=positive, default=32, help="images a batch (32)")
    parser.add_argument("--folder", help="the flight folder, or any tracking URI (FLIGHTLOG_TRACKING_URI, else ./flightlogs)")
    parser.add_argument("--sync", action="store_true", help="make each logging call wait for its commit")
    options = parser.parse_args(arguments)
    options.epochs = options.epochs or (SYNC_EPOCHS if options.sync else EPOCHS)
    return options


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is less than 1")
    return number


def run(plan: Plan, stopwatch: Stopwatch) -> Outcome:
    """Train within a run and measure it."""
    training_data, validation_data = split(plan)
    mlflow.set_experiment("digits")
    with mlflow.start_run(run_name="one hidden layer", tags={"data": "sklearn digits", "framework": "numpy"}) as active:
        stopwatch(mlflow.log_params, vars(plan))
        stopwatch(mlflow.set_tag, "images", str(len(training_data)))
        start, before = time.perf_counter(), stopwatch.seconds()
        network, points = train(plan, training_data, validation_data, stopwatch)
        training, logging = time.perf_counter() - start, stopwatch.seconds() - before
        log_results(network, validation_data, stopwatch)
    ended = time.perf_counter()
    mlflow.flush_async_logging()
    return Outcome(active.info.run_id, points, training, logging, time.perf_counter() - ended)


def split(plan: Plan) -> tuple[Digits, Digits]:
    """Return the data to train on and the data to validate with."""
    bunch = load_digits()
    data = Digits(bunch.data / 16.0, bunch.target.astype(np.int64))
    order = np.random.default_rng(plan.seed).permutation(len(data))
    first = int(len(data) * plan.validation_share)
    return data.take(order[first:]), data.take(order[:first])


def train(plan: Plan, data: Digits, validation_data: Digits, stopwatch: Stopwatch) -> tuple[Network, int]:
    """Descend, logging every batch; return the network and how many metric points were logged."""
    random = np.random.default_rng(plan.seed)
    network = random_network(random, plan)
    batches = math.ceil(len(data) / plan.batch_size)
    step = points = 0
    with progress_bar() as progress:
        task = progress.add_task("training", total=plan.epochs)
        for _ in range(plan.epochs):
            for batch in shuffled_batches(random, data, plan.batch_size):
                rate = cosine(plan.learning_rate, step / (plan.epochs * batches))
                network, metrics, losses = descend(network, batch, rate)
                points += log_batch(metrics, losses, step, stopwatch)
                step += 1
            validation = validate(network, validation_data)
            stopwatch(mlflow.log_metrics, validation, step=step)
            points += len(validation)
            progress.update(task, advance=1, description=f"validation accuracy {validation['validation/accuracy']:.3f}")
    return network, points


def log_batch(metrics: dict[str, float], losses: dict[str, float], step: int, stopwatch: Stopwatch) -> int:
    """Log a batch both ways, metric by metric and many at once; return the number of points."""
    for name, value in metrics.items():
        stopwatch(mlflow.log_metric, name, value, step=step)
    stopwatch(mlflow.log_metrics, losses, step=step)
    return len(metrics) + len(losses)


def log_results(network: Network, data: Digits, stopwatch: Stopwatch) -> None:
    """Log the confusion matrix as a figure and the weights as a file."""
    stopwatch(mlflow.log_figure, confusion_figure(confusion(network, data)), "confusion.png")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "weights.npz")
        np.savez(path, **{f"{name}_{part}": value for name, layer in vars(network).items() for part, value in vars(layer).items()})
        stopwatch(mlflow.log_artifact, path)


def random_network(random: np.random.Generator, plan: Plan) -> Network:
    def layer(inputs: int, outputs: int) -> Layer:
        return Layer(random.normal(0.0, math.sqrt(2.0 / inputs), (inputs, outputs)), np.zeros(outputs))

    return Network(layer(64, plan.hidden_units), layer(plan.hidden_units, CLASSES))


def shuffled_batches(random: np.random.Generator, data: Digits, size: int) -> Iterator[Digits]:
    order = random.permutation(len(data))
    return (data.take(order[start : start + size]) for start in range(0, len(data), size))


def cosine(rate: float, share: float) -> float:
    """Return the learning rate after a share of the steps: it falls along half a cosine."""
    return rate * (1.0 + math.cos(math.pi * share)) / 2.0


def descend(network: Network, batch: Digits, rate: float) -> tuple[Network, dict[str, float], dict[str, float]]:
    """Take one step; return the new network, its metrics, and the loss of each class that the batch has."""
    forward = forward_pass(network, batch.images)
    gradient = backward_pass(network, batch, forward)
    metrics = batch_metrics(network, gradient, batch, forward, rate)
    return network.minus(gradient, rate), metrics, class_losses(batch, forward)


def forward_pass(network: Network, images: Floats) -> Forward:
    units = np.maximum(images @ network.hidden.weights + network.hidden.biases, 0.0)
    logits = units @ network.output.weights + network.output.biases
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return Forward(units, exponentials / exponentials.sum(axis=1, keepdims=True))


def backward_pass(network: Network, batch: Digits, forward: Forward) -> Network:
    """Return the gradient of the mean cross-entropy."""
    at_output = (forward.probabilities - np.eye(CLASSES)[batch.labels]) / len(batch)
    at_hidden = (at_output @ network.output.weights.T) * (forward.units > 0.0)
    return Network(
        Layer(batch.images.T @ at_hidden, at_hidden.sum(axis=0)),
        Layer(forward.units.T @ at_output, at_output.sum(axis=0)),
    )


def batch_metrics(network: Network, gradient: Network, batch: Digits, forward: Forward, rate: float) -> dict[str, float]:
    margins = probability_margins(batch, forward)
    weight_norm, gradient_norm = network.hidden.norm(), gradient.hidden.norm()
    return {
        "loss": float(sample_losses(batch, forward).mean()),
        "accuracy": float((margins > 0.0).mean()),
        "learning_rate": rate,
        "gradient_norm/hidden": gradient_norm,
        "gradient_norm/output": gradient.output.norm(),
        "weight_norm/hidden": weight_norm,
        "weight_norm/output": network.output.norm(),
        "update_ratio": rate * gradient_norm / weight_norm,
        "margin/mean": float(margins.mean()),
        "margin/min": float(margins.min()),
        "confidence": float(forward.probabilities.max(axis=1).mean()),
        "entropy": -float((forward.probabilities * np.log(forward.probabilities + 1e-12)).sum(axis=1).mean()),
        "active_units": float((forward.units > 0.0).mean()),
    }


def probability_margins(batch: Digits, forward: Forward) -> Floats:
    """Return how much likelier the right class is than the likeliest wrong one; negative where the network errs."""
    rows = np.arange(len(batch))
    wrong = forward.probabilities.copy()
    wrong[rows, batch.labels] = -1.0
    margins: Floats = forward.probabilities[rows, batch.labels] - wrong.max(axis=1)
    return margins


def sample_losses(batch: Digits, forward: Forward) -> Floats:
    losses: Floats = -np.log(forward.probabilities[np.arange(len(batch)), batch.labels] + 1e-12)
    return losses


def class_losses(batch: Digits, forward: Forward) -> dict[str, float]:
    sums = np.bincount(batch.labels, sample_losses(batch, forward), CLASSES)
    counts = np.bincount(batch.labels, minlength=CLASSES)
    return {f"class_loss/{digit}": float(sums[digit] / counts[digit]) for digit in range(CLASSES) if counts[digit]}


def validate(network: Network, data: Digits) -> dict[str, float]:
    forward = forward_pass(network, data.images)
    accuracy = (forward.probabilities.argmax(axis=1) == data.labels).mean()
    return {"validation/loss": float(sample_losses(data, forward).mean()), "validation/accuracy": float(accuracy)}


def confusion(network: Network, data: Digits) -> Ints:
    """Return a matrix: a row for each digit shown, a column for each digit seen."""
    seen = forward_pass(network, data.images).probabilities.argmax(axis=1)
    return np.bincount(data.labels * CLASSES + seen, minlength=CLASSES**2).reshape(CLASSES, CLASSES)


def confusion_figure(matrix: Ints) -> Figure:
    figure = Figure(figsize=(5, 5))
    axes = figure.add_subplot(xlabel="seen", ylabel="shown", xticks=range(CLASSES), yticks=range(CLASSES))
    axes.imshow(matrix, cmap="Blues")
    for (row, column), count in np.ndenumerate(matrix):
        axes.text(column, row, str(count), ha="center", va="center")
    return figure


def progress_bar() -> Progress:
    return Progress(BarColumn(), MofNCompleteColumn(), TextColumn("epochs, {task.description}"), TimeRemainingColumn(), console=console)


def print_calls(stopwatch: Stopwatch) -> None:
    """Print how long each verb took."""
    table = Table(title="Logging calls", title_justify="left")
    table.add_column("verb")
    for heading in ("calls", "p50 us", "p99 us", "max us"):
        table.add_column(heading, justify="right")
    for verb, times in stopwatch.times.items():
        figures = np.percentile(np.frombuffer(times, np.int64), [50, 99, 100]) / 1e3
        table.add_row(verb, f"{len(times):,}", *(f"{figure:,.1f}" for figure in figures))
    console.print(table)


def print_outcome(outcome: Outcome) -> None:
    """Print what logging cost the training loop."""
    table = Table(title="What it cost", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_row("points logged", f"{outcome.points:,}")
    table.add_row("training loop", f"{outcome.training:.2f} s")
    table.add_row("of it inside logging calls", f"{outcome.logging / outcome.training:.1%}")
    table.add_row("a point", f"{outcome.logging / outcome.points * 1e6:.2f} us")
    table.add_row("after the run's end, until all was committed", f"{outcome.commit:.2f} s")
    console.print(table)


def read_back(outcome: Outcome) -> int:
    """Read the run as anybody would, print it, and return 1 if points are missing or too many."""
    start = time.perf_counter()
    client = mlflow.MlflowClient()
    found = mlflow.get_run(outcome.run_id)
    histories = {key: [metric.value for metric in client.get_metric_history(outcome.run_id, key)] for key in sorted(found.data.metrics)}
    took = time.perf_counter() - start
    print_metrics(histories, found.data.metrics)
    print_run(found, [f"{item.path} ({item.file_size:,} bytes)" for item in client.list_artifacts(outcome.run_id)])
    points = sum(map(len, histories.values()))
    console.print(f"points read back: {points:,} in {took:.2f} s")
    if points != outcome.points:
        print(f"{outcome.points:,} points were logged and {points:,} were read back", file=sys.stderr)
        return 1
    return 0


def print_metrics(histories: dict[str, list[float]], last: dict[str, float]) -> None:
    table = Table(title="Metrics read back", title_justify="left")
    table.add_column("metric")
    for heading in ("points", "first", "last", "min", "max"):
        table.add_column(heading, justify="right")
    for key, values in histories.items():
        figures = (values[0], last[key], min(values), max(values))
        table.add_row(key, f"{len(values):,}", *(f"{figure:.4g}" for figure in figures))
    console.print(table)


def print_run(found: Any, artifacts: list[str]) -> None:  # noqa: ANN401 - MLflow's run
    table = Table(title="Run read back", title_justify="left", show_header=False)
    table.add_row("run", found.info.run_id)
    table.add_row("name, status", f"{found.info.run_name}, {found.info.status}")
    table.add_row("params", ", ".join(f"{key}={value}" for key, value in sorted(found.data.params.items())))
    table.add_row("artifacts", ", ".join(artifacts))
    table.add_row("stored in", mlflow.get_tracking_uri())
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
