"""The laws of reading many histories: as if each were read by itself; and of sampling: what must stay stays, always the same."""

from __future__ import annotations

import tempfile
from contextlib import closing

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from contracts.facts import KEYS, OTHER_RUN, RUN, block, collected, exact_history, one_history
from flightlog.columnar import arrays, arrow_table, history_frame, metrics
from flightlog.stores import open_store, series
from flightlog.stores.base import Histories, History, Portion
from flightlog.stores.sampling import sampled
from property.test_store_laws import applied, deliveries, fresh, life_events, lives, values, whole

portions = st.builds(
    Portion,
    start_step=st.none() | whole,
    end_step=st.none() | whole,
    attempt=st.none() | st.integers(0, 2),
    sample=st.none() | st.integers(4, 9),
)
long_values = st.lists(values, min_size=1, max_size=60)


def history_of(found: list[float]) -> History:
    return History(np.arange(len(found)), np.arange(len(found)) * 10, np.array(found))


def rank(history: History) -> list[int]:
    return [int(item) for item in series.value_ranks(history.value[~np.isnan(history.value)])]


@settings(max_examples=60)
@given(st.data(), portions, st.none() | st.lists(st.sampled_from([*KEYS, "none"]), max_size=4), st.integers(1, 20))
def test_many_histories_are_those_of_each_by_itself(
    data: st.DataObject, portion: Portion, keys: list[str] | None, batch_points: int
) -> None:
    items = [*data.draw(lives()), block(OTHER_RUN, *data.draw(st.lists(life_events, max_size=6)))]
    memory = applied(open_store("memory:"), [[item] for item in items])
    with tempfile.TemporaryDirectory() as folder, closing(fresh(folder)) as store:
        applied(store, data.draw(deliveries(items)))
        for _ in ("as it was filed", "merged"):
            for each in (store, memory):
                found = collected(each.metric_histories([OTHER_RUN, RUN], keys, portion, batch_points))
                wanted = dict.fromkeys(sorted(KEYS) if keys is None else keys)
                expected = {(run, key): one_history(each, run, key, portion) for run in (OTHER_RUN, RUN) for key in wanted}
                assert list(found.items()) == [(owner, points) for owner, points in expected.items() if points]
            while store.maintain():
                pass


@settings(max_examples=200)
@given(long_values, st.integers(4, 30))
@example([float("nan")] * 20, 4)
@example([1.0, float("nan"), float("inf"), float("inf"), 2.0, 3.0], 4)
def test_a_sample_keeps_first_last_least_and_greatest_and_is_no_larger_than_asked(found: list[float], size: int) -> None:
    history = history_of(found)
    sample = sampled(history, size)
    assert len(sample) == len(history) if len(history) <= size else len(sample) <= size
    assert (sample.step[0], sample.step[-1]) == (0, len(found) - 1)
    assert min(rank(sample), default=None) == min(rank(history), default=None)
    assert max(rank(sample), default=None) == max(rank(history), default=None)
    assert exact_history(sample) == [row for row in exact_history(history) if row[0] in set(sample.step.tolist())]
    assert (np.diff(sample.step) > 0).all()


@given(long_values, st.integers(4, 30))
def test_a_sample_is_always_the_same(found: list[float], size: int) -> None:
    again = [exact_history(sampled(history_of(list(found)), size)) for _ in range(2)]
    assert again[0] == again[1]


@settings(max_examples=50)
@given(st.data(), st.integers(1, 20))
def test_all_formats_have_the_same_points_in_the_same_order(data: st.DataObject, batch_points: int) -> None:
    memory = applied(open_store("memory:"), [[item] for item in data.draw(lives())])

    def batches() -> list[Histories]:
        return list(memory.metric_histories([RUN], None, Portion(), batch_points))

    expected = [(run, key, *point) for (run, key), points in collected(batches()).items() for point in points]
    table, frame = arrow_table(batches()), history_frame(batches())
    times = table["timestamp"].cast("int64").to_pylist()
    rows = zip(*(table[name].to_pylist() for name in ("run_id", "key", "step")), times, table["value"].to_pylist(), strict=True)
    assert [(run, key, step, time, exact_value(value)) for run, key, step, time, value in rows] == expected
    rows = zip(frame.run_id, frame.key, frame.step, frame.timestamp.astype("int64"), frame.value, strict=True)
    assert [(run, key, step, time, exact_value(value)) for run, key, step, time, value in rows] == expected
    found = arrays(batches())
    assert [(run, key, *point) for run, keys in found.items() for key, part in keys.items() for point in exact_history(part)] == expected
    listed = [(item.run_id, item.key, item.step, item.timestamp, exact_value(item.value)) for item in metrics(batches())]
    assert sorted(map(repr, listed)) == sorted(map(repr, expected))


def exact_value(value: float) -> str:
    [(_, _, text)] = exact_history(History(np.zeros(1, np.int64), np.zeros(1, np.int64), np.array([value])))
    return text
