"""Images, tables, figures, streams and dictionaries as artifacts, with a real worker behind them."""

from __future__ import annotations

import io
import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import PIL.Image
import pytest
import yaml

import flightlog as mlflow
from flightlog.entities import Run
from flightlog.exceptions import InvalidParameter, MlflowException, NotFound

PICTURE = np.zeros((20, 10, 3), dtype=np.uint8)


def paths(run: Run, folder: str = "") -> list[str]:
    return [item.path for item in mlflow.MlflowClient().list_artifacts(run.info.run_id, folder)]


def content(run: Run, path: str) -> bytes:
    return Path(mlflow.MlflowClient().download_artifacts(run.info.run_id, path)).read_bytes()


def test_an_image_with_a_key_is_kept_whole_and_small_under_mlflows_names() -> None:
    with mlflow.start_run() as run:
        mlflow.log_image(PICTURE, key="a/b c", step=3, timestamp=77)
        mlflow.MlflowClient().log_image(run.info.run_id, PIL.Image.new("RGB", (1000, 10)), key="wide")
    small, whole = [path for path in paths(run, "images") if path.startswith("images/a~b c+step+3+timestamp+77+")]
    assert (small.removesuffix("+compressed.webp"), whole.count("+")) == (whole.removesuffix(".png"), 5)
    assert PIL.Image.open(io.BytesIO(content(run, whole))).size == (10, 20)
    assert PIL.Image.open(io.BytesIO(content(run, small))).size == (128, 256)
    [thin] = [path for path in paths(run, "images") if "wide+step+0+" in path and path.endswith("webp")]
    assert PIL.Image.open(io.BytesIO(content(run, thin))).size == (256, 2)
    assert mlflow.get_run(run.info.run_id).data.tags["mlflow.loggedImages"] == "True"


def test_an_image_with_a_file_name_is_that_file() -> None:
    with mlflow.start_run() as run:
        mlflow.log_image(mlflow.Image(PICTURE), "plots/one.png")
        mlflow.log_image(PIL.Image.new("L", (3, 4)), "two.jpeg")
    assert PIL.Image.open(io.BytesIO(content(run, "plots/one.png"))).size == (10, 20)
    assert PIL.Image.open(io.BytesIO(content(run, "two.jpeg"))).format == "JPEG"
    assert "mlflow.loggedImages" not in mlflow.get_run(run.info.run_id).data.tags


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"image": PICTURE}, TypeError),
        ({"image": PICTURE, "artifact_file": "a.png", "key": "k"}, TypeError),
        ({"image": PICTURE, "artifact_file": "a.png", "step": 1}, TypeError),
        ({"image": "no image", "key": "k"}, TypeError),
        ({"image": np.array([["a"]]), "key": "k"}, TypeError),
        ({"image": np.full((2, 2), 256), "key": "k"}, ValueError),
        ({"image": np.zeros((2, 2, 2)), "key": "k"}, ValueError),
        ({"image": np.zeros((0, 2)), "key": "k"}, ValueError),
        ({"image": PICTURE, "key": "k:x"}, ValueError),
        ({"image": PICTURE, "artifact_file": "a.nothing"}, ValueError),
    ],
)
def test_what_is_no_image_or_has_no_place_is_refused(arguments: dict[str, Any], error: type[Exception]) -> None:
    with mlflow.start_run() as run, pytest.raises(error):
        mlflow.log_image(**arguments)
    assert paths(run) == []


def test_float_pixels_beyond_one_are_rescaled_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="rescaled"):
        image = mlflow.Image(np.array([[0.0, 5.0], [10.0, 2.5]]))
    assert image.to_array().tolist() == [[0, 127], [255, 63]]
    assert mlflow.Image(np.array([[True, False]])).to_list() == [255, 0]
    assert mlflow.Image([[[1, 2, 3]]]).to_list() == [(1, 2, 3)]
    assert image.resize((4, 6)).size == (4, 6)


@pytest.mark.parametrize("name", ["scores.json", "deep/scores.parquet"])
def test_rows_are_appended_to_a_table_and_read_back(name: str) -> None:
    with mlflow.start_run() as run:
        mlflow.log_table({"status": ["a", "b"], "score": [0.5, 1.0]}, name)
        mlflow.log_table(pd.DataFrame({"status": ["c"], "score": [2.0]}), name)
        mlflow.log_table({"status": "d", "score": 3.0}, "other.json")
    table = mlflow.load_table(name, extra_columns=["run_id", "status"])
    assert table["status"].tolist() == ["a", "b", "c"]
    assert set(table["status_"]) == {"FINISHED"}
    assert table["score"].tolist() == [0.5, 1.0, 2.0]
    assert set(table["run_id"]) == {run.info.run_id}
    tag = json.loads(mlflow.get_run(run.info.run_id).data.tags["mlflow.loggedArtifacts"])
    assert tag == [{"path": name, "type": "table"}, {"path": "other.json", "type": "table"}]


