"""The queue from end to end, with a real Redis, real workers and real shippers: what is logged on one side is read on the other."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

from rq import Queue
from rq.registry import DeferredJobRegistry, FailedJobRegistry, FinishedJobRegistry, StartedJobRegistry

from fleet import PLAIN_RQ, Fleet
from flightlog.schema.ids import experiment_id_for
from flightlog.schema.names import UPLOADS
from flightlog.worker.rings import SERIALIZER
from flightlog.worker.shipper import ship_all
from process.scripts import NO_WORKER, assert_unbroken, run, wait_until

RUN_ID = "b" * 32

LOG = """
import flightlog as mlflow

mlflow.set_experiment("far away")
with mlflow.start_run(run_name="remote") as run:
    mlflow.log_param("rate", 0.1)
    for step in range(2000):
        mlflow.log_metric("loss", step / 2, step=step)
    mlflow.log_text("hello", "notes/result.txt")
    print(run.info.run_id)
"""

ATTACHED = f"""
import sys
import flightlog

flightlog.attach("{RUN_ID}")
for step in range(int(sys.argv[1]), int(sys.argv[1]) + 500):
    flightlog.log_metric("loss", step / 2, step=step)
"""


def test_what_is_logged_without_a_database_arrives_through_a_worker(fleet: Fleet) -> None:
    fleet.start()
    done = run(LOG)
    assert (done.code, done.warnings) == (0, [])
    run_id = done.out.split()[0]
    wait_until(lambda: fleet.arrived(run_id) == 2000, "all points have arrived")
    wait_until(lambda: not fleet.segments, "the journals are freed")
    with fleet.store() as store:
        found = store.get_run(run_id)
        experiment = store.get_experiment_by_name("far away")
        assert_unbroken(store.metric_arrays(run_id, "loss"), 2000)
        wait_until(lambda: [item.state for item in store.artifacts(run_id)] == ["stored"], "the artifact is stored")
        assert store.dead_letters() == []
    assert experiment is not None
    assert found.info.experiment_id == experiment.experiment_id == experiment_id_for("far away")
    assert (found.info.run_name, found.info.status, found.data.params) == ("remote", "FINISHED", {"rate": "0.1"})
    assert found.info.artifact_uri is not None
    assert (Path(found.info.artifact_uri) / "notes" / "result.txt").read_text() == "hello"
    assert list(fleet.folder.glob("flightlogs/*.db")) == []
    assert fleet.client.hlen(UPLOADS) == 0


def test_a_plain_rq_worker_does_the_same_and_leaves_nothing_in_its_registries(fleet: Fleet) -> None:
    fleet.start(PLAIN_RQ)
    run_id = run(LOG, **NO_WORKER).out.split()[0]
    fleet.ship()
    assert fleet.arrived(run_id) == 2000
    queue = Queue("flightlog", connection=fleet.client, serializer=SERIALIZER)
    wait_until(lambda: StartedJobRegistry(queue=queue).count == 0, "no job is running")
    assert [registry(queue=queue).count for registry in (FailedJobRegistry, FinishedJobRegistry, DeferredJobRegistry)] == [0, 0, 0]


def test_a_store_that_is_away_leaves_few_failed_jobs_and_no_event(fleet: Fleet) -> None:
    blocked = fleet.folder / "store"
    blocked.touch()
    fleet.start(PLAIN_RQ)
    run_id = run(LOG, FLIGHTLOG_EXIT_TIMEOUT="8").out.split()[0]
    queue = Queue("flightlog", connection=fleet.client, serializer=SERIALIZER)
    failed = FailedJobRegistry(queue=queue)
    wait_until(lambda: failed.count >= 2, "drains have failed")
    assert failed.count <= 10  # two shards, which rest for 1, 2, 4 and 8 seconds; called each second, they would leave sixteen and more
    blocked.unlink()
    wait_until(lambda: fleet.arrived(run_id) == 2000, "all points have arrived")
    with fleet.store() as store:
        wait_until(lambda: [item.state for item in store.artifacts(run_id)] == ["stored"], "the artifact is stored")
    wait_until(lambda: not fleet.segments, "the journals are freed")


def test_two_machines_write_to_one_run(fleet: Fleet) -> None:
    fleet.start()
    for number, machine in enumerate(("one", "two")):
        run(ATTACHED, str(500 * number), FLIGHTLOG_SPOOL=str(fleet.folder / machine), **NO_WORKER)
    spools = [next((fleet.folder / machine).iterdir()) for machine in ("one", "two")]
    _ship_at_once(fleet, *spools)
    with fleet.store() as store:
        assert_unbroken(store.metric_arrays(RUN_ID, "loss"), 1000)
        assert len(store.writers(RUN_ID)) == 2


def test_a_folder_that_was_copied_and_is_shipped_twice_at_once_arrives_once(fleet: Fleet) -> None:
    fleet.start()
    run(ATTACHED, "0", **NO_WORKER)
    spool = fleet.location().spool
    shutil.copytree(spool, fleet.folder / "copy")
    _ship_at_once(fleet, spool, fleet.folder / "copy")
    with fleet.store() as store:
        assert_unbroken(store.metric_arrays(RUN_ID, "loss"), 500)
        assert store.dead_letters() == []
    assert list(fleet.folder.rglob("*.seg")) == []


def _ship_at_once(fleet: Fleet, *spools: Path) -> None:
    shippers = [threading.Thread(target=ship_all, args=(fleet.location(spool),)) for spool in spools]
    for shipper in shippers:
        shipper.start()
    for shipper in shippers:
        shipper.join(60)
        assert not shipper.is_alive()


def test_a_clock_that_goes_back_changes_no_order(fleet: Fleet) -> None:
    script = """
    import time
    import flightlog

    true, calls = time.time_ns, iter(range(10**9))
    time.time_ns = lambda: true() - 3_600_000_000_000 * next(calls)
    with flightlog.start_run() as run:
        for step in range(100):
            flightlog.log_metric("loss", step / 2, step=step)
            flightlog.set_tag("last", step)
        print(run.info.run_id)
    """
    fleet.start()
    run_id = run(script, **NO_WORKER).out.split()[0]
    fleet.ship()
    with fleet.store() as store:
        assert_unbroken(store.metric_arrays(run_id, "loss"), 100)
        assert store.get_run(run_id).data.tags["last"] == "99"


def test_a_worker_that_is_not_told_its_store_says_so(fleet: Fleet) -> None:
    process = fleet.start(FLIGHTLOG_TRACKING_URI="")
    assert process.wait(30) != 0
    assert "set FLIGHTLOG_TRACKING_URI" in (fleet.folder / "workers.log").read_text()


def test_no_process_and_no_log_shows_a_password(fleet: Fleet) -> None:
    fleet.client.acl_setuser("shipper", enabled=True, passwords=["+secret"], keys=["*"], channels=["*"], categories=["+@all"])
    uri = fleet.server.url.replace("redis://", "redis://shipper:secret@")
    fleet.start(FLIGHTLOG_QUEUE_URI=uri)
    script = """
    import subprocess
    import flightlog

    with flightlog.start_run() as run:
        for step in range(10):
            flightlog.log_metric("loss", step / 2, step=step)
    flightlog.flush_async_logging()
    print(run.info.run_id, "secret" in subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True).stdout)
    """
    run_id, is_shown = run(script, FLIGHTLOG_QUEUE_URI=uri).out.split()
    assert is_shown == "False"
    wait_until(lambda: fleet.arrived(run_id) == 10, "all points have arrived")
    logs = [fleet.folder / "workers.log", *fleet.folder.rglob("worker.log")]
    assert len(logs) == 2
    assert not any("secret" in path.read_text() for path in logs)
