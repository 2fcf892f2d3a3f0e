"""What the queue costs and gives: the log call, the way to the store, Redis's memory, a thousand writers, points a second.

    python benchmarks/bench_queue.py [--store postgres|mariadb] [--parts calls,latency,memory,writers,rate] [--points 2000000] [...]

Private servers are started for it: Redis, and a database with durable settings. The log call is timed as in `bench_call.py`, in processes
of their own that take turns: with the plain spool, with the queue, with Redis down, with Redis restarted each second. The way of an event
is timed from before its call to when `get_run` gives it, on an idle system. Redis's memory is that which it says it uses, against the
packed bytes of the events. The lag of many writers is looked at when all of them have begun. The rate is measured from the start of
`flightlog ship`, the interpreter's included, to the last commit; with one worker, with two, and as bare rows as in `bench_databases.py`, in
turn. The notes say how many seconds of processor time each process took: on two cores, what all of them take bounds the rate.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import perf_counter_ns

import psutil
import redis
from bench_databases import SERVERS, in_new_process
from measure import Figure, median, paired, quantile, ratio, report
from sqlalchemy import make_url

from flightlog.schema.names import SHARDS, shard_key
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.worker.rings import Rings
from flightlog.worker.streams import Streams
from services import DatabaseServer, running

HERE = Path(__file__).resolve()
FLIGHTLOG = (sys.executable, "-m", "flightlog")
POINT_BYTES = 38
"""Packed bytes of an event of one metric."""
PROCESSES, RUNS_EACH, PER_SECOND = 16, 63, 10
WARM_UP = 15.0
"""Seconds in which writers begin, before their lag counts."""
BACKLOGS = 5
"""How many times as many points wait in Redis where workers are measured alone: they file them fast."""
RUNS, KEYS = 32, 10
"""Of the journals that the rate is measured with; the runs spread over the shards."""


class Place:
    """A folder with a Redis, a store and the processes that work with them."""

    def __init__(self, folder: Path, store_url: str) -> None:
        self.folder = folder
        self.store_url = store_url
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            self.port = found.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.redis = redis.Redis(port=self.port)
        self.server: subprocess.Popen[bytes] | None = None

    def start_redis(self) -> None:
        """Start Redis, empty."""
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        program = shutil.which("redis-server") or shutil.which("valkey-server")
        assert program, "redis-server is not installed"
        self.server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
        until(self._answers, 10)

    def stop_redis(self) -> None:
        """Kill Redis."""
        if self.server is not None:
            self.server.kill()
            self.server.wait()
            self.server = None

    def _answers(self) -> bool:
        try:
            return bool(self.redis.ping())
        except redis.RedisError:
            return False

    def environment(self, *, queue: bool = True, spool: str = "flights") -> dict[str, str]:
        """Return the environment of a script."""
        known = {**os.environ, "FLIGHTLOG_TRACKING_URI": self.store_url, "FLIGHTLOG_SPOOL": str(self.folder / spool)}
        return {**known, "FLIGHTLOG_QUEUE_URI": self.url} if queue else known

    @contextmanager
    def running(self, *command: str) -> Iterator[psutil.Process]:
        """Run a command of flightlog meanwhile."""
        with (self.folder / "processes.log").open("ab") as log:
            process = subprocess.Popen((*FLIGHTLOG, *command), env=self.environment(), cwd=self.folder, stdout=log, stderr=log)
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()
            process.wait(60)

    @contextmanager
    def workers(self, count: int) -> Iterator[list[psutil.Process]]:
        """Run workers, and wait until they take jobs."""
        with ExitStack() as stack:
            found = [stack.enter_context(self.running("worker")) for _ in range(count)]
            until(lambda: len(self.redis.keys("rq:worker:*")) >= count, 60)
            yield found

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store."""
        store = open_store(self.store_url)
        try:
            yield store
        finally:
            store.close()

    def waiting(self) -> int:
        """Return how many entries wait."""
        return sum(int(self.redis.xlen(shard_key(shard, "blocks"))) for shard in range(SHARDS))


def until(condition: Callable[[], object], seconds: float) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"it did not happen within {seconds} s"
        time.sleep(0.005)


def committed(store: Store) -> int:
    """Return how many events the store has."""
    return sum(writer.committed for writer in store.writers())


def script(code: str, place: Place, *arguments: object, queue: bool = True, **environment: str) -> str:
    """Run Python code in a process of its own; return what it prints."""
    known = {**place.environment(queue=queue), **environment}
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], env=known, cwd=place.folder, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


