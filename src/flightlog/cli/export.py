"""`flightlog export`: runs, params, tags and metric histories as Parquet, CSV or JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import IO, Annotated, Any, Literal

import typer

from flightlog import columnar
from flightlog.cli import output, output_files, places, run_columns, searches, tables
from flightlog.cli.options import AsJson, Filter, FromStep, InExperiment, Keys, RunIds, Sample, ToStep, TrackingUri
from flightlog.cli.output import counted
from flightlog.cli.run_history import POINT_COLUMNS, point_rows
from flightlog.schema.entities import Run, ViewType
from flightlog.schema.errors import InvalidParameter
from flightlog.stores.base import Histories, Portion, RunReader

What = Literal["runs", "params", "tags", "metrics"]
EVERYTHING: tuple[What, ...] = ("runs", "params", "tags", "metrics")
STDOUT = "-"
ROWS_AT_ONCE = 10_000
PAIR_COLUMNS = ("run_id", "key", "value")
TIMES = ("start_time", "end_time")


@dataclass(frozen=True)
class Source:
    """What is exported: which runs of a store, and which points of them."""

    store: RunReader
    experiments: dict[str, str]
    filter_string: str
    run_ids: Sequence[str]
    keys: Sequence[str] | None
    portion: Portion

    def pages(self) -> Iterator[Sequence[Run]]:
        """Yield the runs, page by page, anew each time."""
        if self.run_ids:
            return iter([searches.find_runs(self.store, self.run_ids)])
        return searches.run_pages(self.store, list(self.experiments), self.filter_string)

    def histories(self) -> Iterator[Histories]:
        """Yield the histories of the runs in batches."""
        for page in self.pages():
            yield from self.store.metric_histories([run.info.run_id for run in page], self.keys, self.portion)


def export_command(
    target: Annotated[
        str, typer.Argument(metavar="PATH", help="A file, or a folder for one file of each kind; - is stdout, for CSV and JSON.")
    ],
    tracking_uri: TrackingUri = None,
    what: Annotated[What | None, typer.Option("--what", help="What goes into a file. Unset: all of it, into a folder.")] = None,
    form: Annotated[
        tables.Format | None,
        typer.Option("--format", help="Unset: as the file's name ends; Parquet in a folder, where pyarrow is installed, else CSV."),
    ] = None,
    experiment: InExperiment = None,
    filter_string: Filter = "",
    run_ids: RunIds = None,
    keys: Keys = None,
    from_step: FromStep = None,
    to_step: ToStep = None,
    sample: Sample = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write runs, params, tags or metric histories into a file, or all of them into a folder. Memory does not grow with their number.

    A file is complete or not there: it gets its name when all has been written.
    """
    if run_ids and (experiment or filter_string):
        raise InvalidParameter("give --run, or --experiment and --filter, and not both")
    with places.opened(places.find(tracking_uri)) as store:
        names = searches.experiment_names(store, experiment or [], ViewType.ALL if run_ids else ViewType.ACTIVE_ONLY)
        source = Source(store, names, filter_string, run_ids or [], keys or None, Portion(from_step, to_step, None, sample))
        if target == STDOUT:
            _print(source, what, form, as_json=as_json)
            return
        files = _files(Path(target), what, form)
        for _, path, _ in files:
            output_files.check_free(path, force=force)
        _report(_export(source, files, force=force), as_json=as_json)


def _print(source: Source, what: What | None, form: tables.Format | None, *, as_json: bool) -> None:
    if form == "parquet" or as_json:
        wrong = "--json tells of files" if as_json else "Parquet cannot be written to stdout"
        raise InvalidParameter(f"{wrong}; give the name of a file, or --format csv, json or jsonl")
    _write_text(source, _needed(what), output.data_stream(), form or "csv")


Target = tuple[What, Path, tables.Format]
"""What is written where, and how."""


@dataclass(frozen=True)
class Written:
    """A file that was written."""

    what: What
    path: str
    format: tables.Format
    rows: int


