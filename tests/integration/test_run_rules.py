"""Which run is active where, in which experiment, and what is refused: MLflow's rules, held to in one process."""

from __future__ import annotations

import asyncio
import os
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import flightlog as mlflow
from flightlog.entities import Metric, Param, RunTag
from flightlog.exceptions import AlreadyExists, InvalidParameter, InvalidState, MlflowException, NotFound
from flightlog.producer import lifecycle
from flightlog.producer.context import context


def code(call: Callable[[], object]) -> str:
    with pytest.raises(MlflowException) as caught:
        call()
    return caught.value.error_code


def test_a_cell_that_runs_twice_is_told_which_run_is_active_and_what_to_write() -> None:
    run = mlflow.start_run(run_name="first try")
    with pytest.raises(MlflowException, match=rf"{run.info.run_id} \(first try\) is already active.*end_run\(\).*nested=True"):
        mlflow.start_run()
    assert mlflow.active_run() is run


def test_the_handle_of_a_run_that_ended_is_as_it_was_and_the_store_knows_more() -> None:
    with mlflow.start_run() as run:
        pass
    assert (run.info.status, run.info.end_time) == ("RUNNING", None)
    assert mlflow.get_run(run.info.run_id).info.status == "FINISHED"
    assert mlflow.active_run() is None


def test_ending_with_no_status_of_a_run_leaves_it_active() -> None:
    run = mlflow.start_run()
    with pytest.raises(InvalidParameter, match="DONE"):
        mlflow.end_run("DONE")
    assert mlflow.active_run() is run


def test_a_task_inherits_the_run_of_its_creator_and_keeps_its_own_to_itself() -> None:
    async def child(barrier: asyncio.Event) -> tuple[str, str]:
        inherited = mlflow.active_run()
        assert inherited is not None
        with mlflow.start_run(nested=True) as mine:
            await barrier.wait()
            assert mlflow.active_run() is mine
        return inherited.info.run_id, mine.info.run_id

    async def main() -> list[tuple[str, str]]:
        barrier = asyncio.Event()
        tasks = [asyncio.ensure_future(child(barrier)) for _ in range(2)]
        await asyncio.sleep(0)
        barrier.set()
        return await asyncio.gather(*tasks)

    with mlflow.start_run() as outer:
        (first, one), (second, other) = asyncio.run(main())
        assert mlflow.active_run() is outer
    assert first == second == outer.info.run_id
    assert one != other
    parents = {mlflow.get_run(run_id).data.tags["mlflow.parentRunId"] for run_id in (one, other)}
    assert parents == {outer.info.run_id}


def test_a_run_that_a_task_ends_is_active_nowhere() -> None:
    async def end() -> None:
        mlflow.end_run()

    async def main() -> str:
        run = mlflow.start_run()
        await asyncio.create_task(end())
        assert mlflow.active_run() is None
        mlflow.log_metric("m", 1)
        other = mlflow.active_run()
        assert other is not None
        assert other is not run
        await asyncio.gather(end(), end())
        assert mlflow.active_run() is None
        mlflow.end_run()
        with mlflow.start_run() as outer, mlflow.start_run(nested=True):
            await asyncio.create_task(end())
            assert mlflow.active_run() is outer
            mlflow.set_tag("who", "outer")
        assert mlflow.get_run(outer.info.run_id).data.tags["who"] == "outer"
        return run.info.run_id

    assert mlflow.get_run(asyncio.run(main())).info.status == "FINISHED"


def test_threads_have_runs_of_their_own() -> None:
    seen: list[object] = []

    def work() -> None:
        seen.append(mlflow.active_run())
        with mlflow.start_run() as run:
            mlflow.log_metric("m", 1)
            seen.append(run.info.run_id)

    with mlflow.start_run() as outer:
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
            thread.join()
        assert mlflow.active_run() is outer
    assert seen[::2] == [None, None]
    assert len({outer.info.run_id, *seen[1::2]}) == 3


