"""`flightlog worker` files journals and what comes through a queue; `flightlog ship` sends journals there."""

from __future__ import annotations

import logging
import math
import os
import sys
from dataclasses import replace
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flightlog.cli import exits, output, places
from flightlog.cli.options import TrackingUri
from flightlog.producer import doorbell
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.names import WORKER_LOG
from flightlog.schema.settings import Location, Settings
from flightlog.worker.shipper import run_shipper
from flightlog.worker.spool import run_spool_worker
from flightlog.worker.status import is_worker_running


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
) -> None:
    """File what comes through a queue, or what the journals of a spool hold, until stopped by SIGTERM or SIGINT.

    A second signal leaves at once and loses nothing. Any number of workers may read one queue, on any number of machines.
    """
    location = places.find(tracking_uri, spool, artifact_root, queue)
    if location.queue_uri is not None and spool is None:
        _read_queue(location, burst)
        return
    if detach:
        _start(location, idle)
        return
    _log_to_stderr()
    if not run_spool_worker(replace(location, queue_uri=None), idle, Settings.from_environ(os.environ).lost_after):
        _refuse(location)


def ship(
    spool: Annotated[
        str | None, typer.Option("--spool", metavar="PATH", help="The spool folder. Default: the one that belongs to the queue.")
    ] = None,
    queue: Annotated[str | None, typer.Option("--queue", metavar="URI", help="Where to. Unset: FLIGHTLOG_QUEUE_URI.")] = None,
    idle: Annotated[
        float | None, typer.Option("--idle", metavar="SECONDS", min=0, help="Leave after so long without work. Default: stay.")
    ] = None,
) -> None:
    """Send the journals of this machine's spool to a queue until stopped, and free them when the store has committed them.

    A run starts one by itself, unless FLIGHTLOG_START_WORKER is false.
    """
    location = places.find(None, spool, None, queue)
    if location.queue_uri is None:
        raise InvalidParameter("there is no queue to ship to; give --queue or set FLIGHTLOG_QUEUE_URI, such as redis://localhost:6379/0")
    _log_to_stderr()
    if not run_shipper(location, idle):
        _refuse(location)


def _read_queue(location: Location, burst: bool) -> None:
    from flightlog.worker.queue import run_queue_worker  # noqa: PLC0415 - RQ takes long to import, and no other command needs it

    _log_to_stderr()
    run_queue_worker(location, burst=burst)


def _log_to_stderr() -> None:
    logging.basicConfig(format="%(asctime)s %(levelname)s %(process)d %(message)s", stream=sys.stderr)
    logging.getLogger("flightlog").setLevel(logging.INFO)


def _start(location: Location, idle: float | None) -> None:
    if is_worker_running(location.spool):
        _refuse(location)
    doorbell.Spawned(replace(location, queue_uri=None), math.inf if idle is None else idle).wait()
    output.print_line(f"a worker files {location.spool}; its log is {location.spool / WORKER_LOG}")


def _refuse(location: Location) -> None:
    typer.echo(f"flightlog: another worker is at {location.spool} already; there is nothing to do", err=True)
    raise typer.Exit(exits.TAKEN)
