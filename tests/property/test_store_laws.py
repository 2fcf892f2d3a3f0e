"""The laws of a store: however events are cut into batches, repeated or replayed, and whichever store takes them, readers see the same."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.facts import (
    KEYS,
    OTHER_RUN,
    OTHER_WRITER,
    RUN,
    THIRD_WRITER,
    WRITER,
    Fact,
    block,
    everything,
    exact_history,
    exact_summary,
)
from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.entities import Point
from flightlog.schema.fold import history_order, merge_summaries, summary_of
from flightlog.schema.ids import WriterId, experiment_subject
from flightlog.stores import open_store, series
from flightlog.stores.base import Gap, History, Store
from flightlog.stores.batches import experiment_of
from flightlog.stores.replay import LedgerSource, replay
from flightlog.stores.sql.history import decode, encode
from flightlog.stores.sql.points import PointsBuilder, Series
from flightlog.stores.sql.store import SqlStore
from flightlog.stores.sql.summaries import from_row, summarise, to_row
from flightlog.stores.sql.tables import latest_metrics
from flightlog.stores.verify import verify

SUBJECTS = (RUN, OTHER_RUN, experiment_subject("1"), experiment_subject("2"), experiment_subject("0"))
WRITERS = (WRITER, OTHER_WRITER, THIRD_WRITER)

whole = st.sampled_from([0, 1, 2, -1, 2**63 - 1, -(2**63)]) | st.integers(-3, 3)
times = st.sampled_from([0, 1, 2, 3, 2**63 - 1]) | st.integers(0, 5)
values = st.sampled_from([0.0, -0.0, 1.0, -1.0, 5e-324, float("nan"), float("inf"), float("-inf")]) | st.floats()
keys = st.sampled_from(KEYS)
texts = st.sampled_from(["", "1", "2"]) | st.text(max_size=4)
ids = st.sampled_from(["0", "1", "2", "x"])
names = st.sampled_from(["Default", "one", "two", "experiment-1"])
statuses = st.sampled_from(["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"])
points = st.lists(st.tuples(keys, values), max_size=3).map(tuple)

metric_events = st.builds(e.MetricsLogged, time=times, step=whole, points=points)
input_events = st.one_of(
    st.builds(
        e.DatasetLogged,
        time=times,
        name=keys,
        digest=st.sampled_from(["1", "2"]),
        source_type=keys,
        source=texts,
        dataset_schema=st.none() | texts,
        profile=st.none() | texts,
        tags=st.dictionaries(keys | st.just("mlflow.data.context"), texts, max_size=2),
    ),
    st.builds(e.ModelInputLogged, time=times, model_id=keys),
    st.builds(e.ModelOutputLogged, time=times, model_id=keys, step=whole),
)
run_events = st.one_of(
    metric_events,
    metric_events,
    st.builds(e.ParamLogged, time=times, key=keys, value=texts),
    st.builds(e.TagSet, time=times, key=keys | st.just("mlflow.runName"), value=texts),
    st.builds(e.TagDeleted, time=times, key=keys | st.just("mlflow.runName")),
    st.builds(e.ArtifactLogged, time=times, path=keys, size=st.sampled_from([0, 2**63 - 1]), snapshot=texts),
    st.builds(e.ArtifactSettled, time=times, path=keys, snapshot=texts, state=st.sampled_from(["stored", "failed"])),
    input_events,
    st.builds(
        e.RunStarted,
        time=times,
        experiment_id=ids,
        experiment_name=st.none() | names,
        artifact_location=st.none() | texts,
        artifact_uri=texts,
        run_name=texts,
        start_time=times,
        tags=st.dictionaries(keys, texts, max_size=2),
    ),
    st.builds(e.RunResumed, time=times),
    st.builds(e.RunRewound, time=times, step=whole),
    st.builds(e.WriterAlive, time=times),
    st.builds(e.RunLost, time=times, last_seen=times),
    st.builds(e.RunEnded, time=times, status=statuses, end_time=times, reason=st.none() | texts),
    st.builds(e.RunStatusChanged, time=times, status=statuses),
    st.builds(e.RunDeleted, time=times),
    st.builds(e.RunRestored, time=times),
    st.builds(e.RunPurged, time=times),
    st.builds(e.EventsDropped, time=times, count=st.sampled_from([1, 2**63 - 1]), reason=texts),
)
experiment_events = st.one_of(
    st.builds(
        e.ExperimentCreated,
        time=times,
        experiment_id=ids,
        name=names,
        artifact_location=texts,
        tags=st.dictionaries(keys, texts, max_size=2),
    ),
    st.builds(e.ExperimentTagSet, time=times, key=keys, value=texts),
    st.builds(e.ExperimentTagDeleted, time=times, key=keys),
    st.builds(e.ExperimentRenamed, time=times, name=names),
    st.builds(e.ExperimentDeleted, time=times),
    st.builds(e.ExperimentRestored, time=times),
    st.builds(e.ExperimentPurged, time=times),
)
wrong = st.sampled_from(
    [b"junk", b"\x94\xcd\x03\xe7\x01\x01\x80", b"\x94\x02\x63\x01\x80", b"\x95\x01\x01\x07\x03\x92\x00\xcb\x3f\xf0" + bytes(6)]
)
facts_for = {
    False: st.lists(run_events | run_events | wrong | experiment_events, min_size=1, max_size=8),
    True: st.lists(experiment_events | experiment_events | experiment_events | wrong | run_events, min_size=1, max_size=3),
}
stretches = st.sampled_from(SUBJECTS).flatmap(
    lambda subject: st.tuples(st.just(subject), st.sampled_from(WRITERS), facts_for[subject.startswith("experiment:")])
)


@st.composite
def logs(draw: st.DrawFn) -> list[Block | Gap]:
    """Return blocks and gaps of several writers and subjects, in an order in which all are due."""
    positions: dict[tuple[str, str], int] = {}
    items: list[Block | Gap] = []
    for subject, writer, facts in draw(st.lists(stretches, max_size=8)):
        first = positions.get((subject, writer), 0)
        if draw(st.integers(0, 9)) == 0:
            items.append(Gap(subject, writer, first, first + 3, "corrupt-journal", "torn", b"rest", 3))
            first += 3
        items.append(block(subject, *facts, writer=writer, first=first))
        positions[subject, writer] = first + len(facts)
    return items


@st.composite
def deliveries(draw: st.DrawFn, items: Sequence[Block | Gap]) -> list[list[Block | Gap]]:
    """Return the same events in other batches: blocks cut in parts, parts repeated."""
    batches: list[list[Block | Gap]] = [[]]
    for item in items:
        parts: list[Block | Gap] = [item]
        if isinstance(item, Block):
            cut = draw(st.integers(0, len(item.records)))
            parts = [item.part(0, cut), item.part(cut, len(item.records))] if 0 < cut < len(item.records) else [item]
        for part in parts:
            batches[-1] += [part] * draw(st.integers(1, 2))
            if draw(st.booleans()):
                batches.append([item] if draw(st.integers(0, 4)) == 0 else [])
    return batches


@functools.cache
def empty_database() -> bytes:
    """Return the file of an empty store: copying it is faster than making it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tracking.db"
        open_store(f"sqlite:///{path}").close()
        return path.read_bytes()


