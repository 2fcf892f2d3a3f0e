"""What every store does. A backend's test class inherits `StoreContract` and says how to make a store."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from contracts.facts import (
    OTHER_RUN,
    OTHER_WRITER,
    RUN,
    THIRD_WRITER,
    WRITER,
    Fact,
    artifact,
    block,
    collected,
    created,
    dataset,
    exact_history,
    losses,
    metric,
    one_history,
    param,
    reasons,
    rewound,
    started,
    tag,
)
from flightlog.schema import events as e
from flightlog.schema import fold
from flightlog.schema.codec import encode, with_fields
from flightlog.schema.entities import Attempt, InputTag, LoggedModelInput, LoggedModelOutput, Run, ViewType
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.schema.ids import experiment_subject, now_ms
from flightlog.stores.base import ALL_POINTS, Gap, Outcome, Portion, Store, Tombstone
from flightlog.stores.purging import purge_block

EXPERIMENT = experiment_subject("7")
PORTIONS = [
    ALL_POINTS,
    Portion(start_step=100),
    Portion(end_step=200, sample=10),
    Portion(120, 120),
    Portion(260, 10),
    Portion(attempt=0),
    Portion(attempt=2, start_step=205, sample=4),
    Portion(sample=50),
]


class StoreContract(ABC):
    """Given a store, when a batch is applied, then readers see it."""

    @abstractmethod
    def make_store(self) -> Store:
        """Return an empty store."""

    @pytest.fixture
    def store(self) -> Iterator[Store]:
        """Give an empty store and close it."""
        store = self.make_store()
        yield store
        store.close()

    # positions

    def test_a_new_writer_is_expected_to_begin_at_0(self, store: Store) -> None:
        assert store.position(RUN, WRITER) == 0

    def test_applying_a_block_moves_the_position_to_its_end(self, store: Store) -> None:
        applied = store.apply([block(RUN, started(), param("lr", "1"))])
        assert (applied.positions, applied.events, applied.letters) == ({WRITER: 2}, 2, [])
        assert store.position(RUN, WRITER) == 2

    def test_applying_a_block_again_does_nothing(self, store: Store) -> None:
        item = block(RUN, started(), metric("loss", 1.0), param("lr", "1"), param("lr", "2"))
        store.apply([item])
        again = store.apply([item, item])
        assert (again.positions, again.events, again.letters) == ({WRITER: 4}, 0, [])
        assert store.get_run(RUN).data.metric_summaries["loss"].count == 1
        assert len(list(store.ledger())) == len(store.dead_letters()) == 1

    def test_the_part_of_a_block_that_is_known_is_skipped(self, store: Store) -> None:
        item = block(RUN, *(metric("loss", float(step), step) for step in range(10)))
        store.apply([item.part(0, 6)])
        assert store.apply([item]).events == 4
        assert store.metric_arrays(RUN, "loss").step.tolist() == list(range(10))
        assert [found.first_sequence for found in store.ledger()] == [0, 6]

    def test_a_block_beyond_the_position_is_not_applied_at_all(self, store: Store) -> None:
        applied = store.apply([block(RUN, param("lr", "1"), first=3)])
        assert (applied.positions, applied.events) == ({WRITER: 0}, 0)
        assert store.writers() == []
        with pytest.raises(NotFound):
            store.get_run(RUN)

    def test_blocks_of_one_batch_follow_each_other(self, store: Store) -> None:
        item = block(RUN, *(metric("loss", float(step), step) for step in range(10)))
        assert store.apply([item.part(0, 3), item.part(3, 7), item.part(7, 10)]).positions == {WRITER: 10}
        assert len(store.metric_arrays(RUN, "loss")) == 10

    def test_writers_of_one_run_have_positions_of_their_own(self, store: Store) -> None:
        store.apply([block(RUN, started(), param("lr", "1")), block(RUN, param("depth", "2"), writer=OTHER_WRITER)])
        assert [(item.writer, item.committed) for item in store.writers(RUN)] == [(WRITER, 2), (OTHER_WRITER, 1)]
        assert store.get_run(RUN).data.params == {"lr": "1", "depth": "2"}

    def test_an_empty_batch_does_nothing(self, store: Store) -> None:
        assert store.apply([]).positions == {}

    # gaps

    def test_a_gap_moves_the_position_and_leaves_a_dead_letter(self, store: Store) -> None:
        store.apply([block(RUN, param("lr", "1"))])
        applied = store.apply([Gap(RUN, WRITER, 1, 5, "corrupt-journal", "a checksum does not match", b"rest", 4)])
        letter = store.dead_letters()[0]
        assert applied.positions == {WRITER: 5} == {WRITER: store.position(RUN, WRITER)}
        assert (letter.sequence, letter.count, letter.reason, letter.payload) == (1, 4, "corrupt-journal", b"rest")
        assert reasons(applied.letters) == ["corrupt-journal"]

    def test_a_gap_that_is_known_does_nothing(self, store: Store) -> None:
        gap = Gap(RUN, WRITER, 0, 5, "corrupt-journal", "a checksum does not match")
        store.apply([gap])
        assert store.apply([gap]).letters == []
        assert [letter.count for letter in store.dead_letters()] == [None]

    def test_a_gap_that_is_partly_known_counts_the_rest(self, store: Store) -> None:
        store.apply([block(RUN, param("a", "1"), param("b", "1"))])
        store.apply([Gap(RUN, WRITER, 0, 5, "corrupt-journal", "a checksum does not match", b"", 5)])
        assert [(letter.sequence, letter.count) for letter in store.dead_letters()] == [(2, 3)]

    def test_a_gap_beyond_the_position_is_not_applied(self, store: Store) -> None:
        assert store.apply([Gap(RUN, WRITER, 2, 5, "corrupt-journal", "a checksum does not match")]).positions == {WRITER: 0}
        assert store.dead_letters() == []

    def test_what_follows_a_gap_is_applied(self, store: Store) -> None:
        store.apply([Gap(RUN, WRITER, 0, 3, "corrupt-journal", "torn"), block(RUN, param("lr", "1"), first=3)])
        assert store.get_run(RUN).data.params == {"lr": "1"}

    # runs

    def test_a_started_run_is_read_back(self, store: Store) -> None:
        store.apply([block(RUN, started(tags={"mlflow.user": "ada"}, user_id="ada"))])
        info = store.get_run(RUN).info
        assert (info.run_id, info.experiment_id, info.user_id, info.status) == (RUN, "0", "ada", "RUNNING")
        assert (info.start_time, info.end_time, info.artifact_uri, info.run_name) == (1000, None, "/artifacts", "calm-owl-1")
        assert store.get_run(RUN).data.tags == {"mlflow.runName": "calm-owl-1", "mlflow.user": "ada"}

    def test_an_unknown_run_is_not_found(self, store: Store) -> None:
        with pytest.raises(NotFound, match=RUN):
            store.get_run(RUN)

    def test_any_event_of_an_unknown_run_makes_a_placeholder(self, store: Store) -> None:
        store.apply([block(RUN, param("lr", "1", time=77))])
        assert (store.get_run(RUN).info.experiment_id, store.get_run(RUN).info.start_time) == ("0", 77)

    def test_points_alone_make_a_placeholder_that_starts_at_the_first_time(self, store: Store) -> None:
        store.apply([block(RUN, metric("loss", 1.0, time=0), metric("loss", 1.0, time=55), metric("loss", 1.0, time=44))])
        assert store.get_run(RUN).info.start_time == 55

    def test_an_event_between_points_keeps_its_place_in_time(self, store: Store) -> None:
        store.apply([block(RUN, metric("loss", 1.0, time=0), param("lr", "1", time=66), metric("loss", 1.0, time=55))])
        store.apply([block(OTHER_RUN, metric("loss", 1.0, time=55), param("lr", "1", time=66))])
        assert [store.get_run(run).info.start_time for run in (RUN, OTHER_RUN)] == [66, 55]

    def test_a_placeholder_becomes_the_run_when_its_start_comes(self, store: Store) -> None:
        store.apply([block(RUN, param("lr", "1", time=77))])
        store.apply([block(RUN, started("7", "seven"), writer=OTHER_WRITER)])
        assert (store.get_run(RUN).info.experiment_id, store.get_run(RUN).info.start_time) == ("7", 1000)
        assert store.get_run(RUN).data.params == {"lr": "1"}

    def test_a_run_ends_and_is_resumed(self, store: Store) -> None:
        store.apply([block(RUN, started(), e.RunEnded(time=2000, status="FAILED", end_time=1999))])
        assert (store.get_run(RUN).info.status, store.get_run(RUN).info.end_time) == ("FAILED", 1999)
        store.apply([block(RUN, e.RunResumed(time=3000), writer=OTHER_WRITER)])
        assert (store.get_run(RUN).info.status, store.get_run(RUN).info.end_time) == ("RUNNING", 1999)

    def test_a_status_that_arrives_late_loses_to_a_later_one(self, store: Store) -> None:
        store.apply([block(RUN, started(), e.RunEnded(time=3000, status="FINISHED", end_time=3000))])
        store.apply([block(RUN, e.RunStatusChanged(time=2000, status="SCHEDULED"), writer=OTHER_WRITER)])
        assert store.get_run(RUN).info.status == "FINISHED"

    # lost runs

    def test_a_run_of_which_nothing_is_heard_is_lost(self, store: Store) -> None:
        store.apply([block(RUN, started(), param("lr", "1"))])
        (writer,) = store.writers(RUN)
        assert store.mark_lost(-1) == 1
        info = store.get_run(RUN).info
        assert (info.status, info.status_reason, info.end_time) == ("FAILED", "lost", writer.updated)
        assert store.mark_lost(-1) == 0

    def test_a_run_that_was_heard_of_or_ended_or_has_not_started_or_lives_is_not_lost(self, store: Store) -> None:
        store.apply([block(RUN, started(), e.RunEnded(time=2000, status="KILLED", end_time=2000)), block(OTHER_RUN, param("lr", "1"))])
        store.apply([block("c" * 32, started())])
        assert (store.mark_lost(60_000), store.mark_lost(-1, {"c" * 32})) == (0, 0)
        assert [store.get_run(run).info.status for run in (RUN, OTHER_RUN, "c" * 32)] == ["KILLED", "RUNNING", "RUNNING"]

    def test_a_run_that_one_of_its_writers_was_heard_of_is_not_lost(self, store: Store) -> None:
        store.apply([block(RUN, started())])
        heard = store.writers(RUN)[0].updated
        while now_ms() <= heard + 5:
            pass
        store.apply([block(RUN, e.WriterAlive(time=2000), writer=OTHER_WRITER)])
        assert store.mark_lost(max(now_ms() - heard - 1, 5)) == 0
        assert store.mark_lost(-1) == 1

    @pytest.mark.parametrize("fact", [metric("loss", 1.0), param("lr", "1"), e.WriterAlive(time=1500)], ids=["point", "param", "heartbeat"])
    def test_whatever_is_heard_of_a_lost_run_revives_it(self, store: Store, fact: Fact) -> None:
        store.apply([block(RUN, started(), e.RunStatusChanged(time=1200, status="SCHEDULED"))])
        store.mark_lost(-1)
        store.apply([block(RUN, fact, writer=OTHER_WRITER)])
        info = store.get_run(RUN).info
        assert (info.status, info.status_reason, info.end_time) == ("SCHEDULED", None, None)
        assert store.mark_lost(-1) == 1

    def test_the_end_of_a_lost_run_that_arrives_late_counts(self, store: Store) -> None:
        store.apply([block(RUN, started())])
        store.mark_lost(-1)
        store.apply([block(RUN, e.RunEnded(time=2000, status="FINISHED", end_time=2000), first=1)])
        info = store.get_run(RUN).info
        assert (info.status, info.status_reason, info.end_time) == ("FINISHED", None, 2000)

    def test_the_loss_of_a_run_that_has_ended_meanwhile_does_nothing(self, store: Store) -> None:
        store.apply([block(RUN, started(), e.RunEnded(time=2000, status="KILLED", end_time=2000, reason="SIGTERM"))])
        store.apply([block(RUN, e.RunLost(time=3000, last_seen=1000), writer=OTHER_WRITER)])
        info = store.get_run(RUN).info
        assert (info.status, info.status_reason, info.end_time) == ("KILLED", "SIGTERM", 2000)
        store.apply([block(RUN, metric("loss", 1.0), first=2)])
        assert store.get_run(RUN).info.status == "KILLED"

    def test_the_loss_of_a_run_is_in_the_ledger(self, store: Store) -> None:
        store.apply([block(RUN, started())])
        store.mark_lost(-1)
        assert [(item.first_sequence, len(item.records)) for item in store.ledger(RUN)] == [(0, 1), (0, 1)]

    # attempts

    def test_a_run_has_one_attempt_until_it_is_resumed(self, store: Store) -> None:
        store.apply([block(RUN, started(), *losses(0, 1, 2))])
        assert store.attempts(RUN) == [Attempt(0, 1000)]
        store.apply([block(RUN, e.RunResumed(time=2000), *losses(1, 2, 3), writer=OTHER_WRITER)])
        assert store.attempts(RUN) == [Attempt(0, 1000), Attempt(1, 2000)]
        assert store.attempts(OTHER_RUN) == []

    def test_points_of_one_block_count_for_the_attempt_in_which_they_were_logged(self, store: Store) -> None:
        store.apply(
            [block(RUN, started(), *losses(0, 1), e.RunResumed(time=2000), *losses(2), rewound(1), *losses(1), e.RunResumed(time=3000))]
        )
        assert [store.metric_arrays(RUN, "loss", attempt=attempt).step.tolist() for attempt in range(4)] == [[0, 1], [2], [1], []]
        assert store.metric_arrays(RUN, "loss").step.tolist() == [0, 1]

    def test_resuming_hides_nothing(self, store: Store) -> None:
        store.apply([block(RUN, started(), *losses(0, 1, 2))])
        store.apply([block(RUN, e.RunResumed(time=2000), *losses(1, 2, 3), writer=OTHER_WRITER)])
        assert store.metric_arrays(RUN, "loss").step.tolist() == [0, 1, 1, 2, 2, 3]
        assert store.metric_arrays(RUN, "loss", attempt=1).step.tolist() == [1, 2, 3]
        assert store.get_run(RUN).data.metric_summaries["loss"].count == 6

    def test_rewinding_hides_what_earlier_attempts_logged_from_there_on(self, store: Store) -> None:
        store.apply([block(RUN, started(), *losses(*range(10)), rewound(4), metric("loss", 0.5, 4))])
        assert store.attempts(RUN) == [Attempt(0, 1000), Attempt(1, 2000, 4)]
        assert [(item.step, item.value) for item in store.metric_history(RUN, "loss")] == [(0, 0), (1, 1), (2, 2), (3, 3), (4, 0.5)]
        assert store.metric_arrays(RUN, "loss", attempt=0).step.tolist() == list(range(10))
        assert store.metric_arrays(RUN, "loss", attempt=1).step.tolist() == [4]
        summary = store.get_run(RUN).data.metric_summaries["loss"]
        assert (summary.count, summary.last.value, summary.max and summary.max.value) == (5, 0.5, 3.0)

    def test_a_metric_of_which_nothing_stays_visible_vanishes_until_it_is_logged_again(self, store: Store) -> None:
        store.apply([block(RUN, started(), *losses(5, 6), metric("acc", 1.0, 2))])
        store.apply([block(RUN, rewound(5), first=4)])
        assert store.get_run(RUN).data.metrics == {"acc": 1.0}
        store.apply([block(RUN, *losses(7), first=5)])
        assert store.get_run(RUN).data.metrics == {"acc": 1.0, "loss": 7.0}

    def test_late_points_of_an_earlier_process_count_for_its_own_attempt(self, store: Store) -> None:
        store.apply([block(RUN, started(), *losses(0, 1, 2))])
        store.apply([block(RUN, e.RunResumed(time=2000), rewound(2), *losses(2), writer=OTHER_WRITER)])
        store.apply([block(RUN, *losses(1, 3, 4), first=4), block(RUN, *losses(3), writer=THIRD_WRITER)])
        assert store.metric_arrays(RUN, "loss").step.tolist() == [0, 1, 1, 2, 3]
        assert [store.metric_arrays(RUN, "loss", attempt=attempt).step.tolist() for attempt in range(3)] == [[0, 1, 1, 2, 3, 4], [], [2, 3]]
        assert store.get_run(RUN).data.metric_summaries["loss"].last.step == 3

    def test_a_writer_of_whom_only_damage_was_known_belongs_to_the_attempt_of_its_first_event(self, store: Store) -> None:
        store.apply([Gap(RUN, OTHER_WRITER, 0, 3, "missing", "3 events are missing"), block(RUN, started(), *losses(0, 1))])
        store.apply([block(RUN, rewound(1), first=3), block(RUN, *losses(1, 2), writer=OTHER_WRITER, first=3)])
        assert store.metric_arrays(RUN, "loss", attempt=1).step.tolist() == [1, 2]

    def test_a_run_has_no_more_attempts_than_anybody_needs(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fold, "MAX_ATTEMPTS", 2)
        store.apply(
            [block(RUN, started(), rewound(5), *losses(5), rewound(5), *losses(5), rewound(5), *losses(5), e.RunResumed(time=9000))]
        )
        assert reasons(store.dead_letters()) == ["too-many-attempts"] * 2
        assert [item.from_step for item in store.attempts(RUN)] == [None, 5, 5]
        assert store.metric_arrays(RUN, "loss", attempt=2).step.tolist() == [5, 5]
        assert store.get_run(RUN).data.metric_summaries["loss"].count == 2

    def test_the_envelope_leaves_hidden_points_out(self, store: Store) -> None:
        store.apply([block(RUN, started(), *losses(*range(100)))])
        store.apply([block(RUN, rewound(50), *losses(*range(50, 60)), first=101)])
        shown, old = store.envelope(RUN, "loss", 10), store.envelope(RUN, "loss", 10, attempt=0)
        assert (int(shown.count.sum()), int(shown.end[-1])) == (60, 59)
        assert (int(old.count.sum()), int(old.end[-1])) == (100, 99)
        assert int(store.envelope(RUN, "loss", 10, start_step=70).count.sum()) == 0

    def test_a_run_is_deleted_and_restored(self, store: Store) -> None:
        store.apply([block(RUN, started(), e.RunDeleted(time=2000))])
        assert store.get_run(RUN).info.lifecycle_stage == "deleted"
        assert [len(store.search_runs(["0"], run_view_type=view)) for view in (1, 2, 3)] == [0, 1, 1]
        store.apply([block(RUN, e.RunRestored(time=3000), first=2)])
        assert store.get_run(RUN).info.lifecycle_stage == "active"

    def test_a_param_keeps_its_first_value_and_the_other_becomes_a_dead_letter(self, store: Store) -> None:
        store.apply([block(RUN, param("lr", "1"))])
        applied = store.apply([block(RUN, param("lr", "2"), param("lr", "1"), param("depth", "3"), first=1)])
        assert store.get_run(RUN).data.params == {"depth": "3", "lr": "1"}
        assert reasons(applied.letters) == reasons(store.dead_letters()) == ["param-conflict"]
        assert store.dead_letters()[0].sequence == 1

    def test_the_latest_tag_wins_whatever_arrives_last(self, store: Store) -> None:
        store.apply([block(RUN, tag("color", "red", time=3000))])
        store.apply([block(RUN, tag("color", "blue", time=2000), tag("form", "round"), writer=OTHER_WRITER)])
        assert store.get_run(RUN).data.tags == {"color": "red", "form": "round"}

    def test_a_deleted_tag_is_gone_until_it_is_set_later(self, store: Store) -> None:
        store.apply([block(RUN, tag("color", "red"), e.TagDeleted(time=2000, key="color"))])
        store.apply([block(RUN, tag("color", "blue", time=1500), writer=OTHER_WRITER)])
        assert store.get_run(RUN).data.tags == {}
        store.apply([block(RUN, tag("color", "green", time=2500), writer=OTHER_WRITER, first=1)])
        assert store.get_run(RUN).data.tags == {"color": "green"}

    def test_the_tag_of_the_name_is_the_name(self, store: Store) -> None:
        store.apply([block(RUN, started())])
        store.apply([block(RUN, tag("mlflow.runName", "grand-elk-2", time=2000), first=1)])
        assert store.get_run(RUN).info.run_name == "grand-elk-2"
        assert len(store.search_runs(["0"], "attributes.run_name = 'grand-elk-2'")) == 1

    def test_text_of_any_length_and_script_comes_back(self, store: Store) -> None:
        long = "длинный текст 長い 🛩 ' \" \\ %" * 1000
        store.apply([block(RUN, param("описание", long), tag("名前", long), metric("потери", 1.0))])
        data = store.get_run(RUN).data
        assert (data.params, data.tags, data.metrics) == ({"описание": long}, {"名前": long}, {"потери": 1.0})

    # metrics

    def test_a_summary_holds_last_first_min_and_max(self, store: Store) -> None:
        store.apply([block(RUN, metric("loss", 3.0, 1, 10), metric("loss", 1.0, 2, 20), metric("loss", 2.0, 3, 30))])
        store.apply([block(RUN, metric("loss", 9.0, 0, 40), first=3)])
        summary = store.get_run(RUN).data.metric_summaries["loss"]
        ends = (summary.last, summary.first, summary.min, summary.max)
        assert [(point.value, point.step, point.timestamp) for point in ends if point] == [(2, 3, 30), (9, 0, 40), (1, 2, 20), (9, 0, 40)]
        assert (summary.count, summary.non_finite, store.get_run(RUN).data.metrics) == (4, 0, {"loss": 2.0})

    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.7976931348623157e308, 5e-324, -0.0])
    def test_every_float_comes_back_as_it_was(self, store: Store, value: float) -> None:
        store.apply([block(RUN, metric("loss", value))])
        summary = store.get_run(RUN).data.metric_summaries["loss"]
        assert repr(summary.last.value) == repr(summary.first.value) == repr(value)
        assert (summary.min is None) == math.isnan(value)
        assert (repr(summary.max.value) if summary.max else "nan") == repr(value)
        assert summary.non_finite == int(not math.isfinite(value))
        assert repr(store.metric_arrays(RUN, "loss").value.tolist()) == repr([value])

    def test_equal_points_are_kept_as_two(self, store: Store) -> None:
        store.apply([block(RUN, metric("loss", 1.0), metric("loss", 1.0))])
        assert len(store.metric_history(RUN, "loss")) == store.get_run(RUN).data.metric_summaries["loss"].count == 2

    def test_histories_come_in_the_order_that_each_reader_promises(self, store: Store) -> None:
        points = [(5, 10, 1.0), (4, 99, 7.0), (5, 9, 100.0), (5, 10, math.nan), (5, 10, -1.0), (5, 10, 0.5)]
        store.apply([block(RUN, *(metric("loss", value, step, time) for step, time, value in points[:3]))])
        store.apply([block(RUN, *(metric("loss", value, step, time) for step, time, value in points[3:]), first=3)])
        arrays = exact_history(store.metric_arrays(RUN, "loss"))
        assert arrays == [(4, 99, "7.0"), (5, 9, "100.0"), (5, 10, "-1.0"), (5, 10, "nan"), (5, 10, "0.5"), (5, 10, "1.0")]
        assert [(item.timestamp, item.step) for item in store.metric_history(RUN, "loss")] == [(9, 5), *[(10, 5)] * 4, (99, 4)]

    def test_a_range_of_steps_includes_both_ends(self, store: Store) -> None:
        store.apply([block(RUN, *(metric("loss", float(step), step) for step in range(10)))])
        assert store.metric_arrays(RUN, "loss", 3, 5).step.tolist() == [3, 4, 5]
        assert store.metric_arrays(RUN, "loss", None, 1).step.tolist() == [0, 1]
        assert store.metric_arrays(RUN, "loss", 8, None).step.tolist() == [8, 9]
        assert store.metric_arrays(RUN, "loss", 7, 2).step.tolist() == []

    def test_steps_and_times_may_be_as_great_as_64_bits_hold(self, store: Store) -> None:
        points = [(-(2**63), 0), (-1, 2**63 - 1), (0, 1), (2**63 - 1, 5)]
        store.apply([block(RUN, *(metric("loss", 1.0, step, time) for step, time in points))])
        history = store.metric_arrays(RUN, "loss")
        assert list(zip(history.step.tolist(), history.timestamp.tolist(), strict=True)) == points
        assert store.envelope(RUN, "loss", 2).count.tolist() == [2, 2]
        assert store.envelope(RUN, "loss", 1).count.tolist() == [4]

    def test_unknown_runs_and_metrics_have_no_points(self, store: Store) -> None:
        store.apply([block(RUN, metric("loss", 1.0))])
        for run_id, key in ((RUN, "other"), (OTHER_RUN, "loss")):
            assert store.metric_history(run_id, key) == []
            assert len(store.metric_arrays(run_id, key)) == len(store.envelope(run_id, key).start) == 0

    def test_an_envelope_has_a_row_for_each_bucket_with_points(self, store: Store) -> None:
        values = [math.nan, 5.0, -1.0, math.inf, math.nan, math.nan]
        store.apply([block(RUN, *(metric("loss", value, step) for step, value in zip((0, 1, 2, 3, 8, 9), values, strict=True)))])
        found = store.envelope(RUN, "loss", buckets=5)
        assert (found.start.tolist(), found.end.tolist(), found.count.tolist()) == ([0, 2, 8], [1, 3, 9], [2, 2, 2])
        assert repr(found.min.tolist()) == "[5.0, -1.0, nan]"
        assert repr(found.max.tolist()) == "[5.0, inf, nan]"
        assert repr(found.first.tolist()) == "[nan, -1.0, nan]"
        assert repr(found.last.tolist()) == "[5.0, inf, nan]"

    def test_buckets_beyond_the_last_point_are_left_out(self, store: Store) -> None:
        store.apply([block(RUN, *(metric("loss", float(step), step) for step in range(6)))])
        found = store.envelope(RUN, "loss", buckets=10, start_step=-50, end_step=100)
        assert (found.start.tolist(), found.end.tolist(), found.count.tolist()) == ([0], [5], [6])

    def test_an_envelope_has_at_least_one_bucket(self, store: Store) -> None:
        with pytest.raises(InvalidParameter, match="0"):
            store.envelope(RUN, "loss", buckets=0)

    def test_an_envelope_of_a_long_history_equals_that_of_its_points(self, store: Store) -> None:
        values = np.random.default_rng(0).normal(size=20_000).tolist()
        item = block(RUN, *(metric("loss", value, step) for step, value in enumerate(values)))
        for start in range(0, 20_000, 5_000):
            store.apply([item.part(start, start + 5_000)])
        found = store.envelope(RUN, "loss", 2, 100, 19_899)
        halves = np.array(values[100:19_900]).reshape(2, -1)
        assert found.count.tolist() == [9900, 9900]
        assert (found.min.tolist(), found.max.tolist()) == (halves.min(axis=1).tolist(), halves.max(axis=1).tolist())
        assert (found.first.tolist(), found.last.tolist()) == (halves[:, 0].tolist(), halves[:, -1].tolist())

    def test_several_metrics_of_one_event_belong_to_one_step(self, store: Store) -> None:
        store.apply([block(RUN, e.MetricsLogged(time=1, step=4, points=(("a", 1.0), ("b", 2.0), ("a", 3.0))))])
        assert store.metric_arrays(RUN, "a").value.tolist() == [1.0, 3.0]
        assert store.get_run(RUN).data.metrics == {"a": 3.0, "b": 2.0}

    # dead letters

    def test_what_cannot_be_decoded_becomes_a_dead_letter_and_the_rest_goes_on(self, store: Store) -> None:
        unknown_metric = block(RUN, metric("loss", 1.0)).records.payload(0).replace(b"\xce\x00\x00\x00\x00", b"\xce\x00\x00\x00\x09")
        facts = (
            b"junk",
            b"\x94\xcd\x03\xe7\x01\x01\x80",
            b"\x94\x02\x63\x01\x80",
            unknown_metric,
            b"\x94\x02\x01\x01\x80",
            metric("loss", 2.0),
        )
        applied = store.apply([block(RUN, *facts)])
        assert reasons(applied.letters) == ["malformed", "unknown-type", "newer-version", "unknown-metric", "invalid"]
        assert [(letter.sequence, letter.payload) for letter in store.dead_letters(RUN, WRITER)] == list(enumerate(facts[:5]))
        assert store.metric_arrays(RUN, "loss").value.tolist() == [2.0]
        assert [item.dead_letters for item in store.writers()] == [5]

    def test_metrics_in_another_wire_form_count_as_well(self, store: Store) -> None:
        compact = b"\x95\x01\x01\x07\x03\x92\x00\xcb\x3f\xf0\x00\x00\x00\x00\x00\x00"
        store.apply([block(RUN, metric("loss", 2.0, 1), compact, metric("loss", 3.0, 5))])
        assert exact_history(store.metric_arrays(RUN, "loss")) == [(1, 1000, "2.0"), (3, 7, "1.0"), (5, 1000, "3.0")]

    def test_a_time_beyond_63_bits_is_invalid(self, store: Store) -> None:
        late = block(RUN, metric("loss", 1.0, time=2**63 - 1)).records.payload(0).replace(b"\xcf\x7f", b"\xcf\xff")
        assert reasons(store.apply([block(RUN, metric("loss", 1.0), late)]).letters) == ["invalid"]
        assert len(store.metric_arrays(RUN, "loss")) == 1

    def test_dropped_events_are_counted_by_run(self, store: Store) -> None:
        lost = [e.EventsDropped(time=5, count=count, reason="the disk was full") for count in (3, 4)]
        store.apply([block(RUN, started(), *lost), block(OTHER_RUN, started())])
        assert store.dropped() == {RUN: 7}

    def test_dead_letters_are_found_by_subject_and_writer(self, store: Store) -> None:
        store.apply([block(RUN, b"a"), block(OTHER_RUN, b"b"), block(RUN, b"c", writer=OTHER_WRITER)])
        assert [letter.payload for letter in store.dead_letters()] == [b"a", b"b", b"c"]
        assert [letter.payload for letter in store.dead_letters(RUN)] == [b"a", b"c"]
        assert [letter.payload for letter in store.dead_letters(writer=OTHER_WRITER)] == [b"c"]

    @pytest.mark.parametrize("subject", [RUN, EXPERIMENT])
    def test_an_event_under_the_wrong_subject_becomes_a_dead_letter(self, store: Store, subject: str) -> None:
        fact = created("7", "seven") if subject == RUN else metric("loss", 1.0)
        assert len(store.apply([block(subject, fact)]).letters) == 1

    # experiments

    def test_the_default_experiment_always_exists(self, store: Store) -> None:
        assert store.get_experiment("0").name == "Default"
        found = store.get_experiment_by_name("Default")
        assert found is not None
        assert found.experiment_id == "0"

    def test_a_run_founds_the_experiment_that_it_names(self, store: Store) -> None:
        store.apply([block(RUN, started("7", "seven", artifact_location="/seven"))])
        found = store.get_experiment("7")
        assert (found.name, found.artifact_location, found.creation_time, found.lifecycle_stage) == ("seven", "/seven", 1000, "active")

    def test_a_run_without_a_name_for_its_experiment_founds_one_named_after_the_id(self, store: Store) -> None:
        store.apply([block(RUN, started("7"))])
        assert store.get_experiment("7").name == "experiment-7"
        store.apply([block(EXPERIMENT, created("7", "seven"))])
        assert (store.get_experiment("7").name, store.get_experiment("7").artifact_location) == ("seven", "/artifacts/7")

    def test_a_run_goes_to_the_experiment_that_has_the_name_under_another_id(self, store: Store) -> None:
        store.apply([block(EXPERIMENT, created("7", "seven")), block(RUN, started("8", "seven"))])
        assert store.get_run(RUN).info.experiment_id == "7"
        with pytest.raises(NotFound):
            store.get_experiment("8")

    def test_an_experiment_cannot_be_created_under_a_taken_name(self, store: Store) -> None:
        applied = store.apply([block(EXPERIMENT, created("7", "seven")), block(experiment_subject("8"), created("8", "seven"))])
        assert reasons(applied.letters) == ["name-taken"]
        with pytest.raises(NotFound):
            store.get_experiment("8")

    def test_creating_an_experiment_again_is_harmless(self, store: Store) -> None:
        again = [created("7", "seven", tags={"a": "1"}), created("7", "seven", 2000, {"a": "2"})]
        assert store.apply([block(EXPERIMENT, *again)]).letters == []
        assert (store.get_experiment("7").tags, store.get_experiment("7").creation_time) == ({"a": "2"}, 1000)

    def test_an_experiment_is_renamed_and_its_old_name_is_free(self, store: Store) -> None:
        store.apply([block(EXPERIMENT, created("7", "seven"), e.ExperimentRenamed(time=2000, name="sept"))])
        assert (store.get_experiment("7").name, store.get_experiment("7").last_update_time) == ("sept", 2000)
        assert store.get_experiment_by_name("seven") is None
        assert store.apply([block(experiment_subject("8"), created("8", "seven"))]).letters == []

    def test_an_experiment_cannot_be_renamed_onto_a_taken_name(self, store: Store) -> None:
        applied = store.apply([block(EXPERIMENT, created("7", "seven"), e.ExperimentRenamed(time=2000, name="Default"))])
        assert reasons(applied.letters) == ["name-taken"]
        assert store.get_experiment("7").name == "seven"

    def test_two_experiments_may_swap_their_names_in_one_batch(self, store: Store) -> None:
        first = block(EXPERIMENT, created("7", "seven"), e.ExperimentRenamed(time=2000, name="spare"))
        second = block(experiment_subject("8"), created("8", "eight"), e.ExperimentRenamed(time=2000, name="seven"))
        third = block(EXPERIMENT, e.ExperimentRenamed(time=3000, name="eight"), first=2)
        assert store.apply([first, second, third]).letters == []
        assert [store.get_experiment(key).name for key in ("7", "8")] == ["eight", "seven"]

    def test_an_event_of_an_unknown_experiment_becomes_a_dead_letter(self, store: Store) -> None:
        assert reasons(store.apply([block(EXPERIMENT, e.ExperimentTagSet(time=1, key="a", value="b"))]).letters) == ["unknown-experiment"]

    @pytest.mark.parametrize("experiment_id", ["", "abc", "007", "-1", "٣", str(2**63), "9" * 5000])
    def test_an_experiment_id_that_is_no_number_is_refused(self, store: Store, experiment_id: str) -> None:
        applied = store.apply([block(RUN, started(experiment_id)), block(experiment_subject("x"), created("x", "x"))])
        assert reasons(applied.letters) == ["invalid", "invalid"]
        assert store.get_run(RUN).info.experiment_id == "0"
        with pytest.raises(NotFound):
            store.get_experiment(experiment_id)

    def test_tags_of_an_experiment_are_set_and_deleted(self, store: Store) -> None:
        facts = (created("7", "seven", tags={"a": "1", "b": "1"}), e.ExperimentTagSet(time=2000, key="a", value="2"))
        store.apply([block(EXPERIMENT, *facts, e.ExperimentTagDeleted(time=2000, key="b"))])
        assert store.get_experiment("7").tags == {"a": "2"}

    def test_deleting_an_experiment_deletes_its_runs_and_restoring_it_restores_them(self, store: Store) -> None:
        store.apply([block(RUN, started("7", "seven")), block(OTHER_RUN, started("0"))])
        store.apply([block(EXPERIMENT, e.ExperimentDeleted(time=2000))])
        assert [store.get_run(run).info.lifecycle_stage for run in (RUN, OTHER_RUN)] == ["deleted", "active"]
        assert [item.experiment_id for item in store.search_experiments()] == ["0"]
        assert [item.experiment_id for item in store.search_experiments(ViewType.DELETED_ONLY)] == ["7"]
        store.apply([block(EXPERIMENT, e.ExperimentRestored(time=3000), first=1)])
        assert store.get_run(RUN).info.lifecycle_stage == store.get_experiment("7").lifecycle_stage == "active"

    def test_deleting_an_experiment_reaches_the_runs_of_the_same_batch(self, store: Store) -> None:
        deleted = block(EXPERIMENT, created("7", "seven"), e.ExperimentDeleted(time=2000))
        store.apply([block(RUN, started("7", "seven")), deleted, block(OTHER_RUN, started("7", "seven"))])
        assert [store.get_run(run).info.lifecycle_stage for run in (RUN, OTHER_RUN)] == ["deleted", "active"]

    def test_a_run_that_was_deleted_later_than_its_experiment_stays_so(self, store: Store) -> None:
        store.apply([block(RUN, started("7", "seven"), e.RunDeleted(time=5000))])
        store.apply([block(EXPERIMENT, e.ExperimentDeleted(time=2000), e.ExperimentRestored(time=3000))])
        assert store.get_run(RUN).info.lifecycle_stage == "deleted"

    # inputs and outputs

    def test_what_a_run_used_and_made_is_read_with_it(self, store: Store) -> None:
        told: dict[str, Any] = {"source_type": "s3", "source": '{"uri": "s3://a/b"}', "dataset_schema": "{}", "profile": '{"num_rows": 3}'}
        used = dataset("digits", "1f", tags={"mlflow.data.context": "train", "a": "1"}, **told)
        outputs = [e.ModelOutputLogged(time=3, model_id="m-2", step=5), e.ModelOutputLogged(time=4, model_id="m-1")]
        store.apply([block(RUN, started(), used, dataset("words", time=900), e.ModelInputLogged(time=1, model_id="m-0"), *outputs)])
        for run in (store.get_run(RUN), store.search_runs(["0"])[0]):
            words, digits = run.to_dictionary()["inputs"]["dataset_inputs"]
            assert digits == {
                "dataset": {"name": "digits", "digest": "1f", "schema": "{}", "profile": '{"num_rows": 3}', **_source(told)},
                "tags": {"mlflow.data.context": "train", "a": "1"},
            }
            assert (words["dataset"]["name"], words["dataset"]["schema"], words["tags"]) == ("words", None, {})
            assert run.inputs.model_inputs == [LoggedModelInput("m-0")]
            assert run.outputs.model_outputs == [LoggedModelOutput("m-2", 5), LoggedModelOutput("m-1", 0)]
            assert Run.from_dictionary(run.to_dictionary()) == run

    def test_a_run_without_datasets_is_read_with_the_models_that_it_used_and_made(self, store: Store) -> None:
        store.apply([block(RUN, started(), e.ModelInputLogged(time=1, model_id="m-0"))])
        store.apply([block(OTHER_RUN, started(), e.ModelOutputLogged(time=2, model_id="m-1", step=3))])
        assert store.get_run(RUN).inputs.model_inputs == [LoggedModelInput("m-0")]
        assert store.get_run(OTHER_RUN).outputs.model_outputs == [LoggedModelOutput("m-1", 3)]

    def test_the_second_log_of_a_dataset_keeps_the_first_tags_whichever_comes_first(self, store: Store) -> None:
        first = block(RUN, dataset("digits", time=1000, tags={"a": "1"}), e.ModelOutputLogged(time=1000, model_id="m", step=1))
        second = block(RUN, dataset("digits", time=2000, tags={"a": "2"}), e.ModelOutputLogged(time=2000, model_id="m", step=2))
        for run_id, items in ((RUN, [first, second]), (OTHER_RUN, [second, first])):
            for item, writer in zip(items, (WRITER, OTHER_WRITER), strict=True):
                store.apply([replace(item, subject=run_id, writer=writer)])
            run = store.get_run(run_id)
            assert [item.tags for item in run.inputs.dataset_inputs] == [[InputTag("a", "1")]]
            assert run.outputs.model_outputs == [LoggedModelOutput("m", 1)]

    def test_datasets_that_differ_in_name_or_digest_are_different(self, store: Store) -> None:
        pairs = [("a", "bc"), ("ab", "c"), ("a", "BC"), ("a\0", "bc"), ("é" * 500, "x" * 36)]
        store.apply([block(RUN, *(dataset(name, digest, time=time) for time, (name, digest) in enumerate(pairs)))])
        found = [(item.dataset.name, item.dataset.digest) for item in store.get_run(RUN).inputs.dataset_inputs]
        assert found == pairs

    def test_runs_are_found_by_the_datasets_that_they_used(self, store: Store) -> None:
        train = {"mlflow.data.context": "train"}
        store.apply([block(RUN, started(), dataset("digits", "1f", tags=train), dataset("words"))])
        store.apply([block(OTHER_RUN, started(), dataset("Digits", "2e"))])
        for text, expected in (
            ("datasets.name = 'digits'", {RUN}),
            ("dataset.name ILIKE 'DIGITS'", {RUN, OTHER_RUN}),
            ("datasets.context = 'train'", {RUN}),
            ("datasets.digest IN ('1f', '2e')", {RUN, OTHER_RUN}),
            ("NOT datasets.name = 'words'", {OTHER_RUN}),
        ):
            assert {run.info.run_id for run in store.search_runs(["0"], text)} == expected

    def test_a_dataset_beyond_the_limits_becomes_a_dead_letter(self, store: Store) -> None:
        long = with_fields(encode(dataset("digits")), lambda _: {"name": "x" * 501})
        applied = store.apply([block(RUN, started(), long, dataset("digits"))])
        assert reasons(applied.letters) == ["invalid"]
        assert [item.dataset.name for item in store.get_run(RUN).inputs.dataset_inputs] == ["digits"]

    def test_nothing_of_its_inputs_is_left_of_a_purged_run(self, store: Store) -> None:
        store.apply([block(RUN, started(), dataset("digits"), e.ModelInputLogged(time=1, model_id="m")), block(OTHER_RUN, dataset("x"))])
        store.apply([purge_block(RUN, 5000)])
        assert store.search_runs(["0"], "dataset.name = 'digits'") == []
        assert not any(b"digits" in payload for item in store.ledger() for payload in item.records.payloads())

    # artifacts

    def test_an_artifact_waits_until_it_is_settled(self, store: Store) -> None:
        store.apply([block(RUN, started(), artifact("plots/loss.png"), artifact("model.bin"))])
        pending = sorted(store.pending_artifacts(), key=lambda item: item[2].path)
        assert [(run_id, uri, item.path) for run_id, uri, item in pending] == [
            (RUN, "/artifacts", "model.bin"),
            (RUN, "/artifacts", "plots/loss.png"),
        ]
        store.settle_artifact(RUN, pending[0][2], "stored")
        store.settle_artifact(RUN, pending[1][2], "failed", "the bucket is gone")
        assert store.pending_artifacts() == []
        assert [(item.state, item.reason) for item in store.artifacts(RUN)] == [("stored", None), ("failed", "the bucket is gone")]

    def test_settling_an_artifact_spares_a_newer_one_at_its_path(self, store: Store) -> None:
        store.apply([block(RUN, started(), artifact("model.bin"))])
        old = store.pending_artifacts()[0][2]
        store.apply([block(RUN, artifact("model.bin", time=2000, size=5), first=2)])
        store.settle_artifact(RUN, old, "stored")
        assert [(item.size, item.state) for item in store.artifacts(RUN)] == [(5, "pending")]

    def test_artifacts_of_a_run_without_a_root_wait_unseen(self, store: Store) -> None:
        store.apply([block(RUN, artifact("model.bin"))])
        assert (store.pending_artifacts(), len(store.artifacts(RUN)), store.artifacts(OTHER_RUN)) == ([], 1, [])

    def test_pending_artifacts_come_in_bounded_number(self, store: Store) -> None:
        store.apply([block(RUN, started(), *(artifact(f"{number}.txt") for number in range(5)))])
        assert len(store.pending_artifacts(2)) == 2

    def test_pending_artifacts_come_page_by_page_each_once(self, store: Store) -> None:
        paths = [f"{number}.txt" for number in range(5)]
        for run in (OTHER_RUN, RUN):
            store.apply([block(run, started(), *map(artifact, paths))])
        found, last = [], None
        while page := store.pending_artifacts(3, last):
            last = page[-1]
            found += [(run_id, item.path) for run_id, _, item in page]
        assert sorted(found) == [(run, path) for run in (RUN, OTHER_RUN) for path in paths]

    def test_pending_artifacts_are_found_by_their_snapshots(self, store: Store) -> None:
        store.apply([block(RUN, started(), artifact("a"), artifact("b", time=2000), artifact("c", time=3000), artifact("d"))])
        (settled,) = store.pending_snapshots(["snapshot-3000"])
        store.settle_artifact(RUN, settled[2], "stored")
        found = store.pending_snapshots({"snapshot-2000", "snapshot-3000", "another"})
        assert [(run_id, uri, item.path) for run_id, uri, item in found] == [(RUN, "/artifacts", "b")]
        assert store.pending_snapshots([]) == []

    def test_snapshots_are_of_use_as_long_as_an_artifact_that_is_not_stored_or_a_dead_letter_names_them(self, store: Store) -> None:
        facts = [artifact("waits", time=1000), artifact("failed", time=2000), artifact("stored", time=3000), artifact("new", time=4000)]
        store.apply([block(RUN, started(), *facts, artifact("new", time=5000)), block(OTHER_RUN, artifact("homeless", time=6000))])
        for item, state in [(item, item.path) for _, _, item in store.pending_artifacts() if item.path in ("failed", "stored")]:
            store.settle_artifact(RUN, item, state)
        store.apply([Gap(RUN, OTHER_WRITER, 0, 1, "refused", "because", b"it names snapshot-7000")])
        names = {f"snapshot-{number}000" for number in range(1, 9)}
        assert store.unwanted_snapshots(names) == {"snapshot-3000", "snapshot-4000", "snapshot-8000"}
        assert store.homeless_snapshots(names) == {"snapshot-6000": OTHER_RUN}
        assert (store.unwanted_snapshots([]), store.homeless_snapshots([])) == (set(), {})

    def test_many_artifacts_are_settled_at_once_with_their_checksums(self, store: Store) -> None:
        store.apply([block(RUN, started(), *map(artifact, "abc")), block(OTHER_RUN, started(), artifact("d"))])
        pending = {item.path: (run_id, item) for run_id, _, item in store.pending_artifacts()}
        outcomes = [
            Outcome(*pending["a"], "stored"),
            Outcome(RUN, replace(pending["b"][1], sha256="b" * 64), "stored"),
            Outcome(*pending["c"], "pending", "attempt 1 failed"),
            Outcome(OTHER_RUN, replace(pending["d"][1], sha256="d" * 64), "failed", "refused"),
            Outcome("e" * 32, pending["a"][1], "stored"),
        ]
        store.settle_artifacts(outcomes)
        store.settle_artifacts([])
        found = [(item.state, item.reason, item.sha256) for item in (*store.artifacts(RUN), *store.artifacts(OTHER_RUN))]
        assert found == [
            ("stored", None, None),
            ("stored", None, "b" * 64),
            ("pending", "attempt 1 failed", None),
            ("failed", "refused", "d" * 64),
        ]
        assert [item.path for _, _, item in store.pending_artifacts()] == ["c"]

    def test_the_checksum_of_an_event_outlives_an_outcome_without_one(self, store: Store) -> None:
        logged = artifact("a").model_copy(update={"sha256": "a" * 64})
        store.apply([block(RUN, started(), logged)])
        settled = e.ArtifactSettled(time=2000, path="a", snapshot=logged.snapshot, state="pending", reason="later")
        store.apply([block(RUN, settled, first=2)])
        assert [(item.state, item.reason, item.sha256) for item in store.artifacts(RUN)] == [("pending", "later", "a" * 64)]

    @pytest.mark.parametrize(
        ("location", "named", "expected"),
        [
            ("s3://flights/chosen", "/home/me/7", f"s3://flights/chosen/{RUN}/artifacts"),
            ("/other/machine/7", "/home/me/7", f"/home/me/7/{RUN}/artifacts"),
            ("s3://flights/chosen", "/mine/also-chosen", f"/mine/also-chosen/{RUN}/artifacts"),
            ("", "/home/me/7", f"/home/me/7/{RUN}/artifacts"),
        ],
    )
    def test_a_run_has_its_artifacts_where_somebody_chose_that_its_experiment_has_them(
        self, store: Store, location: str, named: str, expected: str
    ) -> None:
        experiment = created("7", "seven").model_copy(update={"artifact_location": location})
        start = started("7", artifact_location=named, artifact_uri=f"{named}/{RUN}/artifacts")
        elsewhere = started("7", artifact_location=named, artifact_uri="/a/place/of/its/own")
        store.apply([block(EXPERIMENT, experiment), block(RUN, start), block(OTHER_RUN, elsewhere)])
        assert store.get_run(RUN).info.artifact_uri == expected
        assert store.get_run(OTHER_RUN).info.artifact_uri == "/a/place/of/its/own"

    # searches and the ledger

    def test_runs_are_found_by_experiment_and_filter(self, store: Store) -> None:
        store.apply(
            [
                block(RUN, started("7", "seven"), metric("loss", 0.5), param("lr", "1")),
                block(OTHER_RUN, started("7", "seven", time=2000), metric("loss", 1.5)),
            ]
        )
        assert [run.info.run_id for run in store.search_runs(["7"])] == [OTHER_RUN, RUN]
        assert [run.info.run_id for run in store.search_runs(["7"], "metrics.loss < 1 and params.lr = '1'")] == [RUN]
        assert store.search_runs(["0"]) == []

    def test_pages_of_runs_add_up_to_the_whole(self, store: Store) -> None:
        store.apply([block(f"{number:032x}", started(time=1000 + number), metric("loss", 1.0)) for number in range(7)])
        found: list[int] = []
        token = None
        while token or not found:
            page = store.search_runs(["0"], max_results=3, order_by=["attributes.start_time ASC"], page_token=token)
            found += [run.info.start_time for run in page]
            token = page.token
        assert found == list(range(1000, 1007))

    def test_pages_of_experiments_add_up_to_the_whole(self, store: Store) -> None:
        for number in range(1, 4):
            store.apply([block(experiment_subject(str(number)), created(str(number), f"e{number}"))])
        first = store.search_experiments(max_results=3, order_by=["name ASC"])
        rest = store.search_experiments(max_results=3, order_by=["name ASC"], page_token=first.token)
        assert [item.name for item in [*first, *rest]] == ["Default", "e1", "e2", "e3"]
        assert rest.token is None

    def test_the_ledger_gives_back_every_block_in_the_order_of_application(self, store: Store) -> None:
        items = [
            block(RUN if number % 2 else OTHER_RUN, param(f"p{number}", "1"), b"junk", first=2 * (number // 2)) for number in range(50)
        ]
        store.apply(items)
        found = list(store.ledger())
        assert [(item.subject, item.writer, item.first_sequence) for item in found] == [
            (item.subject, WRITER, item.first_sequence) for item in items
        ]
        assert [list(item.records.payloads()) for item in found] == [list(item.records.payloads()) for item in items]
        assert len(list(store.ledger(RUN))) == 25

    def test_housekeeping_changes_nothing_that_a_reader_sees(self, store: Store) -> None:
        item = block(RUN, *(metric("loss", float(step % 7), step // 3, step) for step in range(100)))
        for start in range(100):
            store.apply([item.part(start, start + 1)])
        before = exact_history(store.metric_arrays(RUN, "loss"))
        while store.maintain():
            pass
        assert exact_history(store.metric_arrays(RUN, "loss")) == before
        assert len(before) == 100

    # purging

    def test_a_purged_run_is_gone_and_what_still_comes_of_it_is_dropped_and_counted(self, store: Store) -> None:
        store.apply([block(RUN, started(), param("lr", "1"), param("lr", "2"), metric("loss", 1.0), artifact("a.txt"))])
        store.apply([purge_block(RUN, 5000)])
        late = store.apply([block(RUN, param("late", "1"), metric("loss", 2.0), first=5), Gap(RUN, WRITER, 7, 9, "torn", "damaged")])
        assert (late.events, late.letters, late.positions) == (0, [], {WRITER: 9})
        with pytest.raises(NotFound):
            store.get_run(RUN)
        assert (store.dead_letters(), store.artifacts(RUN), len(store.metric_arrays(RUN, "loss"))) == ([], [], 0)
        assert store.tombstones() == [Tombstone(RUN, 5000, 2)]
        assert store.position(RUN, WRITER) == 9

    def test_nothing_that_was_logged_to_a_purged_run_stays_in_the_ledger(self, store: Store) -> None:
        store.apply([block(RUN, tag("a", "secret"), started("7", "seven", run_name="secret", user_id="secret", tags={"b": "secret"}))])
        store.apply(
            [block(RUN, param("lr", "secret"), first=2), block(RUN, param("x", "secret"), writer=OTHER_WRITER), purge_block(RUN, 5000)]
        )
        payloads = [payload for item in store.ledger() for payload in item.records.payloads()]
        assert len(payloads) == 2
        assert not any(b"secret" in payload for payload in payloads)
        assert store.get_experiment("7").name == "seven"

    def test_a_purge_within_a_batch_divides_it(self, store: Store) -> None:
        purge = purge_block(RUN, 5000)
        store.apply([block(RUN, started()), block(OTHER_RUN, started()), purge, purge, block(RUN, param("lr", "1"), first=1)])
        assert store.tombstones() == [Tombstone(RUN, 5000, 1)]
        assert [run.info.run_id for run in store.search_runs(["0"])] == [OTHER_RUN]

    def test_a_purge_between_other_events_of_its_writer_takes_those_before_it_and_after_it(self, store: Store) -> None:
        store.apply([block(RUN, started(), e.RunPurged(time=5000), param("lr", "1"), e.RunPurged(time=6000))])
        assert store.tombstones() == [Tombstone(RUN, 5000, 2)]
        assert store.position(RUN, WRITER) == 4

    def test_a_run_of_which_nothing_has_come_can_be_purged(self, store: Store) -> None:
        store.apply([purge_block(RUN, 5000), block(RUN, started())])
        assert store.tombstones() == [Tombstone(RUN, 5000, 1)]
        with pytest.raises(NotFound):
            store.get_run(RUN)

    def test_the_name_of_a_purged_experiment_is_free_and_its_id_can_come_again(self, store: Store) -> None:
        store.apply([block(EXPERIMENT, created("7", "seven", tags={"a": "old"}), e.ExperimentDeleted(time=2000))])
        store.apply([purge_block(EXPERIMENT, 5000)])
        assert store.get_experiment_by_name("seven") is None
        late = e.ExperimentTagSet(time=4000, key="late", value="1")
        new = e.ExperimentTagSet(time=7000, key="a", value="new")
        store.apply([block(EXPERIMENT, late, created("7", "seven", time=6000), new, late, writer=OTHER_WRITER)])
        found = store.get_experiment("7")
        assert (found.name, found.tags, found.lifecycle_stage, found.creation_time) == ("seven", {"a": "new"}, "active", 6000)
        assert store.tombstones() == [Tombstone(EXPERIMENT, 5000, 2)]
        store.apply([block(experiment_subject("8"), created("8", "eight")), purge_block(EXPERIMENT, 8000)])
        assert store.get_experiment_by_name("seven") is None
        assert store.tombstones() == [Tombstone(EXPERIMENT, 8000, 2)]

    def test_an_experiment_with_runs_is_not_purged(self, store: Store) -> None:
        store.apply([block(EXPERIMENT, created("7", "seven")), block(RUN, started("7", "seven"))])
        assert reasons(store.apply([purge_block(EXPERIMENT, 5000)]).letters) == ["not-empty"]
        store.apply([purge_block(RUN, 5000), purge_block(EXPERIMENT, 5000)])
        assert [item.subject for item in store.tombstones()] == [RUN, EXPERIMENT]
        assert not any(b"seven" in payload for item in store.ledger() for payload in item.records.payloads())

    def test_the_default_experiment_and_things_of_another_kind_are_not_purged(self, store: Store) -> None:
        wrong = [block(experiment_subject("0"), e.ExperimentPurged(time=1)), block(RUN, e.ExperimentPurged(time=1))]
        wrong += [block(EXPERIMENT, e.RunPurged(time=1)), block(experiment_subject("x"), e.ExperimentPurged(time=1))]
        assert reasons(store.apply(wrong).letters) == ["invalid", "wrong-subject", "wrong-subject", "invalid"]
        assert store.tombstones() == []
        assert store.get_experiment("0").name == "Default"

    # many histories at once

    def fill(self, store: Store) -> None:
        """Apply two runs, one of which has three attempts and points that came late and in any order."""
        store.apply([block(RUN, started(), *(metric(key, float(step), step) for step in range(300) for key in ("loss", "acc")))])
        store.apply([block(OTHER_RUN, started(), metric("loss", math.nan, 5), metric("odd", -0.0, -3), metric("loss", math.inf, 5))])
        late = [metric("loss", float(step), step, 900 - step) for step in (250, 3, 120, 120, 40)]
        store.apply([block(RUN, *late, writer=OTHER_WRITER)])
        store.apply([block(RUN, e.RunResumed(time=2000), rewound(200), *losses(*range(200, 220)), writer=THIRD_WRITER)])

    @pytest.mark.parametrize("batch_points", [1, 100, 1_000_000], ids="{} a batch".format)
    @pytest.mark.parametrize("portion", PORTIONS, ids=str)
    def test_histories_read_at_once_are_those_read_one_by_one(self, store: Store, portion: Portion, batch_points: int) -> None:
        self.fill(store)
        keys = {RUN: ["acc", "loss"], OTHER_RUN: ["loss", "odd"]}
        owners = [(run, key) for run in (OTHER_RUN, RUN) for key in keys[run]]
        expected = {owner: one_history(store, *owner, portion) for owner in owners}
        found = collected(store.metric_histories([OTHER_RUN, "c" * 32, RUN, OTHER_RUN], None, portion, batch_points))
        assert list(found) == [owner for owner in owners if expected[owner]]
        assert found == {owner: points for owner, points in expected.items() if points}

    def test_histories_come_in_the_order_of_the_keys_given_and_without_unknown_ones(self, store: Store) -> None:
        self.fill(store)
        found = collected(store.metric_histories([RUN, OTHER_RUN], ["odd", "nothing", "loss", "odd"]))
        assert list(found) == [(RUN, "loss"), (OTHER_RUN, "odd"), (OTHER_RUN, "loss")]
        ids = ([OTHER_RUN], [RUN, OTHER_RUN, "c" * 32], ["c" * 32])
        assert [store.metric_keys(some) for some in ids] == [["loss", "odd"], ["acc", "loss", "odd"], []]
        assert [*store.metric_histories([RUN], []), *store.metric_histories([], None), *store.metric_histories(["c" * 32])] == []

    def test_points_of_one_step_that_came_apart_are_in_order_of_their_times(self, store: Store) -> None:
        store.apply([block(RUN, metric("loss", 1.0, 4, 3), metric("loss", 2.0, 5, 3))])
        store.apply([block(RUN, metric("loss", 3.0, 5, 1), metric("loss", 4.0, 6, 1), first=2)])
        [batch] = store.metric_histories([RUN])
        assert (batch.owners, batch.bounds.tolist()) == ([(RUN, "loss")], [0, 4])
        assert batch.points.value.tolist() == [1.0, 3.0, 2.0, 4.0]

    def test_chunks_that_lie_apart_are_one_history(self, store: Store) -> None:
        for turn in range(3):
            store.apply([block(RUN, *losses(2 * turn, 2 * turn + 1), first=2 * turn)])
        [batch] = store.metric_histories([RUN])
        assert (batch.owners, batch.bounds.tolist()) == ([(RUN, "loss")], [0, 6])

    def test_histories_come_in_batches_of_about_the_size_asked_for(self, store: Store) -> None:
        self.fill(store)
        sizes = [len(batch.points) for batch in store.metric_histories([RUN], batch_points=150)]
        assert len(sizes) > 1
        assert min(sizes) > 0

    def test_a_sample_of_fewer_points_than_must_stay_is_refused(self, store: Store) -> None:
        with pytest.raises(InvalidParameter, match="at least 4"):
            store.metric_histories([RUN], None, Portion(sample=3))


def _source(told: Mapping[str, str]) -> dict[str, str]:
    return {name: told[name] for name in ("source_type", "source")}
