"""A producer keeps what a script does in order, within its limits, and out of the script's way."""

from __future__ import annotations

import errno
import os
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from flightlog.producer import doorbell, snapshots
from flightlog.producer.caretaker import Caretaker
from flightlog.producer.client import MAX_OPEN, Producer
from flightlog.producer.journal import FULL_SIZE, PROMPT_SIZE
from flightlog.schema import ids
from flightlog.schema.errors import InvalidParameter, JournalFull
from flightlog.schema.frames import MAX_PAYLOAD
from flightlog.schema.ids import experiment_id_for
from flightlog.schema.names import SNAPSHOTS
from flightlog.schema.settings import FullPolicy, Settings, locate
from flightlog.stores.memory import MemoryStore
from flightlog.worker.ingest import Ingest
from flightlog.worker.sources.spool import SpoolSource
from flightlog.worker.uploads import Uploads

RUN = "a" * 32


@pytest.fixture
def caretaker() -> Iterator[Caretaker]:
    caretaker = Caretaker()
    yield caretaker
    caretaker.stop()


@pytest.fixture
def producer(tmp_path: Path, caretaker: Caretaker) -> Iterator[Producer]:
    yield from producing(tmp_path, caretaker)


def producing(folder: Path, caretaker: Caretaker, limit: int = 1 << 30, spool_full: FullPolicy = "drop") -> Iterator[Producer]:
    settings = Settings(start_worker=False, spool_limit=limit, spool_full=spool_full)
    producer = Producer(locate(folder, settings), settings, caretaker)
    yield producer
    producer.close()
    producer.release()


def filed(producer: Producer) -> MemoryStore:
    """Return a new store with everything that the producer has recorded."""
    store = MemoryStore()
    source = SpoolSource(producer.location.spool, store.position)
    try:
        Ingest(source, store, Uploads(producer.location.spool, store)).drain()
    finally:
        source.close()
    return store


def test_what_one_thread_does_in_one_millisecond_keeps_its_order(producer: Producer, monkeypatch: pytest.MonkeyPatch) -> None:
    now = ids.now_ms()
    monkeypatch.setattr(ids, "now_ms", lambda: now)
    for number in range(20):
        experiment_id = experiment_id_for(f"e{number}")
        producer.create_experiment(experiment_id, f"e{number}")
        producer.set_experiment_tag(experiment_id, "tag", "early")
        producer.set_experiment_tag(experiment_id, "tag", "late")
        producer.delete_experiment(experiment_id)
        producer.restore_experiment(experiment_id)
    store = filed(producer)
    experiments = [store.get_experiment(experiment_id_for(f"e{number}")) for number in range(20)]
    assert {(found.tags["tag"], found.lifecycle_stage) for found in experiments} == {("late", "active")}
    assert store.dead_letters() == []


def test_a_run_that_ended_is_written_to_by_the_same_writer(producer: Producer) -> None:
    producer.set_tag(RUN, "a", 1)
    producer.end(RUN, "FINISHED")
    producer.set_tag(RUN, "a", 2)
    store = filed(producer)
    assert len(store.writers(RUN)) == 1
    assert store.get_run(RUN).data.tags["a"] == "2"


def test_thousands_of_runs_keep_few_files_open(producer: Producer) -> None:
    before = psutil.Process().num_fds()
    runs = [f"{number:032x}" for number in range(4 * MAX_OPEN)]
    for run_id in runs:
        producer.log_metric(run_id, "m", 1.0)
        producer.end(run_id, "FINISHED")
    assert psutil.Process().num_fds() - before < 3 * MAX_OPEN
    store = filed(producer)
    assert {store.get_run(run_id).info.status for run_id in runs} == {"FINISHED"}
    assert producer.pending() == 0


def test_a_long_reason_leaves_room_for_the_end(tmp_path: Path, caretaker: Caretaker) -> None:
    for producer in producing(tmp_path, caretaker, limit=64 << 10):
        while producer.dropped() == 0:
            producer.set_tag(RUN, "t", "x" * 500)
        producer.end(RUN, "FAILED", reason="\N{SNOWMAN}" * 5000)
        run = filed(producer).get_run(RUN)
        assert run.info.status == "FAILED"


def test_a_small_limit_is_used_to_its_end(tmp_path: Path) -> None:
    limit = FULL_SIZE + PROMPT_SIZE
    for name in "abcde":  # more than once: the caretaker looks for room at the same time
        caretaker = Caretaker()
        for producer in producing(tmp_path / name, caretaker, limit=limit):
            while producer.dropped() == 0:
                producer.log_metric(RUN, "m", 1.0)
            caretaker.stop()  # it may hold a segment that comes too late
            used = sum(path.stat().st_size for path in producer.location.spool.glob("*.seg"))
            assert used > limit - PROMPT_SIZE


def test_many_names_do_not_fill_the_disk(producer: Producer) -> None:
    producer.log_metrics(RUN, {f"metric/{number:0200}": 1.0 for number in range(20_000)})
    for step in range(20):
        producer.log_metrics(RUN, {f"metric/{number:0200}": 1.0 for number in range(20_000)}, step)
    names = 20_000 * 220
    assert sum(path.stat().st_size for path in producer.location.spool.glob("*.seg")) < 12 * names
    assert len(filed(producer).get_run(RUN).data.metrics) == 20_000


