"""How a run begins: its first event, and the run as that event makes it, without asking the store."""

from __future__ import annotations

from flightlog.producer.client import Producer, build
from flightlog.producer.run_names import random_run_name
from flightlog.schema import events as e
from flightlog.schema.entities import Run
from flightlog.schema.fold import NEVER, RunState, fold_run
from flightlog.schema.ids import monotone_ms, now_ms
from flightlog.schema.names import RUN_NAME_TAG, USER_TAG


def run_started(
    producer: Producer,
    run_id: str,
    experiment_id: str,
    experiment_name: str | None,
    run_name: str | None,
    tags: dict[str, str],
    start_time: int | None = None,
) -> e.RunStarted:
    """Return the event that starts a run, with a random name if none is given."""
    location = producer.locations.of(experiment_id)
    now = monotone_ms()
    return build(
        e.RunStarted,
        time=now,
        experiment_id=experiment_id,
        experiment_name=experiment_name,
        artifact_location=location,
        artifact_uri=f"{location}/{run_id}/artifacts",
        run_name=(run_name and str(run_name)) or tags.get(RUN_NAME_TAG) or random_run_name(),
        user_id=tags.get(USER_TAG, "unknown"),
        start_time=now if start_time is None else start_time,
        tags={key: value for key, value in tags.items() if key != RUN_NAME_TAG},
    )


def local_run(run_id: str, event: e.RunStarted) -> Run:
    """Return the run as its first event makes it, without asking the store."""
    state = RunState(run_id)
    fold_run(state, event, NEVER._replace(time=event.time))
    return state.to_run()


def unread_run(run_id: str) -> Run:
    """Return what is known of a run of which nothing was read: its id."""
    return RunState(run_id, start_time=now_ms()).to_run()
