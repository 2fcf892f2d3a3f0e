"""A soak: producers, shipper, workers, Redis and PostgreSQL are killed and started again at random while points are logged.

    python tests/soak.py [--seconds 300] [--seed N]

Afterwards every point whose call had returned must be in the store exactly once and in its order, the projection must equal the ledger, and
no segment may be left in the spool. The seed decides what is done when; it is printed, and the same seed gives the same schedule.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import redis

from flightlog.schema.names import WORKER_MODULE
from flightlog.schema.settings import Settings, locate
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.stores.verify import verify
from services import PostgresServer, RedisServer, running

PRODUCERS, WORKERS = 3, 2
PATIENCE = 120.0
"""Seconds after the last kill within which everything must have arrived."""
PRODUCER = """
import mmap, os, sys, time
from pathlib import Path
import flightlog

calls, pause = Path(sys.argv[1]), float(sys.argv[2])
calls.write_bytes(bytes(8))
with calls.open("r+b") as file:
    returned = mmap.mmap(file.fileno(), 8)
with flightlog.start_run(run_name=calls.name) as run:
    Path(f"{calls}.run").write_text(run.info.run_id)
    flightlog.log_param("pause", pause)
    step = 0
    while not Path(f"{calls}.stop").exists():
        for _ in range(200):
            flightlog.log_metric("x", step * 0.5, step=step)
            step += 1
            returned[:8] = step.to_bytes(8, "little")
        time.sleep(pause)
"""


@dataclass
class Producer:
    """A script that logs; `calls` holds how many of its calls have returned."""

    calls: Path
    process: subprocess.Popen[bytes]

    @property
    def run_id(self) -> str | None:
        """The run's id, None when the script was killed before it had one."""
        path = Path(f"{self.calls}.run")
        return path.read_text() or None if path.exists() else None

    @property
    def returned(self) -> int:
        """How many calls have returned."""
        return int.from_bytes(self.calls.read_bytes(), "little") if self.calls.exists() else 0


