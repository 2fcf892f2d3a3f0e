"""An MLflow tracking database, of any version from 1.x to 3.x: read, never written. A column that a version lacks has a default."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import (
    URL,
    ColumnElement,
    Engine,
    FromClause,
    Select,
    String,
    column,
    create_engine,
    event,
    func,
    inspect,
    literal,
    make_url,
    select,
    table,
)
from sqlalchemy.exc import ArgumentError, OperationalError

from flightlog.schema.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, RunInputs, RunOutputs
from flightlog.schema.errors import InvalidParameter, NotFound, StoreUnavailable
from flightlog.schema.names import RUN_NAME_TAG
from flightlog.stores.mlflow_history import MlflowExperiment, MlflowPoints, MlflowRun
from flightlog.stores.sql.engine import BUSY_TIMEOUT, open_engine, reading
from flightlog.stores.sql.rows import fetch

RUNS = 200
"""Runs that are read at a time."""
POINTS = 50_000
ROWID: ColumnElement[int] = column("rowid")
LARGEST = 1.7976931348623157e308
"""What MLflow stores for an infinity."""
DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "mysql": "mysql+pymysql", "mssql": "mssql+pymssql"}
"""The driver that flightlog installs, for a URL that names none."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "experiments": {
        "experiment_id": None,
        "name": "",
        "artifact_location": "",
        "lifecycle_stage": "active",
        "creation_time": None,
        "last_update_time": None,
    },
    "experiment_tags": {"experiment_id": None, "key": "", "value": ""},
    "runs": {
        "run_uuid": None,
        "experiment_id": None,
        "user_id": "",
        "status": "RUNNING",
        "start_time": 0,
        "end_time": None,
        "lifecycle_stage": "active",
        "deleted_time": None,
        "artifact_uri": "",
        "name": "",
    },
    "params": {"run_uuid": None, "key": "", "value": ""},
    "tags": {"run_uuid": None, "key": "", "value": ""},
    "metrics": {"run_uuid": None, "key": "", "step": 0, "timestamp": 0, "value": 0.0, "is_nan": False},
    "inputs": {"input_uuid": None, "source_type": "", "source_id": None, "destination_type": "", "destination_id": None, "step": 0},
    "input_tags": {"input_uuid": None, "name": "", "value": ""},
    "datasets": {
        "dataset_uuid": None,
        "name": "",
        "digest": "",
        "dataset_source_type": "",
        "dataset_source": "",
        "dataset_schema": None,
        "dataset_profile": None,
    },
}
"""The columns that are read, with what stands for one that is missing."""
DATASET_EDGE = ("DATASET", "RUN")
KEYS = ("run_uuid", "input_uuid", "dataset_uuid", "source_id", "destination_id")
"""The columns by which rows are asked for: a list of keys needs to know what they are."""
LEFT_OUT = {
    "logged_models": "logged models",
    "registered_models": "registered models",
    "model_versions": "model versions",
    "trace_info": "traces",
}
"""Tables of what has no events here, and the word for it."""


