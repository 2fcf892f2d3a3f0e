"""A callback for Hugging Face's Trainer that logs to flightlog: `Trainer(..., callbacks=[FlightlogCallback()])`.

    python huggingface_callback.py     trains a small network with it; needs: pip install 'transformers[torch]'

The Trainer has an MLflow callback of its own, which imports MLflow; `report_to="none"` leaves it out.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping
from numbers import Real
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

import flightlog


class FlightlogCallback(TrainerCallback):
    """Logs the arguments and the model's configuration as params, and whatever the Trainer logs as metrics at its global step.

    It starts a run where none is active, and ends the run that it has started. A Trainer that goes on from a checkpoint, with
    `resume_from_checkpoint`, goes on with its run if `run_id` says which that is; what was logged after the checkpoint is hidden.
    """

    def __init__(self, run_id: str | None = None, *, log_checkpoints: bool = False) -> None:
        self._resumed = run_id
        self._log_checkpoints = log_checkpoints
        self._run: flightlog.ActiveRun | None = None
        self.run_id: str | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - the Trainer's
        if not state.is_world_process_zero:
            return
        active = flightlog.active_run()
        if active is None:
            active = self._run = flightlog.start_run(run_id=self._resumed, run_name=args.run_name)
            if self._resumed and state.global_step:
                flightlog.rewind(state.global_step + 1)
        self.run_id = active.info.run_id
        if self._resumed is None:
            config = getattr(kwargs.get("model"), "config", None)
            flightlog.log_params({**(config.to_dict() if config is not None else {}), **args.to_sanitized_dict()})

    def on_log(
        self,
        args: TrainingArguments,  # noqa: ARG002 - the Trainer's
        state: TrainerState,
        control: TrainerControl,  # noqa: ARG002 - the Trainer's
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,  # noqa: ANN401, ARG002 - the Trainer's
    ) -> None:
        if self.run_id is not None:
            numbers = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, Real)}
            flightlog.log_metrics(numbers, step=state.global_step, run_id=self.run_id)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - the Trainer's
        if self.run_id is not None and self._log_checkpoints:
            flightlog.log_artifact(f"{args.output_dir}/checkpoint-{state.global_step}", "checkpoints", run_id=self.run_id)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - the Trainer's
        if self._run is not None:
            flightlog.end_run()
            self._run = None


def train(steps: int) -> str:
    """Have a Trainer fit a line to points of one, and return the run's id."""
    import torch  # noqa: PLC0415 - only the example needs it, not the callback
    from transformers import Trainer  # noqa: PLC0415 - the same

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
            guesses = self.layer(x)
            return {"loss": torch.nn.functional.mse_loss(guesses, labels), "logits": guesses}

    data = [{"x": torch.tensor([x / 100]), "labels": torch.tensor([3 * x / 100 + 1])} for x in range(100)]
    callback = FlightlogCallback(log_checkpoints=True)
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder, max_steps=steps, logging_steps=10, save_steps=steps, learning_rate=0.1, report_to="none", use_cpu=True, seed=7
        )
        Trainer(Line(), arguments, train_dataset=data, eval_dataset=data, callbacks=[callback]).train()
    return str(callback.run_id)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100, help="steps of the training (100)")
    parser.add_argument("--sync", action="store_true", help="make each logging call wait for its commit")
    options = parser.parse_args()
    flightlog.config.enable_async_logging(not options.sync)
    flightlog.set_experiment("hugging face")
    run = flightlog.get_run(train(options.steps))
    print(f"{run.info.run_name} {run.info.status}: {len(run.data.params)} params, metrics {run.data.metrics}")


if __name__ == "__main__":
    main()
