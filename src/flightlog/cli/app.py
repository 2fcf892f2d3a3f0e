"""The commands, put together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flightlog.cli import artifacts, dead_letters, exits, imports, runs
from flightlog.cli.archive import archive
from flightlog.cli.doctor import doctor
from flightlog.cli.gc import gc
from flightlog.cli.rebuild import rebuild
from flightlog.cli.replay import replay_command
from flightlog.cli.status import status
from flightlog.cli.sync import sync
from flightlog.cli.verify import verify_command
from flightlog.cli.versions import flightlog_version
from flightlog.cli.worker import WorkerCommand, ship, worker
from flightlog.schema.errors import FlightlogException

app = typer.Typer(
    help="Look at runs and journals, and file them.",
    epilog=exits.SENTENCE,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(cls=WorkerCommand, epilog=exits.SENTENCE)(worker)
app.command(epilog=exits.SENTENCE)(ship)
app.command(epilog=exits.SENTENCE)(status)
app.add_typer(runs.app, name="runs")
app.add_typer(artifacts.app, name="artifacts")
app.command(epilog=exits.SENTENCE)(doctor)
app.command(epilog=exits.SENTENCE)(sync)
app.add_typer(imports.app, name="import")
app.command("replay", epilog=exits.SENTENCE)(replay_command)
app.command("verify", epilog=exits.SENTENCE)(verify_command)
app.command(epilog=exits.SENTENCE)(archive)
app.command(epilog=exits.SENTENCE)(rebuild)
app.command(epilog=exits.SENTENCE)(gc)
app.add_typer(dead_letters.app, name="dead-letters")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"flightlog {flightlog_version()}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    del version  # its callback has done all there is to do


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code. What goes wrong is one line on stderr, unless nobody expected it."""
    try:
        app(args=list(arguments), prog_name="flightlog")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.UNEXPECTED
    except (FlightlogException, OSError) as error:
        print(f"flightlog: {error}", file=sys.stderr)  # noqa: T201 - this is what a command line does
        return exits.code_of(error)
    return exits.FINE
