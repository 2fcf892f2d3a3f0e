"""MLflow is the oracle: one script runs with the stock `mlflow` on SQLite and with flightlog, and each call must give the same."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from differential.calls import calls
from differential.intended import INTENDED

ROOT = Path(__file__).resolve().parent.parent.parent
NAMES = [call.name for call in calls()]
DIFFERENT = {name: difference.what for difference in INTENDED for name in difference.calls}
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "GIT_PYTHON_REFRESH": "quiet", "MPLBACKEND": "Agg"}
TIMEOUT = 110


def started(module: str, folder: Path) -> subprocess.Popen[str]:
    (folder / module).mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MLFLOW_", "FLIGHTLOG_"))}
    own = {"FLIGHTLOG_TRACKING_URI": str(folder / module / "flightlogs"), "FLIGHTLOG_WORKER_IDLE": "1", "FLIGHTLOG_LOST_AFTER": "0"}
    return subprocess.Popen(
        [sys.executable, "-m", "differential.runner", module, str(folder / f"{module}.json")],
        cwd=folder / module,
        env=environment | QUIET | own | {"PYTHONPATH": str(ROOT / "tests"), "HOME": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def answers_of(process: subprocess.Popen[str], results: Path) -> Any:
    try:
        output, _ = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
    assert process.returncode == 0, output[-5000:]
    return json.loads(results.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def answers(nothing_is_left_behind: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give what each call gave with MLflow, and with flightlog."""
    if importlib.util.find_spec("mlflow") is None:
        pytest.fail("mlflow is not installed; it is one of the extra `test`")
    folder = tmp_path_factory.mktemp("differential")
    processes = {module: started(module, folder) for module in ("mlflow", "flightlog")}
    theirs, ours = (answers_of(process, folder / f"{module}.json") for module, process in processes.items())
    return theirs, ours


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DIFFERENT])
def test_a_call_gives_what_it_gives_with_mlflow(name: str, answers: tuple[dict[str, Any], dict[str, Any]]) -> None:
    theirs, ours = answers
    assert ours[name] == theirs[name]


@pytest.mark.parametrize("name", [name for name in NAMES if name in DIFFERENT])
def test_a_difference_that_is_listed_is_one(name: str, answers: tuple[dict[str, Any], dict[str, Any]]) -> None:
    theirs, ours = answers
    assert ours[name] != theirs[name], f"{name} gives what it gives with MLflow; take it off the list"


def test_every_listed_difference_is_of_a_call_of_the_script_and_listed_once() -> None:
    listed = [name for difference in INTENDED for name in difference.calls]
    assert sorted(set(listed) - set(NAMES)) == []
    assert len(listed) == len(set(listed))


def test_the_script_has_some_hundred_calls_and_few_of_them_differ() -> None:
    assert len(NAMES) >= 200
    assert sum(len(difference.calls) for difference in INTENDED) < len(NAMES) / 10


def test_a_script_of_calls_takes_mlflow_for_a_test_dependency_only() -> None:
    code = "import sys, flightlog, flightlog.client, flightlog.reading; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
