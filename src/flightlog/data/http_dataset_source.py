"""Sources on the web."""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import urlopen

from flightlog.data.dataset_source import DatasetSource
from flightlog.schema.errors import InvalidParameter
from flightlog.stores.artifacts.partial import written_whole

if TYPE_CHECKING:
    from typing_extensions import Self

TIMEOUT = 60.0


class HTTPDatasetSource(DatasetSource):
    """A file at an `http:` or `https:` URL."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __repr__(self) -> str:
        return f"HTTPDatasetSource({self._url!r})"

    @property
    def url(self) -> str:
        """Where the file is."""
        return self._url

    @staticmethod
    def _get_source_type() -> str:
        return "http"

    def load(self, dst_path: str | None = None) -> str:
        """Fetch the file into a folder, a new temporary one by default, and return its path there."""
        if not self._can_resolve(self._url):
            raise InvalidParameter(f"{self._url!r} is no http or https URL")
        with urlopen(self._url, timeout=TIMEOUT) as response:  # noqa: S310 - the scheme is checked
            folder = Path(dst_path or tempfile.mkdtemp())
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / self._file_name(response.headers.get("Content-Disposition", ""))
            with written_whole(path) as partial, partial.open("wb") as target:
                shutil.copyfileobj(response, target)
                if response.length:
                    raise OSError(f"{self._url} ended {response.length:,} bytes before its end; load it again")
        return str(path)

    def _file_name(self, disposition: str) -> str:
        """Return the name that the server gives the file, or that it has in the URL."""
        given = re.search(r"filename=\s*(\"[^\"]*\"|[^;]+)", disposition)
        name = given[1].strip("\"' ") if given else posixpath.basename(urlsplit(self._url).path) or "dataset_source"
        if name in ("", ".", "..") or "/" in name or "\\" in name:
            raise InvalidParameter(f"the server at {self._url!r} names the file {name!r}, which is no plain name; it is not stored")
        return name

    @staticmethod
    def _can_resolve(raw_source: Any) -> bool:  # noqa: ANN401 - see `DatasetSource`
        return isinstance(raw_source, str) and urlsplit(raw_source).scheme in ("http", "https")

    @classmethod
    def _resolve(cls, raw_source: Any) -> Self:  # noqa: ANN401 - see `DatasetSource`
        return cls(raw_source)

    def to_dict(self) -> dict[str, Any]:
        """See `DatasetSource.to_dict`."""
        return {"url": self._url}

    @classmethod
    def from_dict(cls, source_dict: Mapping[str, Any]) -> Self:
        """See `DatasetSource.from_dict`."""
        if source_dict.get("url") is None:
            raise InvalidParameter(f"a source of the type http needs a 'url', which is not in {dict(source_dict)!r}")
        return cls(source_dict["url"])
