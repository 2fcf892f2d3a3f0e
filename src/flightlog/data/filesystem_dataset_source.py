"""Sources that are files: on a disk of this machine, or in a store of objects."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from flightlog.data.dataset_source import DatasetSource
from flightlog.schema.errors import InvalidParameter

if TYPE_CHECKING:
    from typing_extensions import Self


class FileSystemDatasetSource(DatasetSource):
    """Files at a URI. A subclass says of which scheme."""

    scheme: ClassVar[str]

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._uri!r})"

    @property
    def uri(self) -> str:
        """Where the files are."""
        return self._uri

    def load(self, dst_path: str | None = None) -> str:
        """Copy the files to a folder, a new temporary one by default, and return the path there."""
        from flightlog.artifacts import download_artifacts  # noqa: PLC0415 - brings the stores along

        return download_artifacts(self._uri, dst_path=dst_path)

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401, ARG004 - see `DatasetSource`
        return False

    @classmethod
    def _resolve(cls, raw_source: Any) -> Self:  # noqa: ANN401 - see `DatasetSource`
        return cls(str(raw_source))

    def to_dict(self) -> dict[str, Any]:
        """See `DatasetSource.to_dict`."""
        return {"uri": self._uri}

    @classmethod
    def from_dict(cls, source_dict: Mapping[str, Any]) -> Self:
        """See `DatasetSource.from_dict`."""
        if source_dict.get("uri") is None:
            raise InvalidParameter(f"a source of the type {cls._get_source_type()} needs a 'uri', which is not in {dict(source_dict)!r}")
        return cls(source_dict["uri"])


class LocalArtifactDatasetSource(FileSystemDatasetSource):
    """Files on a disk of this machine."""

    scheme = "file"

    @staticmethod
    def _get_source_type() -> str:
        return "local"

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401 - see `DatasetSource`
        return isinstance(raw_source, (str, Path)) and is_local(str(raw_source))

    def load(self, dst_path: str | None = None) -> str:
        """Return the path of the files; with `dst_path` copy them there."""
        if dst_path is not None:
            return super().load(dst_path)
        from urllib.request import url2pathname  # noqa: PLC0415 - few ask for the data again

        path = Path(url2pathname(urlsplit(self._uri).path) if self._uri.startswith("file:") else self._uri)
        if not path.exists():
            raise InvalidParameter(f"the source of the dataset is {self._uri!r}, where nothing is on this machine now")
        return str(path)


def is_local(uri: str) -> bool:
    """Say whether a URI or path is one of this machine: it has no scheme, or the scheme `file`, or a letter of a Windows drive."""
    scheme = urlsplit(uri).scheme
    return scheme in ("", "file") or (os.name == "nt" and len(scheme) == 1)


def _of_scheme(scheme: str, name: str) -> type[FileSystemDatasetSource]:
    def source_type() -> str:
        return scheme

    def can_resolve(raw_source: Any) -> bool:  # noqa: ANN401 - see `DatasetSource`
        return isinstance(raw_source, (str, Path)) and urlsplit(str(raw_source)).scheme == scheme

    members = {
        "__doc__": f"Files at a URI of the scheme {scheme}.",
        "__module__": __name__,
        "scheme": scheme,
        "_get_source_type": staticmethod(source_type),
        "_can_resolve": staticmethod(can_resolve),
    }
    return type(name, (FileSystemDatasetSource,), members)


S3ArtifactDatasetSource = _of_scheme("s3", "S3ArtifactDatasetSource")
R2ArtifactDatasetSource = _of_scheme("r2", "R2ArtifactDatasetSource")
B2ArtifactDatasetSource = _of_scheme("b2", "B2ArtifactDatasetSource")
GCSArtifactDatasetSource = _of_scheme("gs", "GCSArtifactDatasetSource")
AzureBlobArtifactDatasetSource = _of_scheme("wasbs", "AzureBlobArtifactDatasetSource")
FTPArtifactDatasetSource = _of_scheme("ftp", "FTPArtifactDatasetSource")
SFTPArtifactDatasetSource = _of_scheme("sftp", "SFTPArtifactDatasetSource")
HdfsArtifactDatasetSource = _of_scheme("hdfs", "HdfsArtifactDatasetSource")
ViewfsArtifactDatasetSource = _of_scheme("viewfs", "ViewfsArtifactDatasetSource")
AzureDataLakeArtifactDatasetSource = _of_scheme("abfss", "AzureDataLakeArtifactDatasetSource")

FILE_SOURCES: tuple[type[FileSystemDatasetSource], ...] = (
    LocalArtifactDatasetSource,
    S3ArtifactDatasetSource,
    R2ArtifactDatasetSource,
    B2ArtifactDatasetSource,
    GCSArtifactDatasetSource,
    AzureBlobArtifactDatasetSource,
    FTPArtifactDatasetSource,
    SFTPArtifactDatasetSource,
    HdfsArtifactDatasetSource,
    ViewfsArtifactDatasetSource,
    AzureDataLakeArtifactDatasetSource,
)
