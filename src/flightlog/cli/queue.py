"""The queue as `flightlog status` tells of it."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flightlog.cli import output
from flightlog.cli.output import Column
from flightlog.schema.errors import QueueUnavailable
from flightlog.schema.settings import Location, without_password

if TYPE_CHECKING:
    from flightlog.worker.presence import Process
    from flightlog.worker.traffic import Shard, Traffic

MEASURES = ("events/s", "batches/s", "commit p50", "p99", "events", "under way", "lag", "oldest", "said")
COLUMNS = (Column("process"), *(Column(heading, right=True) for heading in MEASURES))
NUMBERS = {
    "events": "events",
    "batches": "batches",
    "events_per_second": "events_per_second",
    "batches_per_second": "batches_per_second",
    "commit_p50": "p50",
    "commit_p99": "p99",
    "shipped_events": "shipped_events",
    "shipped_bytes": "shipped_bytes",
    "resent_entries": "resent",
    "under_way_bytes": "under_way_bytes",
    "lag_events": "lag_events",
    "lag_seconds": "lag_seconds",
    "spool_bytes": "spool_bytes",
    "unavailable_seconds": "unavailable_seconds",
}
"""Key in the document -> what a process calls it."""


@dataclass(frozen=True)
class QueueView:
    """What could be seen of a queue: `error` says why nothing could. `spool` is this machine's."""

    uri: str
    spool: Path
    traffic: Traffic | None
    error: str | None = None

    @property
    def processes(self) -> Sequence[Process]:
        """Those that have reported of late."""
        return self.traffic.processes if self.traffic else ()

    @property
    def own_shipper(self) -> Process | None:
        """What the shipper of this machine's spool has reported."""
        mine = (item for item in self.processes if item.kind == "shipper" and item.host == platform.node())
        return next((item for item in mine if item.facts.get("spool") == str(self.spool)), None)

    def summed(self, kind: str, name: str, by: Callable[[list[float]], float] = sum) -> float:
        """Return the sum, or what `by` makes, of a number that all processes of a kind report."""
        return by([number(item.facts, name) or 0.0 for item in self.processes if item.kind == kind] or [0.0])


def look(location: Location) -> QueueView | None:
    """Return what can be seen of a place's queue, None where it has none."""
    if location.queue_uri is None:
        return None
    from flightlog.worker.traffic import read_traffic  # noqa: PLC0415 - RQ takes long to import, and few places have a queue

    uri = without_password(location.queue_uri)
    try:
        return QueueView(uri, location.spool, read_traffic(location.queue_uri))
    except QueueUnavailable as error:
        return QueueView(uri, location.spool, None, error.message)


def number(facts: Mapping[str, Any], name: str) -> float | None:
    """Return a number that a process reports, None where it reports none: it may be of another version."""
    found = facts.get(name)
    return found if isinstance(found, (int, float)) and not isinstance(found, bool) else None


def document(view: QueueView | None) -> dict[str, Any] | None:
    """Return what `flightlog status --json` says of the queue."""
    if view is None:
        return None
    return {"uri": view.uri, "error": view.error, **(_traffic(view.traffic, view) if view.traffic else {})}


def _traffic(traffic: Traffic, view: QueueView) -> dict[str, Any]:
    own = view.own_shipper
    return {
        "entries": traffic.entries,
        "bytes": traffic.bytes,
        "oldest_seconds": traffic.oldest,
        "workers": traffic.workers,
        "queued_jobs": traffic.queued_jobs,
        "failed_jobs": traffic.failed_jobs,
        "unread_shards": traffic.unread,
        "events_per_second": view.summed("worker", "events_per_second"),
        "batches_per_second": view.summed("worker", "batches_per_second"),
        "commit_p50": view.summed("worker", "p50", max),
        "commit_p99": view.summed("worker", "p99", max),
        "lag_events": view.summed("shipper", "lag_events"),
        "lag_seconds": view.summed("shipper", "lag_seconds", max),
        "under_way_bytes": None if own is None else number(own.facts, "under_way_bytes"),
        "shards": [_shard(shard) for shard in traffic.shards],
        "processes": [_process(process) for process in traffic.processes],
    }


def _shard(shard: Shard) -> dict[str, Any]:
    return {
        "shard": shard.number,
        "entries": shard.entries,
        "bytes": shard.bytes,
        "oldest_seconds": shard.oldest,
        "is_read": shard.is_read,
    }


def _process(process: Process) -> dict[str, Any]:
    numbers = {key: number(process.facts, name) for key, name in NUMBERS.items()}
    return {
        "kind": process.kind,
        "host": process.host,
        "pid": process.pid,
        "age_seconds": process.age,
        **{key: value for key, value in numbers.items() if value is not None},
    }


def show(view: QueueView) -> None:
    """Print the queue for people."""
    if view.traffic is None:
        output.print_line(f"queue {view.uri}: away")
        return
    output.print_line(f"queue {view.uri}: {_waiting(view.traffic)}; {_hands(view.traffic)}")
    if view.traffic.unread:
        output.print_line(f"shards that wait for a worker: {', '.join(map(str, view.traffic.unread))}")
    behind = output.cell(round(view.summed("shipper", "lag_events")))
    oldest = output.span(view.summed("shipper", "lag_seconds", max))
    rate = f"{view.summed('worker', 'events_per_second'):,.0f}"
    output.print_line(f"all machines: {behind} events behind, the oldest for {oldest}; {rate} events/s are filed")
    if view.processes:
        output.print_table(COLUMNS, [_row(process) for process in view.processes])


def _waiting(traffic: Traffic) -> str:
    if not traffic.entries:
        return "empty"
    return f"{_counted(traffic.entries, 'entry', 'entries')}, {output.size(traffic.bytes)}, the oldest for {output.span(traffic.oldest)}"


def _hands(traffic: Traffic) -> str:
    return f"{output.counted(traffic.workers, 'worker')}, {output.counted(traffic.failed_jobs, 'failed job')}"


def _counted(count: int, noun: str, nouns: str) -> str:
    return f"{count:,} {noun if count == 1 else nouns}"


def _row(process: Process) -> tuple[object, ...]:
    facts = process.facts
    is_worker = process.kind == "worker"
    events = number(facts, "events" if is_worker else "shipped_events")
    return (
        f"{process.kind} {process.host}:{process.pid}",
        _rounded(facts, "events_per_second") if is_worker else None,
        number(facts, "batches_per_second") if is_worker else None,
        _milliseconds(number(facts, "p50")),
        _milliseconds(number(facts, "p99")),
        events,
        None if is_worker else output.size(number(facts, "under_way_bytes") or 0),
        _rounded(facts, "lag_events"),
        None if is_worker else output.span(number(facts, "lag_seconds")),
        f"{output.span(max(process.age, 0.0))} ago",
    )


def _rounded(facts: Mapping[str, Any], name: str) -> int | None:
    found = number(facts, name)
    return None if found is None else round(found)


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{1000 * seconds:.1f} ms"
