"""Metrics for Prometheus, served over HTTP by a worker or shipper: counts as they happen, depths and lags when somebody asks.

Every name, what it means and which of them want an alarm: docs/operations.md.
"""

from __future__ import annotations

import logging
import os
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from socketserver import TCPServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from flightlog.schema.errors import InvalidParameter, QueueUnavailable
from flightlog.schema.ids import now_ms
from flightlog.stores.base import Applied
from flightlog.worker.observers import Observer, what_is_away
from flightlog.worker.status import lag_of, read_spool
from flightlog.worker.traffic import Traffic, read_traffic

log = logging.getLogger("flightlog.worker")

COMMIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
BATCH_EVENTS = (1, 10, 100, 1_000, 5_000, 10_000, 25_000, 50_000, 100_000)


class Instruments:
    """An observer that counts in a registry."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter("flightlog_events_filed", "Events that the store has committed.", registry=registry)
        self._batches = Counter("flightlog_batches", "Batches that the store has committed.", registry=registry)
        self._sizes = Histogram("flightlog_batch_events", "Events in a batch.", buckets=BATCH_EVENTS, registry=registry)
        self._seconds = Histogram("flightlog_commit_seconds", "Time to commit a batch.", buckets=COMMIT_SECONDS, registry=registry)
        self._letters = Counter("flightlog_dead_letters", "Events that could not be filed.", ["reason"], registry=registry)
        self._retries = Counter("flightlog_retries", "Attempts that found store or queue away.", ["of"], registry=registry)
        self._waited = Counter("flightlog_unavailable_seconds", "Time spent waiting for store or queue.", ["of"], registry=registry)
        self._shipped_events = Counter("flightlog_shipped_events", "Events sent to the queue.", registry=registry)
        self._shipped_bytes = Counter("flightlog_shipped_bytes", "Bytes sent to the queue.", registry=registry)
        self._resent = Counter("flightlog_resent_entries", "Entries sent again, the queue having lost them.", registry=registry)
        self._under_way = Gauge("flightlog_under_way_bytes", "Bytes in the queue that are not committed.", registry=registry)

    def filed(self, applied: Applied, seconds: float) -> None:
        """See `Observer.filed`."""
        self._events.inc(applied.events)
        self._batches.inc()
        self._sizes.observe(applied.events)
        self._seconds.observe(seconds)
        for letter in applied.letters:
            self._letters.labels(letter.reason).inc()

    def unavailable(self, error: Exception, seconds: float) -> None:
        """See `Observer.unavailable`."""
        self._retries.labels(what_is_away(error)).inc()
        self._waited.labels(what_is_away(error)).inc(seconds)

    def shipped(self, events: int, size: int) -> None:
        """See `Observer.shipped`."""
        self._shipped_events.inc(events)
        self._shipped_bytes.inc(size)

    def resent(self, entries: int) -> None:
        """See `Observer.resent`."""
        self._resent.inc(entries)

    def under_way(self, size: int) -> None:
        """See `Observer.under_way`."""
        self._under_way.set(size)


class QueueDepth(Collector):
    """Looks at a queue whenever it is asked. Where the queue is away, it says that and nothing else."""

    def __init__(self, queue_uri: str) -> None:
        self._queue_uri = queue_uri

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: registering must not ask the queue."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what is so now."""
        try:
            traffic = read_traffic(self._queue_uri)
        except QueueUnavailable as error:
            log.debug("%s", error)
            yield GaugeMetricFamily("flightlog_queue_up", "Whether the queue can be reached.", 0)
            return
        yield GaugeMetricFamily("flightlog_queue_up", "Whether the queue can be reached.", 1)
        yield from _by_shard(traffic)
        yield GaugeMetricFamily("flightlog_queue_oldest_seconds", "Age of the oldest entry; 0 without any.", traffic.oldest or 0.0)
        yield GaugeMetricFamily("flightlog_queue_workers", "Workers that RQ knows.", traffic.workers)
        yield GaugeMetricFamily("flightlog_queue_failed_jobs", "Jobs among RQ's failed ones.", traffic.failed_jobs)
        yield GaugeMetricFamily("flightlog_queue_unread_shards", "Shards with entries and without a reader.", len(traffic.unread))


def _by_shard(traffic: Traffic) -> Iterator[GaugeMetricFamily]:
    entries = GaugeMetricFamily("flightlog_queue_entries", "Entries that wait.", labels=["shard"])
    sizes = GaugeMetricFamily("flightlog_queue_bytes", "Bytes that they take in Redis.", labels=["shard"])
    for shard in traffic.shards:
        entries.add_metric([str(shard.number)], shard.entries)
        sizes.add_metric([str(shard.number)], shard.bytes)
    yield entries
    yield sizes


class SpoolLag(Collector):
    """Looks at this machine's spool whenever it is asked."""

    def __init__(self, spool: Path) -> None:
        self._spool = spool

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Return nothing: registering must not read the spool."""
        return []

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield what is so now."""
        lag = lag_of(read_spool(self._spool), now_ms())
        yield GaugeMetricFamily("flightlog_spool_lag_events", "Events in journals that the store does not have.", lag.events)
        yield GaugeMetricFamily("flightlog_spool_lag_seconds", "Age of the oldest of them; 0 without any.", lag.seconds)
        yield GaugeMetricFamily("flightlog_spool_bytes", "Bytes that the journals take.", lag.bytes)
        yield GaugeMetricFamily("flightlog_spool_dropped_events", "Events of these journals that found no room.", lag.dropped)


@contextmanager
def served(host: str, port: int, *collectors: Collector) -> Iterator[Observer]:
    """Serve metrics meanwhile, at any free port for port 0; give the observer that counts.

    Raises `InvalidParameter` for a place that is taken or not of this machine.
    """
    registry = CollectorRegistry()
    instruments = Instruments(registry)
    ProcessCollector(registry=registry)
    for collector in collectors:
        registry.register(collector)
    try:
        server, thread = start_http_server(port, host, registry)
    except (OSError, OverflowError) as error:
        message = f"metrics cannot be served at {host}:{port}: {error}; choose another --metrics-port or --metrics-host"
        raise InvalidParameter(message) from error
    _close_in_children(server)
    log.info("metrics are served at http://%s:%d/metrics", host, server.server_port)
    try:
        yield instruments
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _close_in_children(server: TCPServer) -> None:
    """Have no forked child, such as RQ's scheduler, keep the port when this process is gone."""
    known = weakref.ref(server)

    def close() -> None:
        inherited = known()
        if inherited is not None:
            inherited.socket.close()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=close)
