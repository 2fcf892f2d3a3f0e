"""Bad input raises at the call, and nothing is written; everything that is a number is kept as it is."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flightlog.producer.journal import Journal
from flightlog.producer.recorder import Recorder
from flightlog.producer.spool import Spool
from flightlog.schema.codec import decode
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.events import MetricsLogged
from flightlog.schema.records import scan


class Tensor:
    """What torch gives: a scalar says its value by `item`, anything larger refuses."""

    def __init__(self, *values: float) -> None:
        self._values = values

    def item(self) -> float:
        if len(self._values) != 1:
            raise RuntimeError(f"a Tensor with {len(self._values)} elements cannot be converted to Scalar")
        return self._values[0]


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    journal = Journal("a" * 32, Spool(tmp_path / "journal", 1 << 30, "drop"), lambda: None)
    yield Recorder(journal)
    journal.close()
    journal.release()


def _last(recorder: Recorder) -> MetricsLogged:
    """Return the newest event in the journal."""
    journal = recorder.journal
    assert journal._segment is not None
    records = scan(journal._segment.buffer[4096 : journal._position]).records
    event = decode(records.payload(len(records) - 1), journal._names)
    assert isinstance(event, MetricsLogged)
    return event


BAD_KEYS: list[Any] = [None, 1, b"loss", ["loss"], {}, "", "a" * 251, "loss!", "a\nb", "../loss", "/loss", "a//b", "./a", "a/", "."]
BAD_VALUES = {
    "None": None,
    "a word": "high",
    "an empty text": "",
    "a list": [1.0],
    "a map": {},
    "a complex number": 1j,
    "a number beyond floats": 10**400,
    "an object": object(),
    "an array of two": np.array([1.0, 2.0]),
    "a tensor of two": Tensor(1.0, 2.0),
    "an empty tensor": Tensor(),
}
BAD_STEPS = ["1", 2.5, float("nan"), float("inf"), 2**63, -(2**63) - 1, [], 1j]
BAD_TIMES = ["now", -1, float("nan"), 2**63, []]
GOOD_VALUES = [
    (1.5, 1.5),
    (-0.0, -0.0),
    (1, 1.0),
    (True, 1.0),
    ("0.25", 0.25),
    (Fraction(1, 4), 0.25),
    (np.float32(0.5), 0.5),
    (np.int64(3), 3.0),
    (np.array([2.5]), 2.5),
    (Tensor(0.75), 0.75),
    (math.inf, math.inf),
    (-math.inf, -math.inf),
    (math.nan, math.nan),
    (5e-324, 5e-324),
]


@pytest.mark.parametrize("key", BAD_KEYS, ids=repr)
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_a_key_that_breaks_the_rules_is_refused(recorder: Recorder, key: Any, several: bool) -> None:
    if several and isinstance(key, (list, dict)):
        key = "\0"  # these cannot be keys of a mapping
    with pytest.raises(InvalidParameter, match="key"):
        recorder.metrics({"fine": 1.0, key: 1.0}) if several else recorder.metric(key, 1.0)
    assert recorder.journal.sequence == 0


@pytest.mark.parametrize("value", BAD_VALUES.values(), ids=BAD_VALUES.keys())
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_a_value_that_is_no_number_is_refused_and_named(recorder: Recorder, value: Any, several: bool) -> None:
    with pytest.raises(InvalidParameter, match="metric 'loss' needs a number"):
        recorder.metrics({"fine": 1.0, "loss": value}) if several else recorder.metric("loss", value)
    assert recorder.journal.sequence == 0


@pytest.mark.parametrize("step", BAD_STEPS, ids=repr)
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
def test_a_step_that_is_no_whole_number_of_64_bits_is_refused(recorder: Recorder, step: Any, several: bool) -> None:
    with pytest.raises(InvalidParameter, match="step"):
        recorder.metrics({"loss": 1.0}, step) if several else recorder.metric("loss", 1.0, step)
    assert recorder.journal.sequence == 0


@pytest.mark.parametrize("time", BAD_TIMES, ids=repr)
def test_a_timestamp_that_is_no_time_is_refused(recorder: Recorder, time: Any) -> None:
    with pytest.raises(InvalidParameter, match="timestamp"):
        recorder.metric("loss", 1.0, 0, time)
    assert recorder.journal.sequence == 0


@pytest.mark.parametrize(("value", "kept"), GOOD_VALUES, ids=[repr(value)[:20] + type(value).__name__ for value, _ in GOOD_VALUES])
def test_every_number_is_kept_as_it_is(recorder: Recorder, value: Any, kept: float) -> None:
    recorder.metric("loss", value)
    ((_, found),) = _last(recorder).points
    assert repr(found) == repr(kept)


@pytest.mark.parametrize("step", [0, -1, 2**63 - 1, -(2**63), 3.0, np.int32(7), True], ids=repr)
def test_every_whole_step_is_kept(recorder: Recorder, step: Any) -> None:
    recorder.metric("loss", 1.0, step)
    assert _last(recorder).step == int(step)


def test_the_longest_key_and_all_allowed_characters_are_taken(recorder: Recorder) -> None:
    recorder.metrics({"a" * 250: 1.0, "train/acc -_.: ü": 2.0})
    assert len(_last(recorder).points) == 2


def test_more_metrics_than_fit_into_one_event_become_several(recorder: Recorder) -> None:
    last = recorder.metrics({f"m{number}": float(number) for number in range(40_000)})
    assert (last, recorder.journal.sequence) == (1, 2)