def test_a_run_name_wins_over_its_tag_and_a_description_stands_alone() -> None:
    with mlflow.start_run(run_name="a", tags={"mlflow.runName": "b"}, description="note") as run:
        assert (run.info.run_name, run.data.tags["mlflow.note.content"]) == ("a", "note")
    for arguments in ({}, {"run_id": run.info.run_id}):
        with pytest.raises(InvalidParameter, match=r"mlflow\.note\.content"):
            mlflow.start_run(description="x", tags={"mlflow.note.content": "x"}, **arguments)  # type: ignore[arg-type]  # the tests' mapping
    assert mlflow.active_run() is None
    client = mlflow.MlflowClient()
    assert code(lambda: client.create_run("0", run_name="a", tags={"mlflow.runName": "b"})) == "INVALID_PARAMETER_VALUE"


def test_a_resumed_run_takes_name_tags_and_description() -> None:
    with mlflow.start_run() as run:
        pass
    with mlflow.start_run(run_id=run.info.run_id, run_name="again", tags={"k": 1}, description="d"):
        pass
    tags = mlflow.get_run(run.info.run_id).data.tags
    assert (tags["mlflow.runName"], tags["k"], tags["mlflow.note.content"]) == ("again", "1", "d")


def test_the_handle_of_a_resumed_run_has_what_resuming_has_set() -> None:
    with mlflow.start_run(tags={"a": 1}) as run:
        pass
    with mlflow.start_run(run_id=run.info.run_id, run_name="again", tags={"b": 2}, description="why") as resumed:
        pass
    wanted = {"a": "1", "b": "2", "mlflow.note.content": "why", "mlflow.runName": "again"}
    assert wanted.items() <= resumed.data.tags.items()
    assert resumed.info.run_name == "again"


