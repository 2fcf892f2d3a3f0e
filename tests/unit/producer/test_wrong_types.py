"""A value of a wrong type is refused in one way, by an error that says what it was; what MLflow takes is taken."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

import flightlog as mlflow
from flightlog.exceptions import InvalidParameter
from flightlog.testing import Captured, capture

RING: dict[str, Any] = {}
RING["again"] = RING
WRONG: Any = 5

REFUSED: dict[str, Callable[[], Any]] = {
    "a text must be a string, not int 5": lambda: mlflow.log_text(WRONG, "a.txt"),
    "a text must be a string, not bytes b'x'": lambda: _client().log_text(_run_id(), b"x", "a.txt"),  # type: ignore[arg-type]
    "cannot be written in UTF-8": lambda: mlflow.log_text("\ud800", "a.txt"),
    "a dict cannot be written as 'a.json': Circular": lambda: mlflow.log_dict(RING, "a.json"),
    "a dict cannot be written as 'b.json': keys must be": lambda: mlflow.log_dict({(1, 2): 3}, "b.json"),
    "a dict cannot be written as 'b.yaml': cannot pickle": lambda: mlflow.log_dict({"a": iter(i for i in "a")}, "b.yaml"),
    "a stream must be .*, not int": lambda: mlflow.log_stream(WRONG, "a.bin"),
    "an artifact path must be a string, not int 5": lambda: mlflow.log_text("x", WRONG),
    "an artifact path must be a string, not bytes": lambda: mlflow.log_dict({}, b"a.json"),  # type: ignore[arg-type]
    "path None names no file": lambda: mlflow.log_figure(Figure(), None),  # type: ignore[arg-type]
    "path must be a string, not int 6": lambda: mlflow.log_image(np.zeros((2, 2)), 6),  # type: ignore[arg-type]
    "path must be a string, not int 7": lambda: mlflow.log_artifact(__file__, 7),  # type: ignore[arg-type]
    "by its path, a string or a Path, not int": lambda: mlflow.log_artifact(WRONG),
    "by its path, a string or a Path, not NoneType": lambda: mlflow.log_artifacts(None),  # type: ignore[arg-type]
    "the name of a table must be a string, not int 5": lambda: mlflow.log_table({"a": [1]}, WRONG),
    "a table must be .*, not int": lambda: mlflow.log_table(WRONG, "t.json"),
    r"params must be a dictionary, not list \[\('a', 1\)\]": lambda: mlflow.log_params([("a", 1)]),  # type: ignore[arg-type]
    "metrics must be a dictionary, not int 5": lambda: mlflow.log_metrics(WRONG),
    "tags must be a dictionary, not NoneType": lambda: mlflow.set_tags(None),  # type: ignore[arg-type]
    "tags must be a dictionary, not int 5": lambda: mlflow.start_run(nested=True, tags=WRONG),
    "the metrics of a batch .*, not int": lambda: _client().log_batch(_run_id(), metrics=WRONG),
    "the params of a batch .*, not str": lambda: _client().log_batch(_run_id(), params=["a"]),  # type: ignore[list-item]
    "start_time 'now': Input should be": lambda: _client().create_run("0", start_time="now"),  # type: ignore[arg-type]
}


def _client() -> mlflow.MlflowClient:
    return mlflow.MlflowClient()


def _run_id() -> str:
    run = mlflow.active_run()
    assert run is not None
    return run.info.run_id


@pytest.fixture
def captured() -> Iterator[Captured]:
    with capture() as captured, mlflow.start_run():
        yield captured


@pytest.mark.parametrize("message", list(REFUSED))
def test_what_is_of_a_wrong_type_is_refused_with_its_type(message: str, captured: Captured) -> None:
    before = len(captured.events)
    with pytest.raises(InvalidParameter, match=message):
        REFUSED[message]()
    assert len(captured.events) == before


def test_what_mlflow_takes_is_taken(captured: Captured) -> None:
    mlflow.log_text("x", Path("d", "p.txt"))  # type: ignore[arg-type]
    mlflow.log_dict("a text is JSON too", PureWindowsPath("d", "p.json"))  # type: ignore[arg-type]
    mlflow.log_stream(io.BytesIO(b"x"), PurePosixPath("s.bin"))  # type: ignore[arg-type]
    mlflow.log_artifact(__file__, Path("code"))  # type: ignore[arg-type]
    assert captured.artifacts() == ["code/test_wrong_types.py", "d/p.json", "d/p.txt", "s.bin"]
    with mlflow.start_run(nested=True, run_name=7, description=8) as run:  # type: ignore[arg-type]
        pass
    assert (captured.run(run).info.run_name, captured.run(run).data.tags["mlflow.note.content"]) == ("7", "8")
    assert _client().create_run("0", run_name=9).info.run_name == "9"  # type: ignore[arg-type]
