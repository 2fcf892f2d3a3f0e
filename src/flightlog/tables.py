"""Tables among a run's artifacts: `log_table` appends rows, `load_table` gives them back. Needs the extra `pandas`.

A table is one file, which is read, extended and logged anew. What this process has logged before is waited for, and two of its threads take
turns; two processes that append to the same table of the same run at once may overwrite each other's rows.
"""

from __future__ import annotations

import io
import json
import posixpath
import tempfile
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flightlog.client import Client
from flightlog.dataframes import runs_frame
from flightlog.producer import lifecycle
from flightlog.producer.client import Producer
from flightlog.producer.experiments import experiment_of_run
from flightlog.producer.fluent import finish, target
from flightlog.producer.operations import NOTHING, RunOperations
from flightlog.reading import reader_for
from flightlog.schema.errors import FlightlogException, InvalidParameter, NotCommitted, NotFound, StoreUnavailable
from flightlog.schema.names import TABLES_TAG
from flightlog.stores.run_columns import columns_of

try:
    import pandas as pd
except ImportError as error:
    raise FlightlogException('tables need pandas; install it with: pip install "flightlog[pandas]"') from error

FORBIDDEN = "\"',:[]{}"
"""What the name of a table may not hold: it is searched for inside a tag."""
MAX_RUNS = 50_000
"""The largest page of a search."""


def log_table(data: dict[str, Any] | pd.DataFrame, artifact_file: str, run_id: str | None = None) -> None:
    """Append rows, a DataFrame or a dictionary of columns, to a table of the active run or another; its file ends in .json or .parquet.

    Columns of images are kept as files beside the table. Waits until what this process has logged so far can be read.
    """
    producer, subject = target(run_id)
    finish(record_table(Client.of(producer), producer, subject, data, artifact_file), None)


