"""Datasets and models of runs, from the call to what is read, with a real worker in between."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import flightlog
from flightlog.__main__ import main
from flightlog.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, Metric, Run
from flightlog.exceptions import InvalidParameter
from flightlog.testing import capture

FRAME = pd.DataFrame({"x": [1.0, 2.0], "y": ["a", "b"]})


def test_a_dataset_is_read_back_as_it_was_logged() -> None:
    dataset = flightlog.data.from_pandas(FRAME, source="s3://bucket/train.csv", name="train set", targets="y")
    with flightlog.start_run() as active:
        flightlog.log_input(dataset, context="train", tags={"fold": 1})
        flightlog.log_input(dataset, context="again")
        flightlog.log_inputs([flightlog.data.from_numpy(np.arange(3), source="x.npy"), None], ["eval", None], [None, None])
    run = flightlog.get_run(active.info.run_id)
    first, second = run.inputs.dataset_inputs
    assert first.dataset == Dataset(
        "train set",
        dataset.digest,
        "s3",
        '{"uri": "s3://bucket/train.csv"}',
        '{"mlflow_colspec": [{"type": "double", "name": "x", "required": true}, {"type": "string", "name": "y", "required": true}]}',
        '{"num_rows": 2, "num_elements": 4}',
    )
    assert first.tags == [InputTag("fold", "1"), InputTag("mlflow.data.context", "train")]
    assert second.to_dictionary()["tags"] == {"mlflow.data.context": "eval"}
    assert Run.from_dictionary(json.loads(json.dumps(run.to_dictionary()))) == run
    source = flightlog.data.get_source(first)
    assert source.to_dict() == {"uri": "s3://bucket/train.csv"}
    found = flightlog.search_runs(filter_string="datasets.name = 'train set' AND dataset.context = 'eval'", output_format="list")
    assert [item.inputs for item in found] == [run.inputs]
    assert flightlog.search_runs(filter_string="dataset.context = 'again'", output_format="list") == []


def test_a_metric_can_name_its_dataset_which_is_logged_once() -> None:
    dataset = flightlog.data.from_pandas(FRAME, source="x.csv", name="train")
    with flightlog.start_run() as active:
        for step in range(5):
            flightlog.log_metric("loss", 1.0 / (step + 1), step=step, dataset=dataset)
        flightlog.log_metrics({"a": 1.0}, dataset=dataset)
    with flightlog.start_run() as other:
        flightlog.log_metric("loss", 1.0, dataset=dataset)
    run = flightlog.get_run(active.info.run_id)
    assert run.data.metrics == {"loss": 0.2, "a": 1.0}
    assert [item.dataset.name for item in run.inputs.dataset_inputs] == ["train"]
    assert [item.dataset.name for item in flightlog.get_run(other.info.run_id).inputs.dataset_inputs] == ["train"]
    events = [payload for block in flightlog.reading.reader().ledger(active.info.run_id) for payload in block.records.payloads()]
    assert sum(b"x.csv" in payload for payload in events) == 1


def test_a_metric_can_name_its_model_which_is_linked_once_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with capture() as captured, flightlog.start_run() as run:
        for step in range(3):
            flightlog.log_metric("loss", step, step=step, model_id="m-1")
        flightlog.log_metrics({"a": 1.0}, model_id="m-1")
        flightlog.log_outputs([LoggedModelOutput("m-2", 0)])
        flightlog.log_metric("loss", 3.0, step=3, model_id="m-2")
        with pytest.raises(InvalidParameter):
            flightlog.log_metric("loss", 4.0, step=4, model_id="")
        client = flightlog.MlflowClient()
        client.log_metric(run.info.run_id, "b", 1.0, dataset_name="d", dataset_digest="e")
        client.log_batch(run.info.run_id, metrics=[Metric("c", 1.0, 1, 0, model_id="m-1")])
    found = captured.run()
    assert found.inputs.model_inputs == [LoggedModelInput("m-1")]
    assert found.outputs.model_outputs == [LoggedModelOutput("m-2", 0)]
    assert sum(type(event).__name__ == "ModelInputLogged" for event in captured.events) == 1
    assert captured.metrics("loss") == [0, 1, 2, 3]
    assert [sum(word in message for message in caplog.messages) for word in ("a model_id given", "is not kept yet; log_inputs")] == [1, 1]


def test_models_are_read_back_as_they_were_logged() -> None:
    with flightlog.start_run() as active:
        flightlog.log_input(model=LoggedModelInput("m-1"))
        flightlog.log_outputs([LoggedModelOutput("m-2", 7), LoggedModelOutput("m-3", 8)])
    run = flightlog.get_run(active.info.run_id)
    assert run.inputs.model_inputs == [LoggedModelInput("m-1")]
    assert run.outputs.model_outputs == [LoggedModelOutput("m-2", 7), LoggedModelOutput("m-3", 8)]


def test_the_client_logs_inputs_and_outputs_by_id() -> None:
    client = flightlog.MlflowClient()
    run_id = client.create_run("0").info.run_id
    given = DatasetInput(Dataset("d", "1", "code", "{}"), [InputTag("a", "b")])
    client.log_inputs(run_id, [given], [LoggedModelInput("m-1")])
    client.log_outputs(run_id, [LoggedModelOutput("m-2", 1)])
    run = client.get_run(run_id)
    assert (run.inputs.dataset_inputs, run.inputs.model_inputs) == ([given], [LoggedModelInput("m-1")])
    assert run.outputs.model_outputs == [LoggedModelOutput("m-2", 1)]


def test_synchronous_logging_waits_for_the_commit() -> None:
    flightlog.config.enable_async_logging(False)
    with flightlog.start_run() as active:
        flightlog.log_input(flightlog.data.from_pandas(FRAME, source="x"))
        assert len(flightlog.reading._open(active.producer.location.database_url, 0).get_run(active.info.run_id).inputs.dataset_inputs) == 1


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (Dataset("x" * 501, "1", "code", "{}"), "dataset name 'x+'... is 501 characters long; at most 500"),
        (Dataset("", "1", "code", "{}"), "dataset name must not be empty"),
        (Dataset("d", "1" * 37, "code", "{}"), "at most 36"),
        (Dataset("d", "1", "code", "x" * 65_536), "at most 65535"),
        (Dataset("d", "1", "code", "{}", "x" * 1_048_576), "at most 1048575"),
        (Dataset("d", "1", "code", "{}", None, "x" * 16_777_216), "at most 16777215"),
        (Dataset("d", 5, "code", "{}"), "dataset digest must be a string, not int 5"),  # type: ignore[arg-type]  # on purpose
        (FRAME, r"flightlog.data.from_pandas\(df\), not DataFrame"),
        ("d", "not str"),
    ],
    ids=lambda value: "" if isinstance(value, (Dataset, pd.DataFrame)) else value,
)
def test_what_breaks_a_rule_is_refused_before_anything_is_written(dataset: object, message: str) -> None:
    good = Dataset("good", "1", "code", "{}")
    with flightlog.start_run() as active:
        with pytest.raises(InvalidParameter, match=message):
            flightlog.log_inputs([good, dataset], [None, None], [None, None])
        for tags, match in (({"k" * 256: "v"}, "input tag key"), ({"k": "v" * 501}, "input tag value 'v+'")):
            with pytest.raises(InvalidParameter, match=match):
                flightlog.log_input(good, tags=tags)
    assert flightlog.get_run(active.info.run_id).inputs.dataset_inputs == []


def test_lists_of_unequal_length_and_tags_of_nothing_are_refused() -> None:
    with flightlog.start_run():
        with pytest.raises(InvalidParameter, match="of one length, not 1, 0 and 0"):
            flightlog.log_inputs([Dataset("d", "1", "code", "{}")])
        with pytest.raises(InvalidParameter, match="need a dataset"):
            flightlog.log_input(context="train")


def test_as_much_as_is_allowed_is_kept() -> None:
    largest = Dataset("x" * 500, "1" * 36, "code", "é" * 65_535, "s" * 1_048_575, "p" * 16_777_215)
    with flightlog.start_run() as active:
        flightlog.log_input(largest, tags={"k" * 255: "v" * 500})
    [found] = flightlog.get_run(active.info.run_id).inputs.dataset_inputs
    assert found == DatasetInput(largest, [InputTag("k" * 255, "v" * 500)])


def test_runs_show_tells_of_datasets_and_models(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with flightlog.start_run() as active:
        flightlog.log_input(flightlog.data.from_pandas(FRAME, source=tmp_path / ("x" * 200), name="digits", digest="1f"), context="train")
        flightlog.log_outputs([LoggedModelOutput("m-2", 7)])
    flightlog.get_run(active.info.run_id)
    assert main(["runs", "show", active.info.run_id]) == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("Datasets", "digits", "1f", "train", "Models", "m-2", "made"))
    assert main(["runs", "show", active.info.run_id, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["inputs"]["dataset_inputs"][0]["dataset"]["name"] == "digits"
    assert document["outputs"] == {"model_outputs": [{"model_id": "m-2", "step": 7}]}
