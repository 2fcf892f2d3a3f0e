"""Digests, schemas, profiles and sources equal those that MLflow itself gives, which is asked in one process for all cases."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import flightlog.data
from contracts import dataset_cases

NAMES = tuple(dataset_cases.cases())


@pytest.fixture(scope="module")
def mlflows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    script = Path(dataset_cases.__file__)
    folder = tmp_path_factory.mktemp("mlflow")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=folder, check=False)
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(dataset_cases.told(flightlog.data)))
    return told


@pytest.mark.parametrize("name", NAMES)
def test_what_is_logged_of_a_dataset_equals_what_mlflow_logs(name: str, ours: dict[str, Any], mlflows: dict[str, Any]) -> None:
    if isinstance(mlflows[name], str):
        assert str(ours[name]).startswith("refused")
    else:
        assert ours[name] == mlflows[name]


def test_the_cases_tell_what_they_should(mlflows: dict[str, Any]) -> None:
    accepted = {name: told for name, told in mlflows.items() if not isinstance(told, str)}
    assert len(accepted) >= len(NAMES) - 3
    assert sum(told["schema"] is not None for told in accepted.values()) > 50
    assert len({told["digest"] for told in accepted.values()}) > 50
