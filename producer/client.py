"""The explicit-id write API: a `Producer` records events of any run or experiment of one store."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from flightlog.producer import doorbell, snapshots
from flightlog.producer.awaited import AwaitedArtifacts
from flightlog.producer.caretaker import Caretaker
from flightlog.producer.journal import ROOM_POLL, Journal, cut
from flightlog.producer.known import Known
from flightlog.producer.locations import ArtifactLocations
from flightlog.producer.operations import RunOperations
from flightlog.producer.recorder import Recorder
from flightlog.producer.spool import ROOM_ADVICE, Spool
from flightlog.schema import events as e
from flightlog.schema.artifact_paths import check_artifact_path, named_artifact_file
from flightlog.schema.errors import FlightlogException, InvalidParameter, NotCommitted
from flightlog.schema.ids import EXPERIMENT_SUBJECT, experiment_subject, monotone_ms
from flightlog.schema.limits import as_step, check_experiment_name, check_key, check_mapping, check_run_id, check_value_length
from flightlog.schema.settings import Location, Settings, absolute_location, without_password

if TYPE_CHECKING:
    from flightlog.producer.system.sampler import Sampler

log = logging.getLogger("flightlog")
E = TypeVar("E", bound=e.Event)

MAX_OPEN = 64
"""So many journals stay open at once; the one that was idle longest is closed first, and opens again by itself."""
FIRST_RETRY = 1.0
LAST_RETRY = 60.0
POLL = 0.002
MAX_POLL = 0.05

REJECTION_CODES = {
    "param-conflict": "INVALID_PARAMETER_VALUE",
    "name-taken": "RESOURCE_ALREADY_EXISTS",
    "unknown-experiment": "RESOURCE_DOES_NOT_EXIST",
}


class Producer:
    """Records events for one store through its spool. Nothing here talks to the database.

    `is_lasting` says whether what is recorded outlasts the process, so that the process's end is of interest to it.
    """

    is_lasting = True

    def __init__(self, location: Location, settings: Settings, caretaker: Caretaker) -> None:
        self.location = location
        self.settings = settings
        self.known = Known()
        self._caretaker = caretaker
        self._spool = Spool(location.spool, settings.spool_limit, settings.spool_full)
        self._recorders: OrderedDict[str, Recorder] = OrderedDict()
        self._alive: weakref.WeakSet[Journal] = weakref.WeakSet()
        self.awaited = AwaitedArtifacts(location.spool)
        self.locations = ArtifactLocations(location)
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come back here
        self._closing: list[Journal] = []
        self._samplers: dict[str, Sampler] = {}
        self._spawned: doorbell.Spawned | None = None
        self._next_try = 0.0
        self._retry = FIRST_RETRY
        self._worker_warned = False

    def recorder(self, subject: str) -> Recorder:
        """Return the recorder of a run or experiment, opening one if need be."""
        oldest: Recorder | None = None
        with self._lock:
            recorder = self._recorders.get(subject)
            if recorder is None:
                recorder = self._recorders[subject] = Recorder(self._journal(subject))
                self._alive.add(recorder.journal)
                if len(self._recorders) > MAX_OPEN:
                    _, oldest = self._recorders.popitem(last=False)
            self._recorders.move_to_end(subject)
        if oldest is not None:
            self._close_journal(oldest.journal)
        return recorder

    def _journal(self, subject: str) -> Journal:
        return Journal(subject, self._spool, self._wake)

    def _wake(self) -> None:
        """Have the caretaker look after us: a journal has begun a segment, or needs the next."""
        self._caretaker.tend(self)

    def close_subject(self, subject: str) -> None:
        """Say that this process is done with a run or experiment for now. Its writer stays known: what comes later, comes after."""
        recorder = self._recorders.get(subject)
        if recorder is not None:
            self._close_journal(recorder.journal)

    def _close_journal(self, journal: Journal) -> None:
        """Close a journal, without our lock: a signal handler may want that while its thread holds the journal's.

        Only so many files of closed journals stay open: in a script of thousands of runs the system would run out of them. To unmap one
        takes longer than all else of a short run, so `prepare` does that in the background as a rule.
        """
        journal.close()
        if journal not in self._closing:
            self._closing.append(journal)
        self._release_down_to(4 * MAX_OPEN)

    def _release_down_to(self, count: int) -> None:
        while len(self._closing) > count:
            with suppress(IndexError):  # another thread was quicker
                self._closing.pop(0).release()

    def log_metric(self, run_id: str, key: str, value: Any, timestamp: Any = None, step: Any = None) -> RunOperations:  # noqa: ANN401 - checked by the recorder
        """Record one metric of a run."""
        recorder = self.recorder(check_run_id(run_id))
        return self._operation(recorder, recorder.metric(key, value, step, timestamp))

    def log_metrics(self, run_id: str, metrics: Mapping[str, Any], step: Any = None, timestamp: Any = None) -> RunOperations:  # noqa: ANN401 - as above
        """Record several metrics of a run at one step and time."""
        recorder = self.recorder(check_run_id(run_id))
        return self._operation(recorder, recorder.metrics(metrics, step, timestamp))

    def log_param(self, run_id: str, key: str, value: Any) -> RunOperations:  # noqa: ANN401 - becomes text
        """Record a param of a run as text."""
        return self._record(check_run_id(run_id), e.ParamLogged, key=check_key("param", key), value=self.text("param", key, value))

    def set_tag(self, run_id: str, key: str, value: Any) -> RunOperations:  # noqa: ANN401 - becomes text
        """Record a tag of a run as text."""
        return self._record(check_run_id(run_id), e.TagSet, key=check_key("tag", key), value=self.text("tag", key, value))

    def delete_tag(self, run_id: str, key: str) -> RunOperations:
        """Record that a tag of a run is gone."""
        check_key("tag", key)
        return self._record(check_run_id(run_id), e.TagDeleted, key=key)

    def start(self, run_id: str, event: e.RunStarted) -> RunOperations:
        """Record that a run began."""
        recorder = self.recorder(check_run_id(run_id))
        return self._operation(recorder, recorder.event(event))

    def resume(self, run_id: str) -> RunOperations:
        """Record that a new attempt writes to a run."""
        return self._record(check_run_id(run_id), e.RunResumed)

    def rewind(self, run_id: str, step: Any) -> RunOperations:  # noqa: ANN401 - checked here
        """Record that a new attempt begins at a step: what earlier ones logged from there on is hidden by default."""
        return self._record(check_run_id(run_id), e.RunRewound, step=as_step(step))

    def sample(self, run_id: str, sampler: Sampler) -> Sampler | None:
        """Start what logs system metrics to a run, unless something does so already. It is stopped before the run's end is recorded."""
        if self._samplers.setdefault(run_id, sampler) is not sampler:
            return None
        sampler.start()
        return sampler

    def stop_sampling(self, run_id: str, sampler: Sampler | None = None) -> None:
        """Stop what logs system metrics to a run: this one, if it does, or whatever does. A forked child finds nothing to stop."""
        found = self._samplers.get(run_id)
        if found is not None and sampler in (None, found):
            del self._samplers[run_id]
            found.stop()

    def end(self, run_id: str, status: str, end_time: int | None = None, reason: str | None = None) -> RunOperations:
        """Record that a run ended, and close its journal. `end_time` is ms since the epoch, now by default."""
        self.stop_sampling(run_id)
        recorder = self.recorder(check_run_id(run_id))
        stamp = monotone_ms()
        event = build(
            e.RunEnded, time=stamp, status=status, end_time=stamp if end_time is None else end_time, reason=reason and cut(reason)
        )
        operation = self._operation(recorder, recorder.last_event(event))
        self.close_subject(run_id)
        return operation

    def set_status(self, run_id: str, status: str) -> RunOperations:
        """Record a run's status without ending it."""
        return self._record(check_run_id(run_id), e.RunStatusChanged, status=status)

    def delete_run(self, run_id: str) -> RunOperations:
        """Record that a run was deleted."""
        return self._record(check_run_id(run_id), e.RunDeleted)

    def restore_run(self, run_id: str) -> RunOperations:
        """Record that a deleted run is active again."""
        return self._record(check_run_id(run_id), e.RunRestored)

    def create_experiment(
        self, experiment_id: str, name: str, artifact_location: str | None = None, tags: Mapping[str, Any] | None = None
    ) -> RunOperations:
        """Record that an experiment exists. Its runs have their artifacts at `artifact_location`, from now on and in every process."""
        if artifact_location:
            self.locations.learn(experiment_id, absolute_location(artifact_location))
        fields = {
            "experiment_id": experiment_id,
            "name": check_experiment_name(name),
            "artifact_location": self.locations.of(experiment_id),
            "tags": self.texts("experiment tag", tags or {}),
        }
        return self._record_experiment(experiment_id, e.ExperimentCreated, **fields)

    def rename_experiment(self, experiment_id: str, name: str) -> RunOperations:
        """Record another name for an experiment."""
        return self._record_experiment(experiment_id, e.ExperimentRenamed, name=check_experiment_name(name))

    def delete_experiment(self, experiment_id: str) -> RunOperations:
        """Record that an experiment and its runs were deleted."""
        return self._record_experiment(experiment_id, e.ExperimentDeleted)

    def restore_experiment(self, experiment_id: str) -> RunOperations:
        """Record that an experiment and its runs are active again."""
        return self._record_experiment(experiment_id, e.ExperimentRestored)

    def set_experiment_tag(self, experiment_id: str, key: str, value: Any) -> RunOperations:  # noqa: ANN401 - becomes text
        """Record a tag of an experiment as text."""
        text = self.text("experiment tag", check_key("tag", key), value)
        return self._record_experiment(experiment_id, e.ExperimentTagSet, key=key, value=text)

    def delete_experiment_tag(self, experiment_id: str, key: str) -> RunOperations:
        """Record that a tag of an experiment is gone."""
        return self._record_experiment(experiment_id, e.ExperimentTagDeleted, key=check_key("tag", key))

    def texts(self, kind: str, values: Mapping[str, Any]) -> dict[str, str]:
        """Return params or tags as text, when all their keys and values obey the rules; `kind` is param, tag or experiment tag."""
        items = check_mapping(f"{kind}s", values).items()
        return {check_key("param" if kind == "param" else "tag", key): self.text(kind, key, value) for key, value in items}

    def text(self, kind: str, key: str, value: Any) -> str:  # noqa: ANN401 - becomes text
        """Return a value as text, whole: whoever shows it to an MLflow client cuts it. Raises where that is not wanted."""
        try:
            text = str(value)
        except Exception as error:
            raise InvalidParameter(f"the value of {kind} {key!r} cannot be written as text: {error}") from error
        return text if self.settings.truncate_long_values and kind != "experiment tag" else check_value_length(kind, key, text)

    def log_artifact(self, run_id: str, local_path: str | Path, artifact_path: str | None = None) -> RunOperations:
        """Snapshot a file, or a folder with its name, among the run's artifacts."""
        source, path, links = _local(local_path), check_artifact_path(artifact_path), self.settings.follow_links
        return self._log_sources(run_id, list(snapshots.local_files(source, path, follow_links=links)))

    def log_artifacts(self, run_id: str, local_dir: str | Path, artifact_path: str | None = None) -> RunOperations:
        """Snapshot a folder's contents among the run's artifacts."""
        folder, path, links = _local(local_dir), check_artifact_path(artifact_path), self.settings.follow_links
        if not folder.is_dir():
            raise InvalidParameter(f"cannot log {str(folder)!r}: it is not a folder")
        return self._log_sources(run_id, list(snapshots.folder_files(folder, path, follow_links=links)))

    def log_bytes(self, run_id: str, content: bytes, artifact_file: str) -> RunOperations:
        """Record content as an artifact."""
        return self._log_sources(run_id, [(content, named_artifact_file(artifact_file))])

    def _log_sources(self, run_id: str, sources: Sequence[tuple[Path | bytes, str]]) -> RunOperations:
        """Copy all files and contents before the first event: where a file cannot be read, none is logged. What has no room is left out."""
        check_run_id(run_id)
        taken: list[tuple[snapshots.Snapshot, str]] = []
        try:
            for source, path in sources:
                snapshot = self._snapshot(run_id, source)
                if snapshot is not None:
                    taken.append((snapshot, path))
        except BaseException:
            self._drop_snapshots(taken)
            raise
        return self._log_snapshots(run_id, taken)

    def _snapshot(self, run_id: str, source: Path | bytes) -> snapshots.Snapshot | None:
        """Copy a file or content into the spool. Where that cannot be written, do as the policy for events says; None: it was dropped."""
        pause = ROOM_POLL
        while True:
            try:
                if isinstance(source, bytes):
                    return snapshots.snapshot_bytes(source, self.location.spool)
                return snapshots.snapshot_file(source, self.location.spool)
            except OSError as error:
                if isinstance(source, Path) and error.filename == str(source):  # the script's file, and not ours
                    raise
                reason = f"the spool {self.location.spool} cannot take a copy: {error}; {ROOM_ADVICE}"
                if not self.recorder(run_id).journal.is_to_wait("artifact", reason):
                    return None
            threading.Event().wait(pause)
            pause = min(2 * pause, FIRST_RETRY)

    def drop(self, run_id: str, reason: str) -> None:
        """Count what could not be recorded as dropped, and warn of it."""
        self.recorder(run_id).journal.drop(reason)

    def _drop_snapshots(self, taken: Sequence[tuple[snapshots.Snapshot, str]]) -> None:
        for snapshot, _ in taken:
            snapshots.drop_snapshot(snapshot.name, self.location.spool)

    def _log_snapshots(self, run_id: str, taken: list[tuple[snapshots.Snapshot, str]]) -> RunOperations:
        recorder = self.recorder(run_id)
        sequence = recorder.journal.sequence - 1
        names: list[str] = []
        for index, (item, path) in enumerate(taken):
            event = e.ArtifactLogged(time=monotone_ms(), path=path, size=item.size, snapshot=item.name, sha256=item.sha256)
            try:
                recorded = recorder.event(event)
            except BaseException:
                self._drop_snapshots(taken[index:])
                raise
            if recorded < 0:  # the spool is full: nobody will ever speak of this copy
                self._drop_snapshots([(item, path)])
                continue
            self.awaited.add(run_id, path, item.name)
            names.append(item.name)
            sequence = recorded
        return RunOperations([(self, recorder.journal, sequence)], [(self, names)])

    def _record(self, subject: str, event: type[e.Event], /, **fields: Any) -> RunOperations:  # noqa: ANN401 - fields of the event
        recorder = self.recorder(subject)
        return self._operation(recorder, recorder.event(build(event, time=monotone_ms(), **fields)))

    def _record_experiment(self, experiment_id: str, event: type[e.Event], /, **fields: Any) -> RunOperations:  # noqa: ANN401 - fields of the event
        subject = experiment_subject(experiment_id)
        return self._record(subject, event, **fields)

    def _operation(self, recorder: Recorder, sequence: int) -> RunOperations:
        return RunOperations([(self, recorder.journal, sequence)])

    def wait(self, journal: Journal, sequence: int, timeout: float | None = None) -> None:
        """Wait until the store has committed an event. Raises what the store said of it, or `NotCommitted`."""
        timeout = self.settings.sync_timeout if timeout is None else timeout
        if not self.wait_until(lambda: journal.committed > sequence, timeout):
            raise NotCommitted(
                f"event {sequence} of {journal.subject} was not committed within {timeout:g} s; "
                f"events are safe in the journal and {self.how_to_file()}"
            )
        rejection = journal.newest_rejection() if journal.rejected else None
        if rejection is not None and rejection[0] == sequence:
            raise FlightlogException(rejection[2], REJECTION_CODES.get(rejection[1], "INVALID_PARAMETER_VALUE"))

    def wait_stored(self, names: Sequence[str], timeout: float | None = None) -> None:
        """Wait until artifacts are stored, given by their snapshots. Raises why one could not be, or `NotCommitted`.

        Without a timeout it waits as long as a worker is storing artifacts and nothing goes wrong.
        """
        patience = self.settings.sync_timeout if timeout is None else timeout
        while not self.wait_until(self.awaited.settling(names), patience):
            if timeout is not None or not (self.can_arrive and self.awaited.are_being_stored(patience)):
                break
        left = self.awaited.unstored(names)
        if not left:
            return
        first = left[0]
        if first.state == "failed":
            raise FlightlogException(f"artifact {first.path!r} could not be stored: {first.reason}; {self.how_to_retry(first.run_id)}")
        reason = f": {first.reason}" if first.reason else f", and nothing was heard of it for {patience:g} s"
        raise NotCommitted(f"artifact {first.path!r} is not stored yet{reason}; it is safe in the spool and {self.how_to_file()}")

    def settle_artifacts(self, timeout: float, run_id: str | None = None) -> bool:
        """Wait until no artifact of this process, or of a run, waits for its turn, at most `timeout` seconds; say whether it is so."""
        names = self.awaited.names(run_id)
        return self.wait_until(self.awaited.settling(names), timeout)

    def settle(self, timeout: float) -> bool:
        """Wait until the store has committed everything recorded so far, at most `timeout` seconds; say whether it has."""
        wanted = [(journal, journal.sequence) for journal in self._journals()]
        return self.wait_until(lambda: all(journal.committed >= sequence for journal, sequence in wanted), timeout)

    def holds(self, run_id: str) -> bool:
        """Say whether a journal of a run lies in the spool: the store may not have heard of the run yet."""
        return self._spool.holds(run_id)

    def wait_until(self, done: Callable[[], bool], timeout: float) -> bool:
        """Wait until a condition holds, at most `timeout` seconds; say whether it does. Calls a worker meanwhile.

        Polls the words that the worker writes into the journals' headers: shared memory has no event to wait for.
        """
        if done():
            return True
        deadline = time.monotonic() + timeout
        pause = POLL
        gate = threading.Event()
        self._call_worker()
        while not done():
            if time.monotonic() >= deadline:
                return False
            gate.wait(pause)
            pause = min(pause * 1.5, MAX_POLL)
            if pause >= MAX_POLL:
                self._call_worker()
                if self._worker_warned and not self.can_arrive:
                    return bool(done())
        return True

    @property
    def can_arrive(self) -> bool:
        """Whether waiting for the commit makes sense: a worker answers, or may be started."""
        return doorbell.ring(self.location.spool) or (self.settings.start_worker and not self._worker_warned)

    def pending(self) -> int:
        """Return how many recorded events the store has not committed yet."""
        return sum(max(journal.sequence - journal.committed, 0) for journal in self._journals())

    def dropped(self) -> int:
        """Return how many events could not be recorded because the spool or the disk was full."""
        return sum(journal.dropped for journal in self._journals())

    def rejections(self) -> list[str]:
        """Return, for each subject of which events became dead letters, a sentence with the newest reason."""
        said = []
        for journal in self._journals():
            newest = journal.newest_rejection() if journal.rejected else None
            if newest is not None:
                said.append(f"{journal.rejected} events of {journal.subject} became dead letters, the newest because: {newest[2]}")
        return said

    def _journals(self) -> list[Journal]:
        with self._lock:
            return list(self._alive)

    def prepare(self) -> None:
        """Have room ready in all journals."""
        for journal in self._journals():
            journal.prepare()
        self._release_down_to(MAX_OPEN)

    def tend(self) -> None:
        """Do what is slow for all journals, and see that a worker is there for what is not committed."""
        self._spool.tend()
        for journal in self._journals():
            journal.tend()
            if self.settings.heartbeat and not journal.subject.startswith(EXPERIMENT_SUBJECT):
                journal.say_alive(self.settings.heartbeat)
        self._release_committed()
        if self.pending() or self.awaited.is_waiting:
            self._call_worker()

    def _release_committed(self) -> None:
        for journal in [journal for journal in self._closing if journal.is_committed]:
            journal.release()
            with suppress(ValueError):  # `release` was quicker
                self._closing.remove(journal)

    def _call_worker(self) -> None:
        """Ring; where nobody answers, start a worker, with growing pauses between attempts."""
        if doorbell.ring(self.location.spool):
            self._retry = FIRST_RETRY
            return
        if not self.settings.start_worker or self._is_starting() or time.monotonic() < self._next_try:
            return
        self._next_try = time.monotonic() + self._retry
        self._retry = min(2 * self._retry, LAST_RETRY)
        try:
            self._spawned = doorbell.Spawned(self.location, self.settings.worker_idle)
        except Exception as error:  # noqa: BLE001 - whatever the system says, training goes on
            self._warn_worker(str(error))

    def _is_starting(self) -> bool:
        """Whether a worker that was started is not ready yet; says so when it has failed."""
        if self._spawned is None:
            return False
        failure = self._spawned.failure()
        if failure is not None:
            self._spawned = None
            if failure:
                self._warn_worker(failure)
        return failure is None

    def _warn_worker(self, error: str) -> None:
        if not self._worker_warned:
            self._worker_warned = True
            log.warning("flightlog: no worker could be started (%s). Events are safe in the journal and %s", error, self.how_to_file())

    def how_to_file(self) -> str:
        """Return how events that are in the journal get into the store, for messages."""
        if self.location.queue_uri is not None:
            return f"arrive when they are shipped: flightlog ship --spool {self.location.spool}, and a worker reads the queue"
        uri = without_password(self.location.tracking_uri)
        return f"arrive when a worker runs: flightlog worker --spool {self.location.spool} --tracking-uri {uri}"

    def how_to_retry(self, run_id: str) -> str:
        """Return how artifacts that failed get another try, for messages."""
        return f"to try again: flightlog artifacts retry {run_id} --tracking-uri {without_password(self.location.tracking_uri)}"

    def postpone(self, work: Callable[[], object]) -> bool:
        """See `Journal.postpone`: for whichever journal a signal has interrupted."""
        return any(journal.postpone(work) for journal in self._journals())

    def close(self) -> None:
        """Say that this process writes no more; how far the store is can still be seen."""
        while self._samplers:
            self._samplers.popitem()[1].stop()
        for journal in self._journals():
            self._close_journal(journal)
        if self._spawned is not None:
            self._spawned.leave()

    def release(self) -> None:
        """Let go of the files of closed journals."""
        closing, self._closing = self._closing, []
        for journal in closing:
            journal.release()

    def abandon(self) -> None:
        """Start anew after a fork: every journal becomes one of a new writer, the handles to it stay good."""
        self.known.abandon()
        self._closing = []
        self.awaited.abandon()
        for journal in list(self._alive):
            journal.abandon()
        self._begin()


def _local(path: Any) -> Path:  # noqa: ANN401 - checked here
    try:
        return Path(path)
    except TypeError as error:
        raise InvalidParameter(
            f"what is logged as an artifact is given by its path, a string or a Path, not {type(path).__name__}"
        ) from error


def build(event: type[E], /, **fields: Any) -> E:  # noqa: ANN401 - fields of the event
    """Return an event of these fields. Raises `InvalidParameter` for one of a wrong type."""
    try:
        return event(**fields)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, item['loc']))} {item['input']!r}: {item['msg']}" for item in error.errors()]
        raise InvalidParameter(f"{event.__name__} cannot be recorded: {'; '.join(wrong)}") from error
