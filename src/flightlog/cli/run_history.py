"""`flightlog runs history`: how metrics went, as a plot, a table, JSON or CSV."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Annotated, Any, Literal

import typer

from flightlog import columnar
from flightlog.cli import output, places, plots, searches
from flightlog.cli.options import AsJson, FromStep, Keys, Sample, ToStep, TrackingUri
from flightlog.cli.output import Column, counted
from flightlog.cli.run_compare import short_ids
from flightlog.cli.tables import CsvRows
from flightlog.schema.entities import Run
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.stores.base import Envelope, Histories, Portion, RunReader

SOME = 20
ROWS_AT_ONCE = 10_000
POINT_COLUMNS = ("run_id", "key", "step", "timestamp", "value")
COLUMNS = (
    Column("run"),
    *(Column(heading, right=True) for heading in ("from step", "to step", "points", "first", "min", "max", "last")),
)

Form = Literal["plot", "table", "json", "csv"]


def show_history(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_ID...", help="The ids of runs, or their first digits.")],
    keys: Keys = None,
    tracking_uri: TrackingUri = None,
    from_step: FromStep = None,
    to_step: ToStep = None,
    attempt: Annotated[int | None, typer.Option("--attempt", metavar="N", min=0, help="Only points of this attempt.")] = None,
    form: Annotated[Form, typer.Option("--output", help="A plot, a table of buckets, or all points as JSON or CSV.")] = "plot",
    buckets: Annotated[
        int | None, typer.Option("--buckets", metavar="N", min=1, max=100_000, help="So many rows of a table at most.")
    ] = None,
    sample: Sample = None,
    as_json: AsJson = False,
) -> None:
    """Show how metrics went, the runs in one plot for each metric. However long a history, its least and greatest values are in it."""
    form = "json" if as_json else form
    portion = Portion(from_step, to_step, attempt, sample)
    with places.opened(places.find(tracking_uri)) as store:
        runs = searches.find_runs(store, run_ids)
        if form in ("json", "csv"):
            _write_points(form, store, runs, keys, portion)
            return
        for key in _wanted(runs, keys):
            found = _envelopes(store, runs, key, portion, buckets or (plots.room() * plots.DOTS if form == "plot" else SOME))
            _print(form, key, found)


def _wanted(runs: Sequence[Run], keys: Sequence[str] | None) -> Sequence[str]:
    """Return the metrics asked for, or the only one that there is. Raises `NotFound` where there is none, `InvalidParameter`."""
    known = sorted({key for run in runs for key in run.data.metric_summaries})
    if not keys and not known:
        raise NotFound(f"no metrics were logged to {', '.join(run.info.run_id for run in runs)}")
    if not keys and len(known) > 1:
        more = f", and {len(known) - SOME:,} more" if len(known) > SOME else ""
        raise InvalidParameter(f"--key is missing; the metrics are {', '.join(known[:SOME])}{more}")
    return keys or known


def _envelopes(store: RunReader, runs: Sequence[Run], key: str, portion: Portion, buckets: int) -> list[plots.Line]:
    """Return the envelope of each run that has the metric. Raises `NotFound` when none has."""
    names = zip(runs, short_ids([run.info.run_id for run in runs]), strict=True)
    found = [plots.Line(f"{digits} {run.info.run_name}", _envelope(store, run.info.run_id, key, portion, buckets)) for run, digits in names]
    if not any(len(line.envelope.start) for line in found):
        raise NotFound(f"there are no points of the metric {key!r}")
    return found


def _envelope(store: RunReader, run_id: str, key: str, portion: Portion, buckets: int) -> Envelope:
    return store.envelope(run_id, key, buckets, portion.start_step, portion.end_step, portion.attempt)


def _print(form: Form, key: str, lines: Sequence[plots.Line]) -> None:
    if form == "table":
        rows = [(line.label.split()[0], *row) for line in lines for row in _rows(line.envelope)]
        output.print_table(COLUMNS, rows, output.visible(key))
        return
    drawable = [line for line in lines if plots.is_drawable(line.envelope)]
    if drawable:
        sys.stdout.write(plots.plot(key, drawable, plots.room()) + "\n")
    for line in lines:
        if line not in drawable:
            output.print_line(f"{line.label}: {_why(line.envelope, key)}")


def _why(envelope: Envelope, key: str) -> str:
    points = int(envelope.count.sum())
    return f"{counted(points, 'point')} of {key}, none of them finite" if points else f"no points of {key}"


def _rows(envelope: Envelope) -> Iterator[tuple[Any, ...]]:
    columns = (envelope.start, envelope.end, envelope.count, envelope.first, envelope.min, envelope.max, envelope.last)
    return zip(*(column.tolist() for column in columns), strict=True)


def _write_points(form: Form, store: RunReader, runs: Sequence[Run], keys: Sequence[str] | None, portion: Portion) -> None:
    batches = store.metric_histories([run.info.run_id for run in runs], keys, portion)
    if form == "csv":
        rows = CsvRows(output.data_stream(), POINT_COLUMNS)
        for batch in batches:
            rows.write(point_rows(batch))
        return
    found = [
        {"run_id": run_id, "key": key, "step": part.step.tolist(), "timestamp": part.timestamp.tolist(), "value": part.value.tolist()}
        for run_id, parts in columnar.arrays(batches).items()
        for key, part in parts.items()
    ]
    output.print_json({"histories": found})


def point_rows(batch: Histories) -> Iterator[tuple[str, str, int, int, float]]:
    """Yield the points of histories as rows of `POINT_COLUMNS`; times are ms since the epoch, UTC."""
    for run_id, key, part in batch:
        for start in range(0, len(part), ROWS_AT_ONCE):
            some = slice(start, start + ROWS_AT_ONCE)
            columns = (part.step[some].tolist(), part.timestamp[some].tolist(), part.value[some].tolist())
            yield from zip(repeat(run_id), repeat(key), *columns)
