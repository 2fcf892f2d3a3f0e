"""A private Redis with workers, as many machines use it: the training side knows the queue only, the workers know the store."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from flightlog.schema.names import SHARDS, shard_key
from flightlog.schema.settings import Location, Settings, locate
from flightlog.stores import open_store
from flightlog.stores.base import Store
from flightlog.worker.shipper import ship_all
from process.scripts import PATIENCE, wait_until
from services import RedisServer

SHIPPER = (sys.executable, "-m", "flightlog", "ship")
WORKER = (sys.executable, "-m", "flightlog", "worker")
PLAIN_RQ = (
    sys.executable,
    "-m",
    "rq.cli",
    "worker",
    "flightlog",
    "--serializer",
    "rq.serializers.JSONSerializer",
    "--worker-class",
    "rq.SimpleWorker",
    "--quiet",
)


class Fleet:
    """One queue, one store, any number of workers."""

    def __init__(self, server: RedisServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.store_url = f"sqlite:///{folder / 'store' / 'tracking.db'}"
        self.client = redis.Redis.from_url(server.url)
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: tuple[str, ...] = WORKER, **environment: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        known = {"FLIGHTLOG_QUEUE_URI": self.server.url, "RQ_REDIS_URL": self.server.url, "FLIGHTLOG_TRACKING_URI": self.store_url}
        with (self.folder / "workers.log").open("ab") as log:
            process = subprocess.Popen(command, env={**os.environ, **known, **environment}, stdout=log, stderr=log, cwd=self.folder)
        self._processes.append(process)
        return process

    def start_shipper(self) -> subprocess.Popen[bytes]:
        """Start a shipper of what the scripts leave."""
        return self.start(SHIPPER)

    def ready(self) -> subprocess.Popen[bytes]:
        """Start a worker and wait until it takes jobs."""
        before = len(self.keys("rq:worker:*"))
        process = self.start()
        wait_until(lambda: len(self.keys("rq:worker:*")) > before, "the worker takes jobs")
        return process

    def location(self, spool: Path | None = None) -> Location:
        """Return where the training side keeps its journals."""
        found = locate(None, Settings(queue_uri=self.server.url), self.folder)
        return found if spool is None else replace(found, spool=spool)

    def ship(self) -> None:
        """Ship what the scripts left and wait until the store has it."""
        assert ship_all(self.location()) is not None

    @property
    def segments(self) -> list[Path]:
        """The journal files that the store does not have whole yet."""
        return sorted(self.folder.glob("flightlogs/journal-*/*.seg"))

    @contextmanager
    def store(self) -> Iterator[Store]:
        """Open the store."""
        store = open_store(self.store_url)
        try:
            yield store
        finally:
            store.close()

    def arrived(self, run_id: str) -> int:
        """Return how many points of `loss` the store has."""
        with self.store() as store:
            return len(store.metric_arrays(run_id, "loss"))

    def known_of(self, run_id: str) -> str:
        """Return what the store has of a run, for the message of a test that waits in vain."""
        with self.store() as store:
            known = {
                "points": len(store.metric_arrays(run_id, "loss")),
                "dropped": store.dropped(),
                "writers": [(item.writer, item.committed) for item in store.writers(run_id)],
                "blocks": [(item.first_sequence, item.end) for item in store.ledger(run_id)],
                "dead letters": [(item.sequence, item.count, item.reason, item.message) for item in store.dead_letters(run_id)],
            }
        return str(known)

    def keys(self, pattern: str) -> list[Any]:
        """Return the keys in Redis of a pattern."""
        found: Any = self.client.keys(pattern)
        return list(found)

    def waiting(self) -> int:
        """Return how many entries wait in all shards; 0 while Redis cannot be asked."""
        try:
            return sum(int(self.client.xlen(shard_key(shard, "blocks"))) for shard in range(SHARDS))
        except redis.RedisError:
            return 0

    def waiting_after(self, seconds: float) -> int:
        """Return how many entries wait in a while."""
        threading.Event().wait(seconds)
        return self.waiting()

    def replicate(self, source: RedisServer, target: RedisServer) -> None:
        """Make a server a copy of another, and independent of it."""
        with redis.Redis.from_url(target.url) as client:
            client.replicaof("127.0.0.1", source.port)
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", "the copy is complete")
            client.replicaof("NO", "ONE")

    def is_held(self) -> bool:
        """Say whether somebody reads a shard."""
        return any(self.client.exists(shard_key(shard, "lease")) for shard in range(SHARDS))

    def forget_leases(self) -> None:
        """Let the leases of killed workers run out."""
        for shard in range(SHARDS):
            self.client.delete(shard_key(shard, "lease"))

    def describe(self) -> str:
        """Return what waits, who holds which shard, and how RQ sees its jobs."""
        lines = [f"journals: {[path.name for path in self.segments]}"]
        for shard in range(SHARDS):
            known = {what: self.client.get(shard_key(shard, what)) for what in ("lease", "turn", "failures")}
            entries: Any = self.client.xlen(shard_key(shard, "blocks"))
            if entries or any(known.values()):
                lines.append(f"shard {shard}: {entries} entries, {known}")
        for key in self.keys("rq:job:*"):
            told: Any = self.client.hgetall(key)
            lines.append(f"{key!r}: {told.get(b'status')!r}")
        return "\n".join([*lines, *map(repr, self.keys("rq:worker:*"))])

    def restart_empty(self) -> None:
        """Kill Redis and start it without its memory."""
        self.server.kill()
        shutil.rmtree(self.server.folder / "appendonlydir", ignore_errors=True)
        self.server.start()

    def close(self) -> None:
        """End all workers and the connection."""
        for process in self._processes:
            if process.poll() is None:
                process.terminate()
        for process in self._processes:
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.client.close()


@contextmanager
def fleet_of(server: RedisServer, folder: Path) -> Iterator[Fleet]:
    """Give a fleet and end it."""
    fleet = Fleet(server, folder)
    try:
        yield fleet
    finally:
        with suppress(redis.RedisError):
            sys.stderr.write(f"{fleet.describe()}\n")
        fleet.close()
        with suppress(FileNotFoundError):
            sys.stderr.write((folder / "workers.log").read_text(errors="replace")[-20_000:])  # pytest shows it when the test has failed
