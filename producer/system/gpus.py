"""What is read of NVIDIA's GPUs: of those that CUDA shows to this process, under the numbers that `nvidia-smi` gives them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from flightlog.producer.lifecycle import warn_once
from flightlog.producer.system.counters import MEGABYTE, Counter

log = logging.getLogger("flightlog")

DRIVER = Path("/dev/nvidiactl")
"""Where this is, somebody expects to see GPUs."""


def gpu_counters(environ: Mapping[str, str], stack: ExitStack) -> list[Counter]:
    """Return the counters of all visible GPUs, none where there are none. `stack` lets go of the driver."""
    try:
        nvml: Any = import_module("pynvml")
    except ImportError as error:
        _miss(f"{error}; pip install 'flightlog[system]'")
        return []
    try:
        nvml.nvmlInit()
        stack.callback(nvml.nvmlShutdown)
        gpus = visible_gpus(nvml, environ.get("CUDA_VISIBLE_DEVICES"))
    except nvml.NVMLError as error:
        _miss(str(error))
        return []
    return [counter for gpu in gpus for counter in gpu.counters()]


def _miss(reason: str) -> None:
    """Say why there are no figures of GPUs, aloud only on a machine that has some."""
    sentence = f"system metrics say nothing of GPUs: {reason}"
    if DRIVER.exists():
        warn_once(sentence)
    else:
        log.debug("flightlog: %s", sentence)


@dataclass(frozen=True)
class Gpu:
    """One GPU: `label` is what its figures' names begin with."""

    nvml: Any
    label: str
    handle: Any

    def counters(self) -> list[Counter]:
        """Return a counter for each thing that a model of GPU may lack."""
        readers: dict[str, Callable[[], dict[str, float]]] = {
            "memory": self.memory,
            "utilization": self.utilization,
            "power": self.power,
            "share of power": self.power_share,
        }
        return [Counter(f"{what} of {self.label}", read) for what, read in readers.items()]

    def memory(self) -> dict[str, float]:
        """Return what of its memory is in use, by whatever process."""
        memory = self.nvml.nvmlDeviceGetMemoryInfo(self.handle)
        return {
            f"{self.label}_memory_usage_percentage": memory.used / memory.total * 100,
            f"{self.label}_memory_usage_megabytes": memory.used / MEGABYTE,
        }

    def utilization(self) -> dict[str, float]:
        """Return the share of the time in which it computed, in percent."""
        return {f"{self.label}_utilization_percentage": self.nvml.nvmlDeviceGetUtilizationRates(self.handle).gpu}

    def power(self) -> dict[str, float]:
        """Return what it draws."""
        return {f"{self.label}_power_usage_watts": self._milliwatts() / 1000}

    def power_share(self) -> dict[str, float]:
        """Return what it draws of what it may draw, in percent."""
        limit = self.nvml.nvmlDeviceGetEnforcedPowerLimit(self.handle)
        return {f"{self.label}_power_usage_percentage": self._milliwatts() / limit * 100}

    def _milliwatts(self) -> float:
        return float(self.nvml.nvmlDeviceGetPowerUsage(self.handle))


def visible_gpus(nvml: Any, visible: str | None) -> list[Gpu]:  # noqa: ANN401 - the module, or one like it
    """Return the GPUs that a value of `CUDA_VISIBLE_DEVICES` shows; all where it is unset.

    As CUDA reads it: numbers or the beginnings of UUIDs, up to the first that names no GPU.
    """
    count = nvml.nvmlDeviceGetCount()
    if visible is None:
        return [_numbered(nvml, number) for number in range(count)]
    found: dict[str, Gpu] = {}
    for place, name in enumerate(visible.split(",")):
        gpu = _named(nvml, name.strip(), place, count)
        if gpu is None:
            break
        found.setdefault(gpu.label, gpu)
    return list(found.values())


def _numbered(nvml: Any, number: int) -> Gpu:  # noqa: ANN401 - as above
    return Gpu(nvml, f"gpu_{number}", nvml.nvmlDeviceGetHandleByIndex(number))


def _named(nvml: Any, name: str, place: int, count: int) -> Gpu | None:  # noqa: ANN401 - as above
    """Return the GPU of a name. A slice of one (MIG) has no number of its own, so it gets that of its place in the list, as in CUDA."""
    if name.startswith("MIG-"):
        return Gpu(nvml, f"gpu_{place}", nvml.nvmlDeviceGetHandleByUUID(name))
    if name.startswith("GPU-"):
        gpus = [_numbered(nvml, number) for number in range(count)]
        return next((gpu for gpu in gpus if _uuid(gpu).startswith(name)), None)
    return _numbered(nvml, int(name)) if name.isascii() and name.isdecimal() and int(name) < count else None


def _uuid(gpu: Gpu) -> str:
    uuid = gpu.nvml.nvmlDeviceGetUUID(gpu.handle)
    return uuid.decode() if isinstance(uuid, bytes) else str(uuid)
