"""Counters stand alone, the clock keeps its pace, names tell who speaks, and stopping neither waits nor loses what was gathered."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from flightlog.producer import lifecycle
from flightlog.producer.system import gpus
from flightlog.producer.system import sampler as sampling
from flightlog.producer.system.counters import Counter, Machine, machine_counters, newest
from flightlog.producer.system.gpus import gpu_counters, visible_gpus
from flightlog.producer.system.labels import Rank, prefix_of
from flightlog.producer.system.sampler import Pace, Sampler, Window, next_beat

FAKES = Path(__file__).resolve().parents[2] / "fixtures" / "nvml"
SOON = 10.0


class Points:
    """What a sampler has handed on."""

    def __init__(self) -> None:
        self.found: list[tuple[dict[str, float], int, int]] = []
        self.arrived = threading.Semaphore(0)

    def __call__(self, figures: Mapping[str, float], step: int, timestamp: int) -> None:
        self.found.append((dict(figures), step, timestamp))
        self.arrived.release()

    def wait_for(self, count: int) -> None:
        for _ in range(count):
            assert self.arrived.acquire(timeout=SOON)

    @property
    def steps(self) -> list[int]:
        return [step for _, step, _ in self.found]


def sampler_of(points: Points, *counters: Counter, samples: int = 1, interval: float = 0.01, first_step: int = 0) -> Sampler:
    return Sampler(lambda _: counters, Pace(interval, samples), points, first_step)


def counting() -> Callable[[], dict[str, float]]:
    """Return a reader that says 0, 1, 2, ..."""
    numbers = iter(range(1_000_000))
    return lambda: {"number": float(next(numbers))}


def refuse() -> dict[str, float]:
    raise OSError("no such sensor")


def refusing() -> Callable[[], dict[str, float]]:
    """Return a reader that fails with other words each time."""
    numbers = counting()

    def read() -> dict[str, float]:
        raise OSError(f"no such sensor, attempt {numbers()['number']:g}")

    return read


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Give what was said, as in a process that has said nothing yet."""
    monkeypatch.setattr(lifecycle.hooks, "warned", set())
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Put a driver with two GPUs in the place of NVIDIA's."""
    monkeypatch.syspath_prepend(FAKES)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    yield importlib.import_module("pynvml")
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)


def test_the_machine_is_read_under_mlflows_names_and_in_plausible_figures() -> None:
    figures = {name: value for counter in machine_counters(psutil) for name, value in counter.read().items()}
    assert list(figures) == [
        "cpu_utilization_percentage",
        "system_memory_usage_megabytes",
        "system_memory_usage_percentage",
        "disk_usage_percentage",
        "disk_usage_megabytes",
        "disk_available_megabytes",
        "network_receive_megabytes",
        "network_transmit_megabytes",
    ]
    assert all(0 <= value <= 100 for name, value in figures.items() if name.endswith("percentage"))
    assert figures["system_memory_usage_megabytes"] * 1e6 == pytest.approx(psutil.virtual_memory().used, rel=0.5)


class Interfaces(ModuleType):
    """Stands in for psutil on a machine whose network interfaces have carried so many bytes."""

    def __init__(self, *carried: tuple[int, int] | None) -> None:
        super().__init__("psutil")
        self._carried = iter(carried)

    def net_io_counters(self) -> Any:
        found = next(self._carried)
        return found and type("counted", (), {"bytes_recv": found[0], "bytes_sent": found[1]})


def test_the_network_is_counted_from_the_first_reading_on() -> None:
    machine = Machine(Interfaces((5_000_000, 1_000_000), (7_500_000, 1_000_000), (9_000_000, 1_000_001)))
    assert [list(machine.network().values()) for _ in range(3)] == [[0, 0], [2.5, 0], [4, 0.000001]]


def test_a_machine_without_network_interfaces_says_so() -> None:
    with pytest.raises(OSError, match="no network interfaces"):
        Machine(Interfaces(None)).network()


