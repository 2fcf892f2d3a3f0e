"""The test kit: `capture()` keeps what the code under test logs in memory, and says what it was.

    from flightlog.testing import capture

    def test_training_learns() -> None:
        with capture() as captured:
            train(epochs=3)
        assert captured.run().data.params["epochs"] == "3"
        assert captured.metrics("loss")[-1] < 0.1

It takes the way of every event, through recorder, codec and fold, to a store in memory, within the call. No file is written, no thread and
no process is started.
"""

from __future__ import annotations

import hashlib
import os
import posixpath
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

from flightlog.producer import lifecycle
from flightlog.producer.caretaker import Caretaker
from flightlog.producer.client import REJECTION_CODES, Producer
from flightlog.producer.context import context
from flightlog.producer.journal import Journal
from flightlog.producer.locations import ArtifactLocations
from flightlog.producer.operations import RunOperations
from flightlog.producer.spool import Spool
from flightlog.schema.artifact_paths import named_artifact_file
from flightlog.schema.blocks import Block
from flightlog.schema.codec import METRICS_HEAD, decode
from flightlog.schema.entities import DeadLetter, Experiment, Metric, Run, ViewType
from flightlog.schema.errors import FlightlogException, InvalidParameter, NotFound
from flightlog.schema.events import ArtifactLogged, Event, RunStarted
from flightlog.schema.ids import EXPERIMENT_SUBJECT, monotone_ms
from flightlog.schema.limits import check_run_id
from flightlog.schema.records import Records
from flightlog.schema.settings import Location, Settings, locate
from flightlog.stores.artifacts import local_root, standing_in
from flightlog.stores.artifacts.memory import MemoryArtifacts
from flightlog.stores.base import RunReader
from flightlog.stores.memory import MemoryStore

MOST_WAITING = 1_000
"""So many metrics of a run are applied together at the latest; a read, or any other event of the run, comes sooner as a rule."""
VARIABLES = ("FLIGHTLOG_", "MLFLOW_")
HIDDEN = ("TRACKING_URI", "EXPERIMENT_NAME", "EXPERIMENT_ID", "RUN_ID")
"""What the environment says of these is meant for whoever runs the tests, not for the code under test."""


@contextmanager
def capture(*, strict: bool = True) -> Iterator[Captured]:
    """Keep in memory whatever this process logs from here on, and give it back.

    All verbs work, and reads see what was logged at once, whatever tracking URI the code names: there is one store. What the store has
    to say against an event, such as a param that has another value already, is raised by the call; with `strict=False` it becomes a dead
    letter, as when logging is asynchronous.

    It begins as a process does to which the environment names no store, experiment or run; what the code itself sets there counts.

    Other threads are captured too; processes that the code starts are not. At the end, runs that are still under way end as they do
    with their process, and the tracking URI, the experiment, the active runs and the environment's FLIGHTLOG_ and MLFLOW_ variables are
    what they were before, also after an exception. Captures may be nested: the inner one then has all. What it gives may be read on.
    """
    opening = _MemoryOpening(_Sink(MemoryStore(), strict=strict))
    environment, warned = _variables(), lifecycle.hooks.warned
    outcome = lifecycle.hooks.status, lifecycle.hooks.reason
    lifecycle.hooks.warned = set()
    try:
        _hide()
        with context.set_aside(opening), standing_in(opening.files.open):
            yield from _until_the_end(opening)
    finally:
        lifecycle.hooks.warned = warned
        lifecycle.hooks.status, lifecycle.hooks.reason = outcome
        _put_back(environment)


def _until_the_end(opening: _MemoryOpening) -> Iterator[Captured]:
    """Give the capture to its user, then do what the end of a process does."""
    error: BaseException | None = None
    try:
        yield Captured(opening)
    except BaseException as reason:
        error = reason
        raise
    finally:
        opening.end(error)


def _variables() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name.startswith(VARIABLES)}


