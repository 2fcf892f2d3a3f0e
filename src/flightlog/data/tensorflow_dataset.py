"""Datasets and tensors of TensorFlow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np

from flightlog.data.dataset import Dataset, schema_or_none
from flightlog.data.dataset_source import DatasetSource
from flightlog.data.dataset_source_registry import source_of
from flightlog.data.digest_utils import compute_numpy_digest, get_normalized_md5_digest, hashed
from flightlog.data.schema import TensorDatasetSchema
from flightlog.schema.data_types import Schema
from flightlog.schema.errors import FlightlogException, InvalidParameter
from flightlog.schema.inference import infer_schema


def _tensorflow() -> Any:  # noqa: ANN401 - a module
    try:
        import tensorflow as tf  # noqa: PLC0415 - an optional library
    except ImportError as error:
        raise FlightlogException("a dataset of tensors needs the library: pip install tensorflow") from error
    return tf


class TensorFlowDataset(Dataset):
    """A `tf.data.Dataset` or a tensor of features, and one of the same kind of targets or none."""

    def __init__(
        self,
        features: Any,  # noqa: ANN401 - a tf.data.Dataset or a tensor
        source: DatasetSource,
        targets: Any = None,  # noqa: ANN401 - the same
        name: str | None = None,
        digest: str | None = None,
    ) -> None:
        tf = _tensorflow()
        self._is_tensor = bool(tf.is_tensor(features))
        self._flatten = tf.nest.flatten
        for given in (features, *(() if targets is None else (targets,))):
            if not (tf.is_tensor(given) if self._is_tensor else isinstance(given, tf.data.Dataset)):
                raise InvalidParameter(f"features and targets must be tensors, or both a tf.data.Dataset, not {type(given).__name__}")
        self._features, self._targets = features, targets
        super().__init__(source, name, digest)

    def _compute_digest(self) -> str:
        if self._is_tensor:
            return compute_numpy_digest(self._features.numpy(), None if self._targets is None else self._targets.numpy())
        return get_normalized_md5_digest(self._hashes())

    def _hashes(self) -> Iterator[Any]:
        for data in (self._features, *(() if self._targets is None else (self._targets,))):
            for element in data.as_numpy_iterator():
                if element is not None:
                    yield from hashed(np.concatenate([part.flatten() for part in self._flatten(element)]))

    @property
    def data(self) -> Any:  # noqa: ANN401 - as given
        """The features."""
        return self._features

    @property
    def targets(self) -> Any:  # noqa: ANN401 - as given
        """The targets, or None."""
        return self._targets

    @property
    def profile(self) -> dict[str, Any]:
        """How many items features and targets have."""
        found = {"features_cardinality": self._cardinality(self._features)}
        return found if self._targets is None else {**found, "targets_cardinality": self._cardinality(self._targets)}

    def _cardinality(self, data: Any) -> int:  # noqa: ANN401 - as given
        return int(_tensorflow().size(data).numpy() if self._is_tensor else data.cardinality().numpy())

    @cached_property
    def schema(self) -> TensorDatasetSchema | None:
        """The tensors; None if nothing can be told of them."""
        return schema_or_none(self._inferred, self)

    def _inferred(self) -> TensorDatasetSchema:
        return TensorDatasetSchema(self._schema_of(self._features), None if self._targets is None else self._schema_of(self._targets))

    def _schema_of(self, data: Any) -> Schema:  # noqa: ANN401 - as given
        first = data.numpy() if self._is_tensor else next(data.as_numpy_iterator())
        named = {str(place): item for place, item in enumerate(first)} if isinstance(first, tuple) else first
        parts = named.values() if isinstance(named, dict) else [named]
        if not all(isinstance(part, np.ndarray) for part in parts):
            raise InvalidParameter("only of plain tensors, lists of them and maps of them a schema can be told")
        return infer_schema(named)

    def to_dict(self) -> dict[str, Any]:
        """See `Dataset.to_dict`."""
        schema = self.schema.to_json() if self.schema else None
        return {**super().to_dict(), "schema": schema, "profile": json.dumps(self.profile)}


def from_tensorflow(
    features: Any,  # noqa: ANN401 - a tf.data.Dataset or a tensor
    source: Any = None,  # noqa: ANN401 - a path, a URI or a DatasetSource
    targets: Any = None,  # noqa: ANN401 - as the features
    name: str | None = None,
    digest: str | None = None,
) -> TensorFlowDataset:
    """Return a `tf.data.Dataset` or tensors as a dataset. The source is as in `from_pandas`."""
    return TensorFlowDataset(features, source_of(source), targets, name, digest)
