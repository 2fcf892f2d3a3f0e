"""Which source a URI, a path or JSON stands for."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from flightlog.data.code_dataset_source import CodeDatasetSource, this_code
from flightlog.data.dataset import Dataset
from flightlog.data.dataset_source import DatasetSource
from flightlog.data.filesystem_dataset_source import FILE_SOURCES
from flightlog.data.http_dataset_source import HTTPDatasetSource
from flightlog.data.huggingface_dataset_source import HuggingFaceDatasetSource
from flightlog.schema.entities import Dataset as DatasetEntity
from flightlog.schema.entities import DatasetInput
from flightlog.schema.errors import InvalidParameter, NotFound

if TYPE_CHECKING:
    from typing_extensions import Self

_sources: list[type[DatasetSource]] = [*FILE_SOURCES, HTTPDatasetSource, HuggingFaceDatasetSource, CodeDatasetSource]
"""The later ones go before the earlier ones."""


class ForeignDatasetSource(DatasetSource):
    """A source of a kind that is not known here, such as a Spark table that was logged elsewhere: what JSON says of it is kept."""

    def __init__(self, told: Mapping[str, Any]) -> None:
        self._told = dict(told)

    @staticmethod
    def _get_source_type() -> str:
        return "unknown"

    def load(self, **_: Any) -> Any:  # noqa: ANN401 - it returns nothing
        """Raise `NotImplementedError`."""
        raise NotImplementedError(f"a source of this kind cannot be loaded here: {self._told!r}")

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401, ARG004 - see `DatasetSource`
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> Self:  # noqa: ANN401 - see `DatasetSource`
        raise NotImplementedError(f"nothing is known of the source {raw_source!r}")

    def to_dict(self) -> dict[str, Any]:
        """See `DatasetSource.to_dict`."""
        return dict(self._told)

    @classmethod
    def from_dict(cls, source_dict: Mapping[str, Any]) -> Self:
        """See `DatasetSource.from_dict`."""
        return cls(source_dict)


def register_dataset_source(source: type[DatasetSource]) -> None:
    """Have a kind of source known; it goes before those that are known already."""
    _sources.append(source)


def get_registered_sources() -> list[type[DatasetSource]]:
    """Return the kinds of sources that are known."""
    return list(_sources)


def resolve_dataset_source(raw_source: Any, candidate_sources: Sequence[type[DatasetSource]] | None = None) -> DatasetSource:  # noqa: ANN401 - whatever a script gave
    """Return the source that a URI, a path or another object stands for. Raises `NotFound` if no known kind can tell."""
    wanted = tuple(candidate_sources or (DatasetSource,))
    for source in reversed(_sources):
        if issubclass(source, wanted) and source._can_resolve(raw_source):  # noqa: SLF001 - MLflow's name
            return source._resolve(raw_source)  # noqa: SLF001 - MLflow's name
    raise NotFound(f"no kind of source is known for {raw_source!r}; give a path, a URI such as s3://bucket/key, or a DatasetSource")


def source_of(given: Any) -> DatasetSource:  # noqa: ANN401 - whatever a script gave
    """Return the source that a script gave; the script itself if it gave none."""
    if given is None:
        return this_code()
    if isinstance(given, DatasetSource) or (hasattr(given, "to_json") and hasattr(given, "_get_source_type")):
        return given  # type: ignore[no-any-return]  # one of MLflow's own does as well
    return resolve_dataset_source(given)


def get_dataset_source_from_json(source_json: str, source_type: str) -> DatasetSource:
    """Return the source that JSON tells of; of a kind that is not known one that can only say what JSON says."""
    for source in reversed(_sources):
        if source._get_source_type() == source_type:  # noqa: SLF001 - MLflow's name
            return source.from_json(source_json)
    warnings.warn(f"sources of the type {source_type!r} are not known here; the data cannot be loaded from it", stacklevel=2)
    return ForeignDatasetSource(json.loads(source_json))


def get_source(dataset: DatasetEntity | DatasetInput | Dataset) -> DatasetSource:
    """Return the source of a dataset: of one to be logged, or of what a run shows of one."""
    if isinstance(dataset, DatasetInput):
        dataset = dataset.dataset
    if isinstance(dataset, DatasetEntity):
        return get_dataset_source_from_json(dataset.source, dataset.source_type)
    if isinstance(dataset, Dataset):
        return dataset.source
    raise InvalidParameter(f"get_source needs a dataset or a dataset input, not {type(dataset).__name__} {str(dataset)[:100]!r}")
