"""Pages of a search: the limit of a page, and the token that says where the next one starts.

A token holds the sort values of a page's last row, so that a page costs the same wherever it lies and rows that come or go in between
shift nothing. A digest ties it to its search.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
from collections.abc import Sequence
from typing import Any

import msgpack

from flightlog.schema.entities import LifecycleStage, ViewType
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.filters.nodes import Field, OrderKey

MAX_RESULTS = 50_000
TEXT_LENGTH = 256
"""Texts are sorted by this many of their first characters, which keeps a token short."""

PRESENT, NAN, MISSING = 0, 1, 2
SortValue = tuple[int, int | float | str]
"""What one key of an order compares: PRESENT, NAN or MISSING, ascending always; then the value in the key's direction."""
Position = tuple[SortValue, ...]
"""The sort values of a row, one for each key of the order."""

STAGES = {
    ViewType.ACTIVE_ONLY: (LifecycleStage.ACTIVE,),
    ViewType.DELETED_ONLY: (LifecycleStage.DELETED,),
    ViewType.ALL: (LifecycleStage.ACTIVE, LifecycleStage.DELETED),
}
NUMBER_ATTRIBUTES = frozenset({"start_time", "end_time", "creation_time", "last_update_time", "experiment_id"})


def check_max_results(max_results: object) -> int:
    """Return the limit of a page if it is an integer from 1 to 50,000."""
    if isinstance(max_results, bool) or not isinstance(max_results, int) or not 1 <= max_results <= MAX_RESULTS:
        raise InvalidParameter(f"max_results must be an integer from 1 to {MAX_RESULTS}, not {max_results!r}")
    return max_results


def lifecycle_stages(view_type: object) -> tuple[str, ...]:
    """Return the lifecycle stages that a `ViewType` shows."""
    for known, stages in STAGES.items():
        if view_type == known:
            return stages
    raise InvalidParameter(f"a view type must be 1 (active only), 2 (deleted only) or 3 (all), not {view_type!r}")


def experiment_keys(experiment_ids: Sequence[str]) -> list[int]:
    """Return experiment ids as numbers. Raises `InvalidParameter` for one that is not decimal: there can be no such experiment."""
    if isinstance(experiment_ids, str):
        raise InvalidParameter(f"experiment ids must be a list of strings, not the string {experiment_ids!r}")
    wrong = [item for item in experiment_ids if not _is_decimal(item)]
    if wrong:
        raise InvalidParameter(f"an experiment id must be a decimal number as a string, not {wrong[0]!r}")
    return sorted({int(item) for item in experiment_ids})


def _is_decimal(text: object) -> bool:
    return isinstance(text, str) and len(text) < 20 and text.isascii() and text.isdigit() and int(text) < 2**63


def is_text(field: Field) -> bool:
    """Say whether a field is sorted as text; else it is a number."""
    return field.kind in ("param", "tag") or (field.kind == "attribute" and field.key not in NUMBER_ATTRIBUTES)


def digest(*query: object) -> bytes:
    """Return eight bytes that differ for different searches."""
    return hashlib.sha256(repr(query).encode("utf-8", "backslashreplace")).digest()[:8]


def encode_token(position: Position, query: bytes) -> str:
    """Return the token of the page that follows a row; `query` is the search's `digest`."""
    packed: bytes = msgpack.packb([query, position])
    return base64.urlsafe_b64encode(packed).rstrip(b"=").decode()


def decode_token(token: str, order: Sequence[OrderKey], query: bytes) -> Position:
    """Return the row that a token was made for. Raises `InvalidParameter` for a token of another search, or one that is none."""
    match _unpack(token):
        case [bytes(known), list(values)] if known != query:
            raise InvalidParameter(f"the page token {token[:100]!r} belongs to another search; start again without it")
        case [bytes(), list(values)] if _fits(values, order):
            return tuple((rank, value) for rank, value in values)
    raise InvalidParameter(f"{str(token)[:100]!r} is no page token; use the one that came with the page before, unchanged")


def _unpack(token: str) -> Any:  # noqa: ANN401 - whatever the token held
    try:
        return msgpack.unpackb(base64.b64decode(token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True))
    except (AttributeError, ValueError, binascii.Error, msgpack.UnpackException):
        return None


def _fits(values: list[Any], order: Sequence[OrderKey]) -> bool:
    return len(values) == len(order) and all(_fits_key(value, key.field) for value, key in zip(values, order, strict=True))


def _fits_key(value: Any, field: Field) -> bool:  # noqa: ANN401 - whatever the token held
    match value:
        case [bool(), _] | [_, bool()]:
            return False
        case [0 | 1 | 2, str()]:
            return is_text(field)
        case [0 | 1 | 2, int(number) | float(number)]:
            return not is_text(field) and math.isfinite(number) and (isinstance(number, float) or -(2**63) <= number < 2**63)
    return False