def test_a_point_is_the_mean_of_its_samples_and_of_what_only_grows_the_last() -> None:
    window = Window()
    level, total = Counter("level", refuse), Counter("total", refuse, newest)
    for value in (1.0, 2.0, 2.26):
        window.add([(level, {"level": value}), (total, {"total": value})])
    assert window.point() == {"level": 1.8, "total": 2.26}


def test_steps_count_on_from_the_first_and_the_first_sample_makes_a_point_at_once() -> None:
    points = Points()
    sampler = sampler_of(points, Counter("count", counting()), samples=3, first_step=7)
    sampler.start()
    points.wait_for(3)
    sampler.stop()
    assert points.steps[:3] == [7, 8, 9]
    assert [figures["number"] for figures, _, _ in points.found[:3]] == [1, 3, 6]  # 0 was the reading that says nothing


def test_stopping_hands_on_what_remains_once_and_nothing_comes_after() -> None:
    points = Points()
    sampler = sampler_of(points, Counter("count", counting()), samples=1_000_000)
    sampler.start()
    points.wait_for(1)
    while not sampler._window.count:
        time.sleep(0.001)
    sampler.stop()
    sampler.stop()
    assert points.steps == [0, 1]
    points.arrived.acquire(blocking=False)
    assert not points.arrived.acquire(timeout=0.1)


def test_a_counter_that_hangs_does_not_hold_up_stopping() -> None:
    points, reached, hang = Points(), threading.Event(), threading.Event()
    numbers = counting()

    def read() -> dict[str, float]:
        figures = numbers()
        if figures["number"] == 2:
            reached.set()
            hang.wait()
        return figures

    sampler = sampler_of(points, Counter("hanging", read))
    sampler.start()
    assert reached.wait(SOON)
    started = time.monotonic()
    sampler.stop()
    assert time.monotonic() - started < 1
    hang.set()
    assert points.steps == [0]