def fresh(folder: str) -> Store:
    """Return an empty store on SQLite."""
    return open_store(fresh_url(folder))


def fresh_url(folder: str) -> str:
    """Return the URL of an empty store on SQLite."""
    path = Path(folder) / "tracking.db"
    path.write_bytes(empty_database())
    return f"sqlite:///{path}"


def applied(store: Store, batches: Sequence[Sequence[Block | Gap]]) -> Store:
    """Apply batches, and return the store."""
    for batch in batches:
        store.apply(batch)
    return store


@settings(max_examples=100)
@given(st.data())
def test_the_sql_projection_equals_the_fold_however_the_events_arrive(data: st.DataObject) -> None:
    items = data.draw(logs())
    memory = applied(open_store("memory:"), [[item] for item in items])
    with tempfile.TemporaryDirectory() as folder, closing(fresh(folder)) as store:
        applied(store, data.draw(deliveries(items)))
        while store.maintain():
            pass
        assert everything(store, SUBJECTS) == everything(memory, SUBJECTS)


@settings(max_examples=150)
@given(st.data())
def test_cuts_and_repetitions_make_no_difference_to_the_fold(data: st.DataObject) -> None:
    items = data.draw(logs())
    once = applied(open_store("memory:"), [items])
    again = applied(open_store("memory:"), data.draw(deliveries(items)))
    assert everything(again, SUBJECTS) == everything(once, SUBJECTS)


def lasting(store: Store) -> dict[str, Any]:
    """Return what a replay must give again: all but the order of dead letters, and how much came too late to be kept."""
    found = everything(store, SUBJECTS)
    return {
        **found,
        "letters": sorted(found["letters"], key=repr),
        "tombstones": [(item.subject, item.time) for item in found["tombstones"]],
    }


@settings(max_examples=60)
@given(logs())
def test_replaying_the_ledger_into_an_empty_store_gives_equal_runs(items: list[Block | Gap]) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(fresh(folder)) as store:
        applied(store, [items])
        memory = open_store("memory:")
        replay(LedgerSource(store), memory)
        assert lasting(memory) == lasting(store)
        assert replay(LedgerSource(memory), store).events == 0
        assert lasting(store) == lasting(memory)


