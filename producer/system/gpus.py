"""What is read of NVIDIA's GPUs: of those that CUDA shows to this process, under the numbers that `nvidia-smi` gives them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from flightlog.producer.lifecycle import warn_once
from flightlog.producer.system.counters import MEGABYTE, Counter

log = logging.getLogger("flightlog")

DRIVER = Path("/dev/nvidiactl")
"""Where this is, somebody expects to see GPUs."""
MAX_DIGITS = 4

Handle = Callable[[], Any]
"""Opens a GPU. Raises the driver's error."""


def driver() -> ModuleType | None:
    """Return NVIDIA's module, None where it is not installed. Opens nothing yet."""
    try:
        return import_module("pynvml")
    except Exception as error:  # noqa: BLE001 - a broken installation must not keep a run from starting
        _miss(f"{error}; pip install 'flightlog[system]'")
        return None


def gpu_counters(nvml: Any, visible: str | None, stack: ExitStack) -> list[Counter]:  # noqa: ANN401 - the module, or one like it
    """Return the counters of all visible GPUs, none where there are none. `stack` lets go of the driver, which may take long to open."""
    try:
        nvml.nvmlInit()
        stack.callback(nvml.nvmlShutdown)
        gpus = visible_gpus(nvml, visible)
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


def visible_gpus(nvml: Any, visible: str | None) -> list[Gpu]:  # noqa: ANN401 - as above
    """Return the GPUs that a value of `CUDA_VISIBLE_DEVICES` shows, all where it is unset, but for those that the driver cannot open."""
    opened = [_open(nvml, label, handle) for label, handle in _chosen(nvml, visible).items()]
    return [gpu for gpu in opened if gpu]


def _open(nvml: Any, label: str, handle: Handle) -> Gpu | None:  # noqa: ANN401 - as above
    try:
        return Gpu(nvml, label, handle())
    except nvml.NVMLError as error:  # one may be broken while the others work
        warn_once(f"system metrics lack {label}: {error}")
        return None


def _chosen(nvml: Any, visible: str | None) -> dict[str, Handle]:  # noqa: ANN401 - as above
    """Return how to open each GPU that is to be seen, by its label.

    As CUDA reads the list: numbers or the beginnings of UUIDs, up to the first that names no GPU. A slice of a GPU (MIG) has no number of
    its own, so it gets that of its place in the list, as in CUDA.
    """
    handles = [partial(nvml.nvmlDeviceGetHandleByIndex, number) for number in range(nvml.nvmlDeviceGetCount())]
    names = [str(number) for number in range(len(handles))] if visible is None else [name.strip() for name in visible.split(",")]
    found: dict[str, Handle] = {}
    for place, name in enumerate(names):
        if name.startswith("MIG-"):
            found[f"gpu_{place}"] = partial(nvml.nvmlDeviceGetHandleByUUID, name)
            continue
        number = _number_of(nvml, name, handles)
        if number is None:
            break
        found[f"gpu_{number}"] = handles[number]
    return found


def _number_of(nvml: Any, name: str, handles: Sequence[Handle]) -> int | None:  # noqa: ANN401 - as above
    if name.startswith("GPU-"):
        return next((number for number, handle in enumerate(handles) if _uuid(nvml, handle).startswith(name)), None)
    number = int(name) if name.isascii() and name.isdecimal() and len(name) <= MAX_DIGITS else len(handles)
    return number if number < len(handles) else None


def _uuid(nvml: Any, handle: Handle) -> str:  # noqa: ANN401 - as above
    try:
        uuid = nvml.nvmlDeviceGetUUID(handle())
    except nvml.NVMLError:  # a broken one; CUDA does not find it either
        return ""
    return uuid.decode() if isinstance(uuid, bytes) else str(uuid)
