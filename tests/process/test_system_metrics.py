"""Real runs that log what their machine does: names, steps, ends, forks, ranks, and what is missing."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from flightlog.schema.entities import Metric, Run
from process.scripts import NO_WORKER, Finished, Flight, Script, run

FAST = {"FLIGHTLOG_SYSTEM_METRICS_SAMPLING_INTERVAL": "0.1"}
MACHINE = {
    "cpu_utilization_percentage",
    "system_memory_usage_megabytes",
    "system_memory_usage_percentage",
    "disk_usage_percentage",
    "disk_usage_megabytes",
    "disk_available_megabytes",
    "network_receive_megabytes",
    "network_transmit_megabytes",
}
MEMORY = "system/system_memory_usage_megabytes"
FAKE_NVML = {"PYTHONPATH": str(Path(__file__).resolve().parent.parent / "fixtures" / "nvml")}
WAIT = """
import os, sys, time
import flightlog


def wait_for(points):
    "Wait until the active run has that many points more than it began with."
    found = flightlog.active_run().sampler
    deadline = time.monotonic() + 30
    while found._step - first < points and time.monotonic() < deadline:
        time.sleep(0.01)


first = 0
"""


def names(run: Run, prefix: str = "system/") -> set[str]:
    """Return the names of a run's metrics after a prefix."""
    return {name.removeprefix(prefix) for name in run.data.metrics if name.startswith(prefix)}


def history(flight: Flight, run_id: str, key: str = MEMORY) -> list[Metric]:
    """Return the points of a metric."""
    with flight.store() as store:
        return list(store.metric_history(run_id, key))


def finish(source: str, **environment: str) -> Finished:
    """Run a script without a worker, and see that it ended well and said nothing."""
    finished = run(source, **FAST, **NO_WORKER, **environment)
    assert finished.code == 0, finished.err
    return finished


def test_a_run_logs_what_its_machine_does_at_its_own_pace(flight: Flight) -> None:
    finish(f"""{WAIT}
with flightlog.start_run(log_system_metrics=True):
    flightlog.log_metric("loss", 1.0, step=500)
    wait_for(6)
""")
    flight.drain()
    found = flight.only_run()
    assert names(found) == MACHINE
    assert found.data.metrics[MEMORY] > 0
    for name in MACHINE:
        points = history(flight, found.info.run_id, f"system/{name}")
        assert [point.step for point in points] == list(range(len(points)))
        assert len(points) >= 6
        assert found.info.start_time <= points[0].timestamp
        assert points[-1].timestamp <= (found.info.end_time or 0)
        assert points[-1].timestamp - points[0].timestamp > 100 * (len(points) - 1) - 90
    assert [point.step for point in history(flight, found.info.run_id, "loss")] == [500]
    assert flight.reasons() == []


def test_a_run_that_does_not_ask_for_them_logs_none(flight: Flight) -> None:
    finish("""
import flightlog, sys, threading
with flightlog.start_run():
    assert "psutil" not in sys.modules
    assert not [thread for thread in threading.enumerate() if "system" in thread.name]
""")
    flight.drain()
    assert names(flight.only_run()) == set()


def test_a_short_run_has_one_point_and_gathered_samples_come_before_its_end(flight: Flight) -> None:
    finish(f"""{WAIT}
flightlog.set_system_metrics_samples_before_logging(1000)
flightlog.set_system_metrics_node_id("node 7")
flightlog.enable_system_metrics_logging()
with flightlog.start_run():
    wait_for(1)
    while not flightlog.active_run().sampler._window.count:
        time.sleep(0.01)
""")
    assert len(flight.segments) == 1  # whatever came after the end would have begun another
    flight.drain()
    found = flight.only_run()
    assert names(found, "system/node 7/") == MACHINE
    points = history(flight, found.info.run_id, MEMORY.replace("/", "/node 7/"))
    assert [point.step for point in points] == [0, 1]
    assert points[1].timestamp <= (found.info.end_time or 0)
    assert found.info.status == "FINISHED"


