"""`Client`: the explicit-id API over one store. It writes through a `Producer` and reads through a `RunReader`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flightlog import reading
from flightlog.artifacts import artifacts_of
from flightlog.producer import lifecycle
from flightlog.producer.client import Producer
from flightlog.producer.context import context
from flightlog.producer.fluent import (
    PARENT_TAG,
    check_status,
    dump_dictionary,
    figure_bytes,
    is_synchronous,
)
from flightlog.producer.operations import NOTHING, RunOperations
from flightlog.producer.starting import local_run, run_started
from flightlog.schema.entities import (
    ArtifactStatus,
    Attempt,
    Experiment,
    FileInfo,
    LifecycleStage,
    Metric,
    PagedList,
    Param,
    Run,
    RunTag,
    ViewType,
)
from flightlog.schema.errors import InvalidParameter, StoreUnavailable
from flightlog.schema.ids import new_run_id
from flightlog.schema.limits import check_key
from flightlog.schema.names import RUN_NAME_TAG
from flightlog.stores.base import RunReader


class Client:
    """Creates, reads and changes experiments and runs by id.

    A run that this client has not seen is looked up before it is written to, so a wrong id raises `NotFound`. Writes are asynchronous, as
    everywhere, unless `synchronous=True` or `flightlog.config.enable_async_logging(False)` says otherwise; reads see what was written.
    """

    def __init__(self, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:  # noqa: ARG002 - MLflow's signature
        self._own_producer = context.producer_for(tracking_uri)
        self._known: set[str] = set()

    @property
    def _producer(self) -> Producer:
        return context.stand_in_for(self._own_producer)

    @property
    def tracking_uri(self) -> str:
        """The URI of the store."""
        return self._producer.location.tracking_uri

    @property
    def _reader(self) -> RunReader:
        return reading.reader_for(self._producer)

    def create_experiment(self, name: str, artifact_location: str | None = None, tags: Mapping[str, Any] | None = None) -> str:
        """See `flightlog.create_experiment`."""
        return reading.create_experiment_with(self._producer, name, artifact_location, tags)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """See `flightlog.get_experiment`."""
        return self._reader.get_experiment(str(experiment_id))

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """See `flightlog.get_experiment_by_name`."""
        return self._reader.get_experiment_by_name(name)

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Experiment]:
        """Return one page of the experiments that match."""
        return self._reader.search_experiments(view_type, max_results, filter_string, order_by, page_token)

    def delete_experiment(self, experiment_id: str) -> None:
        """See `flightlog.delete_experiment`."""
        self._finish(self._producer.delete_experiment(self.get_experiment(experiment_id).experiment_id), None)

    def restore_experiment(self, experiment_id: str) -> None:
        """See `flightlog.restore_experiment`."""
        self._finish(self._producer.restore_experiment(self.get_experiment(experiment_id).experiment_id), None)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Give an experiment another name; its id stays."""
        self._finish(self._producer.rename_experiment(self.get_experiment(experiment_id).experiment_id, new_name), None)

    def set_experiment_tag(self, experiment_id: str, key: str, value: Any) -> None:  # noqa: ANN401 - becomes text
        """Set a tag of an experiment."""
        self._finish(self._producer.set_experiment_tag(self.get_experiment(experiment_id).experiment_id, key, value), None)

    def create_run(
        self, experiment_id: str, start_time: int | None = None, tags: Mapping[str, Any] | None = None, run_name: str | None = None
    ) -> Run:
        """Create a run without making it active. `start_time` is ms since the epoch, now by default."""
        experiment = self.get_experiment(experiment_id)
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise InvalidParameter(f"experiment {experiment.name!r} is deleted; restore it before creating a run in it")
        texts = {check_key("tag", key): str(value) for key, value in (tags or {}).items()}
        run_id = new_run_id()
        self._producer.locations.learn(experiment.experiment_id, experiment.artifact_location)
        event = run_started(self._producer, run_id, experiment.experiment_id, experiment.name, run_name, texts, start_time)
        self._finish(self._producer.start(run_id, event), None)
        self._known.add(run_id)
        return local_run(run_id, event)

    def get_run(self, run_id: str) -> Run:
        """See `flightlog.get_run`."""
        return self._reader.get_run(run_id)

    def get_parent_run(self, run_id: str) -> Run | None:
        """See `flightlog.get_parent_run`."""
        parent = self.get_run(run_id).data.tags.get(PARENT_TAG)
        return self.get_run(parent) if parent else None

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Run]:
        """Return one page of the runs that match."""
        ids = [str(item) for item in experiment_ids]
        return self._reader.search_runs(ids, filter_string, run_view_type, max_results, order_by, page_token)

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """Set a run's status, without ending it, or its name."""
        self._check_known(run_id)
        if status is not None:
            self._finish(self._producer.set_status(run_id, check_status(status)), None)
        if name is not None:
            self._finish(self._producer.set_tag(run_id, RUN_NAME_TAG, name), None)

    def set_terminated(self, run_id: str, status: str | None = None, end_time: int | None = None) -> None:
        """End a run, FINISHED by default. `end_time` is ms since the epoch, now by default."""
        self._check_known(run_id)
        self._finish(self._producer.end(run_id, check_status(status or "FINISHED"), end_time), None)

    def rewind(self, run_id: str, step: int) -> None:
        """Begin a new attempt of a run at a step: see `flightlog.rewind`."""
        self._check_known(run_id)
        self._finish(self._producer.rewind(run_id, step), None)

    def attempts(self, run_id: str) -> list[Attempt]:
        """See `flightlog.get_attempts`."""
        return reading.attempts_from(self._reader, run_id)

    def delete_run(self, run_id: str) -> None:
        """See `flightlog.delete_run`."""
        self._check_known(run_id)
        self._finish(self._producer.delete_run(run_id), None)

    def restore_run(self, run_id: str) -> None:
        """See `flightlog.restore_run`."""
        self._check_known(run_id)
        self._finish(self._producer.restore_run(run_id), None)

    def log_metric(
        self,
        run_id: str,
        key: str,
        value: float,
        timestamp: int | None = None,
        step: int | None = None,
        synchronous: bool | None = None,
        dataset_name: str | None = None,  # noqa: ARG002 - MLflow's signature
        dataset_digest: str | None = None,  # noqa: ARG002 - MLflow's signature
        model_id: str | None = None,  # noqa: ARG002 - MLflow's signature
    ) -> RunOperations | None:
        """Log a metric of a run. `timestamp` is ms since the epoch, now by default."""
        self._check_known(run_id)
        return self._finish(self._producer.log_metric(run_id, key, value, timestamp, step), synchronous)

    def log_param(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> Any:  # noqa: ANN401 - any value, returned as it came
        """Log a param of a run and return its value."""
        self._check_known(run_id)
        return self._finish(self._producer.log_param(run_id, key, value), synchronous) or value

    def set_tag(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> RunOperations | None:  # noqa: ANN401 - becomes text
        """Set a tag of a run."""
        self._check_known(run_id)
        return self._finish(self._producer.set_tag(run_id, key, value), synchronous)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag of a run."""
        self._check_known(run_id)
        self._finish(self._producer.delete_tag(run_id, key), None)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> RunOperations | None:
        """Log metrics, params and tags of a run. All keys are checked before any is written; there is no limit to their number."""
        self._check_known(run_id)
        for kind, items in (("metric", metrics), ("param", params), ("tag", tags)):
            for item in items:
                check_key(kind, item.key)
        operations = [self._producer.log_param(run_id, param.key, param.value) for param in params]
        operations += [self._producer.log_metric(run_id, item.key, item.value, item.timestamp, item.step) for item in metrics]
        operations += [self._producer.set_tag(run_id, tag.key, tag.value) for tag in tags]
        return self._finish(sum(operations, NOTHING), synchronous)

    def get_metric_history(self, run_id: str, key: str, attempt: int | None = None) -> PagedList[Metric]:
        """Return the points of a metric ordered by (timestamp, step, value); none for an unknown key.

        Points that a later attempt has hidden by going back to their step, or before it, are left out; with `attempt`, all points of
        that attempt are returned and no others.
        """
        return PagedList(self._reader.metric_history(run_id, key, attempt))

    def log_artifact(
        self, run_id: str, local_path: str | Path, artifact_path: str | None = None, synchronous: bool | None = None
    ) -> RunOperations | None:
        """See `flightlog.log_artifact`."""
        self._check_known(run_id)
        return self._finish(self._producer.log_artifact(run_id, local_path, artifact_path), synchronous)

    def log_artifacts(
        self, run_id: str, local_dir: str | Path, artifact_path: str | None = None, synchronous: bool | None = None
    ) -> RunOperations | None:
        """See `flightlog.log_artifacts`."""
        self._check_known(run_id)
        return self._finish(self._producer.log_artifacts(run_id, local_dir, artifact_path), synchronous)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """See `flightlog.log_text`."""
        self._check_known(run_id)
        self._finish(self._producer.log_bytes(run_id, text.encode(), artifact_file), None)

    def log_dict(self, run_id: str, dictionary: Any, artifact_file: str) -> None:  # noqa: ANN401 - any JSON value
        """See `flightlog.log_dict`."""
        self._check_known(run_id)
        self._finish(self._producer.log_bytes(run_id, dump_dictionary(dictionary), artifact_file), None)

    def log_figure(self, run_id: str, figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None) -> None:  # noqa: ANN401 - a figure
        """See `flightlog.log_figure`."""
        self._check_known(run_id)
        self._finish(self._producer.log_bytes(run_id, figure_bytes(figure, artifact_file, dict(save_kwargs or {})), artifact_file), None)

    def list_artifacts(self, run_id: str, path: str | None = None) -> list[FileInfo]:
        """Return the artifacts in a folder of a run; paths are relative to the run's artifacts."""
        return artifacts_of(self._producer, run_id).list(path)

    def download_artifacts(self, run_id: str, path: str, dst_path: str | None = None) -> str:
        """Copy an artifact, or a folder of them, to a local folder (a new temporary one by default) and return its path there.

        Raises `NotFound`, or `ArtifactDamaged` where what is stored is not what was logged.
        """
        return artifacts_of(self._producer, run_id).download(path, dst_path)

    def artifact_states(self, run_id: str) -> list[ArtifactStatus]:
        """Return what was logged as artifacts of a run: size, SHA-256, and whether it is stored, pending or failed, with the reason."""
        return artifacts_of(self._producer, run_id).states()

    def _check_known(self, run_id: str) -> None:
        """Raise `NotFound` for a run that neither this client nor the store knows."""
        if run_id in self._known:
            return
        try:
            self.get_run(run_id)
        except StoreUnavailable as error:
            lifecycle.warn_once(f"run {run_id} is written to unseen, because the store cannot be reached: {error}")
        self._known.add(run_id)

    @staticmethod
    def _finish(operation: RunOperations, synchronous: bool | None) -> RunOperations | None:
        if synchronous or (synchronous is None and is_synchronous()):
            operation.wait()
            return None
        return operation if synchronous is not None else None


MlflowClient = Client