class MlflowDatabase:
    """An `MlflowHistory` in a database that SQLAlchemy can open."""

    def __init__(self, url: str) -> None:
        """Open it. Raises `InvalidParameter` for a database that is not MLflow's, `NotFound`, `StoreUnavailable`."""
        self.problems: list[str] = []
        self._engine = _open_to_read(url)
        try:
            self._columns = self._look()
        except BaseException:
            self._engine.dispose()
            raise
        if "run_uuid" not in self._columns["runs"]:
            self._engine.dispose()
            place = self._engine.url.render_as_string(hide_password=True)
            raise InvalidParameter(f"the database {place} is no MLflow tracking database: it has no table runs with a column run_uuid")

    def experiments(self) -> list[MlflowExperiment]:
        """See `MlflowHistory.experiments`."""
        tags: dict[str, dict[str, str]] = {}
        for owner, key, value in self._all(self._select("experiment_tags")):
            tags.setdefault(str(owner), {})[key] = value or ""
        return [_experiment(row, tags.get(str(row.experiment_id), {})) for row in self._all(self._select("experiments"))]

    def runs(self, experiment_ids: Collection[str]) -> Iterator[list[MlflowRun]]:
        """See `MlflowHistory.runs`."""
        run_uuid, last = self._column("runs", "run_uuid"), ""
        while rows := self._all(self._select("runs").where(run_uuid > last).order_by(run_uuid).limit(RUNS)):
            last = rows[-1].run_uuid
            mine = [row for row in rows if str(row.experiment_id) in experiment_ids]
            ids = [row.run_uuid for row in mine]
            params, tags = (self._texts(name, ids) for name in ("params", "tags"))
            inputs, outputs = self._inputs(ids), self._outputs(ids)
            if mine:
                found = [_run(row, params.get(row.run_uuid, {}), tags.get(row.run_uuid, {})) for row in mine]
                yield [replace(run, inputs=inputs[run.run_id], outputs=outputs[run.run_id]) for run in found]

    def _inputs(self, run_ids: Sequence[str]) -> dict[str, RunInputs]:
        edges = [
            row for row in self._by_key("inputs", "destination_id", run_ids) if (row.source_type, row.destination_type) == DATASET_EDGE
        ]
        told = {row.dataset_uuid: _dataset(row) for row in self._by_key("datasets", "dataset_uuid", {row.source_id for row in edges})}
        tags: dict[str, list[InputTag]] = {}
        for row in self._by_key("input_tags", "input_uuid", [row.input_uuid for row in edges]):
            tags.setdefault(row.input_uuid, []).append(InputTag(row.name, row.value or ""))
        found = {run_id: RunInputs() for run_id in run_ids}
        for row in edges:
            if row.source_id in told:
                found[row.destination_id].dataset_inputs.append(DatasetInput(told[row.source_id], tags.get(row.input_uuid)))
        for row in self._by_key("inputs", "source_id", run_ids):
            if row.source_type == "RUN_INPUT":
                found[row.source_id].model_inputs.append(LoggedModelInput(row.destination_id))
        return found

    def _outputs(self, run_ids: Sequence[str]) -> dict[str, RunOutputs]:
        found = {run_id: RunOutputs() for run_id in run_ids}
        for row in self._by_key("inputs", "source_id", run_ids):
            if row.source_type == "RUN_OUTPUT":
                found[row.source_id].model_outputs.append(LoggedModelOutput(row.destination_id, row.step or 0))
        return found

    def _by_key(self, name: str, key: str, keys: Collection[str]) -> list[Any]:
        with reading(self._engine) as connection:
            return fetch(connection, self._select(name), self._column(name, key), sorted(keys))

    def counts(self, run_ids: Sequence[str]) -> dict[str, dict[str, int]]:
        """See `MlflowHistory.counts`."""
        run_uuid, key = self._column("metrics", "run_uuid"), self._column("metrics", "key")
        query = select(run_uuid, key, func.count()).select_from(_table("metrics")).group_by(run_uuid, key)
        found: dict[str, dict[str, int]] = {run_id: {} for run_id in run_ids}
        with reading(self._engine) as connection:
            for owner, name, count in fetch(connection, query, run_uuid, run_ids):
                found[owner][name] = count
        return found

    def points(self, run_id: str, key: str | None = None) -> Iterator[MlflowPoints]:
        """See `MlflowHistory.points`. In the order of key, step and time; of a SQLite file in the order in which they were inserted."""
        columns = {name: self._column("metrics", name) for name in ("key", "step", "timestamp", "value", "is_nan")}
        query = select(*columns.values()).select_from(_table("metrics")).where(self._column("metrics", "run_uuid") == run_id)
        if key is not None:
            query = query.where(columns["key"] == key)
        if self._engine.dialect.name == "sqlite":
            return self._pages(query)
        return self._stream(query.order_by(columns["key"], columns["step"], columns["timestamp"], columns["value"]))

    def _pages(self, query: Select[Any]) -> Iterator[MlflowPoints]:
        """Yield points page by page, with no transaction in between: in most files one that reads would keep MLflow from writing."""
        last = -(2**63)
        query = query.add_columns(ROWID).order_by(ROWID).limit(POINTS)
        while rows := self._tuples(query.where(last < ROWID)):
            last = rows[-1][-1]
            yield _points(rows)

    def _tuples(self, query: Select[Any]) -> Sequence[Any]:
        """Return rows as the driver gives them: an object for each point would take as long as all the rest."""
        with reading(self._engine) as connection:
            found: Sequence[Any] = connection.execute(query).cursor.fetchall()
            return found

    def _stream(self, query: Select[Any]) -> Iterator[MlflowPoints]:
        with reading(self._engine) as connection:
            result = connection.execution_options(stream_results=True, max_row_buffer=POINTS).execute(query)
            yield from map(_points, result.partitions(POINTS))

    def left_out(self) -> dict[str, int]:
        """See `MlflowHistory.left_out`."""
        with reading(self._engine) as connection:
            inspector = inspect(connection)
            names = [name for name in LEFT_OUT if inspector.has_table(name)]
            counts = {LEFT_OUT[name]: connection.execute(select(func.count()).select_from(_table(name))).scalar_one() for name in names}
        return {word: count for word, count in counts.items() if count}

    def close(self) -> None:
        """See `MlflowHistory.close`."""
        self._engine.dispose()

    def _look(self) -> dict[str, set[str]]:
        """Return the columns of each table that is read; none for one that is missing."""
        with reading(self._engine) as connection:
            inspector = inspect(connection)
            present = [name for name in DEFAULTS if inspector.has_table(name)]
            found = {name: {item["name"] for item in inspector.get_columns(name)} for name in present}
        return {name: found.get(name, set()) for name in DEFAULTS}

    def _select(self, name: str) -> Select[Any]:
        """Return a query of a table's columns in the order of `DEFAULTS`; one that gives no rows for a table that is missing."""
        columns = [self._column(name, item) for item in DEFAULTS[name]]
        if not self._columns[name]:
            return select(*columns).where(literal(1) == 0)
        return select(*columns).select_from(_table(name))

    def _column(self, name: str, item: str) -> ColumnElement[Any]:
        if item in self._columns[name]:
            return column(item, String()) if item in KEYS else column(item)
        return literal(DEFAULTS[name][item]).label(item)

    def _all(self, query: Select[Any]) -> Sequence[Any]:
        with reading(self._engine) as connection:
            return connection.execute(query).all()

    def _texts(self, name: str, run_ids: Sequence[str]) -> dict[str, dict[str, str]]:
        found: dict[str, dict[str, str]] = {}
        with reading(self._engine) as connection:
            for owner, key, value in fetch(connection, self._select(name), self._column(name, "run_uuid"), run_ids):
                found.setdefault(owner, {})[key] = "" if value is None else value
        return found


