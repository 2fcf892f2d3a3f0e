"""Datasets that are numpy arrays."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from flightlog.data.dataset import Dataset, schema_or_none
from flightlog.data.dataset_source import DatasetSource
from flightlog.data.dataset_source_registry import source_of
from flightlog.data.digest_utils import compute_numpy_digest
from flightlog.data.schema import TensorDatasetSchema
from flightlog.schema.inference import infer_schema

Arrays = npt.NDArray[Any] | dict[str, npt.NDArray[Any]]


class NumpyDataset(Dataset):
    """An array, or a map of arrays, of features, and one of targets or none."""

    def __init__(
        self, features: Arrays, source: DatasetSource, targets: Arrays | None = None, name: str | None = None, digest: str | None = None
    ) -> None:
        self._features, self._targets = features, targets
        super().__init__(source, name, digest)

    def _compute_digest(self) -> str:
        return compute_numpy_digest(self._features, self._targets)

    @property
    def features(self) -> Arrays:
        """The features."""
        return self._features

    @property
    def targets(self) -> Arrays | None:
        """The targets, or None."""
        return self._targets

    @property
    def profile(self) -> dict[str, Any]:
        """Shape, number of items and of bytes of features and targets."""
        parts = {"features": self._features, **({} if self._targets is None else {"targets": self._targets})}
        return {f"{part}_{name}": _attribute(data, name) for part, data in parts.items() for name in ("shape", "size", "nbytes")}

    @cached_property
    def schema(self) -> TensorDatasetSchema | None:
        """The tensors; None if nothing can be told of them."""
        return schema_or_none(self._inferred, self)

    def _inferred(self) -> TensorDatasetSchema:
        return TensorDatasetSchema(infer_schema(self._features), None if self._targets is None else infer_schema(self._targets))

    def to_dict(self) -> dict[str, Any]:
        """See `Dataset.to_dict`."""
        schema = self.schema.to_json() if self.schema else None
        return {**super().to_dict(), "schema": schema, "profile": json.dumps(self.profile)}


def _attribute(data: Arrays, name: str) -> Any:  # noqa: ANN401 - a shape or a number
    return {key: getattr(array, name) for key, array in data.items()} if isinstance(data, dict) else getattr(data, name)


def from_numpy(
    features: Arrays,
    source: Any = None,  # noqa: ANN401 - a path, a URI or a DatasetSource
    targets: Arrays | None = None,
    name: str | None = None,
    digest: str | None = None,
) -> NumpyDataset:
    """Return arrays as a dataset. The source is a path, a URI or a `DatasetSource`; without one it is the running script."""
    return NumpyDataset(_as_arrays(features), source_of(source), None if targets is None else _as_arrays(targets), name, digest)


def _as_arrays(data: Any) -> Arrays:  # noqa: ANN401 - arrays, or what becomes one
    return data if isinstance(data, dict) or hasattr(data, "flat") else np.asarray(data)