@settings(max_examples=40)
@given(logs())
def test_a_store_that_only_workers_wrote_to_is_verified(items: list[Block | Gap]) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(fresh(folder)) as store:
        applied(store, [items])
        found = list(verify(store))
        assert [item for item in found if item.differences or item.is_moving] == []
        run_ids = [item.subject for item in found if experiment_of(item.subject) is None]
        assert [item for run_id in run_ids for item in verify(store, [run_id]) if item.differences] == []


@settings(max_examples=30)
@given(logs())
def test_a_repair_changes_nothing_where_nothing_is_wrong(items: list[Block | Gap]) -> None:
    with tempfile.TemporaryDirectory() as folder, closing(SqlStore(fresh_url(folder))) as store:
        applied(store, [items])
        before = lasting(store)
        store.repair(SUBJECTS)
        assert lasting(store) == before


life_events = st.one_of(
    metric_events,
    st.builds(e.MetricsLogged, time=times, step=st.integers(0, 5), points=points),
    st.builds(e.MetricsLogged, time=times, step=st.integers(0, 5), points=points),
    st.builds(e.RunResumed, time=times),
    st.builds(e.RunRewound, time=times, step=st.integers(0, 5)),
    st.builds(e.RunRewound, time=times, step=whole),
    st.builds(e.WriterAlive, time=times),
    st.builds(e.RunLost, time=times, last_seen=times),
    st.builds(e.RunEnded, time=times, status=statuses, end_time=times, reason=st.none() | texts),
)


@st.composite
def lives(draw: st.DrawFn) -> list[Block | Gap]:
    """Return the life of one run with several writers, attempts and silences."""
    positions = dict.fromkeys(WRITERS, 0)
    items: list[Block | Gap] = []
    for writer, facts in draw(st.lists(st.tuples(st.sampled_from(WRITERS), st.lists(life_events, min_size=1, max_size=10)), max_size=8)):
        items.append(block(RUN, *facts, writer=writer, first=positions[writer]))
        positions[writer] += len(facts)
    return items


@settings(max_examples=150)
@given(st.data(), st.integers(1, 6), st.none() | whole, st.none() | whole)
def test_attempts_and_what_they_hide_are_the_same_in_every_store(
    data: st.DataObject, buckets: int, start: int | None, end: int | None
) -> None:
    items = data.draw(lives())
    memory = applied(open_store("memory:"), [[item] for item in items])
    with tempfile.TemporaryDirectory() as folder, closing(fresh(folder)) as store:
        applied(store, data.draw(deliveries(items)))
        for _ in ("as it was filed", "merged"):
            assert everything(store, SUBJECTS) == everything(memory, SUBJECTS)
            for attempt in (None, 0, 1):
                found = [_exact_envelope(each, buckets, start, end, attempt) for each in (store, memory)]
                assert found[0] == found[1]
            while store.maintain():
                pass
        assert everything(applied(open_store("memory:"), [list(store.ledger())]), SUBJECTS) == everything(memory, SUBJECTS)


stamped = st.lists(st.sampled_from(["RUNNING", "FINISHED", "KILLED", "alive", "lost"]), min_size=1, max_size=6)


@settings(max_examples=150)
@given(st.data(), stamped)
def test_in_whatever_order_they_come_the_latest_change_of_the_status_counts(data: st.DataObject, kinds: list[str]) -> None:
    items = [block(RUN, _status_event(kind, time), writer=WriterId(f"{time:032x}")) for time, kind in enumerate(kinds, start=1)]
    store = applied(open_store("memory:"), [[item] for item in data.draw(st.permutations(items))])
    changes = [(time, kind) for time, kind in enumerate(kinds, start=1) if kind not in ("alive", "lost")]
    latest = changes[-1] if changes else (0, "RUNNING")
    store.apply([block(RUN, e.WriterAlive(time=1), writer=WriterId("f" * 32))])
    assert store.get_run(RUN).info.status == latest[1]
    assert latest[1] == "RUNNING" or store.get_run(RUN).info.end_time == latest[0]


def _status_event(kind: str, time: int) -> e.Event:
    if kind == "alive":
        return e.WriterAlive(time=time)
    if kind == "lost":
        return e.RunLost(time=time, last_seen=time)
    return e.RunResumed(time=time) if kind == "RUNNING" else e.RunEnded.model_validate({"time": time, "status": kind, "end_time": time})


