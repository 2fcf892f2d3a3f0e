"""The demo, small: it ends well, and what it prints agrees with what it stored."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import flightlog as mlflow

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "train_digits.py"


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, timeout=100)


def number_after(words: str, text: str) -> int:
    found = re.search(rf"{words}\D*?([\d,]+)", text)
    assert found, f"{words!r} was not printed:\n{text}"
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize("arguments", [[], ["--sync", "--batch-size", "720"]], ids=["asynchronous", "synchronous"])
def test_the_demo_reads_back_as_many_points_as_it_logged(arguments: list[str]) -> None:
    done = demo("--epochs", "1", "--folder", "flights", *arguments)
    assert done.returncode == 0, done.stderr
    logged = number_after("points logged", done.stdout)
    assert logged == number_after("points read back", done.stdout)
    assert all(text in done.stdout for text in ("p50", "p99", "max", "inside logging calls", "committed", "confusion.png", "weights.npz"))
    client = mlflow.MlflowClient("flights")
    experiment = client.get_experiment_by_name("digits")
    assert experiment is not None
    [run] = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED"
    assert sum(summary.count for summary in run.data.metric_summaries.values()) == logged


def test_the_demo_says_what_is_wrong_with_its_arguments() -> None:
    done = demo("--epochs", "0")
    assert done.returncode == 2
    assert "0 is less than 1" in done.stderr
