"""Datasets that are pandas frames."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from flightlog.data.dataset import ColumnarDataset, checked_column, schema_or_none
from flightlog.data.dataset_source import DatasetSource
from flightlog.data.dataset_source_registry import source_of
from flightlog.data.digest_utils import compute_pandas_digest
from flightlog.schema.data_types import Schema
from flightlog.schema.inference import infer_schema

if TYPE_CHECKING:
    import pandas as pd


class PandasDataset(ColumnarDataset):
    """A pandas frame."""

    def __init__(
        self,
        df: pd.DataFrame,
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
        return compute_pandas_digest(self._df)

    @property
    def df(self) -> pd.DataFrame:
        """The frame."""
        return self._df

    @property
    def predictions(self) -> str | None:
        """The name of the column of predictions, or None."""
        return self._predictions

    @property
    def profile(self) -> dict[str, Any]:
        """How many rows and values there are."""
        return {"num_rows": len(self._df), "num_elements": int(self._df.size)}

    @cached_property
    def schema(self) -> Schema | None:
        """The columns; None if their types cannot be told."""
        return schema_or_none(lambda: infer_schema(self._df), self)


def from_pandas(
    df: pd.DataFrame,
    source: Any = None,  # noqa: ANN401 - a path, a URI or a DatasetSource
    targets: str | None = None,
    name: str | None = None,
    digest: str | None = None,
    predictions: str | None = None,
) -> PandasDataset:
    """Return a pandas frame as a dataset. The source is a path, a URI or a `DatasetSource`; without one it is the running script."""
    return PandasDataset(df, source_of(source), targets, name, digest, predictions)
