"""Digests of data, equal to MLflow's: the first 8 hexadecimal digits of an MD5 over hashes of the first rows, the sizes and the names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from flightlog.schema.errors import FlightlogException, InvalidParameter

MAX_ROWS = 10_000
"""Rows, or items of an array, that are looked at."""


def pandas() -> Any:  # noqa: ANN401 - a module
    """Return pandas. Raises `FlightlogException` where it is not installed."""
    try:
        import pandas as pd  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise FlightlogException("the digest of a dataset needs pandas: pip install 'flightlog[pandas]'") from error
    return pd


def compute_pandas_digest(df: Any) -> str:  # noqa: ANN401 - a pandas frame
    """Return the digest of a frame: of the columns that hold numbers or nothing but texts, of how many rows there are, and of all names."""
    head = df.head(MAX_ROWS)
    texts = head.columns[[_is_text(df.iloc[:, place]) for place in range(df.shape[1])]]
    numbers = head.select_dtypes(include=[np.number]).columns
    hashes = pandas().util.hash_pandas_object(head[texts.union(numbers)]).to_numpy()
    return get_normalized_md5_digest([hashes, np.int64(len(df)), *(str(name).encode() for name in df.columns)])


def _is_text(column: Any) -> bool:  # noqa: ANN401 - a pandas column
    """Say whether a column holds nothing but texts; one without rows does."""
    return (not len(column) or column.dtype.kind in "OU") and all(type(value) is str for value in column)


def compute_numpy_digest(features: Any, targets: Any = None) -> str:  # noqa: ANN401 - arrays or maps of them
    """Return the digest of arrays, or maps of arrays: of their first items and their shapes."""
    arrays = [array for data in (features, targets) if data is not None for array in _arrays(data)]
    return get_normalized_md5_digest(part for array in arrays for part in (*hashed(array), *map(np.int64, array.shape)))


def _arrays(data: Any) -> Iterator[Any]:  # noqa: ANN401 - an array or a map of them
    if isinstance(data, dict):
        yield from (data[key] for key in sorted(data))
    else:
        yield data


def hashed(array: Any) -> Iterator[Any]:  # noqa: ANN401 - an array
    """Yield the hashes of the first items of an array; of what cannot be hashed, how many items were looked at."""
    head = array.flat[:MAX_ROWS]
    try:
        yield pandas().util.hash_array(head)
    except TypeError:
        yield np.int64(head.size)


def get_normalized_md5_digest(elements: Iterable[Any]) -> str:
    """Return the first 8 hexadecimal digits of the MD5 of bytes, numpy numbers and arrays. Raises `InvalidParameter` for nothing."""
    every = list(elements)
    if not every:
        raise InvalidParameter("there is nothing to make a digest of; give the dataset a digest")
    md5 = hashlib.md5(usedforsecurity=False)
    for element in every:
        md5.update(element)
    return md5.hexdigest()[:8]
