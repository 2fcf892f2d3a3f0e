"""What is encoded comes back, whatever it was; what was never encoded raises nothing but `DecodeError`."""

from __future__ import annotations

import sys
import threading
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flightlog.schema import blocks, codec, columns, frames, records
from flightlog.schema import events as e
from flightlog.schema.errors import DecodeError
from flightlog.schema.records import Ending, Records

TIMES = st.integers(0, 2**63 - 1)
STEPS = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text()
FIELDS: dict[type[e.Event], dict[str, st.SearchStrategy[Any]]] = {
    e.ParamLogged: {"key": TEXTS, "value": TEXTS},
    e.TagSet: {"key": TEXTS, "value": TEXTS},
    e.TagDeleted: {"key": TEXTS},
    e.ArtifactSettled: {"path": TEXTS, "snapshot": TEXTS, "state": st.sampled_from(["stored", "failed"]), "reason": st.none() | TEXTS},
    e.ArtifactLogged: {"path": TEXTS, "size": st.integers(0, 2**63 - 1), "snapshot": TEXTS, "sha256": st.none() | TEXTS},
    e.RunStarted: {
        "experiment_id": TEXTS,
        "experiment_name": st.none() | TEXTS,
        "artifact_location": st.none() | TEXTS,
        "artifact_uri": TEXTS,
        "run_name": TEXTS,
        "user_id": TEXTS,
        "start_time": TIMES,
        "tags": st.dictionaries(TEXTS, TEXTS),
    },
    e.RunResumed: {},
    e.WriterAlive: {},
    e.RunRewound: {"step": st.integers(-(2**63), 2**63 - 1)},
    e.RunLost: {"last_seen": TIMES},
    e.RunEnded: {"status": st.sampled_from(["FINISHED", "FAILED", "KILLED"]), "end_time": TIMES, "reason": st.none() | TEXTS},
    e.RunStatusChanged: {"status": st.sampled_from(["RUNNING", "SCHEDULED"])},
    e.RunDeleted: {},
    e.RunRestored: {},
    e.ExperimentCreated: {"experiment_id": TEXTS, "name": TEXTS, "artifact_location": TEXTS, "tags": st.dictionaries(TEXTS, TEXTS)},
    e.ExperimentTagSet: {"key": TEXTS, "value": TEXTS},
    e.ExperimentTagDeleted: {"key": TEXTS},
    e.ExperimentRenamed: {"name": TEXTS},
    e.ExperimentDeleted: {},
    e.ExperimentRestored: {},
    e.RunPurged: {},
    e.ExperimentPurged: {},
    e.EventsDropped: {"count": st.integers(1, 2**63 - 1), "reason": TEXTS},
    e.DatasetLogged: {
        "name": st.text(min_size=1, max_size=500),
        "digest": st.text(min_size=1, max_size=36),
        "source_type": st.text(min_size=1),
        "source": TEXTS,
        "dataset_schema": st.none() | TEXTS,
        "profile": st.none() | TEXTS,
        "tags": st.dictionaries(TEXTS, TEXTS),
    },
    e.ModelInputLogged: {"model_id": st.text(min_size=1)},
    e.ModelOutputLogged: {"model_id": st.text(min_size=1), "step": STEPS},
}
EVENTS = st.one_of(*(st.builds(event, time=TIMES, **fields) for event, fields in FIELDS.items()))
NAMES = {1: "loss", 2: "acc", 70_000: "a/b", 2**32 - 1: "last"}
IDS = {name: metric_id for metric_id, name in NAMES.items()}
POINTS = st.lists(st.tuples(st.sampled_from(sorted(IDS)), st.floats()), min_size=1, max_size=12).map(tuple)
METRICS = st.builds(e.MetricsLogged, time=TIMES, step=STEPS, points=POINTS)
PAYLOADS = st.lists(EVENTS.map(codec.encode) | METRICS.map(lambda event: codec.encode_metrics(event, IDS)), max_size=60)


def test_every_event_but_metrics_is_among_the_strategies() -> None:
    assert {*FIELDS, e.MetricsLogged} == set(e.EVENT_TYPES.values())


@given(EVENTS)
def test_an_event_comes_back_as_it_was(event: e.Event) -> None:
    assert codec.decode(codec.encode(event), {}) == event


@given(METRICS)
def test_metrics_come_back_bit_for_bit(event: e.MetricsLogged) -> None:
    payload = codec.encode_metrics(event, IDS)
    found = codec.decode(payload, NAMES)
    assert isinstance(found, e.MetricsLogged)
    assert (found.time, found.step, repr(found.points)) == (event.time, event.step, repr(event.points))
    assert len(payload) == codec.METRIC_POINTS_OFFSET + codec.POINT_SIZE * len(event.points)


