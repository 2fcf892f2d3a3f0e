"""What a run's sampler is made of: the counters of this machine, and the run's recorder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from typing import TYPE_CHECKING

from flightlog.producer.system.counters import Counter, machine_counters
from flightlog.producer.system.gpus import driver, gpu_counters
from flightlog.producer.system.sampler import Pace, Sampler
from flightlog.schema.entities import Run
from flightlog.schema.sampling import SYSTEM_PREFIX
from flightlog.schema.settings import Settings

if TYPE_CHECKING:
    from flightlog.producer.run import ActiveRun


def sampler(run: ActiveRun, prefix: str, settings: Settings) -> Sampler:
    """Return a sampler that logs to a run under names with a prefix, and counts steps on from what was read of the run."""
    recorder = run.recorder

    def log(point: Mapping[str, float], step: int, time: int) -> None:
        recorder.sample({prefix + name: value for name, value in point.items()}, step, time)

    nvml = driver()  # here, for a fork during an import leaves a lock behind that nobody opens

    def counters(stack: ExitStack) -> list[Counter]:
        gpus = gpu_counters(nvml, os.environ.get("CUDA_VISIBLE_DEVICES"), stack) if nvml else []
        return [*machine_counters(import_module("psutil")), *gpus]

    return Sampler(counters, Pace(settings.system_metrics_interval, settings.system_metrics_samples), log, next_step(run))


def next_step(run: Run) -> int:
    """Return the step after the last one of any system metric of a run, as far as the run was read."""
    steps = [summary.last.step for name, summary in run.data.metric_summaries.items() if name.startswith(SYSTEM_PREFIX)]
    return max(steps, default=-1) + 1
