"""The schema of a dataset that is made of tensors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flightlog.schema.data_types import Schema
from flightlog.schema.errors import InvalidParameter


@dataclass(frozen=True)
class TensorDatasetSchema:
    """The schema of features and, if there are any, of targets."""

    features: Schema
    targets: Schema | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as JSON has it."""
        targets = None if self.targets is None else self.targets.to_json()
        return {"mlflow_tensorspec": {"features": self.features.to_json(), "targets": targets}}

    def to_json(self) -> str:
        """Return the schema as JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    def from_dict(cls, schema_dict: Mapping[str, Any]) -> TensorDatasetSchema:
        """Return the schema that JSON tells of."""
        told = schema_dict.get("mlflow_tensorspec")
        if told is None:
            raise InvalidParameter(f"a schema of tensors has the key 'mlflow_tensorspec', which is not in {dict(schema_dict)!r}")
        targets = told.get("targets")
        return cls(Schema.from_json(told["features"]), None if targets is None else Schema.from_json(targets))
