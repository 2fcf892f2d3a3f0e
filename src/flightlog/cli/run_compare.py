"""`flightlog runs compare`: what differs between runs, side by side."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import typer

from flightlog.cli import output, places, run_columns, searches
from flightlog.cli.options import AsJson, TrackingUri
from flightlog.cli.output import Column
from flightlog.schema.entities import Run
from flightlog.schema.errors import InvalidParameter

FEWEST_DIGITS = 8
"""A run is called by so many digits of its id, or by as many as tell it from the others."""
LOWER_WORDS = frozenset("loss error err mae mse rmse mape perplexity ppl nll time seconds latency duration wer cer fid".split())
HIGHER_WORDS = frozenset("accuracy acc auc roc f1 precision recall score r2 map bleu rouge iou dice reward psnr ssim throughput".split())
BEST = " *"

Better = Literal["lower", "higher"] | None
Statistic = Literal["last", "first", "min", "max"]
RUN_COLUMNS = (Column("called"), Column("run"), Column("status"), Column("started"), Column("took", right=True), Column("name", folds=True))


@dataclass(frozen=True)
class Row:
    """What each of the runs has of a key; `best` are the places of the best values."""

    key: str
    values: list[Any]
    better: Better = None
    best: tuple[int, ...] = ()

    @property
    def differs(self) -> bool:
        """Whether the runs have not all the same."""
        return len({"nan" if isinstance(value, float) and math.isnan(value) else value for value in self.values}) > 1


def compare_runs(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_ID...", help="The ids of the runs, or their first digits; two or more.")],
    tracking_uri: TrackingUri = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Show also what all of them have alike, and the tags that flightlog sets.")
    ] = False,
    statistic: Annotated[Statistic, typer.Option("--value", help="Which value of a metric.")] = "last",
    lower: Annotated[list[str] | None, typer.Option("--lower", metavar="KEY", help="The lower this metric the better; repeatable.")] = None,
    higher: Annotated[
        list[str] | None, typer.Option("--higher", metavar="KEY", help="The higher this metric the better; repeatable.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show params, metrics and tags in which runs differ, side by side. A star marks the best value of a metric."""
    with places.opened(places.find(tracking_uri)) as store:
        runs = searches.find_runs(store, run_ids)
        names = searches.experiment_names(store, [run.info.experiment_id for run in runs])
    if len(runs) < 2:
        raise InvalidParameter("give the ids of at least two runs to compare")
    wanted: dict[str, Better] = {**dict.fromkeys(lower or [], "lower"), **dict.fromkeys(higher or [], "higher")}
    parts = {
        "params": _texts(runs, "params"),
        "metrics": _metrics(runs, statistic, wanted),
        "tags": [row for row in _texts(runs, "tags") if everything or not row.key.startswith("mlflow.")],
    }
    shown = {part: [row for row in rows if everything or row.differs] for part, rows in parts.items()}
    if as_json:
        output.print_json(_document(runs, names, shown))
    else:
        _print(runs, shown)


def _texts(runs: Sequence[Run], kind: str) -> list[Row]:
    found: list[dict[str, str]] = [getattr(run.data, kind) for run in runs]
    return [Row(key, [texts.get(key) for texts in found]) for key in sorted({key for texts in found for key in texts})]


def _metrics(runs: Sequence[Run], statistic: str, wanted: Mapping[str, Better]) -> list[Row]:
    keys = sorted({key for run in runs for key in run.data.metric_summaries})
    return [_metric(key, [run_columns.statistic_of(run, key, statistic) for run in runs], wanted) for key in keys]


def _metric(key: str, values: list[float | None], wanted: Mapping[str, Better]) -> Row:
    better = wanted.get(key) or guess(key)
    numbers = [value for value in values if value is not None and not math.isnan(value)]
    if better is None or len(set(numbers)) < 2:
        return Row(key, values, better)
    best = min(numbers) if better == "lower" else max(numbers)
    return Row(key, values, better, tuple(place for place, value in enumerate(values) if value == best))


def guess(key: str) -> Better:
    """Return whether lower or higher values of a metric are better, as far as its last word that says so tells."""
    for word in reversed(re.split(r"[^a-z0-9]+", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key).lower())):
        if word in LOWER_WORDS or word in HIGHER_WORDS:
            return "lower" if word in LOWER_WORDS else "higher"
    return None


def short_ids(run_ids: Sequence[str]) -> list[str]:
    """Return the beginnings of run ids, as long as they need to be to differ."""
    length = FEWEST_DIGITS
    while len({run_id[:length] for run_id in run_ids}) < len(set(run_ids)):
        length += 1
    return [run_id[:length] for run_id in run_ids]


def _print(runs: Sequence[Run], parts: Mapping[str, Sequence[Row]]) -> None:
    called = short_ids([run.info.run_id for run in runs])
    infos = [(run.info, name) for run, name in zip(runs, called, strict=True)]
    rows = [(name, info.run_id, info.status, output.moment(info.start_time), run_columns.took(info), info.run_name) for info, name in infos]
    output.print_table(RUN_COLUMNS, rows)
    for part, found in parts.items():
        if found:
            output.print_line("")
            columns = [Column(part, folds=True), *(Column(name, right=part == "metrics", folds=part != "metrics") for name in called)]
            output.print_table(columns, [(row.key, *_cells(row)) for row in found], part.capitalize())
    if not any(parts.values()):
        output.print_line("\nthe runs have the same params, metrics and tags; --all shows them")


def _cells(row: Row) -> list[object]:
    return [output.cell(value) + BEST if place in row.best else value for place, value in enumerate(row.values)]


def _document(runs: Sequence[Run], names: Mapping[str, str], parts: Mapping[str, Sequence[Row]]) -> dict[str, Any]:
    run_ids = [run.info.run_id for run in runs]
    values = {part: {row.key: dict(zip(run_ids, row.values, strict=True)) for row in rows} for part, rows in parts.items()}
    best = {row.key: {"better": row.better, "run_ids": [run_ids[place] for place in row.best]} for row in parts["metrics"]}
    infos = [{**run.info.to_dictionary(), "experiment_name": names.get(run.info.experiment_id)} for run in runs]
    return {"runs": infos, **values, "best": best}
