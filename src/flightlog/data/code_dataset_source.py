"""The source of a dataset that a script made and said nothing else of: the script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flightlog.data.dataset_source import DatasetSource

if TYPE_CHECKING:
    from typing_extensions import Self


class CodeDatasetSource(DatasetSource):
    """The code that made a dataset, told by tags such as those of a run."""

    def __init__(self, tags: Mapping[str, Any] | None) -> None:
        self._tags = tags

    @staticmethod
    def _get_source_type() -> str:
        return "code"

    def load(self, **_: Any) -> Any:  # noqa: ANN401 - it returns nothing
        """Raise `NotImplementedError`: only running the code again would bring the data back."""
        raise NotImplementedError("the source of this dataset is code; run it again to have the data")

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401, ARG004 - see `DatasetSource`
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> Self:  # noqa: ANN401 - see `DatasetSource`
        raise NotImplementedError(f"code is no source that {raw_source!r} could stand for")

    def to_dict(self) -> dict[str, Any]:
        """See `DatasetSource.to_dict`."""
        return {"tags": self._tags}

    @classmethod
    def from_dict(cls, source_dict: Mapping[str, Any]) -> Self:
        """See `DatasetSource.from_dict`."""
        return cls(source_dict.get("tags"))


def this_code() -> CodeDatasetSource:
    """Return the running script as a source, told by the tags that a run begins with."""
    from flightlog.producer.fluent import start_tags  # noqa: PLC0415 - known only to runs, and not needed with another source

    return CodeDatasetSource(start_tags(None, None, None, None))