SWITCHES = [
    ("FLIGHTLOG_ENABLE_SYSTEM_METRICS_LOGGING", "true", "None", True),
    ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true", "None", True),
    ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true", "False", False),
    ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "false", "None", False),
    ("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "true", "None; flightlog.disable_system_metrics_logging()", False),
]


@pytest.mark.parametrize(("variable", "value", "argument", "sampled"), SWITCHES)
def test_argument_call_and_environment_decide_in_this_order(
    flight: Flight, variable: str, value: str, argument: str, sampled: bool
) -> None:
    finished = finish(
        f"""
import flightlog
asked = {argument}
print(flightlog.start_run(log_system_metrics=asked).sampler is not None)
""",
        **{variable: value},
    )
    assert finished.out.strip() == str(sampled)


def test_a_resumed_run_counts_its_steps_on(flight: Flight) -> None:
    finish(f"""{WAIT}
with flightlog.start_run(log_system_metrics=True) as run:
    wait_for(3)
print(run.info.run_id)
""")
    flight.drain()
    before = history(flight, flight.only_run().info.run_id)
    finish(f"""{WAIT}
first = {len(before)}
with flightlog.start_run(run_id="{flight.only_run().info.run_id}", log_system_metrics=True):
    wait_for(3)
""")
    flight.drain()
    points = history(flight, flight.only_run().info.run_id)
    assert len(points) >= len(before) + 3
    assert [point.step for point in points] == list(range(len(points)))


def test_a_forked_child_does_not_go_on_sampling(flight: Flight) -> None:
    finish(f"""{WAIT}
import threading
flightlog.set_system_metrics_samples_before_logging(1000)
with flightlog.start_run(log_system_metrics=True) as run:
    wait_for(1)
    while not run.sampler._window.count:
        time.sleep(0.01)
    child = os.fork()
    if not child:
        assert not [thread for thread in threading.enumerate() if "system" in thread.name]
        flightlog.log_metric("child", 1.0)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
""")
    flight.drain()
    found = flight.only_run()
    assert found.data.metrics["child"] == 1
    assert [point.step for point in history(flight, found.info.run_id)] == [0, 1]
    assert found.info.status == "FINISHED"


def test_a_forked_child_may_start_a_sampled_run_of_its_own(flight: Flight) -> None:
    finish(f"""{WAIT}
with flightlog.start_run(log_system_metrics=True) as run:
    wait_for(1)
    child = os.fork()
    if not child:
        with flightlog.start_run(nested=True, run_name="child", log_system_metrics=True):
            wait_for(2)
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
""")
    flight.drain()
    assert [names(found) for found in flight.runs()] == [MACHINE, MACHINE]
    (child,) = [found for found in flight.runs() if found.info.run_name == "child"]
    assert [point.step for point in history(flight, child.info.run_id)][:2] == [0, 1]


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, "KILLED"), (signal.SIGINT, "KILLED")])
def test_what_is_gathered_comes_before_the_end_by_a_signal(flight: Flight, number: signal.Signals, status: str) -> None:
    with Script(
        f"""{WAIT}
flightlog.set_system_metrics_samples_before_logging(1000)
run = flightlog.start_run(log_system_metrics=True)
wait_for(1)
while not run.sampler._window.count:
    time.sleep(0.01)
print("ready", flush=True)
time.sleep(60)
""",
        **FAST,
        **NO_WORKER,
    ) as script:
        script.wait_for_line()
        script.send(number)
        script.finish()
    assert len(flight.segments) == 1  # whatever came after the end would have begun another
    flight.drain()
    found = flight.only_run()
    points = history(flight, found.info.run_id)
    assert found.info.status == status
    assert [point.step for point in points] == [0, 1]
    assert points[1].timestamp <= (found.info.end_time or 0)


