"""`flightlog worker` files journals and what comes through a queue; `flightlog ship` sends journals there."""

from __future__ import annotations

import math
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flightlog.cli import exits, logs, output, places
from flightlog.cli.options import TrackingUri
from flightlog.producer import doorbell
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.names import WORKER_LOG
from flightlog.schema.settings import Location, LogFormat, LogLevel, Settings
from flightlog.schema.variables import MAX_PORT
from flightlog.worker.observers import SILENT, Observer
from flightlog.worker.shipper import run_shipper
from flightlog.worker.spool import run_spool_worker
from flightlog.worker.status import is_worker_running

MetricsPort = Annotated[
    int | None,
    typer.Option(
        "--metrics-port",
        metavar="PORT",
        min=0,
        max=MAX_PORT,
        help="Serve metrics for Prometheus at this port; 0 for any. Unset: FLIGHTLOG_METRICS_PORT.",
    ),
]
MetricsHost = Annotated[
    str | None,
    typer.Option("--metrics-host", metavar="ADDRESS", help="Where to listen. Unset: FLIGHTLOG_METRICS_HOST, else 127.0.0.1."),
]
Format = Annotated[LogFormat | None, typer.Option("--log-format", help="How to log. Unset: FLIGHTLOG_LOG_FORMAT, else text.")]
Level = Annotated[LogLevel | None, typer.Option("--log-level", help="What to log. Unset: FLIGHTLOG_LOG_LEVEL, else info.")]


class WorkerCommand(TyperCommand):
    """A command whose `--spool` may stand without a path."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - click's context, which typer brings itself or not
        """Put an empty path after a bare `--spool`."""
        given: list[str] = []
        for position, argument in enumerate(args):
            given.append(argument)
            if argument == "--spool" and (position + 1 == len(args) or args[position + 1].startswith("-")):
                given.append("")
        return super().parse_args(ctx, given)


def worker(
    spool: Annotated[
        str | None,
        typer.Option("--spool", metavar="[PATH]", help="File the journals of a spool folder. Default: the one of the tracking URI."),
    ] = None,
    queue: Annotated[
        str | None,
        typer.Option("--queue", metavar="URI", help="File what comes through a queue. Unset, without --spool: FLIGHTLOG_QUEUE_URI."),
    ] = None,
    tracking_uri: TrackingUri = None,
    artifact_root: Annotated[
        str | None, typer.Option("--artifact-root", metavar="URI", help="Where artifacts of new runs are stored.")
    ] = None,
    idle: Annotated[
        float | None, typer.Option("--idle", metavar="SECONDS", min=0, help="Leave after so long without work. Default: stay.")
    ] = None,
    burst: Annotated[bool, typer.Option("--burst", help="With a queue: leave when it is empty.")] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background; the log is worker.log in the spool.")] = False,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    log_format: Format = None,
    log_level: Level = None,
) -> None:
    """File what comes through a queue, or what the journals of a spool hold, until stopped by SIGTERM or SIGINT.

    A second signal leaves at once and loses nothing. Any number of workers may read one queue, on any number of machines.
    """
    location = places.find(tracking_uri, spool, artifact_root, queue)
    place = _metrics_place(metrics_port, metrics_host)
    if location.queue_uri is not None and spool is None:
        with _operating(place, log_format, log_level, queue_uri=location.queue_uri) as observer:
            _read_queue(location, burst, observer)
        return
    if detach:
        if metrics_port is not None:
            raise InvalidParameter("a detached worker serves no metrics; leave out --metrics-port, or run it without --detach")
        _start(location, idle)
        return
    with _operating(place, log_format, log_level, spool=location.spool) as observer:
        done = run_spool_worker(replace(location, queue_uri=None), idle, Settings.from_environ(os.environ).lost_after, observer)
    if not done:
        _refuse(location)


def ship(
    spool: Annotated[
        str | None, typer.Option("--spool", metavar="PATH", help="The spool folder. Default: the one that belongs to the queue.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", metavar="URI", help="Where to. Unset: FLIGHTLOG_QUEUE_URI.")] = None,
    idle: Annotated[
        float | None, typer.Option("--idle", metavar="SECONDS", min=0, help="Leave after so long without work. Default: stay.")
    ] = None,
    metrics_port: MetricsPort = None,
    metrics_host: MetricsHost = None,
    log_format: Format = None,
    log_level: Level = None,
) -> None:
    """Send the journals of this machine's spool to a queue until stopped, and free them when the store has committed them.

    A run starts one by itself, unless FLIGHTLOG_START_WORKER is false.
    """
    location = places.find(None, spool, None, queue)
    if location.queue_uri is None:
        raise InvalidParameter("there is no queue to ship to; give --queue or set FLIGHTLOG_QUEUE_URI, such as redis://localhost:6379/0")
    place = _metrics_place(metrics_port, metrics_host)
    with _operating(place, log_format, log_level, queue_uri=location.queue_uri, spool=location.spool) as observer:
        done = run_shipper(location, idle, observer)
    if not done:
        _refuse(location)


MetricsPlace = tuple[str, int] | None


def _metrics_place(port: int | None, host: str | None) -> MetricsPlace:
    """Return where to serve metrics, None for nowhere."""
    settings = Settings.from_environ(os.environ)
    chosen = settings.metrics_port if port is None else port
    return None if chosen is None else (host or settings.metrics_host, chosen)


@contextmanager
def _operating(
    place: MetricsPlace,
    log_format: LogFormat | None,
    log_level: LogLevel | None,
    *,
    queue_uri: str | None = None,
    spool: Path | None = None,
) -> Iterator[Observer]:
    """Log, serve metrics of what is given, and heed SIGTERM; give the observer of what is done."""
    settings = Settings.from_environ(os.environ)
    logs.log_to_stderr(log_format or settings.log_format, log_level or settings.log_level)
    _heed_sigterm()
    if place is None:
        yield SILENT
        return
    from flightlog.worker import metrics  # noqa: PLC0415 - prometheus-client and RQ take a while to import, and few need them here

    collectors = [metrics.QueueDepth(queue_uri)] if queue_uri else []
    with metrics.served(*place, *collectors, *([metrics.SpoolLag(spool)] if spool else [])) as observer:
        yield observer


def _heed_sigterm() -> None:
    """Leave on SIGTERM until whoever works sees to it: it does not end the first process of a container that has no handler."""

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, leave)


def _read_queue(location: Location, burst: bool, observer: Observer) -> None:
    from flightlog.worker.queue import run_queue_worker  # noqa: PLC0415 - RQ takes long to import, and no other command needs it

    run_queue_worker(location, burst=burst, observer=observer)


def _start(location: Location, idle: float | None) -> None:
    if is_worker_running(location.spool):
        _refuse(location)
    doorbell.Spawned(replace(location, queue_uri=None), math.inf if idle is None else idle).wait()
    output.print_line(f"a worker files {location.spool}; its log is {location.spool / WORKER_LOG}")


def _refuse(location: Location) -> None:
    typer.echo(f"flightlog: another worker is at {location.spool} already; there is nothing to do", err=True)
    raise typer.Exit(exits.TAKEN)
