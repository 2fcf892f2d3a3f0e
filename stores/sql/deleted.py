"""What is deleted and could be purged, and how much room it takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, Connection, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

from flightlog.stores.sql.rows import fetch
from flightlog.stores.sql.states import HEX
from flightlog.stores.sql.tables import experiments, ledger, runs, writers


class size_of(FunctionElement[int]):  # noqa: N801 - a function of SQL
    """How many bytes a value has."""

    type = BigInteger()
    inherit_cache = True


@compiles(size_of)
def _length(element: size_of, compiler: Any, **options: Any) -> str:  # noqa: ANN401 - a compiler of whatever dialect
    return f"length({compiler.process(element.clauses, **options)})"


@compiles(size_of, "mssql")
def _data_length(element: size_of, compiler: Any, **options: Any) -> str:  # noqa: ANN401 - the same
    return f"datalength({compiler.process(element.clauses, **options)})"


@dataclass(frozen=True)
class DeletedRun:
    """A deleted run, where its artifacts are, and what its ledger takes."""

    run_id: str
    experiment_id: str
    artifact_uri: str | None
    events: int
    ledger_bytes: int


@dataclass(frozen=True)
class DeletedExperiment:
    """A deleted experiment. `runs` is how many runs it has, deleted ones included."""

    experiment_id: str
    name: str
    runs: int


def deleted_runs(connection: Connection, before: int) -> list[DeletedRun]:
    """Return the runs that were deleted before a time, ms, in order of their ids."""
    is_deleted = (runs.c.lifecycle_stage == "deleted") & (runs.c.lifecycle_stamp < f"{before:0{HEX}x}")
    found = connection.execute(select(runs.c.run_id, runs.c.experiment_id, runs.c.artifact_uri).where(is_deleted)).all()
    sizes = _sizes(connection, [row.run_id for row in found])
    return sorted(
        (DeletedRun(row.run_id, str(row.experiment_id), row.artifact_uri, *sizes.get(row.run_id, (0, 0))) for row in found),
        key=lambda run: run.run_id,
    )


def _sizes(connection: Connection, subjects: Sequence[str]) -> dict[str, tuple[int, int]]:
    totals = (func.sum(ledger.c["count"]).label("events"), func.sum(size_of(ledger.c.body)).label("size"))
    query = select(writers.c.subject, *totals).join_from(ledger, writers).group_by(writers.c.subject)
    return {row.subject: (int(row.events), int(row.size)) for row in fetch(connection, query, writers.c.subject, subjects)}


def deleted_experiments(connection: Connection, before: int) -> list[DeletedExperiment]:
    """Return the experiments that were deleted before a time, ms, in order of their ids; the default one, which always exists, is none."""
    item = experiments.c
    inside = select(func.count()).select_from(runs).where(runs.c.experiment_id == item.experiment_id).scalar_subquery()
    is_deleted = (item.lifecycle_stage == "deleted") & (item.lifecycle_stamp < f"{before:0{HEX}x}") & (item.experiment_id > 0)
    query = select(item.experiment_id, item.name, inside).where(is_deleted).order_by(item.experiment_id)
    return [DeletedExperiment(str(number), name, count) for number, name, count in connection.execute(query)]
