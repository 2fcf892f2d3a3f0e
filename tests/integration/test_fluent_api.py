"""The seed script, verb by verb: what an MLflow script does, with a real worker behind it."""

from __future__ import annotations

import math
import threading
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import flightlog as mlflow
from flightlog.entities import RunData, RunInfo, RunInputs, RunOutputs
from flightlog.exceptions import InvalidParameter, MlflowException, NotFound


def test_a_run_is_composed_of_its_parts_and_reads_back_what_was_logged() -> None:
    experiment = mlflow.set_experiment("parabola")
    with mlflow.start_run(run_name="by hand", tags={"team": "a"}, description="a note") as active:
        assert mlflow.log_param("rate", 0.1) == 0.1
        mlflow.log_params({"start": 5, "mode": "plain"})
        for step in range(10):
            mlflow.log_metric("loss", 10.0 - step, step=step)
        mlflow.log_metrics({"a": 1, "b": 2.5}, step=3, timestamp=1_700_000_000_000)
        mlflow.set_tags({"x": 1, "gone": "y"})
        mlflow.delete_tag("gone")
    run = mlflow.get_run(active.info.run_id)
    assert isinstance(run.info, RunInfo)
    assert isinstance(run.data, RunData)
    assert isinstance(run.inputs, RunInputs)
    assert isinstance(run.outputs, RunOutputs)
    assert (run.info.status, run.info.run_name, run.info.experiment_id) == ("FINISHED", "by hand", experiment.experiment_id)
    assert run.info.end_time is not None
    assert run.info.end_time >= run.info.start_time
    assert run.data.params == {"rate": "0.1", "start": "5", "mode": "plain"}
    assert run.data.metrics == {"loss": 1.0, "a": 1.0, "b": 2.5}
    assert {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")} == {"team": "a", "x": "1"}
    assert run.data.tags["mlflow.note.content"] == "a note"
    assert run.data.tags["mlflow.runName"] == "by hand"
    best = run.data.metric_summaries["loss"]
    assert (best.min, best.first.value, best.count) == (best.last, 10.0, 10)


def test_metrics_without_step_or_time_get_zero_and_now() -> None:
    with mlflow.start_run() as active:
        mlflow.log_metric("m", 1)
    (point,) = mlflow.MlflowClient().get_metric_history(active.info.run_id, "m")
    assert (point.value, point.step) == (1.0, 0)
    assert active.info.start_time <= point.timestamp <= active.info.start_time + 60_000


def test_a_nested_run_knows_its_parent_and_both_end() -> None:
    with mlflow.start_run() as outer:
        with pytest.raises(MlflowException, match="already active"):
            mlflow.start_run()
        with mlflow.start_run(nested=True) as inner:
            assert mlflow.active_run() is inner
        assert mlflow.active_run() is outer
    assert mlflow.active_run() is None
    parent = mlflow.get_parent_run(inner.info.run_id)
    assert parent is not None
    assert parent.info.run_id == outer.info.run_id
    assert {run.info.status for run in mlflow.search_runs(output_format="list")} == {"FINISHED"}


def test_a_run_is_resumed_by_its_id() -> None:
    with mlflow.start_run() as first:
        mlflow.log_metric("m", 1, step=1)
    with mlflow.start_run(run_id=first.info.run_id) as again:
        assert again.info.run_name == first.info.run_name
        assert mlflow.get_run(first.info.run_id).info.status == "RUNNING"
        mlflow.log_metric("m", 2, step=2)
    run = mlflow.get_run(first.info.run_id)
    assert run.info.status == "FINISHED"
    assert [metric.value for metric in mlflow.MlflowClient().get_metric_history(first.info.run_id, "m")] == [1.0, 2.0]


def test_resuming_an_unknown_run_says_that_there_is_none() -> None:
    with pytest.raises(NotFound, match="a1b2c3"):
        mlflow.start_run(run_id="a1b2c3")


def test_an_exception_in_the_block_fails_the_run_and_goes_on_up() -> None:
    with pytest.raises(ZeroDivisionError), mlflow.start_run() as active:
        raise ZeroDivisionError
    assert mlflow.get_run(active.info.run_id).info.status == "FAILED"


def test_last_active_run_is_read_back_from_the_store() -> None:
    assert mlflow.last_active_run() is None
    with mlflow.start_run():
        mlflow.log_metric("m", 4)
    last = mlflow.last_active_run()
    assert last is not None
    assert last.data.metrics == {"m": 4.0}


def test_logging_without_an_active_run_starts_one() -> None:
    mlflow.log_metric("m", 1)
    active = mlflow.active_run()
    assert active is not None
    mlflow.end_run("KILLED")
    assert mlflow.get_run(active.info.run_id).info.status == "KILLED"


def test_a_thread_starts_with_no_active_run() -> None:
    seen: list[Any] = []
    with mlflow.start_run():
        thread = threading.Thread(target=lambda: seen.append(mlflow.active_run()))
        thread.start()
        thread.join()
    assert seen == [None]


def test_a_synchronous_call_returns_committed_and_raises_what_the_store_says() -> None:
    with mlflow.start_run() as active:
        mlflow.log_metric("m", 3, synchronous=True)
        assert mlflow.get_run(active.info.run_id).data.metrics == {"m": 3.0}
        mlflow.log_param("p", 1, synchronous=True)
        with pytest.raises(MlflowException, match="already '1'") as caught:
            mlflow.log_param("p", 2, synchronous=True)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
        mlflow.log_param("p", 1, synchronous=True)


def test_an_asynchronous_call_returns_operations_that_can_be_waited_for() -> None:
    with mlflow.start_run() as active:
        operations = mlflow.log_metrics({"a": 1, "b": 2}, synchronous=False)
        assert operations is not None
        operations.wait()
        params = mlflow.log_params({"p": 1, "q": 2}, synchronous=False)
        assert params is not None
        params.wait()
    assert mlflow.get_run(active.info.run_id).data.params == {"p": "1", "q": "2"}


def test_synchronous_logging_can_be_switched_on_for_all_calls() -> None:
    mlflow.config.enable_async_logging(False)
    with mlflow.start_run():
        mlflow.log_param("p", 1)
        with pytest.raises(MlflowException, match="already '1'"):
            mlflow.log_param("p", 2)


def test_artifacts_of_every_kind_are_listed_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "weights.bin").write_bytes(b"\0\1" * 500)
    (tmp_path / "model" / "deep").mkdir()
    (tmp_path / "model" / "deep" / "note.txt").write_text("deep")
    with mlflow.start_run() as active:
        mlflow.log_text("grüße", "texts/greeting.txt")
        mlflow.log_dict({"a": [1, 2]}, "config.json")
        mlflow.log_artifact(tmp_path / "model" / "weights.bin", "files")
        mlflow.log_artifact(tmp_path / "model", "folders")
        mlflow.log_artifacts(tmp_path / "model", "contents")
        assert mlflow.get_artifact_uri("files").endswith(f"{active.info.run_id}/artifacts/files")
        (tmp_path / "model" / "weights.bin").write_bytes(b"rewritten in place")
    client = mlflow.MlflowClient()
    run_id = active.info.run_id
    assert [(item.path, item.is_dir) for item in client.list_artifacts(run_id)] == [
        ("config.json", False),
        ("contents", True),
        ("files", True),
        ("folders", True),
        ("texts", True),
    ]
    assert [item.path for item in client.list_artifacts(run_id, "contents")] == ["contents/deep", "contents/weights.bin"]
    assert [item.path for item in client.list_artifacts(run_id, "folders/model")] == ["folders/model/deep", "folders/model/weights.bin"]
    assert Path(client.download_artifacts(run_id, "files/weights.bin", str(tmp_path / "down"))).read_bytes() == b"\0\1" * 500
    folder = Path(client.download_artifacts(run_id, "folders", str(tmp_path / "down")))
    assert (folder / "model" / "deep" / "note.txt").read_text() == "deep"
    assert mlflow.artifacts.load_text(f"runs:/{run_id}/texts/greeting.txt") == "grüße"
    assert mlflow.artifacts.load_dict(f"runs:/{run_id}/config.json") == {"a": [1, 2]}
    with pytest.raises(NotFound):
        client.download_artifacts(run_id, "nothing/here")


