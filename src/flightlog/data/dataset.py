"""What all datasets have."""

from __future__ import annotations

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeVar

from flightlog.data.dataset_source import DatasetSource
from flightlog.schema.entities import Dataset as DatasetEntity
from flightlog.schema.errors import FlightlogException, InvalidParameter

log = logging.getLogger("flightlog")

T = TypeVar("T")


class Dataset(ABC):
    """A dataset that can be logged to a run. Its digest, if none is given, is that of the data as they are now."""

    def __init__(self, source: DatasetSource, name: str | None = None, digest: str | None = None) -> None:
        """Subclasses call this when `_compute_digest` has what it needs."""
        self._name, self._source = name, source
        self._digest = digest or self._compute_digest()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}, digest {self.digest}>"

    @abstractmethod
    def _compute_digest(self) -> str:
        """Return the digest, at most 36 characters."""

    @property
    def name(self) -> str:
        """The name, `dataset` if none was given."""
        return self._name if self._name is not None else "dataset"

    @property
    def digest(self) -> str:
        """What tells datasets of one name apart."""
        return self._digest

    @property
    def source(self) -> DatasetSource:
        """Where the data came from."""
        return self._source

    @property
    def profile(self) -> Any:  # noqa: ANN401 - any JSON value
        """Numbers about the data, such as how many rows there are; None if there are none."""
        return None

    @property
    def schema(self) -> Any:  # noqa: ANN401 - a schema of any kind
        """What the data look like; None if that cannot be told."""
        return None

    def to_dict(self) -> dict[str, Any]:
        """Return what is logged of the dataset, the parts as JSON. Subclasses add `schema` and `profile`."""
        source_type = self.source._get_source_type()  # noqa: SLF001 - MLflow's name
        return {"name": self.name, "digest": self.digest, "source": self.source.to_json(), "source_type": source_type}

    def to_json(self) -> str:
        """Return what is logged of the dataset as JSON."""
        return json.dumps(self.to_dict())

    def _to_mlflow_entity(self) -> DatasetEntity:
        told = self.to_dict()
        return DatasetEntity(told["name"], told["digest"], told["source_type"], told["source"], told.get("schema"), told.get("profile"))


class ColumnarDataset(Dataset):
    """A dataset whose schema tells of columns. `targets` and `predictions` are the names of columns."""

    def __init__(self, columns: Any, source: DatasetSource, targets: str | None, name: str | None, digest: str | None) -> None:  # noqa: ANN401 - names
        self._targets = checked_column("targets", targets, columns)
        super().__init__(source, name, digest)

    @property
    def targets(self) -> str | None:
        """The name of the column of targets, or None."""
        return self._targets

    def to_dict(self) -> dict[str, Any]:
        """See `Dataset.to_dict`."""
        schema = json.dumps({"mlflow_colspec": self.schema.to_dict()}, default=str) if self.schema else None
        return {**super().to_dict(), "schema": schema, "profile": json.dumps(self.profile)}


def checked_column(what: str, name: str | None, columns: Any) -> str | None:  # noqa: ANN401 - the names of columns
    """Return the name of a column if there is one. Raises `InvalidParameter`."""
    if name is not None and name not in columns:
        raise InvalidParameter(f"the {what} column {name!r} is not among the columns {', '.join(map(repr, list(columns)[:20]))}")
    return name


def schema_or_none(infer: Callable[[], T], dataset: Dataset) -> T | None:
    """Return a schema; None, with a line in the debug log, for data of which none can be told."""
    try:
        return infer()
    except (FlightlogException, TypeError, ValueError) as error:
        log.debug("no schema can be told of the dataset %r: %s", dataset.name, error)
        return None
