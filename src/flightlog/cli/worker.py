"""`flightlog worker`: files journals."""

from __future__ import annotations

import logging
import math
import os
import sys
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from flightlog.cli import exits, output, places
from flightlog.cli.options import TrackingUri
from flightlog.producer import doorbell
from flightlog.schema.names import WORKER_LOG
from flightlog.schema.settings import Location, Settings
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
        str | None, typer.Option("--spool", metavar="[PATH]", help="The spool folder. Default: the one of the tracking URI.")
    ] = None,
    tracking_uri: TrackingUri = None,
    artifact_root: Annotated[
        str | None, typer.Option("--artifact-root", metavar="URI", help="Where artifacts of new runs are stored.")
    ] = None,
    idle: Annotated[
        float | None, typer.Option("--idle", metavar="SECONDS", min=0, help="Leave after so long without work. Default: stay.")
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Go on in the background; the log is worker.log in the spool.")] = False,
) -> None:
    """File what the journals of a spool hold, until stopped by SIGTERM or SIGINT; a second signal leaves at once and loses nothing."""
    location = places.find(tracking_uri, spool, artifact_root)
    if detach:
        _start(location, idle)
        return
    logging.basicConfig(format="%(asctime)s %(levelname)s %(process)d %(message)s", stream=sys.stderr)
    logging.getLogger("flightlog").setLevel(logging.INFO)
    if not run_spool_worker(location, idle, Settings.from_environ(os.environ).lost_after):
        _refuse(location)


def _start(location: Location, idle: float | None) -> None:
    if is_worker_running(location.spool):
        _refuse(location)
    doorbell.Spawned(location, math.inf if idle is None else idle).wait()
    output.print_line(f"a worker files {location.spool}; its log is {location.spool / WORKER_LOG}")


def _refuse(location: Location) -> None:
    typer.echo(f"flightlog: another worker files {location.spool} already; there is nothing to do", err=True)
    raise typer.Exit(exits.TAKEN)