@pytest.mark.parametrize("path", ["/etc", "../up", "a/../../b", "C:\\x", "a\\b", "C:x"])
def test_artifact_paths_that_leave_the_run_are_refused(path: str) -> None:
    with mlflow.start_run(), pytest.raises(InvalidParameter, match="leaves the run's artifacts"):
        mlflow.log_text("x", path)


def test_search_runs_gives_a_list_or_a_frame() -> None:
    mlflow.set_experiment("search")
    for number in range(4):
        with mlflow.start_run(run_name=f"run-{number}"):
            mlflow.log_metric("acc", number / 4)
            mlflow.log_param("lr", "0.1" if number % 2 else "0.2")
            if number == 3:
                mlflow.set_tag("only", "here")
    found = mlflow.search_runs(filter_string="metrics.acc > 0.2 and params.lr = '0.1'", order_by=["metrics.acc DESC"], output_format="list")
    assert [run.info.run_name for run in found] == ["run-3", "run-1"]
    frame = mlflow.search_runs(order_by=["metrics.acc ASC"])
    assert list(frame.columns[:7]) == ["run_id", "experiment_id", "status", "artifact_uri", "start_time", "end_time", "metrics.acc"]
    assert frame["metrics.acc"].tolist() == [0.0, 0.25, 0.5, 0.75]
    assert frame["tags.only"].tolist() == [None, None, None, "here"]
    assert isinstance(frame["start_time"].dtype, pd.DatetimeTZDtype)
    assert len(mlflow.search_runs(experiment_names=["search"], max_results=2)) == 2
    assert mlflow.search_runs(experiment_names=["nowhere"], output_format="list") == []
    assert len(mlflow.search_runs(search_all_experiments=True, output_format="list")) == 4
    with pytest.raises(MlflowException):
        mlflow.search_runs(filter_string="metrics.acc >", output_format="list")


