"""Datasets of the library `datasets`."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from flightlog.data.dataset import ColumnarDataset, schema_or_none
from flightlog.data.dataset_source import DatasetSource
from flightlog.data.dataset_source_registry import source_of
from flightlog.data.digest_utils import MAX_ROWS, compute_pandas_digest
from flightlog.data.huggingface_dataset_source import HuggingFaceDatasetSource
from flightlog.schema.data_types import Schema
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.inference import infer_schema


class HuggingFaceDataset(ColumnarDataset):
    """A `datasets.Dataset`. Digest and schema are those of its first 10,000 rows."""

    def __init__(
        self,
        ds: Any,  # noqa: ANN401 - a datasets.Dataset
        source: DatasetSource,
        targets: str | None = None,
        name: str | None = None,
        digest: str | None = None,
    ) -> None:
        self._ds = ds
        super().__init__(ds.column_names, source, targets, name, digest)

    def _head(self) -> Any:  # noqa: ANN401 - a pandas frame
        return next(self._ds.to_pandas(batch_size=MAX_ROWS, batched=True))

    def _compute_digest(self) -> str:
        return compute_pandas_digest(self._head())

    @property
    def ds(self) -> Any:  # noqa: ANN401 - a datasets.Dataset
        """The dataset."""
        return self._ds

    @property
    def profile(self) -> dict[str, Any]:
        """How many rows there are, and the sizes in bytes."""
        return {"num_rows": self._ds.num_rows, "dataset_size": self._ds.dataset_size, "size_in_bytes": self._ds.size_in_bytes}

    @cached_property
    def schema(self) -> Schema | None:
        """The columns; None if their types cannot be told."""
        return schema_or_none(lambda: infer_schema(self._head()), self)


def from_huggingface(
    ds: Any,  # noqa: ANN401 - a datasets.Dataset
    path: str | None = None,
    targets: str | None = None,
    data_dir: str | None = None,
    data_files: Any = None,  # noqa: ANN401 - a text, a list or a map
    revision: Any = None,  # noqa: ANN401 - a text or a datasets.Version
    name: str | None = None,
    digest: str | None = None,
    trust_remote_code: bool | None = None,
    source: Any = None,  # noqa: ANN401 - a path, a URI or a DatasetSource
) -> HuggingFaceDataset:
    """Return a `datasets.Dataset` as a dataset. `path`, with what follows, is where it is on the hub; `source` goes before it."""
    if not all(hasattr(ds, member) for member in ("column_names", "num_rows", "to_pandas")):
        raise InvalidParameter(f"from_huggingface needs a datasets.Dataset, not {type(ds).__name__}; choose a split of a DatasetDict")
    if source is None and path is not None:
        source = HuggingFaceDatasetSource(path, ds.config_name, data_dir, data_files, ds.split, revision, trust_remote_code)
    return HuggingFaceDataset(ds, source_of(source), targets, name, digest)