@dataclass
class Soak:
    """All that runs, and what is done to it."""

    folder: Path
    seed: int
    redis: RedisServer
    postgres: PostgresServer
    store_url: str
    done: Counter[str] = field(default_factory=Counter)
    producers: list[Producer] = field(default_factory=list)
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("FLIGHTLOG_", "MLFLOW_"))},
            "FLIGHTLOG_QUEUE_URI": self.redis.url,
            "FLIGHTLOG_TRACKING_URI": self.store_url,
            "FLIGHTLOG_SPOOL": str(self.folder / "spool"),
            "FLIGHTLOG_EXIT_TIMEOUT": "0",
            "FLIGHTLOG_WORKER_IDLE": "2",
        }
        self.spool = locate(self.store_url, Settings.from_environ(self.environment), self.folder).spool

    def run(self, seconds: float) -> None:
        """Do something bad every second or two, for so long, then let everything come to rest."""
        for _ in range(WORKERS):
            self._start_worker()
        for _ in range(PRODUCERS):
            self._start_producer()
        actions: list[tuple[Callable[[], None], int]] = [
            (self._kill_producer, 4),
            (self._kill_shipper, 3),
            (self._kill_worker, 3),
            (self._restart_redis, 2),
            (self._empty_redis, 1),
            (self._restart_postgres, 2),
        ]
        deadline = time.monotonic() + seconds
        pause = threading.Event()
        while time.monotonic() < deadline:
            pause.wait(self.random.uniform(0.3, 2.0))
            action = self.random.choices([action for action, _ in actions], [weight for _, weight in actions])[0]
            self.done[action.__name__.lstrip("_")] += 1
            action()
        for producer in self.producers:
            Path(f"{producer.calls}.stop").touch()
        for producer in self.producers:
            producer.process.wait(PATIENCE)

    def settle(self) -> None:
        """Ship what is left and wait until the spool holds no segment. Raises `AssertionError` when it does not come to that."""
        deadline = time.monotonic() + PATIENCE
        pause = threading.Event()
        ship = [sys.executable, "-m", "flightlog", "ship", "--idle", "1"]
        while left := sorted(path.name for path in self.spool.glob("*.seg")):
            assert time.monotonic() < deadline, f"{len(left)} segments were left behind, the first {left[0]}"
            with self._log("ship").open("ab") as log:
                subprocess.run(ship, env=self.environment, cwd=self.folder, stdout=log, stderr=log, timeout=PATIENCE, check=False)
            pause.wait(0.2)

    def judge(self, store: Store) -> int:
        """Compare what is in the store with what the scripts told; return the number of points. Raises `AssertionError`."""
        total = 0
        for producer in self.producers:
            if producer.run_id is None or not producer.returned:
                continue
            points = store.metric_arrays(producer.run_id, "x")
            count = len(points)
            # One more than have returned: a script may be killed between the event and its note of it.
            assert producer.returned <= count <= producer.returned + 1, f"{producer.run_id}: {producer.returned} returned, {count} stored"
            assert points.step.tolist() == list(range(count))
            assert (points.value == points.step * 0.5).all()
            sequences = [(block.writer, block.first_sequence, block.end) for block in store.ledger(producer.run_id)]
            assert all(before[2] == after[1] for before, after in itertools.pairwise(sequences)), sequences
            total += count
        assert store.dead_letters() == []
        assert [found for found in verify(store) if found.differences or found.is_moving] == []
        return total

    def stop(self) -> None:
        """End everything that this soak has started, in order where it can be."""
        for worker in self.workers:
            worker.terminate()
        for process in [*self.workers, *(producer.process for producer in self.producers)]:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for shipper in self._shippers():
            shipper.wait(20)

    def _log(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        with self._log(name).open("ab") as log:
            return subprocess.Popen([sys.executable, *command], env=self.environment, cwd=self.folder, stdout=log, stderr=log)

    def _start_worker(self) -> None:
        self.workers.append(self._start("worker", "-m", "flightlog", "worker"))

    def _start_producer(self) -> None:
        calls = self.folder / f"producer-{len(self.producers)}"
        pause = self.random.choice([0.005, 0.02, 0.1])
        self.producers.append(Producer(calls, self._start("producer", "-c", PRODUCER, str(calls), str(pause))))

    def _kill_producer(self) -> None:
        living = [producer for producer in self.producers if producer.process.poll() is None]
        victim = self.random.choice(living)
        victim.process.kill()
        victim.process.wait()
        self._start_producer()

    def _kill_worker(self) -> None:
        victim = self.workers.pop(self.random.randrange(len(self.workers)))
        for child in psutil.Process(victim.pid).children(recursive=True):  # RQ's scheduler
            child.kill()
        victim.kill()
        victim.wait()
        self._start_worker()

    def _shippers(self) -> list[psutil.Process]:
        found = psutil.process_iter(["cmdline"])
        return [process for process in found if WORKER_MODULE in (words := process.info["cmdline"] or []) and str(self.spool) in words]

    def _kill_shipper(self) -> None:
        for process in self._shippers():
            process.send_signal(signal.SIGKILL)

    def _restart_redis(self) -> None:
        self.redis.kill()
        self.redis.start()

    def _empty_redis(self) -> None:
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()

    def _restart_postgres(self) -> None:
        self.postgres.kill()
        self.postgres.start()


@contextmanager
def soaked(seconds: float, seed: int, folder: Path) -> Iterator[tuple[Soak, Store]]:
    """Soak, wait until all has arrived, and give the soak and its store."""
    with ExitStack() as stack:
        servers = stack.enter_context(running(RedisServer)), stack.enter_context(running(PostgresServer))
        store_url = stack.enter_context(servers[1].database())
        soak = Soak(folder, seed, *servers, store_url)
        stack.callback(soak.stop)
        soak.run(seconds)
        soak.settle()
        store = open_store(store_url)
        stack.callback(store.close)
        yield soak, store


def main() -> None:
    """Soak and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=300.0)
    options.add_argument("--seed", type=int, default=random.randrange(2**32))
    given = options.parse_args()
    print(f"seed {given.seed}, {given.seconds:g} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            with soaked(given.seconds, given.seed, Path(folder)) as (soak, store):
                points = soak.judge(store)
                print(f"{points:,} points of {len(soak.producers)} runs arrived once and in order; done: {dict(soak.done)}")
        except BaseException:
            for log in Path(folder).glob("*.log"):
                print(f"--- {log.name}\n{log.read_text(errors='replace')[-4000:]}")
            raise


if __name__ == "__main__":
    main()
