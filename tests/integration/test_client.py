"""The explicit-id client, with a real worker behind it."""

from __future__ import annotations

from pathlib import Path

import pytest

import flightlog
from flightlog import MlflowClient
from flightlog.entities import Metric, Param, RunTag, ViewType
from flightlog.exceptions import InvalidParameter, NotFound


@pytest.fixture
def client() -> MlflowClient:
    return MlflowClient()


def test_the_client_has_both_names(client: MlflowClient) -> None:
    assert flightlog.Client is MlflowClient
    assert flightlog.tracking.MlflowClient is MlflowClient
    assert Path(client.tracking_uri).name == "flightlogs"


def test_a_run_lives_its_life_by_id(client: MlflowClient) -> None:
    experiment_id = client.create_experiment("by-id", tags={"k": "v"})
    assert client.get_experiment(experiment_id).tags == {"k": "v"}
    run = client.create_run(experiment_id, start_time=1_700_000_000_000, tags={"a": 1}, run_name="x")
    run_id = run.info.run_id
    assert (run.info.status, run.info.start_time, run.info.run_name) == ("RUNNING", 1_700_000_000_000, "x")
    client.log_metric(run_id, "m", 0.5, timestamp=5, step=2)
    client.log_param(run_id, "p", "q")
    client.set_tag(run_id, "t", "u")
    client.log_batch(run_id, [Metric("m", 0.25, 6, 3), Metric("n", 1, 6, 3)], [Param("p2", "q2")], [RunTag("t2", "u2")])
    client.set_terminated(run_id, "FAILED", end_time=1_700_000_000_500)
    read = client.get_run(run_id)
    assert (read.info.status, read.info.end_time) == ("FAILED", 1_700_000_000_500)
    assert read.data.metrics == {"m": 0.25, "n": 1.0}
    assert read.data.params == {"p": "q", "p2": "q2"}
    assert {key: read.data.tags[key] for key in ("a", "t", "t2")} == {"a": "1", "t": "u", "t2": "u2"}
    history = client.get_metric_history(run_id, "m")
    assert [(point.step, point.timestamp, point.value) for point in history] == [(2, 5, 0.5), (3, 6, 0.25)]
    assert client.get_metric_history(run_id, "unknown") == []


def test_runs_are_searched_in_pages(client: MlflowClient) -> None:
    experiment_id = client.create_experiment("pages")
    made = [client.create_run(experiment_id, start_time=1000 + number).info.run_id for number in range(5)]
    first = client.search_runs([experiment_id], max_results=2)
    second = client.search_runs([experiment_id], max_results=2, page_token=first.token)
    third = client.search_runs([experiment_id], max_results=2, page_token=second.token)
    assert [run.info.run_id for run in [*first, *second, *third]] == made[::-1]
    assert third.token is None
    client.delete_run(made[0])
    assert [run.info.run_id for run in client.search_runs([experiment_id], run_view_type=ViewType.DELETED_ONLY)] == made[:1]
    client.restore_run(made[0])
    assert len(client.search_runs([experiment_id])) == 5


def test_what_is_unknown_is_not_found(client: MlflowClient) -> None:
    for call in (
        lambda: client.get_run("f" * 32),
        lambda: client.log_metric("f" * 32, "m", 1),
        lambda: client.set_tag("f" * 32, "m", 1),
        lambda: client.get_experiment("12345"),
        lambda: client.create_run("12345"),
    ):
        with pytest.raises(NotFound) as caught:
            call()
        assert caught.value.error_code == "RESOURCE_DOES_NOT_EXIST"


def test_a_batch_with_one_bad_key_writes_nothing(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    with pytest.raises(InvalidParameter):
        client.log_batch(run_id, [Metric("good", 1, 1, 1), Metric("b//d", 1, 1, 1)], [Param("p", "1")])
    data = client.get_run(run_id).data
    assert (data.metrics, data.params) == ({}, {})


def test_names_and_status_are_updated(client: MlflowClient) -> None:
    run_id = client.create_run("0", run_name="old").info.run_id
    client.update_run(run_id, status="SCHEDULED", name="new")
    info = client.get_run(run_id).info
    assert (info.run_name, info.status, info.end_time) == ("new", "SCHEDULED", None)
    with pytest.raises(InvalidParameter, match="no status"):
        client.set_terminated(run_id, "DONE")


def test_a_renamed_experiment_leaves_its_name_free(client: MlflowClient) -> None:
    first = client.create_experiment("name")
    client.rename_experiment(first, "other")
    second = client.create_experiment("name")
    assert first != second
    assert client.get_experiment(first).name == "other"
    assert client.get_experiment(second).name == "name"


def test_an_experiment_with_its_own_artifact_location_keeps_artifacts_there(client: MlflowClient, tmp_path: Path) -> None:
    experiment_id = client.create_experiment("placed", artifact_location=str(tmp_path / "place"))
    run = client.create_run(experiment_id)
    client.log_text(run.info.run_id, "x", "note.txt")
    assert [item.path for item in client.list_artifacts(run.info.run_id)] == ["note.txt"]
    assert (tmp_path / "place" / run.info.run_id / "artifacts" / "note.txt").read_text() == "x"


def test_a_run_goes_back_by_id(client: MlflowClient) -> None:
    run_id = client.create_run("0").info.run_id
    for step in range(4):
        client.log_metric(run_id, "m", float(step), step=step)
    client.rewind(run_id, 2)
    assert client.get_run(run_id).data.metrics == {"m": 1.0}
    assert [item.from_step for item in client.attempts(run_id)] == [None, 2]
    assert [len(client.get_metric_history(run_id, "m", attempt)) for attempt in (None, 0, 1)] == [2, 4, 0]
    with pytest.raises(NotFound):
        client.attempts("f" * 32)
    with pytest.raises(NotFound):
        client.rewind("f" * 32, 1)