@settings(max_examples=80)
@given(st.data(), st.lists(st.lists(input_events, min_size=1, max_size=4), min_size=1, max_size=3))
def test_in_whatever_order_writers_are_heard_what_was_logged_first_of_an_input_stays(data: st.DataObject, facts: list[list[Fact]]) -> None:
    items = [block(RUN, *some, writer=writer) for some, writer in zip(facts, WRITERS, strict=False)]
    expected = applied(open_store("memory:"), [items]).get_run(RUN)
    with tempfile.TemporaryDirectory() as folder, closing(fresh(folder)) as store:
        found = applied(store, [[item] for item in data.draw(st.permutations(items))]).get_run(RUN)
        assert (found.inputs, found.outputs) == (expected.inputs, expected.outputs)
        assert found.to_dictionary()["inputs"] == expected.to_dictionary()["inputs"]


histories = st.lists(st.tuples(whole, times, values), min_size=1, max_size=30)


def arrays(rows: Sequence[tuple[int, int, float]]) -> History:
    """Return rows of (step, time, value) as a history."""
    steps, stamps, numbers = zip(*rows, strict=True)
    return History(np.array(steps, np.int64), np.array(stamps, np.int64), np.array(numbers, np.float64))


@settings(max_examples=300)
@given(st.lists(st.tuples(keys, histories), max_size=4))
def test_summaries_of_arrays_equal_merged_summaries_of_points(groups: list[tuple[str, list[tuple[int, int, float]]]]) -> None:
    builder = PointsBuilder()
    expected: dict[str, list[tuple[int, int, float]]] = {}
    for key, rows in groups:
        history = arrays(rows)
        builder.add(np.full(len(rows), builder.number(Series(RUN, key))), history.step, history.timestamp, history.value)
        expected.setdefault(key, []).extend(rows)
    folded = {
        key: functools.reduce(merge_summaries, (summary_of(key, Point(value, step, time)) for step, time, value in rows))
        for key, rows in expected.items()
    }
    found = {summary.key: exact_summary(summary) for summary in summarise(builder.grouped())}
    assert found == {key: exact_summary(summary) for key, summary in folded.items()}


@settings(max_examples=300)
@given(histories)
def test_a_summary_survives_its_row(rows: list[tuple[int, int, float]]) -> None:
    summary = functools.reduce(merge_summaries, (summary_of("a", Point(value, step, time)) for step, time, value in rows))
    row = to_row(summary)
    columns = [column.name for column in latest_metrics.c if column.name not in ("run", "metric")]
    assert exact_summary(from_row("a", [row[name] for name in columns])) == exact_summary(summary)


@settings(max_examples=300)
@given(histories)
def test_arrays_are_ordered_as_points_are(rows: list[tuple[int, int, float]]) -> None:
    expected = sorted((Point(value, step, time) for step, time, value in rows), key=history_order)
    found = series.ordered(arrays(rows))
    assert exact_history(found) == exact_history(arrays([(point.step, point.timestamp, point.value) for point in expected]))


@settings(max_examples=300)
@given(histories)
def test_a_chunk_of_history_comes_back_bit_for_bit(rows: list[tuple[int, int, float]]) -> None:
    history = series.ordered(arrays(rows))
    found = decode(encode(history))
    assert exact_history(found) == exact_history(history)
    assert found.value.tobytes() == history.value.tobytes()


few = st.integers(0, 9)
plain = st.sampled_from([1.0, 2.0, 3.0, float("inf"), float("nan")])
plain_chunks = st.lists(st.tuples(few, few, plain), min_size=1, max_size=3)


@settings(max_examples=150)
@given(st.lists(plain_chunks | histories, min_size=1, max_size=6), st.integers(1, 6), st.none() | whole, st.none() | whole)
def test_an_envelope_from_chunks_equals_that_of_the_points(
    chunks: list[list[tuple[int, int, float]]], buckets: int, start: int | None, end: int | None
) -> None:
    memory = open_store("memory:")
    with tempfile.TemporaryDirectory() as folder, closing(fresh(folder)) as store:
        position = 0
        for rows in chunks:
            item = block(RUN, *_points(rows), first=position)
            position = item.end
            for each in (memory, store):
                each.apply([item])
        assert _exact_envelope(store, buckets, start, end) == _exact_envelope(memory, buckets, start, end)


def _points(rows: Sequence[tuple[int, int, float]]) -> list[Fact]:
    return [e.MetricsLogged(time=time, step=step, points=(("a", value),)) for step, time, value in rows]


def _exact_envelope(store: Store, buckets: int, start: int | None, end: int | None, attempt: int | None = None) -> str:
    found = store.envelope(RUN, "a", buckets, start, end, attempt)
    exact = [found.start.tolist(), found.end.tolist(), found.count.tolist(), found.first.tolist(), found.last.tolist()]
    return repr([*exact, (found.min + 0.0).tolist(), (found.max + 0.0).tolist()])
