"""A reader of journals written from docs/journal-format.md alone: it shares no code with flightlog, so it shows that the page is enough."""

from __future__ import annotations

import json
import math
import re
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack
import pytest
from pydantic.fields import FieldInfo

from flightlog.schema import codec, frames
from flightlog.schema.events import EVENT_TYPES, EventsDropped, MetricsLogged, ParamLogged, TagSet
from flightlog.schema.ids import WriterId

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "journal-format.md").read_text(encoding="utf-8")
HEADER_SIZE = 4096
CAPACITY = 1 << 16
RUN, WRITER = "b0a1c2d3e4f5061728394a5b6c7d8e9f", WriterId("00112233445566778899aabbccddeeff")
TIME = 1_767_225_600_123


@dataclass
class Reading:
    """What a stranger's reader makes of one segment."""

    writer: str
    meta: dict[str, Any]
    first: int
    state: int
    end: int
    events: list[list[Any]] = field(default_factory=list)
    stopped: str = "end"
    offset: int = HEADER_SIZE

    @property
    def reached(self) -> int:
        return self.first + len(self.events)

    @property
    def lost(self) -> int:
        return self.end - self.reached if self.state else 0


def read_segment(data: bytes) -> Reading:
    magic, version, checksum, writer, first, _number, meta_size, capacity, _created = struct.unpack_from("<8sII16sQIIQq", data)
    assert (magic, version) == (b"FLTJRNL\n", 1)
    assert zlib.crc32(data[16 : 64 + meta_size]) == checksum
    assert len(data) <= capacity
    meta = msgpack.unpackb(data[64 : 64 + meta_size])
    end, _dropped, state = struct.unpack_from("<QQI", data, 4048)
    reading = Reading(writer.hex(), meta, first, state, end)
    names: dict[int, str] = {}
    while payload := next_payload(data, reading):
        value = msgpack.unpackb(payload, strict_map_key=False)
        if isinstance(value, dict):
            names.update(value)
        else:
            reading.events.append(with_names(value, names))
    return reading


def next_payload(data: bytes, reading: Reading) -> bytes | None:
    at = reading.offset
    if len(data) - at < 8:
        return None
    length, checksum = struct.unpack_from("<II", data, at)
    if length == 0:
        return None
    payload = data[at + 8 : at + 8 + length]
    if len(payload) < length or zlib.crc32(payload) != checksum:
        reading.stopped = "not whole"
        return None
    reading.offset = at + 8 + length
    return payload


def with_names(event: list[Any], names: dict[int, str]) -> list[Any]:
    if event[:2] != [1, 1]:
        return event
    flat = event[4]
    return [*event[:4], [(names[key], value) for key, value in zip(flat[::2], flat[1::2], strict=True)]]


def segment(payloads: list[bytes], *, first: int = 0, number: int = 0, state: int = frames.OPEN, end: int = 0) -> bytes:
    """Return a segment file as flightlog writes it."""
    header = frames.SegmentHeader(WRITER, RUN, number, first, CAPACITY, 1_767_225_600_000, {"host": "node7", "pid": 4711}).to_bytes()
    data = bytearray(CAPACITY)
    data[: len(header)] = header
    frames.WORD.pack_into(data, frames.END_OFFSET, end)
    frames.STATE.pack_into(data, frames.STATE_OFFSET, state)
    records = b"".join(frames.frame(payload) for payload in payloads)
    data[HEADER_SIZE : HEADER_SIZE + len(records)] = records
    return bytes(data)


def metric(time: int, step: int, metric_id: int, value: float) -> bytes:
    return codec.pack_metric(codec.METRICS_HEAD, time, codec.INT64, step, codec.single_marker(metric_id), value)


EXAMPLE = [
    codec.encode(ParamLogged(time=TIME, key="lr", value="0.1")),
    codec.encode_names({1: "loss", 2: "acc"}),
    codec.encode_metrics(MetricsLogged(time=TIME + 1, step=7, points=(("loss", 0.25), ("acc", math.nan))), {"loss": 1, "acc": 2}),
    metric(TIME + 2, 8, 1, 0.125),
]


def example_of_the_page() -> bytes:
    """Return the file that the hex dumps of the page describe."""
    data = bytearray(CAPACITY)
    lines = re.findall(r"^([0-9a-f]{6})  ((?:[0-9a-f]{2} ?)+)$", PAGE, re.MULTILINE)
    for offset, digits in lines:
        part = bytes.fromhex(digits)
        data[int(offset, 16) : int(offset, 16) + len(part)] = part
    return bytes(data)


def test_the_hex_example_of_the_page_is_what_flightlog_writes_byte_for_byte() -> None:
    assert example_of_the_page() == segment(EXAMPLE)


