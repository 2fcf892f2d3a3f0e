"""Sources on the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from flightlog.data.dataset_source import DatasetSource
from flightlog.schema.errors import FlightlogException, InvalidParameter

if TYPE_CHECKING:
    from typing_extensions import Self

FIELDS = ("path", "config_name", "data_dir", "data_files", "split", "revision")


class HuggingFaceDatasetSource(DatasetSource):
    """What `datasets.load_dataset` was given; `config_name` is its `name`."""

    def __init__(
        self,
        path: str,
        config_name: str | None = None,
        data_dir: str | None = None,
        data_files: Any = None,  # noqa: ANN401 - a text, a list or a map
        split: Any = None,  # noqa: ANN401 - a text or a datasets.Split
        revision: Any = None,  # noqa: ANN401 - a text or a datasets.Version
        trust_remote_code: bool | None = None,
    ) -> None:
        self.path, self.config_name, self.data_dir, self.data_files = path, config_name, data_dir, data_files
        self.split, self.revision, self.trust_remote_code = split, revision, trust_remote_code

    @staticmethod
    def _get_source_type() -> str:
        return "hugging_face"

    def load(self, **kwargs: Any) -> Any:  # noqa: ANN401 - a datasets.Dataset
        """Load the dataset with `datasets.load_dataset`, to which further arguments go."""
        try:
            from datasets import load_dataset  # noqa: PLC0415 - an optional library
        except ImportError as error:
            raise FlightlogException("loading a Hugging Face dataset needs the library: pip install datasets") from error

        given: dict[str, Any] = {"path": self.path, "name": self.config_name, "data_dir": self.data_dir, "data_files": self.data_files}
        given |= {"split": self.split, "revision": self.revision}
        if self.trust_remote_code is not None:
            given["trust_remote_code"] = self.trust_remote_code
        if twice := given.keys() & kwargs.keys():
            raise InvalidParameter(f"{', '.join(sorted(twice))} is said by the source already; leave it out")
        return load_dataset(**given, **kwargs)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401, ARG004 - see `DatasetSource`
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> Self:  # noqa: ANN401 - see `DatasetSource`
        raise NotImplementedError(f"give from_huggingface the path of the dataset, instead of {raw_source!r}")

    def to_dict(self) -> dict[str, Any]:
        """See `DatasetSource.to_dict`."""
        return {**{name: getattr(self, name) for name in FIELDS}, "split": str(self.split)}

    @classmethod
    def from_dict(cls, source_dict: Mapping[str, Any]) -> Self:
        """See `DatasetSource.from_dict`. A split of which nothing was said is none."""
        told: dict[str, Any] = {name: source_dict.get(name) for name in FIELDS}
        return cls(**{**told, "split": None if told["split"] == "None" else told["split"]})