def test_tables_of_several_runs_are_one_below_the_other() -> None:
    runs = []
    for number in range(2):
        with mlflow.start_run() as run:
            mlflow.log_table({"n": [number]}, "t.json")
        runs.append(run.info.run_id)
    assert sorted(mlflow.load_table("t.json")["n"]) == [0, 1]
    assert mlflow.MlflowClient().load_table("0", "t.json", run_ids=runs[:1])["n"].tolist() == [0]
    with pytest.raises(NotFound):
        mlflow.load_table("unknown.json")
    with pytest.raises(InvalidParameter, match="no column 'nothing'"):
        mlflow.load_table("t.json", extra_columns=["nothing"])


def test_threads_that_append_to_one_table_lose_no_rows() -> None:
    run_id = mlflow.MlflowClient().create_run("0").info.run_id
    threads = [threading.Thread(target=mlflow.log_table, args=({"n": [number]}, "t.json", run_id)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mlflow.load_table("t.json")["n"]) == [0, 1, 2, 3]


def test_images_in_a_column_become_files_and_the_callers_table_stays_as_it_was() -> None:
    frame = pd.DataFrame({"name": ["x"], "image": [mlflow.Image(PICTURE)]})
    with mlflow.start_run() as run:
        mlflow.log_table(frame, "gen/t.json")
    [place] = mlflow.load_table("gen/t.json")["image"]
    assert place["type"] == "image"
    assert place["filepath"].startswith("table_images/gen/t/")
    assert content(run, place["filepath"])[1:4] == b"PNG"
    assert content(run, place["compressed_filepath"])[8:12] == b"WEBP"
    assert isinstance(frame["image"][0], mlflow.Image)


@pytest.mark.parametrize(
    ("data", "name", "error"),
    [
        ({"a": [1]}, "t.csv", ValueError),
        ({"a": [1]}, "t[1].json", ValueError),
        ([1], "t.json", InvalidParameter),
        ({"a": [mlflow.Image(PICTURE), "text"]}, "t.json", ValueError),
    ],
)
def test_what_is_no_table_is_refused(data: Any, name: str, error: type[Exception]) -> None:
    with mlflow.start_run() as run, pytest.raises(error):
        mlflow.log_table(data, name)
    assert paths(run) == []


def test_dictionaries_are_written_as_their_names_say() -> None:
    value = {"b": [1, {"c": "é"}], "a": None}
    with mlflow.start_run() as run:
        mlflow.log_dict(value, "d.json")
        mlflow.log_dict(value, "d.yaml")
        mlflow.MlflowClient().log_dict(run.info.run_id, {"p": Path("x")}, "d.txt")
    assert json.loads(content(run, "d.json")) == value
    assert content(run, "d.yaml") == yaml.dump(value, indent=2, default_flow_style=False).encode()
    assert json.loads(content(run, "d.txt")) == {"p": "x"}


def test_a_stream_is_logged_from_where_it_stands() -> None:
    stream = io.BytesIO(b"0123456789")
    stream.read(3)
    with mlflow.start_run() as run:
        mlflow.log_stream(stream, "bin/a.bin")
        mlflow.MlflowClient().log_stream(run.info.run_id, io.BytesIO(), "empty.bin")
        with pytest.raises(TypeError, match="binary mode"):
            mlflow.log_stream(io.StringIO("text"), "b.bin")  # type: ignore[arg-type]  # the test
    mlflow.flush_artifact_async_logging()
    assert (content(run, "bin/a.bin"), content(run, "empty.bin")) == (b"3456789", b"")


def test_figures_are_logged_in_the_format_of_their_name() -> None:
    import matplotlib.figure  # noqa: PLC0415 - slow
    import plotly.graph_objects  # noqa: PLC0415 - slow

    drawn, plotted = matplotlib.figure.Figure(), plotly.graph_objects.Figure()
    with mlflow.start_run() as run:
        mlflow.log_figure(drawn, "f.svg", save_kwargs={"metadata": {"Title": "kept"}})
        mlflow.log_figure(drawn, "g.png")
        mlflow.log_figure(plotted, "p.html", save_kwargs={"auto_open": False, "full_html": False})
        for figure, name in ((plotted, "p.txt"), ("no figure", "n.png")):
            with pytest.raises(TypeError):
                mlflow.log_figure(figure, name)
    assert b"kept" in content(run, "f.svg")
    assert content(run, "g.png")[1:4] == b"PNG"
    assert b"cdn" in content(run, "p.html")
    assert paths(run) == ["f.svg", "g.png", "p.html"]


def test_a_table_that_has_no_form_in_its_file_says_so() -> None:
    with mlflow.start_run(), pytest.raises(MlflowException, match=r"t\.parquet"):
        mlflow.log_table({"a": [1, object()]}, "t.parquet")
