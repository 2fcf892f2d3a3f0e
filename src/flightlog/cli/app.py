"""The commands, put together."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from flightlog.cli import artifacts, dead_letters, exits, imports, output, run_compare, run_history, run_search, runs
from flightlog.cli.archive import archive
from flightlog.cli.doctor import doctor
from flightlog.cli.export import export_command
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
runs.app.command("search", epilog=exits.SENTENCE)(run_search.search_runs)
runs.app.command("compare", epilog=exits.SENTENCE)(run_compare.compare_runs)
runs.app.command("history", epilog=exits.SENTENCE)(run_history.show_history)
app.add_typer(runs.app, name="runs")
app.add_typer(artifacts.app, name="artifacts")
app.command("export", epilog=exits.SENTENCE)(export_command)
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
    stdout = sys.stdout
    output.lose_no_letter()
    with output.reader_of(stdout) as has_left:
        code = _run(arguments)
        error = output.end(stdout)
        # the libraries that read arguments and print tables end with 1 then
        if isinstance(error, BrokenPipeError) or (code == exits.UNEXPECTED and has_left()):
            return exits.READER_LEFT
    return code or (exits.FINE if error is None else _fail(error))


def _run(arguments: Sequence[str]) -> int:
    try:
        app(args=list(arguments), prog_name="flightlog")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else exits.UNEXPECTED
    except (FlightlogException, OSError) as error:
        return _fail(error)
    return exits.FINE


def _fail(error: FlightlogException | OSError) -> int:
    print(f"flightlog: {error}", file=sys.stderr)  # noqa: T201 - this is what a command line does
    return exits.code_of(error)
