"""In a notebook a run is active from the cell that starts it to the one that ends it, also where cells `await`."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

CELLS = (
    "import asyncio, flightlog as mlflow\nfirst = mlflow.start_run()",
    "await asyncio.sleep(0)\nmlflow.log_metric('m', 1)\nmlflow.end_run()\nsecond = mlflow.start_run()",
    "assert mlflow.active_run() is second\nassert mlflow.last_active_run() is second\nmlflow.log_metric('m', 2)",
    "await asyncio.sleep(0)\nassert mlflow.active_run() is second\nmlflow.end_run()",
    "assert mlflow.active_run() is None\nassert mlflow.last_active_run().info.run_id == second.info.run_id\nthird = mlflow.start_run()",
    """
async def train():
    with mlflow.start_run(nested=True) as run:
        await asyncio.sleep(0)
        mlflow.log_metric('m', 3)
    return run

runs = await asyncio.gather(train(), train())
assert mlflow.active_run() is third
""",
    "assert mlflow.active_run() is third\nmlflow.end_run()",
    "try:\n    await asyncio.sleep(0)\n    fourth = mlflow.start_run()\n    1 / 0\nexcept ZeroDivisionError:\n    pass",
    "assert mlflow.active_run() is fourth\nmlflow.end_run()",
    """
import json
found = [mlflow.get_run(run.info.run_id) for run in (first, second, *runs)]
print(json.dumps([[run.data.metrics["m"], run.info.status] for run in found]))
""",
)
KERNEL = """
import sys, json
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

notebook = new_notebook(cells=[new_code_cell(cell) for cell in json.loads(sys.argv[1])])
NotebookClient(notebook, timeout=60).execute()
print(notebook.cells[-1].outputs[0]["text"])
"""
TERMINAL = """
import sys, json
from IPython.core.interactiveshell import InteractiveShell

shell = InteractiveShell.instance()
for cell in json.loads(sys.argv[1]):
    shell.run_cell(cell).raise_error()
"""


@pytest.mark.parametrize("runner", [KERNEL, TERMINAL], ids=["notebook", "terminal"])
def test_cells_that_await_share_their_runs_with_those_that_do_not(runner: str) -> None:
    command = [sys.executable, "-W", "ignore", "-c", runner, json.dumps(CELLS)]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert finished.returncode == 0, finished.stderr
    assert json.loads(finished.stdout.strip().splitlines()[-1]) == [[float(value), "FINISHED"] for value in (1, 2, 3, 3)]
