"""`capture()`: whatever code logs is kept in memory and given back; nothing else is touched, and all is put back."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import flightlog as mlflow
from flightlog.entities import Metric, Param, RunTag
from flightlog.producer import lifecycle
from flightlog.producer.context import context
from flightlog.schema import events as e
from flightlog.testing import Captured, capture

PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
WATCHED = """
import json, os, sys, threading

seen = []
start = threading.Thread.start
def counted(thread):
    seen.append(["thread", thread.name])
    start(thread)
threading.Thread.start = counted
def watch(name, arguments):
    if name == "open" and isinstance(arguments[0], str) and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        seen.append([name, arguments[0]])
    elif name.startswith(("subprocess", "os.posix_spawn", "os.fork", "os.exec", "os.mkdir", "os.rename", "socket", "sqlite3", "tempfile")):
        seen.append([name, str(arguments[0]) if arguments else ""])

import signal
from contextlib import nullcontext
import flightlog as mlflow
from flightlog import reading
from flightlog.client import Client
from flightlog.testing import capture
before = sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM)

def script(folder):
    mlflow.set_tracking_uri("runs")
    mlflow.set_experiment("watched")
    with mlflow.start_run() as run:
        mlflow.log_params({"a": 1, "b": 2})
        for step in range(3_000):
            mlflow.log_metric("loss", 1 / (step + 1), step=step)
        mlflow.log_text("text", "notes/text.txt")
        mlflow.log_artifacts(folder, "copies")
        mlflow.flush_async_logging()
    return run.info.run_id

sys.addaudithook(watch)
with capture() if sys.argv[2] == "capture" else nullcontext():
    run_id = script(sys.argv[1])
    if sys.argv[2] == "capture":
        assert len(Client().get_metric_history(run_id, "loss")) == 3_000
        assert len(mlflow.artifacts.list_artifacts(run_id=run_id)) == 2
        assert mlflow.search_runs(output_format="list")[0].info.run_id == run_id
        assert (sys.excepthook, sys.exit, signal.getsignal(signal.SIGTERM)) == before