@pytest.mark.parametrize("away", ["no worker", "no store"])
def test_what_this_process_made_is_there_for_it_before_the_store_knows_or_can_say(
    away: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")
    if away == "no store":
        (tmp_path / "file").touch()
        monkeypatch.setenv("FLIGHTLOG_TRACKING_URI", f"sqlite:///{tmp_path}/file/tracking.db")
    context.reset()
    client = mlflow.MlflowClient()
    made, chosen = mlflow.create_experiment("made"), mlflow.set_experiment("chosen").experiment_id
    created = client.create_run(made, tags={"k": "v"})
    with mlflow.start_run() as run:
        pass
    assert mlflow.last_active_run().info == run.info  # type: ignore[union-attr]  # there is one
    assert client.get_run(created.info.run_id).data.tags["k"] == mlflow.get_run(created.info.run_id).data.tags["k"] == "v"
    assert client.get_experiment(chosen).name == mlflow.get_experiment(chosen).name == "chosen"
    assert [client.get_experiment_by_name(name).experiment_id for name in ("made", "chosen")] == [made, chosen]  # type: ignore[union-attr]
    assert code(lambda: client.create_experiment("made")) == "RESOURCE_ALREADY_EXISTS"
    client.set_tag(created.info.run_id, "k", "w")
    client.delete_tag(created.info.run_id, "k")
    client.set_experiment_tag(made, "k", "v")
    client.delete_run(created.info.run_id)
    assert code(lambda: mlflow.start_run(run_id=created.info.run_id)) == "INVALID_PARAMETER_VALUE"
    assert code(lambda: client.set_terminated(created.info.run_id)) == "INVALID_PARAMETER_VALUE"
    client.delete_experiment(chosen)
    assert code(lambda: mlflow.set_experiment("chosen")) == "INVALID_PARAMETER_VALUE"
    unknown = "RESOURCE_DOES_NOT_EXIST" if away == "no worker" else "TEMPORARILY_UNAVAILABLE"
    assert code(lambda: mlflow.get_run("f" * 32)) == code(lambda: mlflow.get_experiment("77")) == unknown


def test_the_run_of_the_environment_is_resumed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
    with mlflow.start_run() as first:
        assert "MLFLOW_RUN_ID" not in os.environ
    with mlflow.start_run() as second:
        assert (first.info.run_id, second.info.run_id != run_id) == (run_id, True)


def test_a_parent_is_the_active_run_or_is_named() -> None:
    with mlflow.start_run() as outer, pytest.raises(MlflowException, match=outer.info.run_id):
        mlflow.start_run(nested=True, parent_run_id="f" * 32)
    with mlflow.start_run(parent_run_id=outer.info.run_id) as child:
        assert child.data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert code(lambda: mlflow.start_run(parent_run_id="../x")) == "INVALID_PARAMETER_VALUE"


def test_an_experiment_id_is_looked_up_once_and_must_be_there() -> None:
    made = mlflow.create_experiment("made")
    with mlflow.start_run(experiment_id=made) as run:
        assert run.info.experiment_id == made
    context.producer.known.forget(made)
    with mlflow.start_run(experiment_id=int(made)) as run:  # type: ignore[arg-type]  # MLflow takes it
        assert run.info.experiment_id == made
    assert code(lambda: mlflow.start_run(experiment_id="424242")) == "RESOURCE_DOES_NOT_EXIST"
    assert code(lambda: mlflow.start_run(experiment_id=1.5)) == "INVALID_PARAMETER_VALUE"  # type: ignore[arg-type]  # the test
    mlflow.delete_experiment(made)
    assert code(lambda: mlflow.start_run(experiment_id=made)) == "INVALID_PARAMETER_VALUE"
    assert mlflow.active_run() is None


def test_a_deleted_experiment_cannot_be_chosen_until_it_is_restored() -> None:
    made = mlflow.set_experiment("here").experiment_id
    mlflow.delete_experiment(made)
    assert code(lambda: mlflow.set_experiment("here")) == "INVALID_PARAMETER_VALUE"
    assert code(mlflow.start_run) == "INVALID_PARAMETER_VALUE"
    assert code(lambda: mlflow.delete_experiment(made)) == "RESOURCE_DOES_NOT_EXIST"
    mlflow.restore_experiment(made)
    assert code(lambda: mlflow.restore_experiment(made)) == "RESOURCE_DOES_NOT_EXIST"
    assert mlflow.set_experiment("here").experiment_id == made


def test_a_process_that_waits_for_commits_sees_what_others_did_to_an_experiment() -> None:
    client = mlflow.MlflowClient()
    renamed = client.create_experiment("before", tags={"k": "v"})
    client.rename_experiment(renamed, "after")
    gone = client.create_experiment("gone")
    client.delete_experiment(gone)
    for experiment_id in (renamed, gone):
        context.producer.known.forget(experiment_id)
    mlflow.config.enable_async_logging(False)
    found = mlflow.set_experiment("after")
    assert (found.experiment_id, found.tags) == (renamed, {"k": "v"})
    assert code(lambda: mlflow.set_experiment("gone")) == "INVALID_PARAMETER_VALUE"


def test_an_experiment_of_this_process_keeps_its_place_for_artifacts() -> None:
    place = f"{os.getcwd()}/elsewhere"  # noqa: PTH109 - text is what is compared
    mlflow.create_experiment("placed", artifact_location=place)
    mlflow.set_experiment("placed")
    with mlflow.start_run() as run:
        assert mlflow.get_artifact_uri() == f"{place}/{run.info.run_id}/artifacts"


@pytest.mark.parametrize("mode", ["asynchronous", "offline", "synchronous", "synchronous, renamed by another"])
def test_the_former_name_of_a_renamed_experiment_is_that_of_a_new_one(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    renamed = mlflow.set_experiment("before").experiment_id
    mlflow.MlflowClient().rename_experiment(renamed, "after")
    if mode == "offline":
        mlflow.flush_async_logging()
        monkeypatch.setattr(context, "lookup", None)
    elif mode != "asynchronous":
        mlflow.config.enable_async_logging(False)
        if mode != "synchronous":
            context.producer.known.forget(renamed)
    anew = mlflow.set_experiment("before")
    assert (anew.name, anew.experiment_id != renamed) == ("before", True)
    assert mlflow.set_experiment("before").experiment_id == anew.experiment_id
    with mlflow.start_run() as run:
        pass
    assert mlflow.set_experiment("after").experiment_id == renamed
    assert code(lambda: mlflow.create_experiment("before")) == "RESOURCE_ALREADY_EXISTS"
    names = {item.experiment_id: item.name for item in mlflow.search_experiments()}
    assert names == {renamed: "after", anew.experiment_id: "before", "0": "Default"}
    assert mlflow.get_run(run.info.run_id).info.experiment_id == anew.experiment_id
    mlflow.MlflowClient().rename_experiment(anew.experiment_id, "later")
    third = mlflow.create_experiment("before")
    assert third not in (renamed, anew.experiment_id)


def test_runs_go_and_come_back_with_their_experiment() -> None:
    client = mlflow.MlflowClient()
    made = mlflow.set_experiment("there and back").experiment_id
    with mlflow.start_run() as run:
        mlflow.log_param("a", 1)
    client.delete_run(run.info.run_id)
    other = client.create_run("0").info.run_id
    client.delete_run(other)
    mlflow.delete_experiment(made)
    mlflow.restore_experiment(made)
    assert mlflow.get_run(run.info.run_id).info.lifecycle_stage == "active"
    mlflow.log_params({"b": 2}, run_id=run.info.run_id)
    assert code(lambda: mlflow.log_params({"b": 2}, run_id=other)) == "INVALID_PARAMETER_VALUE"
    with mlflow.start_run(run_id=run.info.run_id):
        mlflow.log_param("c", 3)
        mlflow.delete_experiment(made)
        assert code(lambda: mlflow.log_param("d", 4)) == "INVALID_PARAMETER_VALUE"
        mlflow.restore_experiment(made)
        mlflow.log_param("d", 4)
    assert mlflow.get_run(run.info.run_id).data.params == {"a": "1", "b": "2", "c": "3", "d": "4"}


def test_renaming_and_tagging_follow_mlflows_rules() -> None:
    client = mlflow.MlflowClient()
    one, two = client.create_experiment("one"), client.create_experiment("two")
    with pytest.raises(AlreadyExists):
        client.rename_experiment(one, "two")
    client.set_experiment_tag(one, "k", "v")
    client.delete_experiment_tag(one, "k")
    assert client.get_experiment(one).tags == {}
    assert code(lambda: client.delete_experiment_tag(one, "k")) == "RESOURCE_DOES_NOT_EXIST"
    assert code(lambda: client.set_experiment_tag(one, "k", "x" * 20_001)) == "INVALID_PARAMETER_VALUE"
    assert code(lambda: client.create_experiment("far", "/x" * 2000)) == "INVALID_PARAMETER_VALUE"
    client.delete_experiment(two)
    with pytest.raises(InvalidState):
        client.rename_experiment(two, "three")
    assert code(lambda: client.set_experiment_tag(two, "k", "v")) == "INVALID_PARAMETER_VALUE"


def test_the_active_experiment_is_tagged_and_untagged() -> None:
    mlflow.set_experiment("tagged")
    mlflow.set_experiment_tags({"a": 1, "b": 2})
    mlflow.delete_experiment_tag("a")
    found = mlflow.get_experiment_by_name("tagged")
    assert found is not None
    assert found.tags == {"b": "2"}


def test_names_and_ids_of_the_environment_must_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    made = mlflow.create_experiment("named")
    mlflow.flush_async_logging()

    def experiment_of_a_run(**variables: str) -> str:
        context.reset()
        for key in ("NAME", "ID"):
            monkeypatch.setenv(f"MLFLOW_EXPERIMENT_{key}", variables.get(key, ""))
        with mlflow.start_run() as run:
            pass
        return run.info.experiment_id

    assert experiment_of_a_run(NAME="named", ID=made) == experiment_of_a_run(ID=made) == experiment_of_a_run(NAME="named") == made
    for variables in ({"NAME": "named", "ID": "77"}, {"ID": "77"}):
        assert code(lambda variables=variables: experiment_of_a_run(**variables)) == "INVALID_PARAMETER_VALUE"  # type: ignore[misc]  # a mapping


def test_a_started_process_is_in_the_same_store_and_experiment() -> None:
    mlflow.set_tracking_uri("moved")
    made = mlflow.set_experiment("shared")
    script = "import flightlog; print(flightlog.start_run().info.experiment_id, flightlog.get_tracking_uri())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [made.experiment_id, mlflow.get_tracking_uri()]


def test_the_uri_of_a_registry_is_kept_with_one_warning(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(lifecycle.hooks, "warned", set())
    assert mlflow.get_registry_uri() == mlflow.get_tracking_uri()
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "sqlite:///environment.db")
    context.reset()
    assert mlflow.config.get_registry_uri() == "sqlite:///environment.db"
    assert caplog.messages == []
    mlflow.set_registry_uri("sqlite:///registry.db")
    mlflow.tracking.set_registry_uri("sqlite:///registry.db")
    (warning,) = caplog.messages
    assert "no model registry yet" in warning
    assert mlflow.get_registry_uri() == os.environ["MLFLOW_REGISTRY_URI"] == "sqlite:///registry.db"
    mlflow.set_registry_uri("")
    assert mlflow.get_registry_uri() == mlflow.get_tracking_uri()


def test_a_deleted_run_takes_artifacts_and_nothing_else() -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    client.delete_run(run_id)
    for call in (
        lambda: client.log_metric(run_id, "m", 1),
        lambda: client.log_param(run_id, "p", 1),
        lambda: client.set_tag(run_id, "t", 1),
        lambda: client.log_batch(run_id, [Metric("m", 1, 1, 1)]),
        lambda: client.set_terminated(run_id),
        lambda: mlflow.log_metric("m", 1, run_id=run_id),
        lambda: mlflow.log_params({"p": 1}, run_id=run_id),
    ):
        assert code(call) == "INVALID_PARAMETER_VALUE"
    client.log_text(run_id, "x", "a.txt")
    client.restore_run(run_id)
    client.log_metric(run_id, "m", 1)
    assert client.get_run(run_id).data.metrics == {"m": 1.0}


def test_a_batch_with_one_bad_value_or_a_param_twice_writes_nothing() -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    good = Metric("good", 1, 1, 1)
    for batch in (
        {"metrics": [good, Metric("bad", "x", 1, 1)]},  # type: ignore[arg-type]  # the test
        {"metrics": [good, Metric("bad", 1, 1, 2.5)]},  # type: ignore[arg-type]  # the test
        {"metrics": [good], "params": [Param("p", "1"), Param("p", "1")]},
        {"metrics": [good], "tags": [RunTag("a//b", "1")]},
    ):
        assert code(lambda batch=batch: client.log_batch(run_id, **batch)) == "INVALID_PARAMETER_VALUE"  # type: ignore[misc]  # a mapping
    assert client.get_run(run_id).data.metrics == {}


def test_a_param_comes_back_as_it_was_given() -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0").info.run_id
    assert client.log_param(run_id, "zero", 0) == 0
    assert client.log_param(run_id, "empty", "") == ""
    assert client.log_param(run_id, "nothing", None) is None
    assert client.get_run(run_id).data.params == {"zero": "0", "empty": "", "nothing": "None"}
    client.log_param(run_id, "later", 1, synchronous=False).wait()


def test_long_values_are_kept_whole_or_refused_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with mlflow.start_run() as run:
        mlflow.log_param("p", "x" * 6001)
    assert len(mlflow.get_run(run.info.run_id).data.params["p"]) == 6001
    monkeypatch.setenv("MLFLOW_TRUNCATE_LONG_VALUES", "false")
    context.reset()
    with mlflow.start_run():
        assert code(lambda: mlflow.log_param("p", "x" * 6001)) == "INVALID_PARAMETER_VALUE"
        assert code(lambda: mlflow.set_tags({"a": 1, "t": "x" * 8001})) == "INVALID_PARAMETER_VALUE"
        mlflow.log_param("p", "x" * 6000)


def test_deleting_a_tag_that_is_not_there_is_not_found() -> None:
    client = mlflow.MlflowClient()
    run_id = client.create_run("0", tags={"k": "v"}).info.run_id
    client.delete_tag(run_id, "k")
    with pytest.raises(NotFound):
        client.delete_tag(run_id, "k")


def test_an_exception_takes_mlflows_forms_and_can_be_pickled() -> None:
    error = MlflowException("m", error_code=1000, sqlstate="S", detail=5)
    assert (error.error_code, error.get_http_status_code()) == ("INVALID_PARAMETER_VALUE", 400)
    assert error.serialize_as_json() == '{"error_code": "INVALID_PARAMETER_VALUE", "message": "m", "sqlstate": "S", "detail": 5}'
    assert MlflowException("m", error_code=99_999).error_code == "INTERNAL_ERROR"
    assert MlflowException.invalid_parameter_value("m").error_code == "INVALID_PARAMETER_VALUE"
    assert pickle.loads(pickle.dumps(error)).error_code == "INVALID_PARAMETER_VALUE"


def test_doctor_prints_what_it_finds_and_masks_what_the_environment_gave(capsys: pytest.CaptureFixture[str]) -> None:
    mlflow.doctor(mask_envs=True)
    printed = capsys.readouterr().out
    assert "Versions" in printed
    assert "***" in printed