CALLS = """
import json, logging, random, sys
import flightlog
sys.path.insert(0, sys.argv[2])
from bench_queue import timed
logging.disable(logging.WARNING)
flightlog.start_run()
values = [random.random() for _ in range(int(sys.argv[1]))]
call = lambda index: flightlog.log_metric("loss", values[index], step=index)
timed(call, len(values) // 5)
found = timed(call, len(values))
print(json.dumps([found[len(found) // 2], found[len(found) * 99 // 100]]))
"""


def timed(call: Callable[[int], object], count: int) -> list[int]:
    """Return the sorted nanoseconds of each of `count` calls, with pauses, so that a round takes seconds and not a moment."""
    taken = [0] * count
    for index in range(count):
        start = perf_counter_ns()
        call(index)
        taken[index] = perf_counter_ns() - start
        if index % 2000 == 0:
            time.sleep(0.02)
    return sorted(taken)


@contextmanager
def flapping(place: Place) -> Iterator[None]:
    """Restart Redis each second."""
    over = threading.Event()

    def flap() -> None:
        while not over.wait(1.0):
            place.stop_redis()
            place.start_redis()

    thread = threading.Thread(target=flap)
    thread.start()
    yield
    over.set()
    thread.join()


def calls(place: Place, count: int, rounds: int) -> list[Figure]:
    """Time the log call in four situations, in turn."""
    found: dict[str, list[list[int]]] = {"spool": [], "up": [], "down": [], "flapping": []}

    def one(*, queue: bool) -> list[int]:
        quick = {"FLIGHTLOG_EXIT_TIMEOUT": "0", "FLIGHTLOG_WORKER_IDLE": "1"}
        figures: list[int] = json.loads(script(CALLS, place, count, HERE.parent, queue=queue, **quick))
        return figures

    for _ in range(rounds):
        found["spool"].append(one(queue=False))
        found["up"].append(one(queue=True))
        with flapping(place):
            found["flapping"].append(one(queue=True))
        place.stop_redis()
        found["down"].append(one(queue=True))
        place.start_redis()
    figures = []
    for name in ("up", "down", "flapping"):
        for column, (quant, reach) in enumerate((("p50", 1.1), ("p99", 1.5))):
            ours, floor = ([turn[column] for turn in found[which]] for which in (name, "spool"))
            measured = (f"{median(ours) / 1e3:.2f} us", f"spool {median(floor) / 1e3:.2f} us")
            figures.append(Figure(f"log_metric, Redis {name}, {quant}", *measured, ratio(ours, floor), reach))
    return figures


def latency(place: Place, samples: int) -> list[Figure]:
    """Time the way of single events on an idle system."""
    os.environ.update(place.environment(), FLIGHTLOG_START_WORKER="0")
    import flightlog  # noqa: PLC0415 - reads the environment

    taken: list[int] = []
    with place.workers(1), place.running("ship"), place.store() as store, flightlog.start_run() as run:
        for sample in range(samples + 5):
            time.sleep(random.uniform(0.05, 0.35))
            start = perf_counter_ns()
            flightlog.log_metric("probe", float(sample))
            until(partial(_is_latest, store, run.info.run_id, float(sample)), 60)
            taken.append(perf_counter_ns() - start)
    ordered = sorted(taken[5:])  # the first ones open everything
    p50, p99 = quantile(ordered, 0.5) / 1e6, quantile(ordered, 0.99) / 1e6
    return [
        Figure("log call to get_run, p50", f"{p50:.0f} ms", "in ms", p50, 300),
        Figure("log call to get_run, p99", f"{p99:.0f} ms", "in ms", p99, 1000),
    ]


def _is_latest(store: Store, run_id: str, value: float) -> bool:
    return bool(store.writers(run_id)) and store.get_run(run_id).data.metrics.get("probe") == value


WRITE = f"""
import logging, random, sys
import flightlog
logging.disable(logging.WARNING)
runs, points = map(int, sys.argv[1:])
for run in range(runs):
    with flightlog.start_run():
        for step in range(points // runs // {KEYS}):
            for key in range({KEYS}):
                flightlog.log_metric(f"metric_{{key}}", random.random(), step=step)
"""


def write(place: Place, runs: int, points: int) -> int:
    """Write journals; return how many points they have."""
    script(WRITE, place, runs, points, FLIGHTLOG_START_WORKER="0")
    return points // runs // KEYS * KEYS * runs


def memory(place: Place, backlog: int) -> list[Figure]:
    """Measure what a backlog takes in Redis while no worker runs."""
    points = write(place, 10, backlog)
    before = place.redis.info("memory")["used_memory"]
    with place.running("ship"):
        settle(place.waiting)
        used = place.redis.info("memory")["used_memory"] - before
    raw = points * POINT_BYTES
    measured = f"{used / 2**20:.0f} MiB, {used / points:.1f} B a point"
    return [Figure(f"Redis for {points:,} points", measured, f"packed {raw / 2**20:.0f} MiB", used / raw, 1 / 3)]