def test_a_point_that_cannot_be_handed_on_does_not_hold_up_stopping(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the signal handler that stops it has interrupted a call that holds the journal's lock."""
    monkeypatch.setattr(sampling, "PATIENCE", 0.1)
    journal, asked = threading.Lock(), threading.Event()

    def sink(figures: Mapping[str, float], step: int, timestamp: int) -> None:
        asked.set()
        with journal:
            pass

    sampler = Sampler(lambda _: [Counter("count", counting())], Pace(0.01, 1), sink)
    with journal:
        sampler.start()
        assert asked.wait(SOON)
        started = time.monotonic()
        sampler.stop()
        assert time.monotonic() - started < 5


def test_a_failing_counter_is_named_once_and_the_others_go_on(warnings: Callable[[], list[str]]) -> None:
    points = Points()
    sampler = sampler_of(points, Counter("sensor", refusing()), Counter("count", counting()))
    sampler.start()
    points.wait_for(3)
    sampler.stop()
    assert points.found[2][0] == {"number": 3}
    assert warnings() == ["flightlog: system metrics lack sensor: OSError: no such sensor, attempt 0"]


def test_a_figure_that_is_no_number_costs_its_counter_alone(warnings: Callable[[], list[str]]) -> None:
    points = Points()
    nothing: Any = None
    sampler = sampler_of(points, Counter("disk", lambda: {"disk": nothing}), Counter("count", counting()))
    sampler.start()
    points.wait_for(2)
    sampler.stop()
    assert points.found[1][0] == {"number": 2}
    assert len(warnings()) == 1


def test_a_counter_that_recovers_is_there_again(warnings: Callable[[], list[str]]) -> None:
    points = Points()
    numbers = counting()

    def read() -> dict[str, float]:
        figures = numbers()
        return figures if figures["number"] > 1 else refuse()

    sampler = sampler_of(points, Counter("sensor", read))
    sampler.start()
    points.wait_for(1)
    sampler.stop()
    assert points.found[0][:2] == ({"number": 2}, 0)
    assert len(warnings()) == 1


def test_a_sink_that_fails_is_reported_and_lets_the_run_end(warnings: Callable[[], list[str]]) -> None:
    asked = threading.Event()

    def full(figures: Mapping[str, float], step: int, timestamp: int) -> None:
        asked.set()
        raise OSError("no space")

    sampler = Sampler(lambda _: [Counter("count", counting())], Pace(0.01, 1), full)
    sampler.start()
    assert asked.wait(SOON)
    sampler.stop()
    assert warnings() == ["flightlog: system metrics were not logged: OSError: no space"]


def test_a_machine_that_cannot_be_read_at_all_is_reported(warnings: Callable[[], list[str]]) -> None:
    def broken(stack: ExitStack) -> list[Counter]:
        raise RuntimeError("no /proc")

    sampler = Sampler(broken, Pace(0.01, 1), Points())
    sampler.start()
    deadline = time.monotonic() + SOON
    while not warnings() and time.monotonic() < deadline:
        time.sleep(0.001)
    sampler.stop()
    assert warnings() == ["flightlog: there are no more system metrics in this run: RuntimeError: no /proc"]


@pytest.mark.parametrize(("now", "beat"), [(100.0, 110.0), (109.9, 110.0), (110.0, 120.0), (131.0, 140.0)])
def test_beats_that_have_passed_are_left_out(now: float, beat: float) -> None:
    assert next_beat(100.0, 10.0, now) == beat


def test_gpus_are_read_under_mlflows_names_and_the_driver_is_let_go(nvml: Any) -> None:
    with ExitStack() as stack:
        figures = {name: value for counter in gpu_counters(nvml, None, stack) for name, value in counter.read().items()}
        assert nvml.LOADED
    assert not nvml.LOADED
    assert figures == {
        "gpu_0_memory_usage_percentage": 12.5,
        "gpu_0_memory_usage_megabytes": 2000.0,
        "gpu_0_utilization_percentage": 40,
        "gpu_0_power_usage_watts": 100.0,
        "gpu_0_power_usage_percentage": 25.0,
        "gpu_1_memory_usage_percentage": 25.0,
        "gpu_1_memory_usage_megabytes": 4000.0,
        "gpu_1_utilization_percentage": 41,
        "gpu_1_power_usage_watts": 101.0,
        "gpu_1_power_usage_percentage": 25.25,
    }


VISIBLE = [
    (None, ["gpu_0", "gpu_1"]),
    ("", []),
    ("-1", []),
    ("NoDevFiles", []),
    ("1", ["gpu_1"]),
    ("1,0", ["gpu_1", "gpu_0"]),
    (" 1 , 1", ["gpu_1"]),
    ("0,2,1", ["gpu_0"]),  # what follows one that is not there is not seen
    ("GPU-bbbb", ["gpu_1"]),
    ("GPU-bbbb0000-2222,0", ["gpu_1", "gpu_0"]),
    ("GPU-dddd,0", []),
    ("MIG-cccc0000-3333", ["gpu_0"]),
    ("9" * 5000, []),
]


@pytest.mark.parametrize(("visible", "labels"), VISIBLE)
def test_only_gpus_that_cuda_shows_are_read(nvml: Any, visible: str | None, labels: list[str]) -> None:
    assert [gpu.label for gpu in visible_gpus(nvml, visible)] == labels


@pytest.mark.parametrize(("visible", "labels"), [(None, ["gpu_1"]), ("1", ["gpu_1"]), ("GPU-bbbb", ["gpu_1"]), ("GPU-aaaa,1", [])])
def test_a_broken_gpu_does_not_hide_the_others(
    nvml: Any, monkeypatch: pytest.MonkeyPatch, warnings: Callable[[], list[str]], visible: str | None, labels: list[str]
) -> None:
    def is_lost(index: int) -> str:
        if not index:
            raise nvml.NVMLError("GPU is lost")
        return str(nvml.UUIDS[index])

    monkeypatch.setattr(nvml, "nvmlDeviceGetHandleByIndex", is_lost)
    assert [gpu.label for gpu in visible_gpus(nvml, visible)] == labels
    assert warnings() == ([] if visible else ["flightlog: system metrics lack gpu_0: GPU is lost"])


def test_a_gpu_that_lacks_one_figure_shows_the_others(nvml: Any, warnings: Callable[[], list[str]]) -> None:
    points = Points()
    with ExitStack() as stack:
        counters = gpu_counters(nvml, nvml.SLICE, stack)
        sampler = sampler_of(points, *counters)
        sampler.start()
        points.wait_for(2)
        sampler.stop()
    assert sorted(points.found[0][0]) == [
        "gpu_0_memory_usage_megabytes",
        "gpu_0_memory_usage_percentage",
        "gpu_0_power_usage_watts",
        "gpu_0_utilization_percentage",
    ]
    assert warnings() == ["flightlog: system metrics lack share of power of gpu_0: NVMLError: Not Supported"]


@pytest.mark.parametrize(("has_driver", "count"), [(True, 1), (False, 0)])
def test_a_driver_that_fails_is_reported_where_there_should_be_gpus(
    nvml: Any, warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, has_driver: bool, count: int
) -> None:
    def mismatch() -> None:
        raise nvml.NVMLError("Driver/library version mismatch")

    monkeypatch.setattr(nvml, "nvmlInit", mismatch)
    monkeypatch.setattr(gpus, "DRIVER", tmp_path if has_driver else tmp_path / "absent")
    for _ in range(2):
        with ExitStack() as stack:
            assert gpu_counters(nvml, None, stack) == []
    assert warnings() == ["flightlog: system metrics say nothing of GPUs: Driver/library version mismatch"] * count


def test_gpus_without_nvidias_package_are_reported_with_what_to_install(
    warnings: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(gpus, "DRIVER", tmp_path)
    assert gpus.driver() is None
    assert "pip install 'flightlog[system]'" in warnings()[0]


RANKS = [
    ({}, None),
    ({"RANK": "9", "LOCAL_RANK": "1", "SLURM_PROCID": "0"}, Rank(9, 1)),
    ({"SLURM_PROCID": "3", "SLURM_LOCALID": "0"}, Rank(3, 0)),
    ({"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_LOCAL_RANK": "2"}, Rank(2, 2)),
    ({"PMI_RANK": "5"}, Rank(5, None)),
    ({"RANK": "Lieutenant"}, None),
    ({"RANK": "", "SLURM_PROCID": "1"}, Rank(1, None)),
]


@pytest.mark.parametrize(("environ", "rank"), RANKS)
def test_a_rank_is_what_the_launcher_said(environ: dict[str, str], rank: Rank | None) -> None:
    assert Rank.of(environ) == rank


STARTED, RESUMED, ATTACHED = {"attached": False}, {"attached": False, "resumed": True}, {"attached": True}
PREFIXES = [
    (None, None, STARTED, "system/"),
    ("node_0", None, STARTED, "system/node_0/"),
    (None, Rank(3, 3), STARTED, "system/"),
    (None, None, RESUMED, "system/"),
    (None, Rank(0, 0), RESUMED, "system/"),
    (None, Rank(9, 1), RESUMED, "system/deep_thought/rank_9/"),
    (None, Rank(8, 0), RESUMED, "system/deep_thought/"),
    ("node_1", Rank(9, 1), RESUMED, "system/node_1/"),
    (None, None, ATTACHED, "system/deep_thought/"),
    (None, Rank(8, 0), ATTACHED, "system/deep_thought/"),
    (None, Rank(9, 1), ATTACHED, "system/deep_thought/rank_9/"),
    (None, Rank(9, None), ATTACHED, "system/deep_thought/rank_9/"),
    ("node_1", Rank(9, 1), ATTACHED, "system/node_1/rank_9/"),
]


@pytest.mark.parametrize(("node_id", "rank", "how", "prefix"), PREFIXES)
def test_names_tell_machine_and_rank_of_who_did_not_start_the_run(
    monkeypatch: pytest.MonkeyPatch, node_id: str | None, rank: Rank | None, how: dict[str, bool], prefix: str
) -> None:
    monkeypatch.setattr("platform.node", lambda: "deep/thought")
    assert prefix_of(node_id, rank, **how) == prefix
