"""A dataset of which only is said where it is."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from flightlog.data.dataset import Dataset
from flightlog.data.dataset_source import DatasetSource
from flightlog.schema.data_types import Schema


class MetaDataset(Dataset):
    """A dataset that is not read: its digest is that of its name, source and schema."""

    def __init__(self, source: DatasetSource, name: str | None = None, digest: str | None = None, schema: Schema | None = None) -> None:
        self._schema = schema
        super().__init__(source, name, digest)

    def _compute_digest(self) -> str:
        told = {
            "name": self.name,
            "source": self.source.to_json(),
            "source_type": self.source._get_source_type(),  # noqa: SLF001 - MLflow's name
            "schema": self._schema.to_dict() if self._schema else "",
        }
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]

    @property
    def schema(self) -> Schema | None:
        """The schema that was given."""
        return self._schema

    def to_dict(self) -> dict[str, Any]:
        """See `Dataset.to_dict`."""
        return {**super().to_dict(), **({"schema": json.dumps({"mlflow_colspec": self._schema.to_dict()})} if self._schema else {})}