WRITER = f"""
import mmap, sys, time, uuid, logging
import flightlog
logging.disable(logging.WARNING)
number, seconds, path = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3]
with open(path, "r+b") as file:
    counts = mmap.mmap(file.fileno(), 0)
runs = []
for _ in range({RUNS_EACH}):
    run = flightlog.start_run(nested=True)
    runs.append(run.info.run_id)
start, sent = time.monotonic(), 0
for tick in range(int((seconds + {WARM_UP}) * {PER_SECOND})):
    for run_id in runs:
        flightlog.log_metric("loss", tick / 2, step=tick, run_id=run_id)
        sent += 1
        counts[8 * number : 8 * number + 8] = sent.to_bytes(8, "little")
    time.sleep(max(0.0, start + (tick + 1) / {PER_SECOND} - time.monotonic()))
for _ in runs:
    flightlog.end_run()
"""


def writers(place: Place, seconds: float) -> list[Figure]:
    """Let a thousand runs log through one worker; compare what is emitted with what is committed."""
    counts = place.folder / "counts"
    counts.write_bytes(bytes(8 * PROCESSES))
    environment = {**place.environment(), "FLIGHTLOG_START_WORKER": "0", "FLIGHTLOG_EXIT_TIMEOUT": "0"}
    with place.workers(1) as (worker,), place.running("ship"), place.store() as store:
        command = [sys.executable, "-c", WRITER]
        started = [
            subprocess.Popen([*command, str(number), str(seconds), str(counts)], env=environment, cwd=place.folder)
            for number in range(PROCESSES)
        ]
        watch = Watch(counts, store, worker, make_url(place.store_url).port)
        while any(process.poll() is None for process in started):
            watch.look()
            time.sleep(0.25)
        until(lambda: watch.look() >= watch.emitted, 120)
    lags, connections = watch.lags(), set(watch.connections)
    most = max(watch.memory) / 2**20
    return [
        Figure(f"{PROCESSES * RUNS_EACH} writers: greatest lag", f"{max(lags):.2f} s", f"median {median(lags):.2f} s", max(lags), 2),
        Figure(
            "the same: connections to the database",
            f"{min(connections)} to {max(connections)}",
            "at most",
            max(connections),
            2,
        ),
        Figure("the same: memory of the worker", f"{most:.0f} MiB", "in MiB", most, 300),
    ]


class Watch:
    """Looks at what is emitted and what is committed, and at the worker."""

    def __init__(self, counts: Path, store: Store, worker: psutil.Process, database_port: int | None) -> None:
        self._counts, self._store, self._worker, self._port = counts, store, worker, database_port
        self._emitted: list[tuple[float, int]] = [(time.monotonic(), 0)]
        self._lags: list[tuple[float, float]] = []
        self.memory: list[int] = []
        self.connections: list[int] = []

    @property
    def emitted(self) -> int:
        """How many points have been logged."""
        return self._emitted[-1][1]

    def lags(self) -> list[float]:
        """Return for how many seconds the newest committed point had been logged, at each look after the warm-up."""
        start = next(moment for moment, count in self._emitted if count)
        return [lag for moment, lag in self._lags if moment > start + WARM_UP]

    def look(self) -> int:
        """Look once; return how many points are committed. A run's start and end are events as well, and are left out."""
        words = self._counts.read_bytes()
        emitted = sum(int.from_bytes(words[place : place + 8], "little") for place in range(0, len(words), 8))
        now = time.monotonic()
        self._emitted.append((now, emitted))
        known = sum(max(writer.committed - 1, 0) for writer in self._store.writers() if not writer.subject.startswith("experiment"))
        known = min(known, emitted)
        self._lags.append((now, now - max(moment for moment, count in self._emitted if count <= known)))
        self.memory.append(self._worker.memory_info().rss)
        ports = [getattr(connection.raddr, "port", None) for connection in self._worker.net_connections()]
        self.connections.append(ports.count(self._port))
        return known


def through_queue(server: DatabaseServer, points: int, count: int) -> tuple[float, dict[str, float]]:
    """Bring journals through Redis into an empty database; return the seconds, and the processor seconds of whoever took part."""
    with prepared(server) as place, place.store() as store:
        points = write(place, RUNS, points)
        with place.workers(count) as workers:
            database = _spent(server)
            start = time.perf_counter()
            with place.running("ship") as shipper:
                until(lambda: committed(store) >= points + 2 * RUNS, 600)
                taken = time.perf_counter() - start
                spent = {"shipper": _cpu(shipper), "workers": sum(map(_cpu, workers))}
            redis_process = psutil.Process(place.server.pid) if place.server else psutil.Process()
            return taken, {**spent, "Redis": _cpu(redis_process), "database": _spent(server) - database}


