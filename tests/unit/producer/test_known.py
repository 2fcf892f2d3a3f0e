"""What a process remembers of its own runs and experiments stays small, and is right about what was renamed."""

from __future__ import annotations

from flightlog.producer.known import MOST_BEGUN, Known
from flightlog.producer.starting import unread_run
from flightlog.schema.entities import Experiment
from flightlog.schema.ids import experiment_id_for


def test_only_the_latest_runs_are_remembered_whole() -> None:
    known = Known()
    for number in range(MOST_BEGUN + 1):
        known.begin_run(unread_run(f"{number:032x}"))
    first, second = f"{0:032x}", f"{1:032x}"
    assert (known.begun(first), known.has_run(first)) == (None, True)
    assert known.begun(second) is not None


def test_each_experiment_of_a_name_has_an_id_that_follows_from_those_before_it() -> None:
    known = Known()
    ids = []
    for number in range(3):
        ids.append(known.new_id("name"))
        known.remember(Experiment(ids[-1], f"renamed {number}", "", "active", {}, 0, 0))
    assert ids == [experiment_id_for("name", predecessors) for predecessors in range(3)]
    assert len(set(ids)) == 3
    assert known.named("name") is None
