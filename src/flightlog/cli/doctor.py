"""`flightlog doctor`: is everything in order, and if not, what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import typer

from flightlog.cli import exits, output, places
from flightlog.cli.checks import Finding, check_journals, check_place
from flightlog.cli.options import AsJson, TrackingUri
from flightlog.cli.output import Column
from flightlog.cli.status import survey
from flightlog.cli.versions import Origin, origins, versions
from flightlog.schema.errors import FlightlogException, NotFound
from flightlog.schema.settings import Location, shown

SETTING_COLUMNS = (Column("setting"), Column("value", folds=True), Column("from"))


def doctor(tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """Tell versions, settings and places, what can be reached and written, and journals that are stuck; with each problem what to do.

    Changes nothing. Exits with 5 when there are problems.
    """
    location = places.find(tracking_uri)
    findings = [*check_place(location), *_under_way(location)]
    if as_json:
        output.print_json(_document(location, origins(tracking_uri=tracking_uri), findings))
    else:
        _print(location, origins(tracking_uri=tracking_uri), findings)
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(exits.PROBLEMS)


def _under_way(location: Location) -> Iterator[Finding]:
    try:
        overview = survey(location, 1)
    except NotFound:
        yield Finding("note", "journals", "nothing has been logged here yet")
    except (FlightlogException, OSError) as error:
        yield Finding("problem", "journals", f"they cannot be looked at: {error}", "see what is said about the spool and the database")
    else:
        yield from check_journals(overview, 0 if overview.error else _pending(location))


def _pending(location: Location) -> int:
    try:
        with places.opened(location) as store:
            return len(store.pending_artifacts())
    except NotFound:
        return 0


def _places(location: Location) -> dict[str, str]:
    return {
        "tracking_uri": shown(location.tracking_uri),
        "database": shown(location.database_url),
        "spool": str(location.spool),
        "artifact_root": shown(location.artifact_root),
    }


def _document(location: Location, settings: Sequence[Origin], findings: Sequence[Finding]) -> dict[str, Any]:
    return {
        "versions": versions(),
        "platform": sys.platform,
        "executable": sys.executable,
        "settings": {item.name: {"value": item.value, "source": item.source} for item in settings},
        "places": _places(location),
        "findings": [asdict(finding) for finding in findings],
        "problems": sum(finding.level == "problem" for finding in findings),
    }


def _print(location: Location, settings: Sequence[Origin], findings: Sequence[Finding]) -> None:
    output.print_facts([(name, found or "missing") for name, found in versions().items()], "Versions")
    output.print_line("")
    output.print_facts(_places(location).items(), "Places")
    output.print_line("")
    output.print_table(SETTING_COLUMNS, [(item.name, _shown(item.value), item.source) for item in settings], "Settings")
    output.print_line("")
    for finding in findings:
        _print_finding(finding)


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_finding(finding: Finding) -> None:
    """Print a line and not a table's row, so that an advised command can be copied from any terminal."""
    output.print_line(f"{finding.level:<8} {finding.about:<10} {finding.message}")
    if finding.advice:
        output.print_line(f"{'':<19} -> {finding.advice}")
