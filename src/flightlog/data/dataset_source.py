"""Where a dataset came from."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self


class DatasetSource(ABC):
    """Where a dataset came from: what a subclass says of it becomes JSON, and comes back from it."""

    @staticmethod
    @abstractmethod
    def _get_source_type() -> str:
        """Return the word for sources of this kind, such as `s3`."""

    @abstractmethod
    def load(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - a path, a frame or whatever the source gives
        """Fetch the data, and return them or the path where they are now."""

    @staticmethod
    @abstractmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401 - whatever a script gave
        """Say whether a source of this kind can be made of a URI, a path or another object."""

    @classmethod
    @abstractmethod
    def _resolve(cls, raw_source: Any) -> Self:  # noqa: ANN401 - whatever a script gave
        """Return the source that a URI, a path or another object stands for."""

    @abstractmethod
    def to_dict(self) -> dict[str, Any]:
        """Return what JSON says of the source."""

    def to_json(self) -> str:
        """Return the source as JSON."""
        return json.dumps(self.to_dict())

    @classmethod
    @abstractmethod
    def from_dict(cls, source_dict: Mapping[str, Any]) -> Self:
        """Return the source that JSON tells of."""

    @classmethod
    def from_json(cls, source_json: str) -> Self:
        """Return the source that JSON tells of."""
        return cls.from_dict(json.loads(source_json))
