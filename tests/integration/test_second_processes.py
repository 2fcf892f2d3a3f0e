"""Runs and stores that two processes have to do with: what one begins, another resumes, and where each looks."""

from __future__ import annotations

from pathlib import Path

import pytest

import flightlog
from flightlog.producer.context import context
from process.scripts import run

RESUMED_AT_ONCE = """
import os, subprocess, sys
import flightlog

CHILD = "import flightlog\\nwith flightlog.start_run() as run:\\n    flightlog.log_metric('child', 1.0)\\n    print(run.info.run_name)"
with flightlog.start_run() as run:
    environment = {**os.environ, "MLFLOW_RUN_ID": run.info.run_id}
    child = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    assert child.stdout.strip() == run.info.run_name
print(sorted(flightlog.get_run(run.info.run_id).data.metrics))
"""

FORKED = """
import os
import flightlog

with flightlog.start_run() as mine:
    child = os.fork()
    if not child:
        with flightlog.start_run(run_name="of the child"):
            flightlog.log_metric("child", 1.0)
        flightlog.flush_async_logging()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    flightlog.log_metric("parent", 1.0)
runs = flightlog.search_runs(output_format="list")
print(sorted((run.info.run_name == "of the child", sorted(run.data.metrics)) for run in runs))
"""


def test_a_run_that_its_parent_has_just_begun_is_resumed_as_soon_as_it_is_filed() -> None:
    assert run(RESUMED_AT_ONCE).out.strip().endswith("['child']")


def test_a_forked_child_may_start_a_run_of_its_own_while_its_parent_has_one() -> None:
    done = run(FORKED)
    assert done.out.strip().endswith("[(False, ['parent']), (True, ['child'])]"), done.err


def test_a_relative_database_is_the_one_that_is_read(tmp_path: Path) -> None:
    flightlog.set_tracking_uri("sqlite:///exp.db")
    with flightlog.start_run():
        flightlog.log_metric("loss", 1.0)
    assert len(flightlog.search_runs(output_format="list")) == 1
    assert [path.parent for path in Path.cwd().rglob("exp.db")] == [Path.cwd()]


def test_calls_wait_where_the_environment_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "false")
    with flightlog.start_run():
        flightlog.log_metric("loss", 1.0)
        assert context.producer.pending() == 0


def test_what_ended_a_run_is_raised_although_its_end_cannot_be_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "false")
    monkeypatch.setenv("FLIGHTLOG_SYNC_TIMEOUT", "0.05")
    run = flightlog.start_run()
    flightlog.config.enable_async_logging(False)
    with pytest.raises(ZeroDivisionError), run:
        raise ZeroDivisionError


def test_a_run_that_somebody_else_has_restored_can_be_written_to() -> None:
    with flightlog.start_run() as run:
        pass
    context.producer.known.stage_run(run.info.run_id, "deleted")
    flightlog.MlflowClient().log_metric(run.info.run_id, "loss", 1.0)
    assert flightlog.get_run(run.info.run_id).data.metrics == {"loss": 1.0}


def test_the_place_of_an_attached_runs_artifacts_is_asked_for() -> None:
    with flightlog.start_run() as run:
        expected = flightlog.get_artifact_uri("model")
    with flightlog.attach(run.info.run_id):
        assert flightlog.get_artifact_uri("model") == expected
