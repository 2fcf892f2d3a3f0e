"""Many small runs, brought into a store as blocks of events: what searches are measured on."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from contracts.facts import block, created, param, started
from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.ids import WriterId
from flightlog.stores.base import Store

METRICS = ("acc", "loss", *(f"metric_{number}" for number in range(8)))
PARAMS = ("lr", "optimizer", *(f"param_{number}" for number in range(8)))
RATES = ("0.1", "0.03", "0.01", "0.003", "0.001")
OPTIMIZERS = ("adam", "adamw", "sgd", "lion")
TEAMS = ("vision", "speech", "language")
EXPERIMENT = "1"
EPOCH = 1_700_000_000_000
STEPS = 3
BATCH = 1_000


def run_block(number: int, draw: random.Random) -> Block:
    """Return a run: 10 params, 10 metrics with three points each, 5 tags."""
    run_id, time = f"{draw.getrandbits(128):032x}", EPOCH + 1_000 * number
    tags = {
        "team": draw.choice(TEAMS),
        "mlflow.user": draw.choice(("ada", "bob", "eve")),
        "mlflow.source.name": "/home/ada/project/train.py",
        "mlflow.source.type": "LOCAL",
    }
    start = started(EXPERIMENT, "many", time, run_name=f"run-{number}", artifact_uri=f"/artifacts/{run_id}", tags=tags)
    values = {"lr": draw.choice(RATES), "optimizer": draw.choice(OPTIMIZERS)}
    params = [param(key, values.get(key, str(draw.randrange(100_000))), time) for key in PARAMS]
    points = [e.MetricsLogged(time=time + step, step=step, points=tuple((key, draw.random()) for key in METRICS)) for step in range(STEPS)]
    return block(run_id, start, *params, *points, e.RunEnded(time=time + 900, status="FINISHED", end_time=time + 900))


def blocks(count: int) -> Iterator[list[Block]]:
    """Yield the runs in batches; always the same ones."""
    draw = random.Random(7)
    for first in range(0, count, BATCH):
        yield [run_block(number, draw) for number in range(first, min(first + BATCH, count))]


def experiment_block(number: int, draw: random.Random) -> Block:
    """Return an experiment with two tags."""
    tags = {"team": draw.choice(TEAMS), "owner": draw.choice(("ada", "bob", "eve"))}
    made = created(str(number), f"experiment-{number}", EPOCH + number, tags)
    return block(f"experiment:{number}", made, writer=WriterId("5" * 32))


def experiments(count: int) -> Iterator[list[Block]]:
    """Yield experiments in batches; always the same ones."""
    draw = random.Random(8)
    for first in range(100, 100 + count, BATCH):
        yield [experiment_block(number, draw) for number in range(first, min(first + BATCH, 100 + count))]


def fill(store: Store, run_count: int, experiment_count: int) -> None:
    """Bring the runs and experiments into a store, unless they are there."""
    if not store.search_runs([EXPERIMENT], max_results=1):
        for batch in blocks(run_count):
            store.apply(batch)
    if not store.search_experiments(filter_string="name LIKE 'experiment-%'", max_results=1):
        for batch in experiments(experiment_count):
            store.apply(batch)