def test_a_strangers_reader_understands_the_example_as_the_page_explains_it() -> None:
    reading = read_segment(example_of_the_page())
    assert (reading.writer, reading.state, reading.stopped) == (WRITER, 0, "end")
    assert reading.meta == {"subject": RUN, "host": "node7", "pid": 4711}
    param, two, one = reading.events
    assert param == [2, 1, TIME, {"key": "lr", "value": "0.1"}]
    assert two[:4] == [1, 1, TIME + 1, 7]
    assert two[4][0] == ("loss", 0.25)
    assert two[4][1][0] == "acc"
    assert math.isnan(two[4][1][1])
    assert one == [1, 1, TIME + 2, 8, [("loss", 0.125)]]
    assert f"{reading.offset:06x}" in PAGE.partition("no more records yet")[0]


LAST = metric(TIME + 2, 8, 1, 0.1)
WHOLE = segment([*EXAMPLE[:-1], LAST])
LAST_AT = HEADER_SIZE + sum(8 + len(payload) for payload in EXAMPLE[:-1])


@pytest.mark.parametrize("kept", range(8 + len(LAST)), ids=str)
@pytest.mark.parametrize("file_size", ["preallocated", "cut"])
def test_every_whole_record_before_a_torn_one_is_read(kept: int, file_size: str) -> None:
    torn = WHOLE[: LAST_AT + kept]
    reading = read_segment(torn.ljust(len(WHOLE), b"\0") if file_size == "preallocated" else torn)
    assert len(reading.events) == 2
    assert reading.offset == LAST_AT


def test_a_reader_that_comes_again_finds_the_record_that_was_torn() -> None:
    reading = read_segment(WHOLE[: LAST_AT + 20].ljust(len(WHOLE), b"\0"))
    assert reading.stopped == "not whole"
    assert next_payload(WHOLE, reading) == LAST


def test_reading_stops_at_a_flipped_byte_and_a_sealed_segment_says_how_many_are_lost() -> None:
    data = bytearray(segment(EXAMPLE, first=40, state=frames.SEALED, end=43))
    data[0x1050] ^= 1
    reading = read_segment(bytes(data))
    assert (reading.stopped, reading.reached, reading.lost) == ("not whole", 41, 2)


def test_a_whole_closed_segment_has_lost_nothing() -> None:
    reading = read_segment(segment(EXAMPLE, state=frames.CLOSED, end=3))
    assert (reading.state, reading.lost) == (2, 0)


def test_a_gap_between_segments_is_seen_by_sequence_although_numbers_may_be_missing() -> None:
    first = read_segment(segment(EXAMPLE, number=4, first=10, state=frames.SEALED, end=13))
    follower = read_segment(segment([codec.encode_names({1: "loss"}), metric(TIME, 9, 1, 1.0)], number=6, first=15))
    assert follower.first - first.reached == 2
    assert follower.events == [[1, 1, TIME, 9, [("loss", 1.0)]]]


def test_an_event_type_of_the_future_takes_its_sequence() -> None:
    future = msgpack.packb([200, 9, TIME, {"what": "ever"}])
    reading = read_segment(segment([future, codec.encode(TagSet(time=TIME, key="a", value="b"))]))
    assert reading.reached == 2
    assert reading.events[1] == [3, 1, TIME, {"key": "a", "value": "b"}]


def test_dropped_events_are_told_by_an_event_of_their_own() -> None:
    reading = read_segment(segment([codec.encode(EventsDropped(time=TIME, count=7, reason="the disk is full"))]))
    assert reading.events == [[18, 1, TIME, {"count": 7, "reason": "the disk is full"}]]


@pytest.mark.parametrize("step", [-(2**63), -1, 0, 1, 2**63 - 1])
@pytest.mark.parametrize("value", [0.0, -0.0, 1e308, math.inf, -math.inf])
def test_metrics_have_the_width_that_the_page_gives(step: int, value: float) -> None:
    payload = metric(TIME, step, 2**32 - 1, value)
    assert len(payload) == 24 + 14
    assert msgpack.unpackb(payload) == [1, 1, TIME, step, [2**32 - 1, value]]


def test_a_segment_without_its_magic_has_not_begun_whatever_else_is_there() -> None:
    with pytest.raises(frames.Blank):
        frames.SegmentHeader.from_bytes(bytes(8) + WHOLE[8:HEADER_SIZE])


def test_the_limits_are_those_of_the_page() -> None:
    assert f"{frames.MAX_PAYLOAD:,} bytes" in PAGE
    assert frames.MAX_SEQUENCE == 2**62


def test_the_page_lists_every_event_with_its_fields_and_defaults() -> None:
    section = PAGE.partition("## Events")[2].partition("### Metrics")[0]
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (.*?) ?\|$", section, re.MULTILINE)
    metrics = ("1", "MetricsLogged", "see below")
    others = [(str(code), event.__name__, ", ".join(describe_fields(event))) for code, event in EVENT_TYPES.items() if code > 1]
    assert rows == [metrics, *others]
    assert "Every one of these has version 1" in section
    assert {event.version for event in EVENT_TYPES.values()} == {1}


def describe_fields(event: type[Any]) -> list[str]:
    return [name + describe_default(info) for name, info in event.model_fields.items() if name != "time"]


def describe_default(info: FieldInfo) -> str:
    return "" if info.is_required() else f" = {json.dumps(info.default)}"
