"""A logger for Lightning that logs to flightlog: `Trainer(logger=FlightlogLogger("experiment"))`.

    python lightning_logger.py         trains a small network with it; needs: pip install lightning

Only rank 0 logs, as Lightning has it. The run begins with the first thing that is logged.
"""

from __future__ import annotations

import argparse
import tempfile
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only

import flightlog

STATUSES = {"success": "FINISHED", "finished": "FINISHED", "failed": "FAILED", "aborted": "KILLED"}


class FlightlogLogger(Logger):
    """Logs hyper-parameters as params and metrics at Lightning's step, to a run of an experiment; goes on with the run of `run_id`.

    It may be pickled, as for `ddp_spawn`: the copy writes to the same run.
    """

    def __init__(
        self,
        experiment: str = "lightning",
        run_name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        tracking_uri: str | None = None,
        *,
        log_checkpoints: bool = False,
    ) -> None:
        super().__init__()
        self._experiment, self._run_name, self._tags = experiment, run_name, dict(tags or {})
        self._client = flightlog.Client(tracking_uri)
        self._run_id = run_id
        self._log_checkpoints = log_checkpoints

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_client": self._client.tracking_uri}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _client=flightlog.Client(state["_client"]))

    @property
    def name(self) -> str:
        return self._experiment

    @property
    def version(self) -> str | None:
        return self._run_id

    @property
    def experiment(self) -> flightlog.Client:
        return self._client

    @property
    def run_id(self) -> str:
        """The id of the run, which this starts if it has not begun."""
        if self._run_id is None:
            found = self._client.get_experiment_by_name(self._experiment)
            experiment_id = found.experiment_id if found else self._client.create_experiment(self._experiment)
            self._run_id = self._client.create_run(experiment_id, tags=self._tags, run_name=self._run_name).info.run_id
        return self._run_id

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401, ARG002 - Lightning's
        for key, value in (vars(params) if isinstance(params, Namespace) else params).items():
            self._client.log_param(self.run_id, key, value)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for key, value in metrics.items():
            self._client.log_metric(self.run_id, key, float(value), step=step)

    @rank_zero_only
    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:  # noqa: ANN401 - Lightning's ModelCheckpoint
        path = checkpoint_callback.best_model_path or checkpoint_callback.last_model_path
        if self._log_checkpoints and path:
            self._client.log_artifact(self.run_id, path, "checkpoints")  # a copy is taken: the callback may delete the file

    @rank_zero_only
    def finalize(self, status: str) -> None:
        if self._run_id is not None:
            self._client.set_terminated(self._run_id, STATUSES.get(status, "FAILED"))


def train(epochs: int, logger: FlightlogLogger) -> str:
    """Have a Trainer fit a line to points of one, and return the run's id."""
    import torch  # noqa: PLC0415 - only the example needs it, not the logger
    from lightning.pytorch import LightningModule, Trainer  # noqa: PLC0415 - the same
    from torch.utils.data import DataLoader, TensorDataset  # noqa: PLC0415 - the same

    class Line(LightningModule):
        def __init__(self, rate: float) -> None:
            super().__init__()
            self.save_hyperparameters({"rate": rate})
            self.layer = torch.nn.Linear(1, 1)

        def training_step(self, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
            loss = torch.nn.functional.mse_loss(self.layer(batch[0]), batch[1])
            self.log("loss", loss)
            return loss

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.SGD(self.parameters(), lr=self.hparams["rate"])

    x = torch.linspace(0, 1, 100)[:, None]
    loader = DataLoader(TensorDataset(x, 3 * x + 1), batch_size=10)
    with tempfile.TemporaryDirectory() as folder:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}
        trainer = Trainer(max_epochs=epochs, logger=logger, log_every_n_steps=1, default_root_dir=folder, **quiet)
        trainer.fit(Line(rate=0.1), loader)
    return logger.run_id


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10, help="passes over the data (10)")
    parser.add_argument("--sync", action="store_true", help="make each logging call wait for its commit")
    options = parser.parse_args()
    flightlog.config.enable_async_logging(not options.sync)
    run = flightlog.get_run(train(options.epochs, FlightlogLogger(log_checkpoints=True)))
    print(f"{run.info.run_name} {run.info.status}: params {run.data.params}, metrics {run.data.metrics}")


if __name__ == "__main__":
    main()
