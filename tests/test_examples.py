"""Every example runs, both ways of logging, and what it has logged is there. Those for a library run where that is installed."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import flightlog as mlflow

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
NEEDS = {"huggingface_callback.py": ("torch", "transformers", "accelerate"), "lightning_logger.py": ("torch", "lightning")}
SYNC = {
    "torch_loop.py": ["--epochs", "1"],
    "distributed.py": ["--ranks", "3", "--steps", "5"],
    "sweep.py": ["--steps", "2"],
    "parabola.py": ["--steps", "5"],
    "huggingface_callback.py": ["--steps", "20"],
    "lightning_logger.py": ["--epochs", "1"],
}
OTHERS = {"offline.py", "train_digits.py", "notebook.ipynb"}


def is_runnable(name: str) -> bool:
    return all(importlib.util.find_spec(library) for library in NEEDS.get(name, ()))


EXECUTE = """
import json, sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=60).execute()
print(json.dumps([output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]))
"""


def output_of(*command: str | Path) -> str:
    """Run Python in the working directory, whose flight folder it then logs to, and return what it printed."""
    here = str(Path.cwd())
    environment = {**os.environ, "JUPYTER_RUNTIME_DIR": here, "IPYTHONDIR": here, "MPLCONFIGDIR": here, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def runs(uri: str = "flightlogs") -> list[mlflow.entities.Run]:
    """Return the runs of a store, the first to start first."""
    client = mlflow.Client(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    return list(client.search_runs(experiments, order_by=["attributes.start_time ASC"]))


def counts(run: mlflow.entities.Run) -> dict[str, int]:
    return {key: summary.count for key, summary in run.data.metric_summaries.items()}


@pytest.mark.parametrize("name", [name for name in SYNC if is_runnable(name)])
def test_an_example_runs_while_each_call_waits_for_its_commit(name: str) -> None:
    assert output_of(EXAMPLES / name, *SYNC[name], "--sync").strip()
    found = runs()
    assert found
    assert {run.info.status for run in found} == {"FINISHED"}
    assert all(counts(run) for run in found)


def test_every_example_is_known_here_and_described() -> None:
    files = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert files == set(SYNC) | OTHERS
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert [name for name in sorted(files) if f"[{name}]({name})" not in readme] == []


@pytest.mark.parametrize("name", sorted(NEEDS))
def test_an_example_for_a_library_says_what_it_needs_and_compiles(name: str) -> None:
    head = ast.get_docstring(ast.parse((EXAMPLES / name).read_text(encoding="utf-8")))
    assert head
    assert "needs: pip install" in head


def test_the_loop_goes_on_from_its_last_checkpoint() -> None:
    output_of(EXAMPLES / "torch_loop.py", "--epochs", "2")
    [run] = runs()
    output_of(EXAMPLES / "torch_loop.py", "--epochs", "2", "--resume", run.info.run_id)
    [run] = runs()
    assert counts(run) == {"loss": 80, "accuracy": 4}
    steps = [point.step for point in mlflow.Client("flightlogs").get_metric_history(run.info.run_id, "loss")]
    assert steps == list(range(80))


def test_each_rank_logs_to_the_one_run() -> None:
    output_of(EXAMPLES / "distributed.py", "--ranks", "3", "--steps", "10")
    [run] = runs()
    assert counts(run) == {"alignment": 10, "loss/rank0": 10, "loss/rank1": 10, "loss/rank2": 10}


def test_the_sweep_finds_the_best_of_its_trials() -> None:
    printed = output_of(EXAMPLES / "sweep.py", "--steps", "50")
    whole, *trials = runs()
    assert {run.data.tags["mlflow.parentRunId"] for run in trials} == {whole.info.run_id}
    best = min(trials, key=lambda run: run.data.metrics["validation"])
    assert whole.data.tags["best"] == best.info.run_id
    assert printed.splitlines()[0].endswith(str(best.info.run_name))
    assert len(printed.splitlines()) == len(trials) == 15


def test_what_was_logged_offline_arrives_once() -> None:
    printed = output_of(EXAMPLES / "offline.py", "--steps", "30")
    assert not Path("offline", "tracking.db").exists()
    assert re.search(r"^0 events of 0 runs", printed, re.MULTILINE)
    [run] = runs("central")
    assert counts(run) == {"low": 30, "high": 30, "width": 30}
    assert run.data.metrics["low"] == pytest.approx(1.5213797)


def test_the_notebook_runs_from_its_first_cell_to_its_last() -> None:
    outputs = json.loads(output_of("-c", EXECUTE, EXAMPLES / "notebook.ipynb"))
    kinds = [kind for output in outputs for kind in output.get("data", {})]
    assert "image/png" in kinds
    assert "2000 points, the last at step 1999" in "".join(output.get("text", "") for output in outputs)
    assert "FINISHED" in outputs[-1]["data"]["text/plain"]
    [run] = runs()
    assert (run.info.status, counts(run)) == ("FINISHED", {"position": 2_000})


def test_the_notebook_is_kept_without_outputs() -> None:
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if cell["cell_type"] == "code")