@given(PAYLOADS)
def test_columns_hold_what_decoding_one_by_one_gives(payloads: list[bytes]) -> None:
    found, others = columns.split_metrics(Records.of(payloads))
    decoded = [(index, codec.decode(payload, NAMES)) for index, payload in enumerate(payloads)]
    expected = [
        (index, name, event.step, event.time, repr(value))
        for index, event in decoded
        if isinstance(event, e.MetricsLogged)
        for name, value in event.points
    ]
    rows = zip(found.event.tolist(), found.id.tolist(), found.step.tolist(), found.time.tolist(), found.value.tolist(), strict=True)
    assert [(index, NAMES[metric], step, time, repr(value)) for index, metric, step, time, value in rows] == expected
    assert others.tolist() == [index for index, event in decoded if not isinstance(event, e.MetricsLogged)]


@given(PAYLOADS)
def test_a_block_gives_back_every_payload(payloads: list[bytes]) -> None:
    names, found = blocks.decode_body(blocks.encode_body(NAMES, Records.of(payloads)))
    assert (names, list(found.payloads())) == (NAMES, payloads)


@given(PAYLOADS, st.data())
def test_a_journal_that_was_cut_gives_every_whole_record_before_the_cut(payloads: list[bytes], data: st.DataObject) -> None:
    written = [frames.frame(payload) for payload in payloads]
    whole = b"".join(written)
    cut = data.draw(st.integers(0, len(whole)))
    found = records.scan(whole[:cut])
    ends = [sum(map(len, written[: index + 1])) for index in range(len(written))]
    assert list(found.records.payloads()) == [payload for payload, end in zip(payloads, ends, strict=True) if end <= cut]
    assert (found.ending is Ending.CLEAN) == (cut in (0, *ends) or not any(whole[found.end : found.end + 4]))


@given(PAYLOADS.filter(bool), st.data())
def test_a_flipped_bit_ends_the_records_before_it(payloads: list[bytes], data: st.DataObject) -> None:
    written = b"".join(frames.frame(payload) for payload in payloads)
    place = data.draw(st.integers(0, 8 * len(written) - 1))
    flipped = bytearray(written)
    flipped[place // 8] ^= 1 << place % 8
    found = list(records.scan(bytes(flipped)).records.payloads())
    assert found == payloads[: len(found)]
    assert len(found) < len(payloads)


@given(st.integers(1, 90), st.integers(1, 40), st.randoms(use_true_random=False))
def test_checksums_of_many_rows_are_zlibs(length: int, count: int, random: Any) -> None:
    rows = [random.randbytes(length) for _ in range(count)]
    ((_, matrix),) = Records.of(rows).groups()
    assert records.checksums(matrix).tolist() == [zlib.crc32(row) for row in rows]


SCALARS = st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary() | st.none() | st.booleans()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.integers(0, 2**32) | st.text(), inner))
REASONS = {"malformed", "unknown-type", "newer-version", "unknown-metric", "invalid"}


@given(st.binary() | VALUES.map(msgpack.packb) | st.lists(VALUES, min_size=4, max_size=6).map(lambda rest: msgpack.packb([1, 1, *rest])))
def test_bytes_that_are_no_event_raise_only_the_decode_error(payload: bytes) -> None:
    for decode in (lambda: codec.decode(payload, NAMES), lambda: codec.decode_names(payload), lambda: blocks.decode_body(payload)):
        reason = None
        try:
            decode()
        except DecodeError as error:
            reason = error.reason
        assert reason in {None, *REASONS}


@pytest.fixture
def eager_switching() -> Iterator[None]:
    """Have threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switching")
def test_threads_that_begin_at_once_make_the_same_checksums() -> None:
    rows = [bytes((7 * index + column) % 256 for column in range(40)) for index in range(300)]
    matrix, expected = np.frombuffer(b"".join(rows), np.uint8).reshape(300, 40), [zlib.crc32(row) for row in rows]
    with ThreadPoolExecutor(2) as pool:
        for _ in range(100):
            records._tables.clear()
            together = threading.Barrier(2)
            made = [pool.submit(_after, together, matrix) for _ in range(2)]
            assert [future.result().tolist() for future in made] == [expected, expected]
            assert records.checksums(matrix).tolist() == expected


def _after(together: threading.Barrier, matrix: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint32]:
    together.wait()
    return records.checksums(matrix)