@pytest.mark.parametrize("ending", ["", "flightlog.end_run()", "sys.exit(0)"])
def test_a_driver_that_hangs_does_not_delay_the_end(flight: Flight, ending: str) -> None:
    finished = finish(f"""{WAIT}
import psutil, threading
reached = threading.Event()
def hang(path):
    reached.set()
    time.sleep(600)
psutil.disk_usage = hang
run = flightlog.start_run(log_system_metrics=True)
reached.wait(30)
print("done", flush=True)
{ending}
""")
    assert finished.delay < 3
    flight.drain()
    assert flight.only_run().info.status == "FINISHED"


@pytest.mark.parametrize("policy", ["drop", "block", "raise"])
def test_a_full_spool_neither_stops_nor_fails_the_end_whatever_the_policy(flight: Flight, policy: str) -> None:
    finished = run(
        f"""{WAIT}
from flightlog.producer.system.counters import Counter
from flightlog.producer.system import watching
flightlog.set_system_metrics_sampling_interval(0.01)
watching.machine_counters = lambda psutil: [Counter("wide", lambda: {{f"figure_{{n}}": 1.0 for n in range(500)}})]
with flightlog.start_run(log_system_metrics=True) as run:
    deadline = time.monotonic() + 30
    while not run.recorder.journal.dropped and time.monotonic() < deadline:
        time.sleep(0.01)
print("done", flush=True)
""",
        FLIGHTLOG_SPOOL_FULL=policy,
        FLIGHTLOG_SPOOL_LIMIT=str(200_000),
        **NO_WORKER,
    )
    assert finished.code == 0, finished.err
    assert finished.delay < 3
    flight.drain()
    assert flight.only_run().info.status == "FINISHED"
    assert any("dropped" in line for line in finished.warnings)


def test_one_failing_counter_is_named_once_and_costs_no_other(flight: Flight) -> None:
    finished = finish(f"""{WAIT}
import psutil
def fail():
    raise OSError("no counters in this container")
psutil.net_io_counters = fail
for _ in range(2):
    with flightlog.start_run(log_system_metrics=True):
        wait_for(2)
""")
    flight.drain()
    assert [names(found) for found in flight.runs()] == [{name for name in MACHINE if "network" not in name}] * 2
    said = [line for line in finished.warnings if "lack" in line]
    assert said == ["flightlog: system metrics lack network: OSError: no counters in this container"]


RANKED = f"""{WAIT}
run = flightlog.attach(sys.argv[1])
if run.sampler is not None:
    wait_for(1)
flightlog.end_run()
"""


def test_ranks_that_attach_log_under_names_of_their_own_and_one_for_each_machine(flight: Flight) -> None:
    with Script(
        f"""{WAIT}
with flightlog.start_run(log_system_metrics=True) as run:
    wait_for(1)
    print("ready", flush=True)
    sys.stdin.read()
""",
        **FAST,
        **NO_WORKER,
    ) as script:
        script.wait_for_line()
        flight.drain()
        run_id = flight.only_run().info.run_id
        for rank, local in [(1, 1), (8, 0), (9, 1)]:
            environment = {"RANK": str(rank), "LOCAL_RANK": str(local), "FLIGHTLOG_ENABLE_SYSTEM_METRICS_LOGGING": "1"}
            assert run(RANKED, run_id, **FAST, **NO_WORKER, **environment).code == 0
        asked = RANKED.replace("[1])", "[1], log_system_metrics=True)")
        for environment in ({"RANK": "9", "LOCAL_RANK": "1"}, {"FLIGHTLOG_SYSTEM_METRICS_NODE_ID": "evaluator"}):
            assert run(asked, run_id, **FAST, **NO_WORKER, **environment).code == 0
    flight.drain()
    host = subprocess.run([sys.executable, "-c", "import platform; print(platform.node())"], capture_output=True, text=True, check=True)
    machine = host.stdout.strip()
    prefixes = ["", f"{machine}/", f"{machine}/rank_9/", "evaluator/"]
    assert names(flight.only_run()) == {prefix + name for prefix in prefixes for name in MACHINE}