def _hide() -> None:
    for prefix in VARIABLES:
        for name in HIDDEN:
            os.environ.pop(prefix + name, None)


def _put_back(variables: Mapping[str, str]) -> None:
    for name in _variables().keys() - variables.keys():
        del os.environ[name]
    os.environ.update(variables)


class Captured:
    """What was logged within a `capture()`, the truth at any time.

    Where a run can be given it may be a `Run`, its id or its name, and may be left out if there is only one. Raises `NotFound`.
    """

    def __init__(self, opening: _MemoryOpening) -> None:
        self._opening = opening

    @property
    def store(self) -> RunReader:
        """All that was logged, behind the interface of every store: searches, envelopes, attempts, the ledger."""
        return self._opening.reader()

    @property
    def runs(self) -> list[Run]:
        """All runs in the order in which they were first heard of, deleted ones too."""
        store = self.store
        subjects = dict.fromkeys(block.subject for block in store.ledger())
        return [store.get_run(subject) for subject in subjects if not subject.startswith(EXPERIMENT_SUBJECT)]

    @property
    def experiments(self) -> list[Experiment]:
        """All experiments by name, deleted ones too; the default one always exists."""
        return list(self.store.search_experiments(ViewType.ALL, order_by=["name"]))

    def run(self, which: Run | str | None = None) -> Run:
        """Return a run as it is now."""
        wanted = which.info.run_id if isinstance(which, Run) else which
        if wanted is not None:
            with suppress(NotFound):
                return self.store.get_run(wanted)
        runs = self.runs
        found = [run for run in runs if wanted in (None, run.info.run_name)]
        if len(found) == 1:
            return found[0]
        known = ", ".join(f"{run.info.run_name!r} ({run.info.run_id})" for run in runs) or "none"
        asked = "one run" if wanted is None else f"one run {wanted!r}"
        raise NotFound(f"{asked} was asked for, and {len(found)} match; captured: {known}")

    def metrics(self, key: str, run: Run | str | None = None) -> list[float]:
        """Return the values of a metric in the order of their steps; none for an unknown key."""
        values: list[float] = self.store.metric_arrays(self.run(run).info.run_id, key).value.tolist()
        return values

    def history(self, key: str, run: Run | str | None = None) -> list[Metric]:
        """Return the points of a metric, with step and time, ordered by (timestamp, step, value)."""
        return self.store.metric_history(self.run(run).info.run_id, key)

    def artifacts(self, run: Run | str | None = None) -> list[str]:
        """Return the paths of a run's artifacts, sorted."""
        return [artifact.path for artifact in self.store.artifacts(self.run(run).info.run_id)]

    def read(self, path: str, run: Run | str | None = None) -> bytes:
        """Return the content of an artifact."""
        found = self.run(run)
        content = self._opening.files.content(str(found.info.artifact_uri), path)
        if content is None:
            raise NotFound(f"run {found.info.run_name!r} has no artifact {path!r}; it has {self.artifacts(found)}")
        return content

    def text(self, path: str, run: Run | str | None = None) -> str:
        """Return an artifact as text, decoded from UTF-8."""
        return self.read(path, run).decode()

    @property
    def events(self) -> list[Event]:
        """All events; those of one run, and those of one experiment, in the order in which they were recorded."""
        return [decode(payload, block.names) for block in self.store.ledger() for payload in block.records.payloads()]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What the store could not take, and why."""
        return self.store.dead_letters()


class _Files:
    """The artifacts of a capture, wherever their runs would keep them: (URI, path) -> content."""

    def __init__(self) -> None:
        self._content: dict[str, bytes] = {}
        self._roots: set[str] = set()

    def adopt(self, uri: str) -> None:
        """Take over the artifacts of a run."""
        self._roots.add(_place(uri))

    def put(self, uri: str, path: str, content: bytes) -> None:
        self._content[_key(uri, path)] = content

    def content(self, uri: str, path: str) -> bytes | None:
        return self._content.get(_key(uri, path))

    def open(self, uri: str) -> MemoryArtifacts | None:
        """Return the repository of what was captured at a URI, in it or around it; None for any other place."""
        place = _place(uri)
        if any(place == root or place.startswith(f"{root}/") or place == posixpath.dirname(root) for root in self._roots):
            return MemoryArtifacts(f"memory:{quote(place)}", self._content)
        return None


def _place(uri: str) -> str:
    """Return a URI in one form: a folder may be named by a path, or by a URI as well."""
    folder = local_root(uri)
    return uri.rstrip("/") if folder is None else folder.absolute().as_posix()


def _key(uri: str, path: str) -> str:
    """Return the key that `MemoryArtifacts` has for a path below a URI."""
    return f"{_place(uri).strip('/')}/{path}"


class _Sink:
    """The store of a capture, and how it says no."""

    def __init__(self, store: MemoryStore, *, strict: bool) -> None:
        self.store = store
        self._strict = strict
        self._process = os.getpid()

    def apply(self, block: Block) -> list[DeadLetter]:
        """Apply a block and return what became dead letters; raise the first where the capture is strict."""
        if os.getpid() != self._process:
            lifecycle.warn_once("a process that was forked within a capture() logs, which the capture does not see; capture inside it")
        letters = self.store.apply([block]).letters
        if letters and self._strict:
            raise FlightlogException(letters[0].message, REJECTION_CODES.get(letters[0].reason, "INVALID_PARAMETER_VALUE"))
        return letters


class _MemoryLocations(ArtifactLocations):
    """Artifact locations that are remembered here and not in a spool."""

    def _remembered(self, experiment_id: str) -> str | None:
        return self._known.get(experiment_id)


class _MemoryOpening:
    """The producers of a capture, one for each tracking URI, with one store and one place for artifacts."""

    def __init__(self, sink: _Sink) -> None:
        self.files = _Files()
        self._sink = sink
        self._uri = f"memory://capture-{uuid.uuid4().hex[:12]}"
        self._producers: list[MemoryProducer] = []

    def locate(self, uri: str | Path | None, settings: Settings) -> Location:
        """See `context.Opening`. Any URI will do, since nobody goes there; `spool` is where nothing can be written by mistake."""
        try:
            named = locate(uri, settings).tracking_uri if uri else self._uri
        except InvalidParameter:
            named = str(uri)
        return Location(named, database_url="memory:", spool=Path(os.devnull), artifact_root=self._uri)

    def open(self, location: Location, settings: Settings, caretaker: Caretaker) -> MemoryProducer:
        """See `context.Opening`."""
        producer = MemoryProducer(location, settings, caretaker, self._sink, self.files)
        self._producers.append(producer)
        return producer

    def reader(self) -> RunReader:
        """Return the store after it has applied what waits."""
        for producer in self._producers:
            producer.file()
        return self._sink.store

    def end(self, error: BaseException | None) -> None:
        """End what is under way, as when the process ends with this exception or without one."""
        for producer in self._producers:
            lifecycle.end_all(producer, error)


class MemoryProducer(Producer):
    """A producer whose events go into a store in memory within the call, and their artifacts beside it."""

    is_lasting = False

    def __init__(self, location: Location, settings: Settings, caretaker: Caretaker, sink: _Sink, files: _Files) -> None:
        super().__init__(location, settings, caretaker)
        self._sink, self._files = sink, files
        self.locations = _MemoryLocations(location)
        self._snapshots: dict[str, bytes] = {}

    def _journal(self, subject: str) -> Journal:
        return MemoryJournal(subject, self._spool, self._wake, self._sink)

    @property
    def can_arrive(self) -> bool:
        """See `Producer.can_arrive`. It has arrived."""
        return True

    def reader(self) -> RunReader:
        """See `reading.Readable`."""
        self.file()
        return self._sink.store

    def file(self) -> None:
        """Have the store apply what waits."""
        self.pending()  # counting has each journal look

    def start(self, run_id: str, event: RunStarted) -> RunOperations:
        """See `Producer.start`."""
        self._files.adopt(event.artifact_uri)
        operation = super().start(run_id, event)
        self._store_artifacts()
        return operation

    def log_bytes(self, run_id: str, content: bytes, artifact_file: str) -> RunOperations:
        """See `Producer.log_bytes`."""
        return self._log_contents(run_id, [(content, named_artifact_file(artifact_file))])

    def _log_files(self, run_id: str, files: list[tuple[Path, str]]) -> RunOperations:
        return self._log_contents(run_id, [(_content_of(source), path) for source, path in files])

    def _log_contents(self, run_id: str, contents: list[tuple[bytes, str]]) -> RunOperations:
        recorder = self.recorder(check_run_id(run_id))
        sequence = recorder.journal.sequence - 1
        for content, path in contents:
            name, digest = uuid.uuid4().hex, hashlib.sha256(content).hexdigest()
            self._snapshots[name] = content
            event = ArtifactLogged(time=monotone_ms(), path=path, size=len(content), snapshot=name, sha256=digest)
            sequence = recorder.event(event)
        self._store_artifacts()
        return self._operation(recorder, sequence)

    def _store_artifacts(self) -> None:
        """Do what a worker's uploads do: those of a run that has not started yet wait until it has."""
        store = self._sink.store
        for run_id, uri, artifact in store.pending_snapshots(self._snapshots):
            self._files.put(uri, artifact.path, self._snapshots.pop(artifact.snapshot))
            store.settle_artifact(run_id, artifact, "stored")