found = list(seen)
print(json.dumps(found))
"""


@pytest.fixture
def outer(tmp_path: Path) -> Iterator[mlflow.ActiveRun]:
    """Be in the midst of a run of the ordinary kind."""
    mlflow.set_tracking_uri(tmp_path / "outer")
    mlflow.set_experiment("outer")
    with mlflow.start_run(run_name="outer") as run:
        yield run


def watched(folder: Path, mode: str) -> list[list[str]]:
    """Run a script in a home of its own; return what it did that an audit hook sees."""
    home = folder / "home"
    for place in (home, folder / "work", folder / "data"):
        place.mkdir(parents=True)
    (folder / "data" / "file.txt").write_text("data")
    environment = {**os.environ, "HOME": str(home), "TMPDIR": str(home), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-c", WATCHED, str(folder / "data"), mode]
    done = subprocess.run(command, cwd=folder / "work", env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_a_capture_writes_no_file_and_starts_no_thread_and_no_process(tmp_path: Path) -> None:
    assert watched(tmp_path, "capture") == []
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["data", "file.txt", "home", "work"]


def test_the_same_script_does_all_that_without_a_capture(tmp_path: Path) -> None:
    """So the test above would see it."""
    kinds = {name for name, _ in watched(tmp_path, "plain")}
    assert {"open", "os.mkdir", "thread", "subprocess.Popen"} <= kinds


def test_every_verb_of_the_fluent_api_is_captured() -> None:
    with capture() as captured:
        experiment = mlflow.set_experiment("fluent")
        mlflow.set_experiment_tags({"team": "a"})
        with mlflow.start_run(run_name="parent", description="why") as run:
            assert mlflow.log_param("one", 1) == 1
            mlflow.log_params({"two": 2, "three": None})
            mlflow.set_tag("kind", "short")
            mlflow.set_tags({"gone": 1, "left": 2})
            mlflow.delete_tag("gone")
            mlflow.log_metric("loss", 0.5, step=0)
            mlflow.log_metrics({"loss": 0.25, "accuracy": float("nan")}, step=1)
            mlflow.log_text("text", "notes/text.txt")
            mlflow.log_dict({"a": [1]}, "values.json")
            with mlflow.start_run(nested=True, run_name="child"):
                mlflow.log_metric("loss", 9.0)
            mlflow.rewind(1)
            mlflow.log_metric("loss", 0.125, step=1)
        assert mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/values.json") == {"a": [1]}
        parent = mlflow.get_parent_run(captured.run("child").info.run_id)
        assert parent is not None
        assert parent.info.run_id == run.info.run_id
        assert len(mlflow.get_attempts(run.info.run_id)) == 2
    assert [item.info.run_name for item in captured.runs] == ["parent", "child"]
    found = captured.run("parent")
    assert found.info.status == "FINISHED"
    assert found.data.params == {"one": "1", "two": "2", "three": "None"}
    assert {"kind": "short", "left": "2"}.items() <= found.data.tags.items()
    assert "gone" not in found.data.tags
    assert captured.metrics("loss", "parent") == [0.5, 0.125]
    assert [(item.step, item.value) for item in captured.history("loss", run)] == [(0, 0.5), (1, 0.125)]
    assert captured.artifacts("parent") == ["notes/text.txt", "values.json"]
    assert captured.text("notes/text.txt", "parent") == "text"
    assert [item.name for item in captured.experiments] == ["Default", "fluent"]
    assert captured.store.get_experiment(experiment.experiment_id).tags == {"team": "a"}


def test_every_verb_of_the_client_is_captured(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"\0\1")
    with capture() as captured:
        client = mlflow.Client("http://tracking.example:5000")
        experiment_id = client.create_experiment("by id", tags={"a": "b"})
        run = client.create_run(experiment_id, run_name="made")
        run_id = run.info.run_id
        client.log_batch(run_id, [Metric("loss", 0.5, 1_000, 1)], [Param("p", "1")], [RunTag("t", "2")])
        client.log_metric(run_id, "loss", 0.25, step=2, synchronous=True)
        client.log_artifact(run_id, tmp_path / "weights.bin", "model")
        client.set_terminated(run_id, "FAILED")
        assert [item.value for item in client.get_metric_history(run_id, "loss")] == [0.5, 0.25]
        assert [item.path for item in client.list_artifacts(run_id, "model")] == ["model/weights.bin"]
        assert Path(client.download_artifacts(run_id, "model/weights.bin", str(tmp_path / "to"))).read_bytes() == b"\0\1"
        assert [item.info.run_id for item in client.search_runs([experiment_id], "metrics.loss < 0.3")] == [run_id]
        client.delete_run(run_id)
        client.rename_experiment(experiment_id, "renamed")
    assert captured.run().info.lifecycle_stage == "deleted"
    assert captured.run().info.status == "FAILED"
    assert captured.read("model/weights.bin") == b"\0\1"
    assert captured.store.get_experiment(experiment_id).name == "renamed"


def test_a_capture_agrees_with_what_a_store_on_disk_makes_of_the_same_calls(tmp_path: Path) -> None:
    def script() -> None:
        mlflow.set_experiment("both")
        with mlflow.start_run(run_name="run", tags={"a": "b"}) as run:
            mlflow.log_params({"x": 1})
            for step in range(50):
                mlflow.log_metrics({"loss": 1.0 / (step + 1), "odd": float("inf") if step % 2 else float("nan")}, step=step, timestamp=step)
            mlflow.rewind(40)
            mlflow.log_metric("loss", 3.0, step=41, timestamp=99)
            mlflow.log_text("text", "t.txt")
        runs.append(mlflow.get_run(run.info.run_id))

    runs: list[mlflow.entities.Run] = []
    with capture():
        script()
    mlflow.set_tracking_uri(tmp_path / "disk")
    script()
    kept, filed = runs
    assert kept.data.params == filed.data.params
    assert kept.data.tags == filed.data.tags
    assert repr(kept.data.metric_summaries) == repr(filed.data.metric_summaries)
    assert kept.info.status == filed.info.status == "FINISHED"


def test_what_the_store_says_against_an_event_is_raised_by_the_call() -> None:
    with capture() as captured, mlflow.start_run():
        mlflow.log_param("rate", 1)
        with pytest.raises(mlflow.FlightlogException, match="already '1' and cannot become '2'") as caught:
            mlflow.log_param("rate", 2)
        mlflow.log_param("other", 3)
    assert caught.value.error_code == "INVALID_PARAMETER_VALUE"
    assert captured.run().data.params == {"rate": "1", "other": "3"}


def test_a_capture_that_is_not_strict_lists_what_the_store_said() -> None:
    with capture(strict=False) as captured, mlflow.start_run():
        mlflow.log_param("rate", 1)
        mlflow.log_param("rate", 2)
        with pytest.raises(mlflow.FlightlogException, match="cannot become '3'"):
            mlflow.log_param("rate", 3, synchronous=True)
    assert [letter.reason for letter in captured.dead_letters] == ["param-conflict", "param-conflict"]


def test_bad_input_raises_as_ever(tmp_path: Path) -> None:
    with capture() as captured, mlflow.start_run():
        with pytest.raises(mlflow.MlflowException, match="number"):
            mlflow.log_metric("loss", "x")  # type: ignore[arg-type]  # that is the test
        with pytest.raises(mlflow.MlflowException, match="not there"):
            mlflow.log_artifact(tmp_path / "missing")
        with pytest.raises(mlflow.MlflowException, match="leaves"):
            mlflow.log_text("x", "../x")
    assert captured.artifacts() == []


def state() -> dict[str, Any]:
    active = mlflow.active_run()
    return {
        "uri": mlflow.get_tracking_uri(),
        "set": mlflow.is_tracking_uri_set(),
        "experiment": (context.experiment_id, context.experiment_name),
        "synchronous": context.synchronous,
        "run": active and active.info.run_id,
        "last": (run := mlflow.last_active_run()) and run.info.run_id,
        "environment": dict(os.environ),
        "kept": dict(lifecycle.hooks.kept),
        "producers": context.producers(),
        "warned": lifecycle.hooks.warned,
    }


def disturb() -> None:
    os.environ["MLFLOW_EXPERIMENT_NAME"] = "inner"
    os.environ.pop("FLIGHTLOG_TRACKING_URI", None)
    mlflow.set_tracking_uri("sqlite:///elsewhere.db")
    mlflow.config.enable_async_logging(False)
    assert mlflow.active_run() is None
    mlflow.start_run()
    lifecycle.warn_once("inner")


@pytest.mark.parametrize(
    ("error", "status"), [(None, "FINISHED"), (SystemExit, "FINISHED"), (KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")]
)
def test_everything_is_put_back_whatever_ends_the_capture(outer: mlflow.ActiveRun, error: type[BaseException] | None, status: str) -> None:
    found: list[Captured] = []
    before = state()
    with suppress(BaseException), capture() as captured:
        found.append(captured)
        disturb()
        if error:
            raise error
    assert state() == before
    mlflow.log_metric("loss", 1.0)
    assert mlflow.get_run(outer.info.run_id).data.metrics == {"loss": 1.0}
    assert [run.info.status for run in found[0].runs] == [status]
    assert not Path("elsewhere.db").exists()


def test_runs_that_are_still_under_way_end_with_the_capture_and_those_made_by_id_do_not() -> None:
    with capture() as captured:
        mlflow.start_run(run_name="left open")
        mlflow.Client().create_run("0", run_name="by id")
        assert captured.run("left open").info.status == "RUNNING"
    assert [run.info.status for run in captured.runs] == ["FINISHED", "RUNNING"]


def test_captures_nest() -> None:
    with capture() as outside, mlflow.start_run(run_name="outside"):
        with capture() as inside, mlflow.start_run(run_name="inside"):
            mlflow.log_metric("loss", 1.0)
        mlflow.log_metric("loss", 2.0)
    assert inside.metrics("loss") == [1.0]
    assert outside.metrics("loss") == [2.0]


def test_a_client_that_was_made_before_is_captured_too_and_afterwards_writes_where_it_did(tmp_path: Path) -> None:
    client = mlflow.Client(str(tmp_path / "outer"))
    with capture() as captured:
        inner = client.create_run("0", run_name="inner").info.run_id
        client.log_metric(inner, "loss", 1.0)
    assert captured.metrics("loss") == [1.0]
    with pytest.raises(mlflow.MlflowException, match=inner):
        client.get_run(inner)
    assert client.get_run(client.create_run("0", run_name="outer").info.run_id).info.run_name == "outer"


def test_threads_log_to_the_same_capture() -> None:
    def work(number: int) -> None:
        with mlflow.start_run(run_name=f"thread {number}"):
            for step in range(200):
                mlflow.log_metric("step", step, step=step)
                mlflow.log_metric("shared", number, run_id=shared.info.run_id, step=step)

    with capture() as captured:
        shared = mlflow.start_run(run_name="shared")
        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(captured.runs) == 9
    assert all(captured.metrics("step", f"thread {number}") == list(range(200)) for number in range(8))
    assert len(captured.metrics("shared", "shared")) == 1_600


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs interval timers")
def test_a_signal_handler_that_logs_disturbs_nothing() -> None:
    def handler(*_: object) -> None:
        handled.append(len(handled))
        mlflow.log_metric("handled", handled[-1], step=handled[-1])
        mlflow.set_tag("handled", len(handled))

    handled: list[int] = []
    with capture() as captured, mlflow.start_run():
        previous = signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        try:
            for step in range(5_000):
                mlflow.log_metric("loss", step, step=step)
                if step % 100 == 0:
                    mlflow.set_tag("step", step)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, previous)
    assert handled
    assert captured.metrics("loss") == list(range(5_000))
    assert captured.metrics("handled") == handled
    assert captured.run().data.tags["handled"] == str(len(handled))


def log_in_child(run: mlflow.ActiveRun, outer: mlflow.ActiveRun) -> None:
    outer.recorder.metric("outer child", 3.0)
    logging.getLogger("flightlog").addHandler(logging.FileHandler("child.log"))
    with run:
        mlflow.log_metric("child", 1.0)


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_a_forked_child_that_logs_says_that_it_is_not_captured(outer: mlflow.ActiveRun) -> None:
    mlflow.log_metric("outer", 1.0)
    with capture() as captured, mlflow.start_run() as run:
        child = multiprocessing.get_context("fork").Process(target=log_in_child, args=(run, outer))
        child.start()
        child.join()
    assert child.exitcode == 0
    assert "forked within a capture()" in Path("child.log").read_text(encoding="utf-8")
    assert captured.metrics("child") == []
    mlflow.log_metric("outer", 2.0, step=1)
    deadline = time.monotonic() + 20
    while len(found := mlflow.get_run(outer.info.run_id).data.metrics) < 2 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert found == {"outer": 2.0, "outer child": 3.0}


def test_a_handle_that_was_pickled_in_the_capture_leads_back_to_it() -> None:
    with capture() as captured, mlflow.start_run() as run:
        with pickle.loads(pickle.dumps(run)):
            mlflow.log_metric("loss", 1.0)
        assert captured.metrics("loss") == [1.0]


@pytest.mark.parametrize("place", ["s3://nowhere/runs", "/nowhere/at all", "file:///nowhere/runs", "relative/place"])
def test_artifacts_stay_in_memory_wherever_their_experiment_keeps_them(place: str) -> None:
    with capture() as captured:
        client = mlflow.Client()
        experiment_id = client.create_experiment("placed", artifact_location=place)
        run = client.create_run(experiment_id)
        assert client.list_artifacts(run.info.run_id) == []
        client.log_text(run.info.run_id, "text", "deep/t.txt")
        assert place in str(run.info.artifact_uri)
        assert mlflow.artifacts.load_text(f"{run.info.artifact_uri}/deep/t.txt") == "text"
        assert mlflow.artifacts.load_text(f"runs:/{run.info.run_id}/deep/t.txt") == "text"
        whole = mlflow.artifacts.download_artifacts(str(run.info.artifact_uri), dst_path="copy")
        assert Path(whole, "deep", "t.txt").read_text(encoding="utf-8") == "text"
        assert client.get_experiment(experiment_id).artifact_location.endswith(place)
    assert captured.text("deep/t.txt") == "text"
    assert not Path("relative").exists()


def test_files_that_were_not_captured_are_read_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_text("own")
    with capture(), mlflow.start_run():
        assert mlflow.artifacts.load_text(str(tmp_path / "own.txt")) == "own"


def test_events_are_given_as_they_were_recorded() -> None:
    with capture() as captured, mlflow.start_run():
        mlflow.log_metric("loss", 0.5, step=3)
        mlflow.log_metrics({"a": 1.0, "b": 2.0})
        mlflow.set_tag("t", "v")
    kinds = [type(event) for event in captured.events]
    assert kinds == [e.RunStarted, e.MetricsLogged, e.MetricsLogged, e.TagSet, e.RunEnded]
    assert isinstance(first := captured.events[1], e.MetricsLogged)
    assert (first.step, first.points) == (3, (("loss", 0.5),))


def test_asking_for_one_run_says_which_there_are() -> None:
    with capture() as captured:
        with pytest.raises(mlflow.MlflowException, match="one run was asked for, and 0 match; captured: none"):
            captured.run()
        for name in ("a", "b"):
            with mlflow.start_run(run_name=name):
                pass
    with pytest.raises(mlflow.MlflowException, match=r"2 match; captured: 'a' .*, 'b'"):
        captured.run()
    with pytest.raises(mlflow.MlflowException, match="one run 'c' was asked for, and 0 match"):
        captured.metrics("loss", "c")
    with pytest.raises(mlflow.MlflowException, match="has no artifact 'x'"):
        captured.read("x", "a")


def test_the_fixture_of_the_plugin_captures_a_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["flightlog.pytest_plugin"]\n')
    (tmp_path / "test_training.py").write_text(
        "import flightlog as mlflow\n"
        "def test_training(flightlog_capture):\n"
        "    with mlflow.start_run():\n"
        "        mlflow.log_metric('loss', 0.5)\n"
        "    assert flightlog_capture.metrics('loss') == [0.5]\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_training.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not (tmp_path / "flightlogs").exists()


def test_a_capture_is_a_decorator_too() -> None:
    found: list[str] = []

    @capture()
    def train() -> None:
        found.append(mlflow.get_tracking_uri())

    train()
    assert found[0].startswith("memory://")
    assert Captured.__doc__


@pytest.mark.parametrize("block", BLOCKS, ids=[f"block {number}" for number in range(len(BLOCKS))])
def test_the_code_of_its_page_runs(block: str) -> None:
    done = subprocess.run([sys.executable, "-W", "error", "-c", block], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not Path("flightlogs").exists()


def test_nothing_is_lost_when_a_script_writes_to_very_many_runs_in_turn() -> None:
    with capture() as captured:
        client = mlflow.Client()
        made = [client.create_run("0").info.run_id for _ in range(300)]
        for value in (1.0, 2.0):
            for run_id in made:
                client.log_metric(run_id, "loss", value, step=int(value))
    assert all(captured.metrics("loss", run_id) == [1.0, 2.0] for run_id in made)


def test_the_environment_of_whoever_runs_the_tests_stays_outside_and_that_of_the_code_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "theirs")
    monkeypatch.setenv("FLIGHTLOG_RUN_ID", "0" * 32)
    with capture() as first, mlflow.start_run():
        assert not mlflow.is_tracking_uri_set()
    with capture() as second:
        os.environ["MLFLOW_EXPERIMENT_NAME"] = "the code's"
        with mlflow.start_run():
            pass
    assert [item.name for item in first.experiments] == ["Default"]
    assert [item.name for item in second.experiments] == ["Default", "the code's"]
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "theirs"
