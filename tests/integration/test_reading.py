"""Histories of many runs and keys through the fluent functions and the client."""

from __future__ import annotations

import math
import subprocess
import sys

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import flightlog
from flightlog.schema.errors import FlightlogException, InvalidParameter


@pytest.fixture
def run_ids() -> list[str]:
    """Log two runs and return their ids."""
    found = []
    for number in range(2):
        with flightlog.start_run() as run:
            for step in range(100):
                flightlog.log_metric("loss", 100.0 * number - step, step=step)
            flightlog.log_metric("odd", math.nan)
        found.append(run.info.run_id)
    return found


def test_histories_are_a_frame_by_default(run_ids: list[str]) -> None:
    frame = flightlog.get_metric_histories(run_ids)
    assert frame.columns.tolist() == ["run_id", "key", "step", "timestamp", "value"]
    assert frame.groupby(["run_id", "key"], observed=True).size().tolist() == [100, 1, 100, 1]
    assert frame.dtypes.timestamp == pd.DatetimeTZDtype("ms", "UTC")
    assert frame[frame.key == "odd"].value.isna().all()
    assert abs(frame.timestamp.max().timestamp() - pd.Timestamp.now("UTC").timestamp()) < 60


def test_runs_may_be_given_by_what_a_search_returns(run_ids: list[str]) -> None:
    runs = flightlog.search_runs(order_by=["metrics.loss ASC"])
    frame = flightlog.get_metric_histories(runs.run_id, "loss", start_step=99)
    assert (frame.run_id.tolist(), frame.value.tolist()) == (run_ids, [-99.0, 1.0])
    entities = flightlog.search_runs(output_format="list")
    assert len(flightlog.get_metric_histories(entities[0], ["loss"], sample=7, output_format="list")) <= 7


def test_the_client_reads_what_the_functions_read(run_ids: list[str]) -> None:
    client = flightlog.Client()
    first, second = run_ids
    table = client.get_metric_histories(run_ids, output_format="arrow")
    assert table.drop_columns("value").equals(flightlog.get_metric_histories(run_ids, output_format="arrow").drop_columns("value"))
    assert client.stream_metric_histories(run_ids).read_all().num_rows == table.num_rows == 202
    assert client.metric_arrays(second, "loss", 10, 12).value.tolist() == [90.0, 89.0, 88.0]
    assert client.metric_envelope(first, "loss", 2).min.tolist() == [-49.0, -99.0]
    found = client.get_metric_histories(first, "loss", output_format="numpy")[first]["loss"]
    assert found.value.tolist() == client.metric_arrays(first, "loss").value.tolist()


def test_a_list_has_the_entities_of_a_history_with_their_runs(run_ids: list[str]) -> None:
    found = flightlog.get_metric_histories(run_ids[0], "loss", output_format="list")
    plain = flightlog.Client().get_metric_history(run_ids[0], "loss")
    assert [(item.key, item.value, item.timestamp, item.step) for item in found] == [
        (item.key, item.value, item.timestamp, item.step) for item in plain
    ]
    assert {item.run_id for item in found} == {run_ids[0]}


def test_a_stream_goes_into_parquet(run_ids: list[str]) -> None:
    reader = flightlog.stream_metric_histories(run_ids)
    with pq.ParquetWriter("histories.parquet", reader.schema) as writer:
        for batch in reader:
            writer.write_batch(batch)
    table = pq.read_table("histories.parquet")
    assert table.num_rows == 202
    assert table["run_id"].unique().to_pylist() == run_ids
    assert pa.types.is_timestamp(table.schema.field("timestamp").type)


@pytest.mark.parametrize("form", ["pandas", "arrow", "numpy", "list"])
def test_what_is_unknown_has_no_points(form: str) -> None:
    assert len(flightlog.Client().get_metric_histories(["a" * 32], output_format=form)) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [({"output_format": "excel"}, "'excel'"), ({"sample": 3}, "at least 4"), ({"run_ids": [7]}, "7 is neither")],
    ids=["format", "sample", "id"],
)
def test_what_is_wrong_is_said_with_the_value(arguments: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidParameter, match=said):
        flightlog.Client().get_metric_histories(**{"run_ids": ["a" * 32], **arguments})  # type: ignore[arg-type]  # that is the test


@pytest.mark.parametrize(("module", "form"), [("pyarrow", "arrow"), ("pandas", "pandas")])
def test_a_library_that_is_missing_is_named_with_the_extra_that_has_it(module: str, form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(FlightlogException, match=rf"flightlog\[{form}\]"):
        flightlog.Client().get_metric_histories(["a" * 32], output_format=form)


def test_reading_arrays_loads_neither_pandas_nor_arrow(run_ids: list[str]) -> None:
    code = (
        "import flightlog, sys\n"
        f"found = flightlog.get_metric_histories({run_ids}, output_format='numpy')\n"
        "print(len(found), *[name for name in ('pandas', 'pyarrow', 'plotille') if name in sys.modules])\n"
    )
    assert len(flightlog.Client().metric_arrays(run_ids[1], "odd")) == 1  # so all has been filed
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2"]