def test_a_frame_of_no_runs_has_the_columns_of_the_run() -> None:
    assert list(mlflow.search_runs().columns) == ["run_id", "experiment_id", "status", "artifact_uri", "start_time", "end_time"]


def test_a_frame_shows_a_time_that_nanoseconds_cannot_hold() -> None:
    year_9999 = 253_402_300_799_999
    mlflow.MlflowClient().create_run(mlflow.set_experiment("far").experiment_id, start_time=year_9999)
    assert mlflow.search_runs()["start_time"][0].timestamp() * 1000 == year_9999


def test_nan_and_infinities_are_kept_as_they_are() -> None:
    with mlflow.start_run() as active:
        for step, value in enumerate([math.nan, math.inf, -math.inf, 1.0]):
            mlflow.log_metric("m", value, step=step)
        mlflow.log_metric("nan", float("nan"))
        mlflow.log_metric("inf", float("inf"))
    history = mlflow.MlflowClient().get_metric_history(active.info.run_id, "m")
    assert [repr(point.value) for point in history] == ["nan", "inf", "-inf", "1.0"]
    run = mlflow.get_run(active.info.run_id)
    assert math.isnan(run.data.metrics["nan"])
    assert run.data.metrics["inf"] == math.inf
    assert run.data.metric_summaries["m"].non_finite == 3


BAD_VALUES: list[object] = ["text", None, [1, 2], 1j]
BAD_KEYS: list[object] = ["a//b", "../a", "/a", "x" * 251, "a?b", "line\n", "", 5, []]


@pytest.mark.parametrize(("key", "value"), [("ok", value) for value in BAD_VALUES] + [(key, 1) for key in BAD_KEYS])
def test_bad_metrics_raise_at_the_call_and_write_nothing(key: Any, value: Any) -> None:
    with mlflow.start_run() as active:
        before = active.recorder.journal.sequence
        with pytest.raises(MlflowException) as caught:
            mlflow.log_metric(key, value)
        assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
        assert active.recorder.journal.sequence == before


@pytest.mark.parametrize("step", ["1", 2.5, 2**63, -(2**63) - 1, None.__class__])
def test_bad_steps_raise_at_the_call(step: Any) -> None:
    with mlflow.start_run(), pytest.raises(MlflowException, match="step"):
        mlflow.log_metric("m", 1.0, step=step)


def test_whole_floats_and_numpy_numbers_are_fine() -> None:
    import numpy as np  # noqa: PLC0415 - only here

    with mlflow.start_run() as active:
        mlflow.log_metric("m", np.float32(0.5), step=np.int64(3))
        mlflow.log_metric("m", np.array([2.0]), step=4.0)  # type: ignore[arg-type]  # beyond what the types promise
        mlflow.log_metric("m", True, step=-1)
        mlflow.log_metric("m", "0.25", step=5)  # type: ignore[arg-type]  # MLflow takes a text that is a number
    history = mlflow.MlflowClient().get_metric_history(active.info.run_id, "m")
    assert sorted((point.step, point.value) for point in history) == [(-1, 1.0), (3, 0.5), (4, 2.0), (5, 0.25)]


