"""Rows into a file or onto stdout, a batch at a time: CSV, JSON, JSON lines and Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, Protocol

from flightlog import columnar
from flightlog.cli.output import plain

if TYPE_CHECKING:
    import pyarrow as pa

Format = Literal["parquet", "csv", "json", "jsonl"]
SUFFIXES: Mapping[str, Format] = {".parquet": "parquet", ".csv": "csv", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}

Row = Sequence[Any]

_encode = json.JSONEncoder(allow_nan=False).encode


class Rows(Protocol):
    """Takes rows."""

    def write(self, rows: Iterable[Row]) -> None:
        """Write rows, which have a value for each column."""

    def end(self) -> None:
        """Write what comes after the last row."""


class CsvRows:
    """Rows as CSV, with a line of headings. None is empty; other numbers are written so that they are read back the same."""

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self._writer = csv.writer(file, lineterminator="\r\n")  # RFC 4180, and what makes it quote a lone carriage return
        self._writer.writerow(columns)

    def write(self, rows: Iterable[Row]) -> None:
        """See `Rows.write`."""
        self._writer.writerows(rows)

    def end(self) -> None:
        """See `Rows.end`. There is nothing."""


class JsonLines:
    """An object a line."""

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self._file, self._columns = file, columns

    def write(self, rows: Iterable[Row]) -> None:
        """See `Rows.write`."""
        self._file.writelines(f"{text}\n" for text in _objects(self._columns, rows))

    def end(self) -> None:
        """See `Rows.end`. There is nothing."""


class JsonArray:
    """One array of objects, each on a line of its own."""

    def __init__(self, file: IO[str], columns: Sequence[str]) -> None:
        self._file, self._columns = file, columns
        self._before = "[\n"

    def write(self, rows: Iterable[Row]) -> None:
        """See `Rows.write`."""
        for text in _objects(self._columns, rows):
            self._file.write(self._before + text)
            self._before = ",\n"

    def end(self) -> None:
        """See `Rows.end`."""
        self._file.write("[]\n" if self._before == "[\n" else "\n]\n")


def _objects(columns: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    for row in rows:
        document = dict(zip(columns, row, strict=True))
        try:
            yield _encode(document)
        except ValueError:  # a number that JSON lacks
            yield _encode(plain(document))


TEXT_ROWS: Mapping[str, type[CsvRows | JsonLines | JsonArray]] = {"csv": CsvRows, "jsonl": JsonLines, "json": JsonArray}


def parquet() -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the module pyarrow.parquet. Raises `FlightlogException`, which says how to install it."""
    columnar.arrow()
    import pyarrow.parquet as pq  # noqa: PLC0415 - an extra, and it takes long to import

    return pq


def parquet_writer(path: Path, schema: pa.Schema) -> AbstractContextManager[Any]:
    """Return a writer of a Parquet file, which is a context that closes it."""
    writer: AbstractContextManager[Any] = parquet().ParquetWriter(path, schema, compression="zstd")
    return writer
