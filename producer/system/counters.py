"""What is read of a machine: processors, memory, disk, network. Each counter stands alone: one that fails takes no other with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import fsum
from types import ModuleType
from typing import Any

MEGABYTE = 1e6


def mean(values: Sequence[float]) -> float:
    """Return the mean of some samples with one decimal, as MLflow does."""
    return round(fsum(values) / len(values), 1)


def newest(values: Sequence[float]) -> float:
    """Return the last sample, which is all of them where a counter only grows."""
    return values[-1]


@dataclass(frozen=True)
class Counter:
    """One thing that is read at once and may fail on its own. `combine` makes a point of the samples of each figure."""

    name: str
    read: Callable[[], Mapping[str, float]]
    combine: Callable[[Sequence[float]], float] = mean


def machine_counters(psutil: ModuleType) -> list[Counter]:
    """Return the counters of this machine. What the first reading of some of them says means nothing: they measure from one to the next."""
    machine = Machine(psutil)
    return [
        Counter("processors", machine.processors),
        Counter("memory", machine.memory),
        Counter("disk", machine.disk),
        Counter("network", machine.network, newest),
    ]


class Machine:
    """Reads this machine by psutil, under MLflow's names. Megabytes are 10^6 bytes."""

    def __init__(self, psutil: ModuleType) -> None:
        self._psutil: Any = psutil
        self._network_before: tuple[int, int] | None = None

    def processors(self) -> dict[str, float]:
        """Return how busy the processors were since the reading before, all together, in percent."""
        return {"cpu_utilization_percentage": self._psutil.cpu_percent()}

    def memory(self) -> dict[str, float]:
        """Return what of the memory is in use."""
        memory = self._psutil.virtual_memory()
        return {
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": memory.used / memory.total * 100,
        }

    def disk(self) -> dict[str, float]:
        """Return what of the root disk is in use."""
        disk = self._psutil.disk_usage(os.sep)
        return {
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / MEGABYTE,
            "disk_available_megabytes": disk.free / MEGABYTE,
        }

    def network(self) -> dict[str, float]:
        """Return what all network interfaces have received and sent since the first reading."""
        counted = self._psutil.net_io_counters()
        if counted is None:
            raise OSError("this machine shows no network interfaces")
        received, sent = self._network_before = self._network_before or (counted.bytes_recv, counted.bytes_sent)
        return {
            "network_receive_megabytes": (counted.bytes_recv - received) / MEGABYTE,
            "network_transmit_megabytes": (counted.bytes_sent - sent) / MEGABYTE,
        }