def test_an_attached_handle_of_the_same_process_leaves_the_sampling_to_the_first(flight: Flight) -> None:
    finish(f"""{WAIT}
with flightlog.start_run(log_system_metrics=True) as run:
    wait_for(1)
    again = flightlog.attach(run.info.run_id, log_system_metrics=True)
    assert again.sampler is None
    flightlog.end_run()
    wait_for(run.sampler._step + 2)
""")
    flight.drain()
    assert names(flight.only_run()) == MACHINE
    assert len(history(flight, flight.only_run().info.run_id)) >= 3


def test_an_attached_handle_that_ends_takes_its_sampling_along_and_the_next_has_its_own(flight: Flight) -> None:
    finish(f"""{WAIT}
flightlog.set_system_metrics_node_id("evaluator")
run = flightlog.attach("0123456789abcdef", log_system_metrics=True)
wait_for(1)
flightlog.end_run()
steps = run.sampler._step
time.sleep(0.3)
assert run.sampler._step == steps
again = flightlog.attach("0123456789abcdef", log_system_metrics=True)
wait_for(1)
""")


def test_processes_of_multiprocessing_are_told_apart_by_their_names(flight: Flight) -> None:
    finish(f"""{WAIT}
import multiprocessing


def work(run_id):
    flightlog.attach(run_id, log_system_metrics=True)
    wait_for(1)
    flightlog.end_run()


if __name__ == "__main__":
    with flightlog.start_run() as run:
        child = multiprocessing.get_context("spawn").Process(target=work, args=(run.info.run_id,), name="loader 1")
        child.start()
        child.join()
        assert child.exitcode == 0
""")
    flight.drain()
    assert {name.split("/")[1] for name in names(flight.only_run())} == {"loader_1"}


def test_a_client_that_ends_the_run_ends_its_sampling(flight: Flight) -> None:
    finished = run(
        f"""{WAIT}
run = flightlog.start_run(log_system_metrics=True)
wait_for(1)
flightlog.MlflowClient().set_terminated(run.info.run_id, "FAILED")
steps = run.sampler._step
time.sleep(0.3)
assert run.sampler._step == steps
""",
        **FAST,
    )
    assert finished.code == 0, finished.err
    flight.wait_for_workers_to_leave()
    assert names(flight.only_run()) == MACHINE


WITHOUT_PSUTIL = "import sys\nsys.modules['psutil'] = None\nimport flightlog\n"


def test_asking_for_them_without_psutil_is_an_error_that_starts_no_run(flight: Flight) -> None:
    finished = run(WITHOUT_PSUTIL + "flightlog.start_run(log_system_metrics=True)", **NO_WORKER)
    assert finished.code == 1
    assert "FlightlogException: system metrics need psutil" in finished.err
    assert "pip install 'flightlog[system]'" in finished.err
    assert flight.segments == []


def test_a_switch_without_psutil_is_one_warning_and_the_runs_go_on(flight: Flight) -> None:
    finished = finish(
        WITHOUT_PSUTIL + "for _ in range(2):\n    with flightlog.start_run():\n        flightlog.log_metric('m', 1.0)\n",
        MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING="true",
    )
    assert len([line for line in finished.warnings if "system metrics need psutil" in line]) == 1
    flight.drain()
    assert [found.info.status for found in flight.runs()] == ["FINISHED", "FINISHED"]


MLFLOW_NAMES = """
from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

for kind in (CPUMonitor, DiskMonitor, NetworkMonitor, GPUMonitor):
    monitor = kind()
    monitor.collect_metrics()
    print(*monitor.aggregate_metrics())
"""


def test_the_names_are_those_that_mlflow_gives_on_the_same_machine(flight: Flight) -> None:
    finish(f"""{WAIT}
with flightlog.start_run(log_system_metrics=True):
    wait_for(1)
""", **FAKE_NVML)  # fmt: skip
    flight.drain()
    theirs = run(dedent(MLFLOW_NAMES), **FAKE_NVML)
    assert theirs.code == 0, theirs.err
    assert names(flight.only_run()) == set(theirs.out.split())
    assert "gpu_1_power_usage_watts" in names(flight.only_run())