def test_an_event_that_no_segment_should_hold_is_refused_at_the_call(producer: Producer) -> None:
    with pytest.raises(InvalidParameter, match="artifact"):
        producer.set_tag(RUN, "t", "x" * (MAX_PAYLOAD + 1))
    assert producer.recorder(RUN).journal.sequence == 0


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Have the system refuse to write larger files, in the midst of a write, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def snapshots_in(producer: Producer) -> int:
    return len(list((producer.location.spool / SNAPSHOTS).iterdir()))


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Return a folder with a small file, one that is larger than the disk takes, and another small one."""
    folder = tmp_path / "files"
    folder.mkdir()
    for name, size in {"a": 10, "b": 3 << 20, "c": 10}.items():
        (folder / name).write_bytes(bytes(size))
    return folder


@pytest.mark.parametrize("way", ["by the system", "by hand"])
def test_what_the_disk_cannot_take_is_dropped_and_counted_and_the_rest_is_logged(
    producer: Producer, files: Path, way: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if way == "by hand":
        monkeypatch.delattr(os, "copy_file_range", raising=False)
    with files_of_at_most((2 << 20) + (1 << 19)):
        producer.log_artifacts(RUN, files)
        producer.log_bytes(RUN, bytes(3 << 20), "d")
        producer.log_bytes(RUN, b"small", "e")
    assert snapshots_in(producer) == 3
    assert producer.dropped() == 2
    assert len(caplog.messages) == 1, "one warning"
    assert "free some space" in caplog.messages[0]
    producer.end(RUN, "FINISHED")
    store = filed(producer)
    assert [artifact.path for artifact in store.artifacts(RUN)] == ["a", "c", "e"]
    assert store.dropped() == {RUN: 2}


def test_an_artifact_without_room_raises_where_that_is_the_policy_and_leaves_nothing(
    tmp_path: Path, caretaker: Caretaker, files: Path
) -> None:
    for producer in producing(tmp_path / "flight", caretaker, spool_full="raise"):
        with files_of_at_most(1 << 20), pytest.raises(JournalFull, match="the artifact was not recorded"):
            producer.log_artifacts(RUN, files)
        assert snapshots_in(producer) == 0


def test_an_artifact_without_room_waits_for_it_where_that_is_the_policy(tmp_path: Path, caretaker: Caretaker, files: Path) -> None:
    for producer in producing(tmp_path / "flight", caretaker, spool_full="block"):
        with files_of_at_most(1 << 20):
            thread = threading.Thread(target=producer.log_artifacts, args=(RUN, files))
            thread.start()
            thread.join(0.3)
            assert thread.is_alive()
        thread.join(20)
        assert (snapshots_in(producer), producer.dropped()) == (3, 0)


def test_a_file_that_may_not_be_read_is_the_callers_fault(producer: Producer, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: object, flags: int, *rest: Any) -> int:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(snapshots, "os", SimpleNamespace(**{**vars(os), "open": refuse}))
    with pytest.raises(PermissionError):
        producer.log_artifact(RUN, files / "a")
    assert producer.dropped() == 0


def test_a_worker_is_not_started_among_the_scripts_own_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "script"
    script.mkdir()
    (script / "queue.py").write_text("raise SystemExit('this is the script's own module')")
    monkeypatch.chdir(script)
    location = locate(tmp_path / "flight", Settings())
    doorbell.Spawned(location, idle=0).wait()


def test_each_store_has_a_spool_of_its_own(tmp_path: Path) -> None:
    settings = Settings(spool=str(tmp_path / "spool"))
    spools = {locate(uri, settings).spool for uri in (tmp_path / "a", tmp_path / "b", "sqlite:///c.db")}
    assert len(spools) == 3
    assert {spool.parent for spool in spools} == {tmp_path / "spool"}


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "soon"])
def test_limits_in_the_environment_must_be_numbers_that_mean_something(value: str) -> None:
    for name in ("EXIT_TIMEOUT", "SPOOL_LIMIT"):
        with pytest.raises(InvalidParameter, match=name):
            Settings.from_environ({f"FLIGHTLOG_{name}": value})


def test_a_forked_child_looks_after_its_journals(producer: Producer, caretaker: Caretaker) -> None:
    recorder = producer.recorder(RUN)
    recorder.metric("m", 1.0)
    caretaker.stop()  # its threads stay with the parent
    producer.abandon()
    assert caretaker.is_at_work is False
    recorder.metric("m", 2.0)
    assert caretaker.is_at_work


def test_the_caretaker_keeps_silent_runs_alive_and_says_nothing_for_experiments(tmp_path: Path, caretaker: Caretaker) -> None:
    settings = Settings(start_worker=False, heartbeat=0.001)
    producer = Producer(locate(tmp_path, settings), settings, caretaker)
    producer.log_metric(RUN, "loss", 1.0)
    producer.create_experiment("7", "seven")
    for _ in range(3):
        producer.tend()
        time.sleep(0.002)
    runs, experiments = (producer.recorder(subject).journal.sequence for subject in (RUN, "experiment:7"))
    producer.close()
    producer.release()
    assert runs >= 2
    assert experiments == 1


def test_no_heartbeat_is_written_where_it_is_turned_off(tmp_path: Path, caretaker: Caretaker) -> None:
    settings = Settings(start_worker=False, heartbeat=0.0)
    producer = Producer(locate(tmp_path, settings), settings, caretaker)
    producer.log_metric(RUN, "loss", 1.0)
    for _ in range(3):
        producer.tend()
    assert producer.recorder(RUN).journal.sequence == 1
    producer.close()
    producer.release()
