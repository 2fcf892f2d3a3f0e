"""`Client`: the explicit-id API over one store. It writes through a `Producer` and reads through a `RunReader`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flightlog import experiments, histories, reading
from flightlog.artifacts import artifacts_of
from flightlog.producer import lifecycle
from flightlog.producer.client import Producer
from flightlog.producer.context import context
from flightlog.producer.documents import Readable, dictionary_bytes, figure_bytes, stream_bytes, text_bytes
from flightlog.producer.fluent import check_status, is_synchronous
from flightlog.producer.inputs import record_inputs, record_outputs
from flightlog.producer.operations import NOTHING, RunOperations
from flightlog.producer.starting import local_run, run_started
from flightlog.schema.entities import (
    ArtifactStatus,
    Attempt,
    DatasetInput,
    Experiment,
    FileInfo,
    LifecycleStage,
    LoggedModelInput,
    LoggedModelOutput,
    Metric,
    PagedList,
    Param,
    Run,
    RunTag,
    ViewType,
)
from flightlog.schema.errors import InvalidParameter, NotFound, StoreUnavailable
from flightlog.schema.ids import new_run_id
from flightlog.schema.limits import as_metric_value, as_step, as_timestamp, check_key, check_run_id
from flightlog.schema.names import PARENT_TAG, RUN_NAME_TAG
from flightlog.schema.rules import check_params_of_a_batch
from flightlog.stores.base import Envelope, History, Portion, RunReader

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


class Client:
    """Creates, reads and changes experiments and runs by id.

    A run that this client has not seen is looked up before it is written to, so a wrong id raises `NotFound`. Writes are asynchronous, as
    everywhere, unless `synchronous=True` or `flightlog.config.enable_async_logging(False)` says otherwise; reads see what was written.
    """

    def __init__(
        self,
        tracking_uri: str | None = None,
        registry_uri: str | None = None,  # noqa: ARG002 - MLflow's signature
        workspace_store_uri: str | None = None,  # noqa: ARG002 - the same
    ) -> None:
        self._own_producer = context.producer_for(tracking_uri)

    @classmethod
    def of(cls, producer: Producer) -> Client:
        """Return a client that writes through a producer and reads from its store."""
        client = cls.__new__(cls)
        client._own_producer = producer  # noqa: SLF001 - its own
        return client

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
        return experiments.create_experiment_with(self._producer, name, artifact_location, tags)

    def get_experiment(self, experiment_id: str) -> Experiment:
        """See `flightlog.get_experiment`."""
        return reading.experiment_from(self._producer, experiment_id)

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """See `flightlog.get_experiment_by_name`."""
        return reading.experiment_named(self._producer, name)

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
        experiments.delete_experiment_with(self._producer, experiment_id)

    def restore_experiment(self, experiment_id: str) -> None:
        """See `flightlog.restore_experiment`."""
        experiments.restore_experiment_with(self._producer, experiment_id)

    def rename_experiment(self, experiment_id: str, new_name: str) -> None:
        """Give an experiment another name; its id stays. Raises `InvalidState` for a deleted one, and `AlreadyExists`."""
        experiments.rename_experiment_with(self._producer, experiment_id, new_name)

    def set_experiment_tag(self, experiment_id: str, key: str, value: Any) -> None:  # noqa: ANN401 - becomes text
        """Set a tag of an experiment."""
        experiments.set_experiment_tag_with(self._producer, experiment_id, key, value)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> None:
        """Delete a tag of an experiment. Raises `NotFound` where it has none of that key."""
        experiments.delete_experiment_tag_with(self._producer, experiment_id, key)

    def create_run(
        self, experiment_id: str, start_time: int | None = None, tags: Mapping[str, Any] | None = None, run_name: str | None = None
    ) -> Run:
        """Create a run without making it active. `start_time` is ms since the epoch, now by default."""
        experiment = self.get_experiment(experiment_id)
        if experiment.lifecycle_stage != LifecycleStage.ACTIVE:
            raise InvalidParameter(f"experiment {experiment.name!r} is deleted; restore it before creating a run in it")
        texts = self._producer.texts("tag", tags or {})
        if run_name and texts.get(RUN_NAME_TAG, run_name) != run_name:
            raise InvalidParameter(f"run_name {run_name!r} and the tag {RUN_NAME_TAG} {texts[RUN_NAME_TAG]!r} differ; give one of them")
        run_id = new_run_id()
        self._producer.locations.learn(experiment.experiment_id, experiment.artifact_location)
        event = run_started(self._producer, run_id, experiment.experiment_id, experiment.name, run_name, texts, start_time)
        self._finish(self._producer.start(run_id, event), None)
        return self._producer.known.begin_run(local_run(run_id, event))

    def get_run(self, run_id: str) -> Run:
        """See `flightlog.get_run`."""
        return reading.run_from(self._producer, run_id)

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
        given = [experiment_ids] if isinstance(experiment_ids, (str, int)) else experiment_ids
        ids = [str(item) for item in given]
        return self._reader.search_runs(ids, filter_string, run_view_type, max_results, order_by, page_token)

    def update_run(self, run_id: str, status: str | None = None, name: str | None = None) -> None:
        """Set a run's status, without ending it, or its name."""
        self._check_known(run_id)
        if status is not None:
            self._finish(self._producer.set_status(run_id, check_status(status)), None)
        if name:
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
        self._check_there(run_id)
        reading.stage_run(self._producer, run_id, LifecycleStage.DELETED)

    def restore_run(self, run_id: str) -> None:
        """See `flightlog.restore_run`."""
        self._check_there(run_id)
        reading.stage_run(self._producer, run_id, LifecycleStage.ACTIVE)

    def log_metric(
        self,
        run_id: str,
        key: str,
        value: float,
        timestamp: int | None = None,
        step: int | None = None,
        synchronous: bool | None = None,
        dataset_name: str | None = None,
        dataset_digest: str | None = None,
        model_id: str | None = None,
    ) -> RunOperations | None:
        """Log a metric of a run. `timestamp` is ms since the epoch, now by default."""
        self._check_known(run_id)
        _say_what_is_not_kept(dataset_name, dataset_digest, model_id)
        return self._finish(self._producer.log_metric(run_id, key, value, timestamp, step), synchronous)

    def log_param(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> Any:  # noqa: ANN401 - any value, returned as it came
        """Log a param of a run and return its value."""
        self._check_known(run_id)
        operation = self._finish(self._producer.log_param(run_id, key, value), synchronous)
        return value if operation is None else operation

    def set_tag(self, run_id: str, key: str, value: Any, synchronous: bool | None = None) -> RunOperations | None:  # noqa: ANN401 - becomes text
        """Set a tag of a run."""
        self._check_known(run_id)
        return self._finish(self._producer.set_tag(run_id, key, value), synchronous)

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag of a run. Raises `NotFound` where it has none of that key."""
        self._check_known(run_id)
        if not self._may_have_tag(run_id, check_key("tag", key)):
            raise NotFound(f"run {run_id} has no tag {key!r}")
        self._finish(self._producer.delete_tag(run_id, key), None)

    def log_batch(
        self,
        run_id: str,
        metrics: Sequence[Metric] = (),
        params: Sequence[Param] = (),
        tags: Sequence[RunTag] = (),
        synchronous: bool | None = None,
    ) -> RunOperations | None:
        """Log metrics, params and tags of a run. All are checked before any is written; there is no limit to their number."""
        self._check_known(run_id)
        for kind, items in {"metrics": metrics, "params": params, "tags": tags}.items():
            _check_pairs(kind, items)
        for item in metrics:
            _check_point(item)
        check_params_of_a_batch(param.key for param in params)
        texts = self._producer.texts("param", {param.key: param.value for param in params})
        pairs = [(tag.key, self._producer.text("tag", check_key("tag", tag.key), tag.value)) for tag in tags]
        operations = [self._producer.log_param(run_id, key, text) for key, text in texts.items()]
        operations += [self._producer.log_metric(run_id, item.key, item.value, item.timestamp, item.step) for item in metrics]
        operations += [self._producer.set_tag(run_id, key, text) for key, text in pairs]
        return self._finish(sum(operations, NOTHING), synchronous)

    def log_inputs(
        self, run_id: str, datasets: Sequence[DatasetInput] | None = None, models: Sequence[LoggedModelInput] | None = None
    ) -> None:
        """Log datasets and models that a run uses: see `flightlog.log_input`."""
        self._check_known(run_id)
        self._finish(record_inputs(self._producer, run_id, datasets or (), models or ()), None)

    def log_outputs(self, run_id: str, models: Sequence[LoggedModelOutput]) -> None:
        """Log models that a run makes: see `flightlog.log_outputs`."""
        self._check_known(run_id)
        self._finish(record_outputs(self._producer, run_id, models), None)

    def get_metric_history(self, run_id: str, key: str, attempt: int | None = None) -> PagedList[Metric]:
        """Return the points of a metric ordered by (timestamp, step, value); none for an unknown key.

        Points that a later attempt has hidden by going back to their step, or before it, are left out; with `attempt`, all points of
        that attempt are returned and no others.
        """
        return PagedList(self._reader.metric_history(run_id, key, attempt))

    def get_metric_histories(
        self,
        run_ids: histories.Ids,
        keys: histories.Keys = None,
        *,
        start_step: int | None = None,
        end_step: int | None = None,
        attempt: int | None = None,
        sample: int | None = None,
        output_format: str = "pandas",
    ) -> Any:  # noqa: ANN401 - one of several formats
        """See `flightlog.get_metric_histories`."""
        return histories.histories_from(self._reader, run_ids, keys, Portion(start_step, end_step, attempt, sample), output_format)

    def stream_metric_histories(
        self,
        run_ids: histories.Ids,
        keys: histories.Keys = None,
        *,
        start_step: int | None = None,
        end_step: int | None = None,
        attempt: int | None = None,
        sample: int | None = None,
    ) -> pa.RecordBatchReader:
        """See `flightlog.stream_metric_histories`."""
        return histories.stream_from(self._reader, run_ids, keys, Portion(start_step, end_step, attempt, sample))

    def metric_arrays(
        self, run_id: str, key: str, start_step: int | None = None, end_step: int | None = None, attempt: int | None = None
    ) -> History:
        """Return the points of a metric as the arrays `step`, `timestamp` (ms since the epoch) and `value`, ordered by step."""
        return self._reader.metric_arrays(run_id, key, start_step, end_step, attempt)

    def metric_envelope(
        self,
        run_id: str,
        key: str,
        buckets: int = 1000,
        start_step: int | None = None,
        end_step: int | None = None,
        attempt: int | None = None,
    ) -> Envelope:
        """Return the points of a metric in at most `buckets` buckets of equally many steps: count, min, max, first and last of each."""
        return self._reader.envelope(run_id, key, buckets, start_step, end_step, attempt)

    def log_artifact(
        self, run_id: str, local_path: str | Path, artifact_path: str | None = None, synchronous: bool | None = None
    ) -> RunOperations | None:
        """See `flightlog.log_artifact`."""
        self._check_there(run_id)
        return self._finish(self._producer.log_artifact(run_id, local_path, artifact_path), synchronous)

    def log_artifacts(
        self, run_id: str, local_dir: str | Path, artifact_path: str | None = None, synchronous: bool | None = None
    ) -> RunOperations | None:
        """See `flightlog.log_artifacts`."""
        self._check_there(run_id)
        return self._finish(self._producer.log_artifacts(run_id, local_dir, artifact_path), synchronous)

    def log_text(self, run_id: str, text: str, artifact_file: str) -> None:
        """See `flightlog.log_text`."""
        self._check_there(run_id)
        self._finish(self._producer.log_bytes(run_id, text_bytes(text), artifact_file), None)

    def log_dict(self, run_id: str, dictionary: Any, artifact_file: str) -> None:  # noqa: ANN401 - any JSON value
        """See `flightlog.log_dict`."""
        self._check_there(run_id)
        self._finish(self._producer.log_bytes(run_id, dictionary_bytes(dictionary, artifact_file), artifact_file), None)

    def log_stream(self, run_id: str, stream: Readable, artifact_file: str) -> None:
        """See `flightlog.log_stream`."""
        self._check_there(run_id)
        self._finish(self._producer.log_bytes(run_id, stream_bytes(stream), artifact_file), None)

    def log_figure(self, run_id: str, figure: Any, artifact_file: str, *, save_kwargs: Mapping[str, Any] | None = None) -> None:  # noqa: ANN401 - a figure
        """See `flightlog.log_figure`."""
        self._check_there(run_id)
        self._finish(self._producer.log_bytes(run_id, figure_bytes(figure, artifact_file, save_kwargs), artifact_file), None)

    def log_image(
        self,
        run_id: str,
        image: Any,  # noqa: ANN401 - an image
        artifact_file: str | None = None,
        key: str | None = None,
        step: int | None = None,
        timestamp: int | None = None,
        synchronous: bool | None = None,
    ) -> None:
        """See `flightlog.log_image`."""
        from flightlog.images import record_image  # noqa: PLC0415 - Pillow is an extra

        self._check_there(run_id)
        self._finish(record_image(self._producer, run_id, image, artifact_file, key, step, timestamp), synchronous)

    def log_table(self, run_id: str, data: dict[str, Any] | pd.DataFrame, artifact_file: str) -> None:
        """See `flightlog.log_table`."""
        from flightlog.tables import record_table  # noqa: PLC0415 - pandas is an extra

        self._check_there(run_id)
        self._finish(record_table(self, self._producer, run_id, data, artifact_file), None)

    def load_table(
        self, experiment_id: str, artifact_file: str, run_ids: Sequence[str] | None = None, extra_columns: Sequence[str] | None = None
    ) -> pd.DataFrame:
        """Return a table of all runs of an experiment that have one of that name: see `flightlog.load_table`."""
        from flightlog.tables import joined_tables  # noqa: PLC0415 - pandas is an extra

        return joined_tables(self, str(experiment_id), artifact_file, run_ids, extra_columns)

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
        """Raise `NotFound` for a run that neither this process nor the store knows, `InvalidParameter` for one known to be deleted."""
        self._check_there(run_id)
        known = self._producer.known
        if known.is_run_deleted(run_id):  # as far as this process knows: others may have restored it
            with suppress(NotFound, StoreUnavailable):
                self._note_stage(run_id)
        known.check_active(run_id)

    def _check_there(self, run_id: str) -> None:
        known = self._producer.known
        if known.has_run(check_run_id(run_id)):
            return
        try:
            self._note_stage(run_id)
        except StoreUnavailable as error:
            lifecycle.warn_once(f"run {run_id} is written to unseen, because the store cannot be reached: {error}")
        known.note_run(run_id)

    def _may_have_tag(self, run_id: str, key: str) -> bool:
        try:
            return key in self._reader.get_run(run_id).data.tags
        except (NotFound, StoreUnavailable):  # it is known, or we were not here, and nobody can say now what tags it has
            return True

    def _note_stage(self, run_id: str) -> None:
        info = self._reader.get_run(run_id).info
        self._producer.known.stage_run(run_id, info.lifecycle_stage, info.experiment_id)

    @staticmethod
    def _finish(operation: RunOperations, synchronous: bool | None) -> RunOperations | None:
        if synchronous or (synchronous is None and is_synchronous()):
            operation.wait()
            return None
        return operation if synchronous is not None else None


def _check_pairs(kind: str, items: Any) -> None:  # noqa: ANN401 - checked here
    """Raise `InvalidParameter` unless these are several of what a batch takes."""
    wrong = items if not isinstance(items, Iterable) else next((item for item in items if not hasattr(item, "key")), None)
    if wrong is not None:
        raise InvalidParameter(f"the {kind} of a batch must be a list of such entities, of flightlog.entities, not {type(wrong).__name__}")


def _check_point(point: Metric) -> None:
    check_key("metric", point.key)
    as_metric_value(point.key, point.value)
    as_step(point.step or 0)
    as_timestamp(point.timestamp or 0)
    _say_what_is_not_kept(*(getattr(point, name, None) for name in ("dataset_name", "dataset_digest", "model_id")))


def _say_what_is_not_kept(*links: str | None) -> None:
    if any(links):
        lifecycle.warn_once("that a point of a metric belongs to a dataset or a model is not kept yet; log_inputs links them to the run")


MlflowClient = Client