def load_table(artifact_file: str, run_ids: Sequence[str] | None = None, extra_columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Return a table of all runs of the active experiment that have one of that name, or of some, as one DataFrame.

    `extra_columns` are columns of `search_runs`, such as run_id, that are added. Raises `NotFound` when no run has such a table.
    """
    return joined_tables(Client(), experiment_of_run(None).experiment_id, artifact_file, run_ids, extra_columns)


def record_table(client: Client, producer: Producer, run_id: str, data: dict[str, Any] | pd.DataFrame, artifact_file: str) -> RunOperations:
    """Record rows as `log_table` does. Raises before anything is written."""
    _check_name(artifact_file)
    rows, files = _without_images(_frame(data), artifact_file)
    entry = {"path": artifact_file, "type": "table"}
    with producer.known.appending:
        try:
            before, tables = _so_far(client, producer, run_id, entry)
        except (StoreUnavailable, NotCommitted, OSError) as error:
            if producer.settings.spool_full != "drop":
                raise
            producer.drop(run_id, f"table {artifact_file!r} cannot be read, and so no rows be appended to it: {error}")
            return NOTHING
        content = _written(rows if before is None else pd.concat([before, rows], ignore_index=True), artifact_file)
        operations = [producer.log_bytes(run_id, image, path) for path, image in files.items()]
        operations.append(producer.log_bytes(run_id, content, artifact_file))
        if entry not in tables:
            producer.known.tables[run_id] = [*tables, entry]
            operations.append(producer.set_tag(run_id, TABLES_TAG, json.dumps([*tables, entry])))
    return sum(operations, NOTHING)


def _so_far(client: Client, producer: Producer, run_id: str, entry: dict[str, str]) -> tuple[pd.DataFrame | None, list[Any]]:
    """Return the rows that a table has, None if it is new, and the tables that the run has.

    What this process begins is new for certain: then nobody needs to be asked, if nobody can be.
    """
    _wait_for_earlier_rows(producer, run_id, entry["path"])
    try:
        tables = json.loads(reader_for(producer).get_run(run_id).data.tags.get(TABLES_TAG, "[]"))
        return _read(client, run_id, entry["path"]), tables
    except (NotFound, StoreUnavailable):
        known = producer.known.tables.get(run_id, [])
        if producer.known.begun(run_id) is None or entry in known:
            raise
        return None, known


def _wait_for_earlier_rows(producer: Producer, run_id: str, artifact_file: str) -> None:
    """Wait until what this process logged of a run before is stored: a table that is read too early would lose rows."""
    producer.settle_artifacts(producer.settings.sync_timeout if producer.can_arrive else 0, run_id)
    left = [item for item in producer.awaited.unstored(run_id=run_id) if item.path == artifact_file]
    if left:
        raise NotCommitted(
            f"table {artifact_file!r} of run {run_id} cannot be appended to, because its earlier rows are not stored yet"
            f"{f' ({left[0].reason})' if left[0].reason else ''}; {producer.how_to_retry(run_id)}"
        )


def _check_name(artifact_file: Any) -> None:  # noqa: ANN401 - checked here
    if not isinstance(artifact_file, str):
        raise InvalidParameter(f"the name of a table must be a string, not {type(artifact_file).__name__} {artifact_file!r}")
    found = [character for character in FORBIDDEN if character in artifact_file]
    if found:
        raise ValueError(f"the name of a table may not hold {found[0]!r}, as {artifact_file!r} does")
    if not artifact_file.endswith((".json", ".parquet")):
        raise ValueError(f"the name of a table must end in .json or .parquet, and {artifact_file!r} does not")


def _frame(data: object) -> pd.DataFrame:
    if isinstance(data, pd.DataFrame):
        return data
    if not isinstance(data, dict):
        raise InvalidParameter(f"a table must be a pandas.DataFrame or a dictionary, not {type(data).__name__}")
    try:
        rows: pd.DataFrame = pd.DataFrame(data)
    except ValueError:  # scalars only: one row
        rows = pd.DataFrame([data])
    return rows


def _without_images(rows: pd.DataFrame, artifact_file: str) -> tuple[pd.DataFrame, dict[str, bytes]]:
    """Return the rows with the place of each image in its stead, and the files that belong there."""
    files: dict[str, bytes] = {}
    pictured = [column for column in rows.columns if _has_images(rows[column], str(column))]
    placed = rows.copy() if pictured else rows
    for column in pictured:
        placed[column] = pd.Series(_placed(list(rows[column]), artifact_file, files), index=rows.index, dtype=object)
    return placed, files


def _has_images(column: pd.Series[Any], name: str) -> bool:
    if column.dtype != object:
        return False
    count = sum(_is_image(value) for value in column)
    if count not in (0, len(column)):
        raise ValueError(f"column {name!r} has {count} images among {len(column)} values; a column holds images or none")
    return count > 0


def _is_image(value: object) -> bool:
    return callable(getattr(value, "save", None)) and callable(getattr(value, "resize", None)) and hasattr(value, "size")


def _placed(images: list[Any], artifact_file: str, files: dict[str, bytes]) -> list[dict[str, str]]:
    """Return where the images of a column will be, and add their files."""
    from flightlog.images import as_pillow, image_files  # noqa: PLC0415 - Pillow is an extra

    places = []
    for image in images:
        name = posixpath.join("table_images", posixpath.splitext(artifact_file)[0], str(uuid.uuid4()))
        files |= image_files(as_pillow(image), name, name)
        places.append({"type": "image", "filepath": f"{name}.png", "compressed_filepath": f"{name}.webp"})
    return places


def _read(client: Client, run_id: str, artifact_file: str) -> pd.DataFrame | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            path = Path(client.download_artifacts(run_id, artifact_file, folder))
        except NotFound:
            return None
        table: pd.DataFrame = pd.read_json(path, orient="split") if artifact_file.endswith(".json") else pd.read_parquet(path)
        return table


def _written(table: pd.DataFrame, artifact_file: str) -> bytes:
    try:
        if artifact_file.endswith(".json"):
            return table.to_json(orient="split", index=False, date_format="iso").encode()
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        return buffer.getvalue()
    except Exception as error:
        raise FlightlogException(f"the table {artifact_file!r} cannot be written: {error}") from error


def joined_tables(
    client: Client, experiment_id: str, artifact_file: str, run_ids: Sequence[str] | None, extra_columns: Sequence[str] | None
) -> pd.DataFrame:
    """Return the tables of an experiment's runs, one below the other, as `load_table` does."""
    _check_name(artifact_file)
    runs = client.search_runs([experiment_id], _filter(artifact_file, run_ids), max_results=MAX_RUNS)
    if not runs:
        raise NotFound(f"no run has a table {artifact_file!r}")
    if run_ids and len(set(run_ids)) != len(runs):
        lifecycle.warn_once(f"some of the runs have no table {artifact_file!r} and are left out")
    tables = [_with_columns(client, run, artifact_file, extra_columns or ()) for _, run in runs_frame([columns_of(runs)]).iterrows()]
    return pd.concat(tables, ignore_index=True)


def _filter(artifact_file: str, run_ids: Sequence[str] | None) -> str:
    wanted = f"""tags.{TABLES_TAG} LIKE '%"path"%:%"{artifact_file}",%"type"%:%"table"%'"""
    return f"{wanted} AND attributes.run_id IN ({', '.join(map(repr, run_ids))})" if run_ids else wanted


def _with_columns(client: Client, run: pd.Series[Any], artifact_file: str, columns: Sequence[str]) -> pd.DataFrame:
    table = _read(client, str(run["run_id"]), artifact_file)
    if table is None:
        raise NotFound(f"run {run['run_id']} has no artifact {artifact_file!r} any more")
    for column in columns:
        if column not in run:
            raise InvalidParameter(f"runs have no column {column!r}; extra_columns are columns of search_runs, such as run_id")
        table[f"{column}_" if column in table else column] = run[column]
    return table