def test_experiments_are_chosen_by_name_by_id_and_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    first = mlflow.set_experiment("first")
    assert mlflow.set_experiment(experiment_id=first.experiment_id).name == "first"
    with pytest.raises(InvalidParameter):
        mlflow.set_experiment()
    with pytest.raises(NotFound):
        mlflow.set_experiment(experiment_id="424242")
    found = mlflow.get_experiment_by_name("first")
    assert found is not None
    assert (found.experiment_id, found.lifecycle_stage) == (first.experiment_id, "active")
    mlflow.set_experiment_tags({"team": "b"})
    assert mlflow.get_experiment(first.experiment_id).tags == {"team": "b"}
    from flightlog.producer.context import context  # noqa: PLC0415 - to read the environment anew

    context.reset()
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "from the environment")
    with mlflow.start_run() as active:
        pass
    assert mlflow.get_experiment(active.info.experiment_id).name == "from the environment"


def test_without_an_experiment_runs_go_to_the_default_one() -> None:
    with mlflow.start_run() as active:
        pass
    assert active.info.experiment_id == "0"
    assert mlflow.get_experiment("0").name == "Default"


def test_runs_and_experiments_are_deleted_and_restored() -> None:
    experiment_id = mlflow.create_experiment("short-lived", tags={"a": 1})
    with pytest.raises(MlflowException) as caught:
        mlflow.create_experiment("short-lived")
    assert caught.value.error_code == "RESOURCE_ALREADY_EXISTS"
    with mlflow.start_run(experiment_id=experiment_id) as active:
        pass
    mlflow.delete_run(active.info.run_id)
    assert mlflow.get_run(active.info.run_id).info.lifecycle_stage == "deleted"
    assert mlflow.search_runs([experiment_id], output_format="list") == []
    mlflow.restore_run(active.info.run_id)
    assert len(mlflow.search_runs([experiment_id], output_format="list")) == 1
    mlflow.delete_experiment(experiment_id)
    assert mlflow.get_experiment(experiment_id).lifecycle_stage == "deleted"
    assert "short-lived" not in [experiment.name for experiment in mlflow.search_experiments()]
    mlflow.restore_experiment(experiment_id)
    assert mlflow.get_run(active.info.run_id).info.lifecycle_stage == "active"
    with pytest.raises(NotFound):
        mlflow.delete_run("0" * 32)


def test_another_tracking_uri_is_another_store(tmp_path: Path) -> None:
    with mlflow.start_run() as here:
        pass
    mlflow.set_tracking_uri(tmp_path / "elsewhere")
    with mlflow.start_run() as there:
        mlflow.log_metric("m", 1)
    assert mlflow.get_run(there.info.run_id).data.metrics == {"m": 1.0}
    with pytest.raises(NotFound):
        mlflow.get_run(here.info.run_id)
    assert (tmp_path / "elsewhere" / "tracking.db").is_file()


def test_a_run_goes_back_to_a_checkpoint_and_shows_each_step_once() -> None:
    with pytest.raises(MlflowException, match="no active run to rewind"):
        mlflow.rewind(0)
    with mlflow.start_run() as first:
        for step in range(10):
            mlflow.log_metric("loss", 10.0 - step, step=step)
    with mlflow.start_run(run_id=first.info.run_id) as again:
        again.rewind(6)
        for step in range(6, 8):
            mlflow.log_metric("loss", 20.0 + step, step=step)
    client, run_id = mlflow.MlflowClient(), first.info.run_id
    assert [(item.attempt, item.from_step) for item in mlflow.get_attempts(run_id)] == [(0, None), (1, None), (2, 6)]
    assert [point.value for point in client.get_metric_history(run_id, "loss")] == [10.0, 9.0, 8.0, 7.0, 6.0, 5.0, 26.0, 27.0]
    assert [point.value for point in client.get_metric_history(run_id, "loss", attempt=0)] == [10.0 - step for step in range(10)]
    assert mlflow.get_run(run_id).data.metrics == {"loss": 27.0}
    least = mlflow.get_run(run_id).data.metric_summaries["loss"].min
    assert least is not None
    assert (least.value, least.step) == (5.0, 5)


def test_a_step_to_go_back_to_is_checked_at_the_call() -> None:
    with mlflow.start_run() as run:
        for step in (1.5, "3", 2**63, None):
            with pytest.raises(InvalidParameter):
                run.rewind(step)  # type: ignore[arg-type]  # that is the test
    assert len(mlflow.get_attempts(run.info.run_id)) == 1


def test_why_a_run_did_not_finish_is_read_back() -> None:
    with pytest.raises(ValueError, match="too hot"), mlflow.start_run() as run:
        raise ValueError("too hot")
    info = mlflow.get_run(run.info.run_id).info
    assert (info.status, info.status_reason) == ("FAILED", "ValueError: too hot")
    assert "status_reason" not in dict(info)
    assert RunInfo.from_dictionary(info.to_dictionary()) == info
