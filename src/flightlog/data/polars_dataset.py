"""Datasets that are Polars frames."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flightlog.data.dataset import ColumnarDataset, checked_column, schema_or_none
from flightlog.data.dataset_source import DatasetSource
from flightlog.data.dataset_source_registry import source_of
from flightlog.schema.data_types import Array, ColSpec, DataType, Object, Property, Schema, Type
from flightlog.schema.errors import InvalidParameter

TYPES = {
    **dict.fromkeys(("Int8", "Int16", "Int32", "UInt8", "UInt16"), DataType.integer),
    **dict.fromkeys(("Int64", "UInt32"), DataType.long),
    **dict.fromkeys(("String", "Utf8", "Categorical", "Enum"), DataType.string),
    **dict.fromkeys(("Datetime", "Date"), DataType.datetime),
    "Binary": DataType.binary,
    "Boolean": DataType.boolean,
    "Float32": DataType.float,
    "Float64": DataType.double,
}
"""The types of columns by the names of Polars' own."""


class PolarsDataset(ColumnarDataset):
    """A Polars frame. Its digest depends on the version of Polars, which promises no hashes that last."""

    def __init__(
        self,
        df: Any,  # noqa: ANN401 - a Polars frame
        source: DatasetSource,
        targets: str | None = None,
        name: str | None = None,
        digest: str | None = None,
        predictions: str | None = None,
    ) -> None:
        self._df = df
        self._predictions = checked_column("predictions", predictions, df.columns)
        super().__init__(df.columns, source, targets, name, digest)

    def _compute_digest(self) -> str:
        return str(self._df.hash_rows().sum())

    @property
    def df(self) -> Any:  # noqa: ANN401 - a Polars frame
        """The frame."""
        return self._df

    @property
    def predictions(self) -> str | None:
        """The name of the column of predictions, or None."""
        return self._predictions

    @property
    def profile(self) -> dict[str, Any]:
        """How many rows and values there are."""
        return {"num_rows": self._df.height, "num_elements": self._df.height * self._df.width}

    @cached_property
    def schema(self) -> Schema | None:
        """The columns; None if their types cannot be told."""
        return schema_or_none(self._inferred, self)

    def _inferred(self) -> Schema:
        columns = [self._df[name] for name in self._df.columns]
        return Schema([ColSpec(type_of(column.dtype), column.name, required=column.count() > 0) for column in columns])


def type_of(dtype: Any) -> Type:  # noqa: ANN401 - a Polars type
    """Return the type of a column of a Polars type. Raises `InvalidParameter` for one that has none."""
    name = dtype.base_type().__name__
    if name in TYPES:
        return TYPES[name]
    if name in ("List", "Array"):
        return Array(type_of(dtype.inner))
    if name == "Struct":
        return Object([Property(item.name, type_of(item.dtype)) for item in dtype.fields])
    raise InvalidParameter(f"a column of the type {dtype} has no type in a schema; convert it first")


def from_polars(
    df: Any,  # noqa: ANN401 - a Polars frame
    source: Any = None,  # noqa: ANN401 - a path, a URI or a DatasetSource
    targets: str | None = None,
    name: str | None = None,
    digest: str | None = None,
    predictions: str | None = None,
) -> PolarsDataset:
    """Return a Polars frame as a dataset. The source is a path, a URI or a `DatasetSource`; without one it is the running script."""
    return PolarsDataset(df, source_of(source), targets, name, digest, predictions)
