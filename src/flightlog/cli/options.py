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
InExperiment = Annotated[
    list[str] | None, typer.Option("--experiment", metavar="NAME", help="Only runs of this experiment, by name or id; repeatable.")
]
Filter = Annotated[str, typer.Option("--filter", metavar="TEXT", help="Only runs that match, such as: metrics.loss < 0.1")]
OrderBy = Annotated[
    list[str] | None, typer.Option("--order-by", metavar="KEY", help="Such as: metrics.loss ASC; repeatable. Default: newest first.")
]
Keys = Annotated[list[str] | None, typer.Option("--key", metavar="KEY", help="Only this metric; repeatable.")]
FromStep = Annotated[int | None, typer.Option("--from-step", metavar="N", help="Only points from this step on.")]
ToStep = Annotated[int | None, typer.Option("--to-step", metavar="N", help="Only points up to this step.")]
Sample = Annotated[
    int | None,
    typer.Option("--sample", metavar="N", min=4, help="At most so many points of each run and metric; first, last and extremes stay."),
]
