"""The callback and the logger among the examples, used by import. There are tests here only where their libraries are installed."""

from __future__ import annotations

import importlib.util
import pickle
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import flightlog
from flightlog.testing import capture

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name: str) -> ModuleType:
    """Import an example, under a name by which pickle finds it."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def is_installed(*libraries: str) -> bool:
    return all(importlib.util.find_spec(library) for library in libraries)


if is_installed("torch", "transformers", "accelerate"):
    import torch
    from transformers import Trainer, TrainingArguments

    def fit(folder: Path, callback: Any, steps: int, resume: bool | None = None) -> None:
        class Line(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.layer = torch.nn.Linear(1, 1)

            def forward(self, x: Any, labels: Any) -> dict[str, Any]:
                guesses = self.layer(x)
                return {"loss": torch.nn.functional.mse_loss(guesses, labels), "logits": guesses}

        data = [{"x": torch.tensor([x / 100]), "labels": torch.tensor([3 * x / 100 + 1])} for x in range(100)]
        arguments = TrainingArguments(
            str(folder), max_steps=steps, logging_steps=1, save_steps=5, report_to="none", use_cpu=True, disable_tqdm=True
        )
        trainer = Trainer(Line(), arguments, train_dataset=data, eval_dataset=data, callbacks=[callback])
        trainer.train(resume_from_checkpoint=resume)
        trainer.evaluate()

    def test_the_callback_logs_params_and_metrics_and_ends_its_run(tmp_path: Path) -> None:
        callback = example("huggingface_callback").FlightlogCallback(log_checkpoints=True)
        with capture() as captured:
            fit(tmp_path, callback, 10)
            assert flightlog.active_run() is None
        run = captured.run()
        assert run.info.run_id == callback.run_id
        assert run.info.status == "FINISHED"
        assert run.data.params["max_steps"] == "10"
        assert [point.step for point in captured.history("loss")] == list(range(1, 11))
        assert len(captured.metrics("eval_loss")) == 1
        assert {Path(path).parts[1] for path in captured.artifacts()} == {"checkpoint-5", "checkpoint-10"}

    def test_the_callback_logs_to_the_active_run_and_leaves_it_open(tmp_path: Path) -> None:
        with capture() as captured, flightlog.start_run(run_name="mine") as run:
            fit(tmp_path, example("huggingface_callback").FlightlogCallback(), 3)
            assert flightlog.active_run() is run
        assert len(captured.metrics("loss", "mine")) == 3

    def test_a_trainer_that_goes_on_from_a_checkpoint_goes_on_with_its_run(tmp_path: Path) -> None:
        callback = example("huggingface_callback").FlightlogCallback
        with capture() as captured:
            fit(tmp_path, first := callback(), 8)
            fit(tmp_path, callback(first.run_id), 12, resume=True)
        assert [point.step for point in captured.history("loss")] == list(range(1, 13))


if is_installed("torch", "lightning"):
    import torch

    @pytest.mark.filterwarnings("ignore")  # Lightning's own
    def test_the_logger_logs_params_and_metrics_and_ends_its_run() -> None:
        module = example("lightning_logger")
        with capture() as captured:
            logger = module.FlightlogLogger("lines", "first", {"kind": "line"}, log_checkpoints=True)
            assert module.train(2, logger) == logger.version
        run = captured.run("first")
        assert run.info.status == "FINISHED"
        assert run.data.params == {"rate": "0.1"}
        assert run.data.tags["kind"] == "line"
        assert [point.step for point in captured.history("loss")] == list(range(20))
        assert {Path(path).parts[0] for path in captured.artifacts()} == {"checkpoints"}
        assert [experiment.name for experiment in captured.experiments] == ["Default", "lines"]

    @pytest.mark.filterwarnings("ignore")  # Lightning's own
    def test_a_training_that_fails_fails_its_run(monkeypatch: pytest.MonkeyPatch) -> None:
        def broken(*_: Any, **__: Any) -> None:
            raise ArithmeticError("broken")

        module = example("lightning_logger")
        monkeypatch.setattr(torch.nn.functional, "mse_loss", broken)
        with capture() as captured, pytest.raises(ArithmeticError):
            module.train(1, module.FlightlogLogger())
        assert captured.run().info.status == "FAILED"

    def test_a_copy_of_the_logger_writes_to_the_same_run() -> None:
        module = example("lightning_logger")
        with capture() as captured:
            logger = module.FlightlogLogger()
            logger.log_metrics({"loss": 1.0}, step=0)
            pickle.loads(pickle.dumps(logger)).log_metrics({"loss": 2.0}, step=1)
        assert captured.metrics("loss") == [1.0, 2.0]
