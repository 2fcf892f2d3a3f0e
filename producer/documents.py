"""The bytes of artifacts that are logged as objects: dictionaries, figures, streams."""

from __future__ import annotations

import json
import posixpath
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from flightlog.schema.artifact_paths import named_artifact_file
from flightlog.schema.errors import InvalidParameter

PLOTLY_FORMATS = (".png", ".jpeg", ".webp", ".svg", ".pdf")
CHUNK = 1 << 20


class Readable(Protocol):
    """A binary stream."""

    def read(self, size: int = -1, /) -> bytes | None:
        """Return at most `size` bytes, none at the end."""


def dictionary_bytes(dictionary: Any, artifact_file: str) -> bytes:  # noqa: ANN401 - any value
    """Return YAML for a file that ends in .yml or .yaml, else JSON, in which what it has no form for becomes text.

    Raises `InvalidParameter` for what has no form in the file either way, such as a dictionary that holds itself.
    """
    write = _as_yaml if _extension(artifact_file) in (".yml", ".yaml") else _as_json
    try:
        return write(dictionary).encode()
    except Exception as error:
        raise InvalidParameter(f"a {type(dictionary).__name__} cannot be written as {artifact_file!r}: {error}") from error


def _as_json(value: Any) -> str:  # noqa: ANN401 - any value
    return json.dumps(value, indent=2, default=str)


def _as_yaml(value: Any) -> str:  # noqa: ANN401 - any value
    import yaml  # noqa: PLC0415 - rare, and it takes its time

    return str(yaml.dump(value, indent=2, default_flow_style=False))


def text_bytes(text: Any) -> bytes:  # noqa: ANN401 - checked here
    """Return text in UTF-8. Raises `InvalidParameter` for what is none."""
    if not isinstance(text, str):
        raise InvalidParameter(f"a text must be a string, not {type(text).__name__} {repr(text)[:100]}; log bytes with log_stream")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise InvalidParameter(f"the text cannot be written in UTF-8: {error}") from error


def _extension(artifact_file: str) -> str:
    return posixpath.splitext(named_artifact_file(artifact_file))[1]


def stream_bytes(stream: Readable) -> bytes:
    """Return what is left in a binary stream. Raises `TypeError` for one of text."""
    if not hasattr(stream, "read"):
        raise InvalidParameter(f"a stream must be an open file or another with a method read, not {type(stream).__name__}")
    chunks = []
    while chunk := stream.read(CHUNK):
        if not isinstance(chunk, (bytes, bytearray, memoryview)):
            raise TypeError(f"a stream must give bytes, not {type(chunk).__name__}; open the file in binary mode")
        chunks.append(chunk)
    return b"".join(chunks)


def figure_bytes(figure: Any, artifact_file: str, save_kwargs: Mapping[str, Any] | None) -> bytes:  # noqa: ANN401 - matplotlib's or plotly's
    """Return a figure as the bytes of a file of that name. Raises `TypeError` for what is no figure, or in no format that it has.

    Whoever has a figure has imported its library: nothing is imported here.
    """
    extension = _extension(artifact_file)
    if _is_instance(figure, "matplotlib.figure", "Figure"):
        return _matplotlib_bytes(figure, extension, dict(save_kwargs or {}))
    if _is_instance(figure, "plotly.graph_objects", "Figure"):
        return _plotly_bytes(figure, extension, dict(save_kwargs or {}))
    raise TypeError(f"a figure must be matplotlib's or plotly's, not {type(figure).__name__}")


def _is_instance(value: object, module: str, name: str) -> bool:
    kind = getattr(sys.modules.get(module), name, None)
    return kind is not None and isinstance(value, kind)


def _matplotlib_bytes(figure: Any, extension: str, save_kwargs: dict[str, Any]) -> bytes:  # noqa: ANN401 - matplotlib's
    import io  # noqa: PLC0415 - figures are rare

    buffer = io.BytesIO()
    figure.savefig(buffer, **{"format": extension.lstrip(".") or None, **save_kwargs})
    return buffer.getvalue()


def _plotly_bytes(figure: Any, extension: str, save_kwargs: dict[str, Any]) -> bytes:  # noqa: ANN401 - plotly's
    if extension == ".html":
        options = {"include_plotlyjs": "cdn", **save_kwargs}
        options.pop("auto_open", None)  # of `write_html`: nobody looks at the file here
        return str(figure.to_html(**options)).encode()
    if extension not in PLOTLY_FORMATS:
        raise TypeError(f"a plotly figure cannot be logged as {extension!r}; use .html, {', '.join(PLOTLY_FORMATS)}")
    return bytes(figure.to_image(**{"format": extension.lstrip("."), **save_kwargs}))
