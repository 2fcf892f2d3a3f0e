"""`flightlog doctor`: is everything in order, and if not, what to do."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import typer

from flightlog.cli import exits, output, places
from flightlog.cli.checks import Finding, check_journals, check_place
from flightlog.cli.options import AsJson, TrackingUri
from flightlog.cli.output import Column
from flightlog.cli.status import survey
from flightlog.cli.versions import Origin, origins, versions
from flightlog.schema.errors import FlightlogException, NotFound
from flightlog.schema.settings import Location, without_password

SETTING_COLUMNS = (Column("setting"), Column("value", folds=True), Column("from"))


def doctor(tracking_uri: TrackingUri = None, as_json: AsJson = False) -> None:
    """Tell versions, settings and places, what can be reached and written, and journals that are stuck; with each problem what to do.

    Changes nothing. Exits with 5 when there are problems.
    """
    examination = examine(tracking_uri)
    if as_json:
        output.print_json(_document(examination))
    else:
        print_report(examination)
    if any(finding.level == "problem" for finding in examination.findings):
        raise typer.Exit(exits.PROBLEMS)


@dataclass(frozen=True)
class Examination:
    """A place, the settings with where each came from, and what was found."""

    location: Location
    settings: list[Origin]
    findings: list[Finding]


def examine(tracking_uri: str | None) -> Examination:
    """Look at everything, and change nothing."""
    location = places.find(tracking_uri)
    return Examination(location, origins(tracking_uri=tracking_uri), [*check_place(location), *_under_way(location)])


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
        "tracking_uri": without_password(location.tracking_uri),
        "database": without_password(location.database_url),
        "spool": str(location.spool),
        "artifact_root": without_password(location.artifact_root),
        **({"queue": without_password(location.queue_uri)} if location.queue_uri else {}),
    }


def _document(examination: Examination) -> dict[str, Any]:
    location, settings, findings = examination.location, examination.settings, examination.findings
    return {
        "versions": versions(),
        "platform": sys.platform,
        "executable": sys.executable,
        "settings": {item.name: {"value": item.value, "source": item.source} for item in settings},
        "places": _places(location),
        "findings": [asdict(finding) for finding in findings],
        "problems": sum(finding.level == "problem" for finding in findings),
    }


def print_report(examination: Examination, *, masks: bool = False) -> None:
    """Print what was found for people; with `masks`, no value that the environment gave."""
    output.print_facts([(name, found or "missing") for name, found in versions().items()], "Versions")
    output.print_line("")
    output.print_facts(_places(examination.location).items(), "Places")
    output.print_line("")
    output.print_table(SETTING_COLUMNS, [_setting_row(item, masks) for item in examination.settings], "Settings")
    output.print_line("")
    for finding in examination.findings:
        _print_finding(finding)


def _setting_row(item: Origin, masks: bool) -> tuple[str, str, str]:
    is_masked = masks and item.source.startswith(("FLIGHTLOG_", "MLFLOW_"))
    return item.name, "***" if is_masked else _shown(item.value), item.source


def _shown(value: object) -> str:
    if value is None:
        return "unset"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _print_finding(finding: Finding) -> None:
    """Print a line and not a table's row, so that an advised command can be copied from any terminal."""
    output.print_line(f"{finding.level:<8} {finding.about:<10} {finding.message}")
    if finding.advice:
        output.print_line(f"{'':<19} -> {finding.advice}")
