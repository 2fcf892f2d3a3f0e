"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

TrackingUri = Annotated[
    str | None,
    typer.Option("--tracking-uri", metavar="URI", help="Flight folder or database URL. Unset: FLIGHTLOG_TRACKING_URI, else ./flightlogs."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document, for programs.")]
RunIds = Annotated[list[str] | None, typer.Option("--run", metavar="ID", help="Only this run; repeatable.")]
Place = Annotated[
    str | None,
    typer.Argument(
        metavar="[URI]", help="Flight folder or database URL. Unset: FLIGHTLOG_TRACKING_URI, else ./flightlogs.", show_default=False
    ),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
