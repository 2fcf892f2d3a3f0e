"""Whether a run logs system metrics and how, by argument, by a call, or by the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import TYPE_CHECKING

from flightlog.producer import lifecycle
from flightlog.producer.context import context
from flightlog.producer.system.labels import Rank, prefix_of
from flightlog.schema.errors import FlightlogException
from flightlog.schema.sampling import check_interval, check_node_id, check_samples
from flightlog.schema.settings import Settings

if TYPE_CHECKING:
    from flightlog.producer.run import ActiveRun


def enable_system_metrics_logging() -> None:
    """Log system metrics in the runs that this process starts from now on, unless `start_run` says otherwise."""
    context.chosen["system_metrics"] = True


def disable_system_metrics_logging() -> None:
    """Log system metrics only in runs whose `start_run` asks for them."""
    context.chosen["system_metrics"] = False


def set_system_metrics_sampling_interval(interval: float | None) -> None:
    """Sample every so many seconds in runs that start from now on. None: as the environment says, or every 10 s."""
    _choose("system_metrics_interval", None if interval is None else check_interval(interval))


def set_system_metrics_samples_before_logging(samples: int | None) -> None:
    """Log a point as the mean of so many samples in runs that start from now on. None: as the environment says, or 1."""
    _choose("system_metrics_samples", None if samples is None else check_samples(samples))


def set_system_metrics_node_id(node_id: str | None) -> None:
    """Name this machine: metrics are called `system/<node id>/...` in runs that start from now on. None: as the environment says."""
    _choose("system_metrics_node_id", None if node_id is None else check_node_id(node_id))


def _choose(setting: str, value: object) -> None:
    if value is None:
        context.chosen.pop(setting, None)
    else:
        context.chosen[setting] = value


def _settings() -> Settings:
    return replace(context.settings, **context.chosen)


def is_wanted(argument: bool | None, *, attached: bool = False) -> bool:
    """Say whether a run that starts now logs system metrics.

    A process that attaches does so without being asked only as the first rank of its machine: the figures are the machine's. Where psutil
    is missing, an argument that asks for them raises; a switch, which may be set for a whole fleet, gives a warning.
    """
    if argument is None:
        argument = _settings().system_metrics and (not attached or _speaks_for_its_machine())
        return argument and _is_psutil_there(lifecycle.warn_once)
    return argument and _is_psutil_there(_refuse)


def _speaks_for_its_machine() -> bool:
    rank = Rank.of(os.environ)
    return rank is not None and rank.is_first_here


def _is_psutil_there(complain: Callable[[str], object]) -> bool:
    try:
        import_module("psutil")
    except ImportError as error:
        complain(
            f"system metrics need psutil ({error}): pip install 'flightlog[system]', or start the run with log_system_metrics=False, "
            "or call disable_system_metrics_logging()"
        )
        return False
    return True


def _refuse(message: str) -> None:
    raise FlightlogException(message)


def watch(run: ActiveRun, *, resumed: bool = False, attached: bool = False) -> None:
    """Log the machine's figures to a run, in the background, until this process ends the run or leaves it."""
    from flightlog.producer.system.watching import sampler  # noqa: PLC0415 - most scripts sample nothing

    settings = _settings()
    prefix = prefix_of(settings.system_metrics_node_id, Rank.of(os.environ), attached=attached, resumed=resumed)
    run.sampler = run.producer.sample(run.info.run_id, sampler(run, prefix, settings))