def _files(path: Path, what: What | None, form: tables.Format | None) -> list[Target]:
    if what is None and (path.is_dir() or path.suffix not in tables.SUFFIXES):
        chosen = form or _usual()
        return [(kind, path / f"{kind}.{chosen}", chosen) for kind in EVERYTHING]
    named = form or tables.SUFFIXES.get(path.suffix)
    if named is None:
        raise InvalidParameter(f"--format is missing: {path.name!r} ends in none of {', '.join(tables.SUFFIXES)}")
    return [(_needed(what), path, named)]


def _needed(what: What | None) -> What:
    if what is None:
        raise InvalidParameter(f"--what is missing: one of {', '.join(EVERYTHING)}")
    return what


def _usual() -> tables.Format:
    return "parquet" if columnar.has_arrow() else "csv"


def _export(source: Source, files: Sequence[Target], *, force: bool) -> list[Written]:
    """Write all files, and give them their names when all are complete."""
    with ExitStack() as stack:
        rooms = [(what, path, form, stack.enter_context(output_files.new_file(path, force=force))) for what, path, form in files]
        return [Written(what, str(path), form, _write(source, what, room, form)) for what, path, form, room in rooms]


def _write(source: Source, what: What, path: Path, form: tables.Format) -> int:
    """Write a file and return the number of its rows."""
    if form == "parquet":
        return _write_parquet(source, what, path)
    with path.open("w", encoding="utf-8", newline="") as file:
        return _write_text(source, what, file, form)


def _write_text(source: Source, what: What, file: IO[str], form: tables.Format) -> int:
    columns, batches = CONTENTS[what](source)
    writer = tables.TEXT_ROWS[form](file, columns)
    count = 0
    every = chain.from_iterable(batches)
    while rows := list(islice(every, ROWS_AT_ONCE)):
        writer.write(rows)
        count += len(rows)
    writer.end()
    return count


def _write_parquet(source: Source, what: What, path: Path) -> int:
    batches = (
        columnar.record_batches(source.histories(), columnar.Labels()) if what == "metrics" else _record_batches(*CONTENTS[what](source))
    )
    count = 0
    with tables.parquet_writer(path, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            count += batch.num_rows
    return count


def _record_batches(columns: Sequence[str], batches: Iterable[Iterable[tables.Row]]) -> Any:  # noqa: ANN401 - pyarrow has no types
    pa = columnar.arrow()
    schema = pa.schema([(name, _arrow_type(name)) for name in columns])
    found = (list(batch) for batch in batches)
    read = (
        pa.record_batch([pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), schema.types, strict=True)], schema=schema)
        for rows in found
        if rows
    )
    return pa.RecordBatchReader.from_batches(schema, read)


def _arrow_type(column: str) -> Any:  # noqa: ANN401 - pyarrow has no types
    pa = columnar.arrow()
    if column in TIMES:
        return pa.timestamp("ms", tz="UTC")
    return pa.float64() if column.startswith("metrics.") else pa.string()


Content = tuple[Sequence[str], Iterable[Iterable[tables.Row]]]
"""Columns, and rows in batches."""


def _runs(source: Source) -> Content:
    known = {name for page in source.pages() for run in page for name in run_columns.keys_of(run)}
    columns = run_columns.expand(run_columns.EVERYTHING, known)
    getters = [run_columns.getter(column, source.experiments) for column in columns]
    return columns, ([[get(run) for get in getters] for run in page] for page in source.pages())


def _pairs(kind: Literal["params", "tags"], source: Source) -> Content:
    return PAIR_COLUMNS, (
        [(run.info.run_id, key, value) for run in page for key, value in sorted(getattr(run.data, kind).items())] for page in source.pages()
    )


def _metrics(source: Source) -> Content:
    return POINT_COLUMNS, map(point_rows, source.histories())


CONTENTS: dict[What, Callable[[Source], Content]] = {
    "runs": _runs,
    "params": partial(_pairs, "params"),
    "tags": partial(_pairs, "tags"),
    "metrics": _metrics,
}


def _report(written: Sequence[Written], *, as_json: bool) -> None:
    if as_json:
        output.print_json({"files": [asdict(item) for item in written]})
        return
    for item in written:
        output.print_line(f"{counted(item.rows, 'row')} of {item.what} in {item.path}")
