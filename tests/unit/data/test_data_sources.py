"""Sources of datasets: which one a URI stands for, what JSON says of them, and how the data are fetched again."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import flightlog.data
from flightlog.data import dataset_source_registry, digest_utils, sources
from flightlog.data.dataset_source import DatasetSource
from flightlog.data.http_dataset_source import HTTPDatasetSource
from flightlog.entities import Dataset, DatasetInput
from flightlog.exceptions import InvalidParameter, MlflowException, NotFound

SMALL = pd.DataFrame({"a": [1, 2]})


class _Server(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        if "named" in self.path:
            self.send_header("Content-Disposition", f'attachment; filename="{self.path.rpartition("=")[2]}"')
        self.end_headers()
        self.wfile.write(b"a,b\n1,2\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("uri", ["dbfs:/x", "runs:/1/x", "models:/m/1", "nonsense://x", 5, object()])
def test_what_stands_for_no_source_is_refused(uri: Any) -> None:
    with pytest.raises(NotFound, match="no kind of source"):
        flightlog.data.from_pandas(SMALL, source=uri)


def test_without_a_source_it_is_the_running_code() -> None:
    found = flightlog.data.from_pandas(SMALL).to_dict()
    assert found["source_type"] == "code"
    assert {"mlflow.user", "mlflow.source.name", "mlflow.source.type"} <= json.loads(found["source"])["tags"].keys()
    with pytest.raises(NotImplementedError, match="run it again"):
        flightlog.data.from_pandas(SMALL).source.load()


@pytest.mark.parametrize("source", dataset_source_registry.get_registered_sources(), ids=lambda source: source.__name__)
def test_a_source_comes_back_from_what_was_logged(source: type[DatasetSource]) -> None:
    told: dict[str, Any] = {
        "uri": "x://y",
        "url": "http://y",
        "path": "owner/name",
        "config_name": None,
        "data_dir": None,
        "data_files": None,
    }
    told |= {"split": "train", "revision": None, "tags": {"a": "b"}}
    made = source.from_dict(told)
    kind = source._get_source_type()
    entity = Dataset("d", "1", kind, made.to_json())
    for given in (entity, DatasetInput(entity)):
        assert type(flightlog.data.get_source(given)) is source
        assert flightlog.data.get_source(given).to_json() == made.to_json()
    assert made.to_dict().items() <= told.items()


def test_a_source_of_a_foreign_kind_says_what_was_logged() -> None:
    with pytest.warns(UserWarning, match="'delta_table' are not known"):
        found = flightlog.data.get_source(Dataset("d", "1", "delta_table", '{"path": "x", "delta_table_version": 2}'))
    assert found.to_dict() == {"path": "x", "delta_table_version": 2}


def test_what_lacks_its_place_is_refused() -> None:
    for source in (sources.S3ArtifactDatasetSource, sources.HTTPDatasetSource):
        with pytest.raises(InvalidParameter, match=r"needs a '(uri|url)'"):
            source.from_json("{}")


def test_a_local_source_gives_its_path(tmp_path: Path) -> None:
    file = tmp_path / "my data.csv"
    file.write_text("a\n1\n")
    for given in (file, str(file), file.as_uri()):
        assert Path(flightlog.data.from_pandas(SMALL, source=given).source.load()) == file
    copied = flightlog.data.from_pandas(SMALL, source=file).source.load(str(tmp_path / "copy"))
    assert Path(copied).read_text() == "a\n1\n"
    with pytest.raises(InvalidParameter, match="nothing is on this machine"):
        flightlog.data.from_pandas(SMALL, source=tmp_path / "gone.csv").source.load()


def test_a_file_is_fetched_from_the_web(web: str, tmp_path: Path) -> None:
    assert Path(HTTPDatasetSource(f"{web}/train.csv").load(str(tmp_path / "a"))) == tmp_path / "a" / "train.csv"
    assert Path(HTTPDatasetSource(f"{web}/x?named=other.csv").load(str(tmp_path))).read_text() == "a,b\n1,2\n"
    assert (tmp_path / "other.csv").exists()
    for name in ("../evil", "/etc/evil", "..", "a\\b"):
        with pytest.raises(InvalidParameter, match="no plain name"):
            HTTPDatasetSource(f"{web}/x?named={name}").load(str(tmp_path))


def test_a_kind_of_source_of_ones_own_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(sources.S3ArtifactDatasetSource):  # type: ignore[misc,valid-type]  # made by a function
        @staticmethod
        def _get_source_type() -> str:
            return "mine"

    monkeypatch.setattr(dataset_source_registry, "_sources", dataset_source_registry.get_registered_sources())
    dataset_source_registry.register_dataset_source(Mine)
    assert flightlog.data.from_pandas(SMALL, source="s3://a/b").to_dict()["source_type"] == "mine"


def test_columns_that_are_not_there_are_refused() -> None:
    with pytest.raises(InvalidParameter, match="the targets column 'y' is not among the columns 'a'"):
        flightlog.data.from_pandas(SMALL, source="x", targets="y")
    with pytest.raises(InvalidParameter, match="the predictions column"):
        flightlog.data.from_pandas(SMALL, source="x", predictions="y")


def test_a_digest_looks_at_no_more_of_an_array_than_it_needs() -> None:
    huge = np.lib.stride_tricks.as_strided(np.zeros(1), shape=(10**10,), strides=(0,))
    assert len(digest_utils.compute_numpy_digest(huge)) == 8


def test_datasets_of_other_libraries_need_them() -> None:
    with pytest.raises(MlflowException, match=r"datasets\.Dataset, not dict"):
        flightlog.data.from_huggingface({})
    with pytest.raises(MlflowException, match="pip install tensorflow"):
        flightlog.data.from_tensorflow(np.zeros(1), source="x")


class FakeHubDataset:
    """Has what is asked of a datasets.Dataset."""

    column_names = ("a",)
    num_rows, dataset_size, size_in_bytes = 2, 10, 20
    config_name, split = "plain", "train"

    def to_pandas(self, batch_size: int, batched: bool) -> Iterator[pd.DataFrame]:
        assert (batch_size, batched) == (10_000, True)
        yield SMALL


def test_a_hugging_face_dataset_is_told_by_its_first_rows() -> None:
    found = flightlog.data.from_huggingface(FakeHubDataset(), path="owner/name", targets="a", revision="r").to_dict()
    assert found["digest"] == flightlog.data.from_pandas(SMALL, source="x").digest
    source = json.loads(found["source"])
    assert (found["source_type"], source["path"], source["split"]) == ("hugging_face", "owner/name", "train")
    assert json.loads(found["profile"]) == {"num_rows": 2, "dataset_size": 10, "size_in_bytes": 20}
    assert flightlog.data.from_huggingface(FakeHubDataset()).to_dict()["source_type"] == "code"


def test_nothing_heavy_is_imported_until_it_is_needed() -> None:
    code = "import sys, flightlog.data; print(*[name for name in ('pandas', 'numpy', 'polars', 'sqlalchemy') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
