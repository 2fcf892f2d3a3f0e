"""Threads, tasks and signal handlers of one process may log at once."""

from __future__ import annotations

import numpy as np

from process.scripts import NO_WORKER, Flight, assert_unbroken, run


def test_eight_threads_log_at_once_and_all_their_points_are_there(flight: Flight) -> None:
    finished = run("""
import threading
import flightlog


def log(run_id, number):
    for step in range(10_000):
        flightlog.log_metric(f"thread {number}", step / 2, step=step, run_id=run_id)


with flightlog.start_run() as run:
    threads = [threading.Thread(target=log, args=(run.info.run_id, number)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
""")
    assert (finished.code, finished.err) == (0, "")
    run_id = flight.only_run().info.run_id
    for number in range(8):
        assert_unbroken(flight.history(run_id, f"thread {number}"), 10_000)
    assert flight.reasons() == []


def test_tasks_of_an_event_loop_log_to_the_runs_of_their_own_contexts(flight: Flight) -> None:
    finished = run(
        """
import asyncio
import flightlog


async def train(number):
    with flightlog.start_run(run_name=f"task {number}", nested=True):
        for step in range(500):
            flightlog.log_metric("loss", step / 2, step=step)
            await asyncio.sleep(0)


async def main():
    await asyncio.gather(*(train(number) for number in range(8)))


asyncio.run(main())
""",
        **NO_WORKER,
    )
    assert finished.code == 0
    flight.drain()
    runs = flight.runs()
    assert {item.info.run_name for item in runs} == {f"task {number}" for number in range(8)}
    for item in runs:
        assert item.info.status == "FINISHED"
        assert_unbroken(flight.history(item.info.run_id), 500)


INTERRUPTED = """
import signal
import flightlog

interruptions = 0


def log_from_the_handler(number, frame):
    global interruptions
    flightlog.log_metric("interruption", interruptions / 2, step=interruptions)
    flightlog.log_metric(f"new {interruptions}", 0.0)
    interruptions += 1
    signal.setitimer(signal.ITIMER_REAL, 0.0003)


with flightlog.start_run():
    signal.signal(signal.SIGALRM, log_from_the_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.0003)
    for step in range(60_000):
        flightlog.log_metric("loss", step / 2, step=step)
        if step % 20 == 0:
            flightlog.log_metric(f"sometimes {step}", 1.0)
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
print(interruptions)
"""


def test_a_signal_handler_that_logs_while_its_thread_logs_loses_no_event_and_no_name(flight: Flight) -> None:
    finished = run(INTERRUPTED, **NO_WORKER)
    assert finished.code == 0, finished.err
    interruptions = int(finished.out)
    assert interruptions > 100
    flight.drain()
    found = flight.only_run()
    assert flight.reasons() == []
    assert_unbroken(flight.history(found.info.run_id), 60_000)
    assert_unbroken(flight.history(found.info.run_id, "interruption"), interruptions)
    names = {f"sometimes {step}" for step in range(0, 60_000, 20)} | {f"new {number}" for number in range(interruptions)}
    assert set(found.data.metrics) == names | {"loss", "interruption"}
    assert {summary.count for name, summary in found.data.metric_summaries.items() if name in names} == {1}


def test_exceptions_that_a_signal_handler_raises_at_any_moment_leave_the_journal_whole(flight: Flight) -> None:
    finished = run(
        """
import signal
import flightlog


class Interruption(Exception):
    pass


def interrupt(number, frame):
    raise Interruption


step = 0
with flightlog.start_run():
    signal.signal(signal.SIGALRM, interrupt)
    while step < 60_000:
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.0005)
            while step < 60_000:
                step += 1
                flightlog.log_metric("loss", step / 2, step=step)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except Interruption:
            pass
""",
        **NO_WORKER,
    )
    assert finished.code == 0, finished.err
    flight.drain()
    found = flight.only_run()
    history = flight.history(found.info.run_id)
    assert flight.reasons() == []
    assert found.info.status == "FINISHED"
    assert np.array_equal(history.value, history.step / 2)
    assert len(history) > 50_000, "only interrupted calls may be missing"
    assert len(np.unique(history.step)) == len(history)
