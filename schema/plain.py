"""Unpacking msgpack that somebody else packed, where its shape is known: one array, with at most one map in it and nothing nested.

A megabyte of msgpack can hold a million empty arrays, each an object of sixty bytes. What nests is refused at its first nested value.
"""

from __future__ import annotations

from typing import Any

import msgpack

MAX_ITEMS = 16
"""Items of the array."""
MAX_NAMES = 1 << 20
"""Names in one table: so many that no run comes near, and few enough that they fit into memory."""


class _Once:
    """A hook that lets one value of its kind pass."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._passed = False

    def __call__(self, value: Any) -> Any:  # noqa: ANN401 - whatever the bytes held
        if self._passed:
            raise ValueError(f"there is more than one {self._kind} in it")
        self._passed = True
        return value


def unpack_plain(packed: bytes, max_map: int = 0) -> list[Any]:
    """Return the items of an array that holds no array, and at most one map, of at most `max_map` entries.

    Raises `ValueError`, `TypeError` or `msgpack.UnpackException` for anything else, within bounded memory.
    """
    found = msgpack.unpackb(
        packed,
        strict_map_key=False,
        max_array_len=MAX_ITEMS,
        max_map_len=max_map,
        max_ext_len=0,
        list_hook=_Once("array"),
        object_hook=_Once("map"),
    )
    if type(found) is not list:
        raise ValueError(f"it is no array but {type(found).__name__}")
    return found
