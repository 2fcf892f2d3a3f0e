"""Every process that logs to a run is a writer of its own: nothing is lost or doubled or hangs, and the parent decides how the run ends."""

from __future__ import annotations

import pytest

from process.scripts import NO_WORKER, Flight, assert_unbroken, run

CHILDREN, POINTS = 3, 500


def _assert_all_there(flight: Flight, writers: int, children: int = CHILDREN, parent: int = POINTS) -> None:
    """Check that parent and children have all their points, under writers of their own, in a run that is finished."""
    run_id = flight.only_run().info.run_id
    assert flight.only_run().info.status == "FINISHED"
    assert_unbroken(flight.history(run_id, "parent"), parent)
    for number in range(children):
        assert_unbroken(flight.history(run_id, f"child {number}"), POINTS)
    with flight.store() as store:
        assert len(store.writers(run_id)) == writers
    assert flight.reasons() == []
    assert flight.segments == []


LOG = f"""
import os, signal, sys, threading, time
import flightlog


def log(key):
    for step in range({POINTS}):
        flightlog.log_metric(key, step / 2, step=step)

"""


LEAVING = [
    "os._exit(0)",
    "sys.exit(0)",
    "sys.exit(3)",
    "raise ValueError",
    "os.kill(os.getpid(), signal.SIGKILL)",
    "os.kill(os.getpid(), signal.SIGTERM)",
]


@pytest.mark.parametrize("leave", LEAVING)
def test_forked_children_log_to_their_parents_run_however_they_leave(flight: Flight, leave: str) -> None:
    finished = run(
        f"""{LOG}
with flightlog.start_run():
    flightlog.log_metric("parent", 0.0, step=0)
    children = []
    for number in range({CHILDREN}):
        children.append(os.fork())
        if not children[-1]:
            log(f"child {{number}}")
            {leave}
    for step in range(1, {POINTS}):
        flightlog.log_metric("parent", step / 2, step=step)
    for child in children:
        os.waitpid(child, 0)
""",
        **NO_WORKER,
    )
    assert finished.code == 0
    flight.drain()
    _assert_all_there(flight, 1 + CHILDREN)


def test_children_that_outlive_their_parent_are_still_heard(flight: Flight) -> None:
    finished = run(f"""{LOG}
reading, writing = os.pipe()
with flightlog.start_run():
    child = os.fork()
    if not child:
        os.close(1), os.close(2), os.close(writing)
        os.read(reading, 1)
        log("child 0")
        os._exit(0)
    log("parent")
""")
    assert finished.code == 0
    flight.wait_for_workers_to_leave()
    flight.drain()
    _assert_all_there(flight, 2, children=1)


def test_a_child_of_a_child_is_a_writer_too(flight: Flight) -> None:
    finished = run(
        f"""{LOG}
with flightlog.start_run():
    log("parent")
    if not os.fork():
        log("child 0")
        if not os.fork():
            log("child 1")
            os._exit(0)
        os.wait()
        os._exit(0)
    os.wait()
""",
        **NO_WORKER,
    )
    assert finished.code == 0
    flight.drain()
    _assert_all_there(flight, 3, children=2)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("given", ["run.info.run_id", "run"])
def test_multiprocessing_children_attach_by_id_or_by_the_handle(flight: Flight, method: str, given: str) -> None:
    finished = run(
        f"""{LOG}
import multiprocessing


def work(given, number):
    if isinstance(given, str):
        flightlog.attach(given)
        log(f"child {{number}}")
    else:
        with given:
            log(f"child {{number}}")


if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    with flightlog.start_run() as run:
        children = [context.Process(target=work, args=({given}, number)) for number in range({CHILDREN})]
        for child in children:
            child.start()
        log("parent")
        for child in children:
            child.join()
        assert [child.exitcode for child in children] == [0] * {CHILDREN}, children
        assert flightlog.active_run() is run
"""
    )
    assert (finished.code, finished.err) == (0, "")
    flight.wait_for_workers_to_leave()
    flight.drain()
    _assert_all_there(flight, 1 + CHILDREN)


def test_a_forked_child_is_ended_by_sigterm_as_if_there_were_no_handler(flight: Flight) -> None:
    finished = run(
        f"""{LOG}
with flightlog.start_run():
    assert callable(signal.getsignal(signal.SIGTERM))
    child = os.fork()
    if not child:
        os._exit(signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL)
    assert os.waitpid(child, 0)[1] == 0
    assert callable(signal.getsignal(signal.SIGTERM))
"""
    )
    assert (finished.code, finished.err) == (0, "")
    assert flight.only_run().info.status == "FINISHED"