def _content_of(source: Path) -> bytes:
    if not source.is_file():
        kind = "not a regular file" if source.exists() else "not there"
        raise InvalidParameter(f"cannot log {str(source)!r} as an artifact: it is {kind}")
    return source.read_bytes()


class MemoryJournal(Journal):
    """A journal without segments: its events are in the store when `append` returns, metrics when the next read needs them."""

    def __init__(self, subject: str, spool: Spool, wake: Callable[[], None], sink: _Sink) -> None:
        super().__init__(subject, spool, wake)
        self._sink = sink
        self._filing = False

    def _begin_writer(self) -> None:
        super()._begin_writer()
        self._waiting: list[bytes] = []
        self._filed = 0

    def append(self, payload: bytes, *, last: bool = False) -> int:  # noqa: ARG002 - there is always room
        """Append one event and return its sequence. Raises what the store says against it, if the capture is strict."""
        with self._lock:
            sequence = self.sequence
            self._waiting.append(payload)
            self.sequence = sequence + 1
        if len(self._waiting) >= MOST_WAITING or not payload.startswith(METRICS_HEAD):
            self._file()
        return sequence

    def _put_name(self, metric_id: int, name: str) -> None:
        """Write nothing: the table that `define` keeps goes with each block."""

    def _file(self) -> None:
        """Apply what waits. In a signal handler that has interrupted this, leave it to whom it has interrupted."""
        with self._lock:
            if self._filing:
                return
            try:
                self._filing = True
                while self._waiting:
                    payloads, self._waiting = self._waiting, []
                    self._apply(payloads)
            finally:
                self._filing = False

    def _apply(self, payloads: list[bytes]) -> None:
        block = Block(self.subject, self.writer, self._filed, self._names, Records.of(payloads))
        self._filed = self._seen_committed = block.end
        letters = self._sink.apply(block)
        if letters:
            self._seen_rejected += len(letters)
            self._rejection = (letters[-1].sequence, letters[-1].reason, letters[-1].message)

    def _look(self) -> None:
        self._file()

    def close(self) -> None:
        """See `Journal.close`. Nobody may look after this one any more."""
        self._file()
        super().close()

    def abandon(self) -> None:
        """See `Journal.abandon`."""
        super().abandon()
        self._filing = False