def from_queue(server: DatabaseServer, points: int, count: int) -> float:
    """File what waits in Redis with workers that are ready; return the seconds. The shipper has left: its core is theirs."""
    with prepared(server) as place, place.store() as store:
        points = write(place, RUNS, points)
        streams = Streams(place.url)
        with place.workers(count):
            for shard in range(SHARDS):
                place.redis.set(shard_key(shard, "lease"), "held back")
            with place.running("ship"):
                settle(place.waiting)
            place.redis.delete(*(shard_key(shard, "lease") for shard in range(SHARDS)))
            start = time.perf_counter()
            Rings(streams).ring_waiting()
            until(lambda: committed(store) >= points + 2 * RUNS, 600)
            taken = time.perf_counter() - start
        streams.close()
        return taken


def settle(count: Callable[[], int]) -> None:
    """Wait until a count has grown and stays."""
    seen = [-1, -2, -3, -4]
    while len(set(seen[-4:])) > 1 or not seen[-1]:
        time.sleep(0.5)
        seen.append(count())


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _spent(server: DatabaseServer) -> float:
    """Return the processor seconds of a database server that runs."""
    assert server.process is not None
    parent = psutil.Process(server.process.pid)
    return sum(_cpu(process) for process in (parent, *parent.children(recursive=True)))


def rate(server: DatabaseServer, kind: str, points: int, rounds: int) -> tuple[list[Figure], list[str]]:
    """Measure points a second from journals to the last commit, with one worker and with two, beside bare rows."""

    def bare() -> float:
        with server.database() as url:
            return points / float(in_new_process("rows", url, RUNS, KEYS, points)["seconds"])

    spent: dict[int, dict[str, float]] = {}

    def queued(count: int) -> float:
        seconds, spent[count] = through_queue(server, points, count)
        return points / seconds

    def waiting(count: int) -> float:
        return BACKLOGS * points / from_queue(server, BACKLOGS * points, count)

    calls = bare, lambda: queued(1), lambda: queued(2), lambda: waiting(1), lambda: waiting(2)
    floor, one, two, first, both = paired(*calls, rounds=rounds)
    reach = SERVERS[kind][1]
    bare_rate, one_rate, first_rate = (f"{median(rates):,.0f}" for rates in (floor, one, first))
    figures = [
        Figure("points/s, one worker", one_rate, f"bare rows {bare_rate}", ratio(one, floor), reach, at_least=True),
        Figure("points/s, two workers", f"{median(two):,.0f}", f"one {one_rate}", ratio(two, one), 1.6, at_least=True),
        Figure("the same, all in Redis already", f"{median(both):,.0f}", f"one {first_rate}", ratio(both, first), 1.6, at_least=True),
    ]
    return figures, [
        f"{count} worker(s): {', '.join(f'{name} {seconds:.2f} s' for name, seconds in found.items())} of processor time"
        for count, found in spent.items()
    ]


@contextmanager
def prepared(server: DatabaseServer) -> Iterator[Place]:
    """Give a folder with an empty Redis and an empty database."""
    with server.database() as url, tempfile.TemporaryDirectory(prefix="flightlog-bench-", ignore_cleanup_errors=True) as folder:
        place = Place(Path(folder), url)
        place.start_redis()
        try:
            yield place
        finally:
            place.stop_redis()
            place.redis.close()


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--store", choices=SERVERS, default="postgres", help="what files the events")
    options.add_argument("--parts", default="calls,latency,memory,writers,rate")
    options.add_argument("--calls", type=int, default=200_000)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--samples", type=int, default=200)
    options.add_argument("--backlog", type=int, default=10_000_000)
    options.add_argument("--seconds", type=float, default=30)
    options.add_argument("--points", type=int, default=2_000_000)
    given = options.parse_args()
    parts: dict[str, Callable[[Place], list[Figure]]] = {
        "calls": lambda place: calls(place, given.calls, given.rounds),
        "latency": lambda place: latency(place, given.samples),
        "memory": lambda place: memory(place, given.backlog),
        "writers": lambda place: writers(place, given.seconds),
    }
    figures: list[Figure] = []
    notes: list[str] = []
    with running(SERVERS[given.store][0]) as server:
        for part in given.parts.split(","):
            if part == "rate":
                found, notes = rate(server, given.store, given.points, given.rounds)
                figures += found
                continue
            with prepared(server) as place:
                figures += parts[part](place)
    report(f"Through the queue into {given.store}", figures, notes)


if __name__ == "__main__":
    main()