def test_a_data_loader_whose_workers_log_and_are_forked_anew_each_epoch_and_terminated(flight: Flight) -> None:
    finished = run(
        f"""{LOG}
import multiprocessing

context = multiprocessing.get_context("fork")


class Dataset:
    def __init__(self, number):
        self.number = number

    def __getitem__(self, step):
        flightlog.log_metric(f"child {{self.number}}", step / 2, step=step)
        return step


def serve(dataset, tasks, results):
    while True:
        results.put(dataset[tasks.get()])


with flightlog.start_run():
    for epoch in range({CHILDREN}):
        tasks, results = context.Queue(), context.Queue()
        workers = [context.Process(target=serve, args=(Dataset(epoch), tasks, results), daemon=True) for _ in range(2)]
        for worker in workers:
            worker.start()
        for step in range({POINTS}):
            tasks.put(step)
        assert sorted(results.get() for _ in range({POINTS})) == list(range({POINTS}))
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join(10)
            assert worker.exitcode == -signal.SIGTERM, worker.exitcode
    log("parent")
print("done", flush=True)
"""
    )
    assert (finished.code, finished.err) == (0, "")
    flight.wait_for_workers_to_leave()
    flight.drain()
    run_id = flight.only_run().info.run_id
    with flight.store() as store:
        assert 1 + CHILDREN <= len(store.writers(run_id)) <= 1 + 2 * CHILDREN
        written = len(store.writers(run_id))
    _assert_all_there(flight, written)


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_process_pool_logs_from_its_workers(flight: Flight, method: str) -> None:
    finished = run(
        f"""{LOG}
import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def work(task):
    run_id, number = task
    for step in range({POINTS}):
        flightlog.log_metric(f"child {{number}}", step / 2, step=step, run_id=run_id)
    return number


if __name__ == "__main__":
    with flightlog.start_run() as run:
        log("parent")
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("{method}")) as pool:
            assert list(pool.map(work, [(run.info.run_id, number) for number in range({CHILDREN})])) == [0, 1, 2]
"""
    )
    assert (finished.code, finished.err) == (0, "")
    flight.drain()
    assert flight.only_run().info.status == "FINISHED"
    for number in range(CHILDREN):
        assert_unbroken(flight.history(flight.only_run().info.run_id, f"child {number}"), POINTS)


def test_forks_beside_a_thread_that_logs_at_full_speed_hang_nobody_and_lose_nothing(flight: Flight) -> None:
    children = 25
    finished = run(
        f"""{LOG}
stop = threading.Event()
logged = 0


def log_at_full_speed(run_id):
    global logged
    while not stop.is_set():
        flightlog.log_metric("parent", logged / 2, step=logged, run_id=run_id)
        logged += 1


with flightlog.start_run() as run:
    thread = threading.Thread(target=log_at_full_speed, args=(run.info.run_id,))
    thread.start()
    for number in range({children}):
        child = os.fork()
        if not child:
            log(f"child {{number}}")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
    stop.set()
    thread.join()
print(logged)
"""
    )
    assert (finished.code, finished.err) == (0, "")
    flight.wait_for_workers_to_leave()
    flight.drain()
    _assert_all_there(flight, 1 + children, children=children, parent=int(finished.out))


def test_a_fork_after_many_runs_does_not_write_into_the_parents_journals(flight: Flight) -> None:
    finished = run(
        f"""{LOG}
from flightlog.producer.context import context

with flightlog.start_run() as run:
    flightlog.log_metric("parent", 0.0, step=0)
    others = [flightlog.start_run(nested=True) for _ in range(70)]
    for _ in others:
        flightlog.end_run()
    for number in range(70):
        context.producer.log_metric(f"{{number:032x}}", "other", 1.0)
    flightlog.log_metric("parent", 0.5, step=1)
    if not os.fork():
        log("child 0")
        os._exit(0)
    os.wait()
    for step in range(2, {POINTS}):
        flightlog.log_metric("parent", step / 2, step=step)
""",
        **NO_WORKER,
    )
    assert (finished.code, len(finished.warnings)) == (0, 1)
    flight.drain()
    (outer,) = [item for item in flight.runs() if item.data.metrics.keys() >= {"parent"}]
    assert_unbroken(flight.history(outer.info.run_id, "parent"), POINTS)
    assert_unbroken(flight.history(outer.info.run_id, "child 0"), POINTS)
    assert flight.reasons() == []