def _table(name: str) -> FromClause:
    return table(name)


def _dataset(row: Any) -> Dataset:  # noqa: ANN401 - a row
    source = (row.dataset_source_type or "", row.dataset_source or "")
    return Dataset(row.name, row.digest, *source, row.dataset_schema, row.dataset_profile)


def _experiment(row: Any, tags: dict[str, str]) -> MlflowExperiment:  # noqa: ANN401 - a row
    return MlflowExperiment(
        experiment_id=str(row.experiment_id),
        name=row.name,
        artifact_location=row.artifact_location or "",
        lifecycle_stage=row.lifecycle_stage or "active",
        creation_time=row.creation_time,
        last_update_time=row.last_update_time,
        tags=tags,
    )


def _run(row: Any, params: dict[str, str], tags: dict[str, str]) -> MlflowRun:  # noqa: ANN401 - a row
    named = {RUN_NAME_TAG: row.name} if row.name and RUN_NAME_TAG not in tags else {}
    return MlflowRun(
        run_id=row.run_uuid,
        experiment_id=str(row.experiment_id),
        user_id=row.user_id or "",
        status=row.status or "RUNNING",
        start_time=row.start_time or 0,
        end_time=row.end_time,
        lifecycle_stage=row.lifecycle_stage or "active",
        deleted_time=row.deleted_time,
        artifact_uri=row.artifact_uri or "",
        params=params,
        tags={**tags, **named},
    )


def _points(rows: Sequence[Any]) -> MlflowPoints:
    """Return rows of the table `metrics` as columns, with NaN and the infinities as they were logged."""
    keys, steps, times, values, nans = list(zip(*rows, strict=True))[:5]
    numbers = {key: number for number, key in enumerate(dict.fromkeys(keys))}
    key = np.fromiter(map(numbers.__getitem__, keys), np.int64, len(keys)) if len(numbers) > 1 else np.zeros(len(keys), np.int64)
    value = np.array(values, np.float64)
    value = np.where(np.abs(value) >= LARGEST, np.copysign(np.inf, value), value)
    value[np.array(nans, np.bool_)] = np.nan
    return MlflowPoints(list(numbers), key, np.array(steps, np.int64), np.array(times, np.int64), value)


def _open_to_read(database_url: str) -> Engine:
    """Return an engine that cannot write, as far as the database knows such a thing."""
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise InvalidParameter(f"database URL {database_url!r} cannot be used: {error}") from error
    if url.get_backend_name() == "sqlite":
        return _open_sqlite(url)
    url = url.set(drivername=DRIVERS.get(url.drivername, url.drivername))
    engine = open_engine(url.render_as_string(hide_password=False))
    if engine.dialect.name == "postgresql":
        return engine.execution_options(postgresql_readonly=True)
    if engine.dialect.name in ("mysql", "mariadb"):
        event.listen(engine, "connect", _forbid_writing)
    return engine


def _forbid_writing(connection: Any, _: object) -> None:  # noqa: ANN401 - of whatever driver
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION READ ONLY")


def _open_sqlite(url: URL) -> Engine:
    """Open a file to read. On a medium where that takes files which cannot be made, as one that nobody writes to."""
    file = Path(url.database or "")
    if not file.is_file():
        raise NotFound(f"there is no SQLite database {str(file)!r}")
    place = file.resolve().as_uri()
    engine = create_engine(f"sqlite:///{place}?mode=ro&uri=true", connect_args={"timeout": BUSY_TIMEOUT})
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").all()
    except OperationalError as error:
        engine.dispose()
        if "unable to open" not in str(error.orig):
            raise StoreUnavailable(f"the database {file} cannot be read now: {error.orig}") from error
        return create_engine(f"sqlite:///{place}?mode=ro&immutable=1&uri=true")
    return engine
