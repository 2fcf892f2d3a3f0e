"""The wire form of an event: one msgpack array, versioned, the same bytes from the producer to the ledger.

    event    = [code, version, time, body]            code, version: small ints; time: ms since the epoch, UTC
    body     = {field: value, ...}                    for every type but metrics
    metrics  = [1, 1, time, step, [id, value, id, value, ...]]

Metrics are the hot path, so they have a fixed width: time is always written as uint 64 (0xcf), step as int 64 (0xd3), the list
as array 16 (0xdc), an id as uint 32 (0xce) and a value as float 64 (0xcb), whatever their size. Any msgpack decoder reads that, and
equal numbers of points take equal numbers of bytes: 24 + 14 a point.

An id stands for a metric's name. The *name table* of a journal segment or of a block gives the name:

    names    = {id: name, ...}                        a msgpack map; a journal defines an id before it uses it

Encoding raises. Decoding raises only `DecodeError`, whose `reason` becomes the dead letter's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgpack
from pydantic import ValidationError

from flightlog.schema.errors import DecodeError
from flightlog.schema.events import EVENT_TYPES, Event, MetricsLogged

METRICS_HEAD = b"\x95\x01\x01\xcf"
INT64 = 0xD3
ARRAY16 = 0xDC
MAX_POINTS = 32_767
"""An array 16 holds 65,535 items: that many points fit into one event."""

METRIC_ARRAY_OFFSET = 21
METRIC_POINTS_OFFSET = 24
POINT_SIZE = 14

pack_metric = struct.Struct(">4sQBq9sd").pack
"""Pack one metric: `pack_metric(METRICS_HEAD, time, INT64, step, single_marker(id), value)`."""

UPCASTERS: dict[tuple[int, int], Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""(code, version) -> a function that turns a body of that version into one of the next."""


def point_marker(metric_id: int) -> bytes:
    """Return the bytes that stand before a value in a list of points."""
    return b"\xce" + metric_id.to_bytes(4, "big") + b"\xcb"


def single_marker(metric_id: int) -> bytes:
    """Return the bytes that stand before the value of a single point: the list's head and the point's."""
    return b"\xdc\x00\x02" + point_marker(metric_id)


@lru_cache(maxsize=256)
def _points_packer(count: int) -> Callable[..., bytes]:
    return struct.Struct(">4sQBqBH" + "6sd" * count).pack


def pack_metrics(time: int, step: int, markers_and_values: Sequence[Any]) -> bytes:
    """Pack several metrics at one step; the sequence alternates `point_marker(id)` and value."""
    size = len(markers_and_values)
    return _points_packer(size >> 1)(METRICS_HEAD, time, INT64, step, ARRAY16, size, *markers_and_values)


def encode_names(names: Mapping[int, str]) -> bytes:
    """Encode a name table."""
    return _pack(dict(names))


def decode_names(payload: bytes) -> dict[int, str]:
    """Decode a name table."""
    names = _unpack(payload)
    if not isinstance(names, dict) or not all(isinstance(k, int) and isinstance(v, str) for k, v in names.items()):
        raise DecodeError("malformed", f"a name table must map ids to names, not {_excerpt(payload)}")
    return names


def encode(event: Event) -> bytes:
    """Encode any event but metrics, whose ids belong to a journal; see `encode_metrics`."""
    body = event.model_dump(exclude={"time"}, exclude_defaults=True)
    return _pack([event.code, event.version, event.time, body])


def encode_metrics(event: MetricsLogged, ids: Mapping[str, int]) -> bytes:
    """Encode metrics with the ids of a name table (name -> id)."""
    flat: list[Any] = []
    for name, value in event.points:
        flat += (point_marker(ids[name]), value)
    return pack_metrics(event.time, event.step, flat)


def decode(payload: bytes, names: Mapping[int, str]) -> Event:
    """Decode an event; `names` is the name table of its journal segment or block.

    Raises `DecodeError` with the reason "malformed", "unknown-type", "newer-version", "unknown-metric" or "invalid".
    """
    items = _unpack(payload)
    if not isinstance(items, list) or len(items) < 4 or not all(type(item) is int for item in items[:3]):
        raise DecodeError("malformed", f"an event must be an array of code, version, time and body, not {_excerpt(payload)}")
    code, version, time, body = items[:4]
    event_type = EVENT_TYPES.get(code)
    if event_type is None:
        raise DecodeError("unknown-type", f"event type {code} is not known to this version of flightlog; upgrade the worker")
    if version > event_type.version:
        raise DecodeError(
            "newer-version", f"{event_type.__name__} version {version} is newer than {event_type.version}; upgrade the worker"
        )
    fields = _metrics_fields(items, names) if event_type is MetricsLogged else _upcast(code, version, body)
    try:
        return event_type.model_validate({**fields, "time": time})
    except ValidationError as error:
        raise DecodeError("invalid", f"{event_type.__name__}: {_first_error(error)}") from error


def with_fields(payload: bytes, replaced: Callable[[dict[str, Any]], dict[str, Any]]) -> bytes:
    """Return an event whose fields were replaced by what `replaced` returns for them; what it does not return stays, known here or not.

    Bytes that are no event with fields come back as they are.
    """
    try:
        items = _unpack(payload)
    except DecodeError:
        return payload
    if not isinstance(items, list) or len(items) < 4 or not isinstance(items[3], dict):
        return payload
    return _pack([*items[:3], {**items[3], **replaced(items[3])}, *items[4:]])


def _upcast(code: int, version: int, body: Any) -> dict[str, Any]:  # noqa: ANN401 - whatever the bytes held
    if not isinstance(body, dict) or not all(isinstance(key, str) for key in body):
        raise DecodeError("malformed", f"the body of an event must be a map of fields, not {type(body).__name__}")
    fields: dict[str, Any] = body
    while upcaster := UPCASTERS.get((code, version)):
        fields, version = upcaster(fields), version + 1
    return fields


def _metrics_fields(items: list[Any], names: Mapping[int, str]) -> dict[str, Any]:
    flat = items[4] if len(items) == 5 else None
    if not isinstance(flat, list) or len(flat) % 2:
        raise DecodeError("malformed", "metrics must be a list that alternates ids and values")
    ids = flat[::2]
    unknown = [item for item in ids if not isinstance(item, int) or item not in names]
    if unknown:
        raise DecodeError("unknown-metric", f"metric id {unknown[0]!r} has no name in the name table")
    return {"step": items[3], "points": tuple(zip((names[item] for item in ids), flat[1::2], strict=True))}


def _pack(value: Any) -> bytes:  # noqa: ANN401 - any msgpack value
    packed: bytes = msgpack.packb(value, unicode_errors="backslashreplace")
    return packed


def _unpack(payload: bytes) -> Any:  # noqa: ANN401 - whatever the bytes held
    try:
        return msgpack.unpackb(payload, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException) as error:  # TypeError: a map key that is an array or a map
        raise DecodeError("malformed", f"not msgpack: {error}; {_excerpt(payload)}") from error


def _excerpt(payload: bytes) -> str:
    return f"{len(payload)} bytes beginning {payload[:24].hex(' ')}"


def _first_error(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}, got {str(first['input'])[:100]!r}"
