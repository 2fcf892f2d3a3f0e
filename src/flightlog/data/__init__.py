"""Datasets to log to runs: `from_pandas`, `from_numpy`, `from_polars`, `from_huggingface`, `from_tensorflow`, `MetaDataset`.

A dataset has a name, a digest, a source, a schema and a profile; digests and JSON equal MLflow's. Nothing of the data itself is stored.
The libraries that the data come from are imported with what is asked for first.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flightlog.data.dataset import Dataset
    from flightlog.data.dataset_source import DatasetSource
    from flightlog.data.dataset_source_registry import get_source
    from flightlog.data.huggingface_dataset import from_huggingface
    from flightlog.data.meta_dataset import MetaDataset
    from flightlog.data.numpy_dataset import from_numpy
    from flightlog.data.pandas_dataset import from_pandas
    from flightlog.data.polars_dataset import from_polars
    from flightlog.data.tensorflow_dataset import from_tensorflow

_LAZY = {
    "Dataset": "dataset",
    "DatasetSource": "dataset_source",
    "MetaDataset": "meta_dataset",
    "from_huggingface": "huggingface_dataset",
    "from_numpy": "numpy_dataset",
    "from_pandas": "pandas_dataset",
    "from_polars": "polars_dataset",
    "from_tensorflow": "tensorflow_dataset",
    "get_source": "dataset_source_registry",
}
_MODULES = (
    *("code_dataset_source", "dataset", "dataset_source", "dataset_source_registry", "digest_utils", "filesystem_dataset_source"),
    *("http_dataset_source", "huggingface_dataset", "huggingface_dataset_source", "meta_dataset", "numpy_dataset", "pandas_dataset"),
    *("polars_dataset", "schema", "sources", "tensorflow_dataset"),
)

__all__ = [
    "Dataset",
    "DatasetSource",
    "MetaDataset",
    "from_huggingface",
    "from_numpy",
    "from_pandas",
    "from_polars",
    "from_tensorflow",
    "get_source",
]


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any member
    if name in _LAZY:
        value = getattr(import_module(f"flightlog.data.{_LAZY[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"flightlog.data.{name}")
    else:
        raise AttributeError(f"module 'flightlog.data' has no attribute {name!r}")
    globals()[name] = value
    return value
