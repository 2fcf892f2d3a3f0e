"""Settings that a script may change while it runs."""

from __future__ import annotations

from flightlog.producer.context import context
from flightlog.producer.fluent import get_registry_uri, get_tracking_uri, is_tracking_uri_set, set_registry_uri, set_tracking_uri
from flightlog.producer.system.switches import (
    disable_system_metrics_logging,
    enable_system_metrics_logging,
    set_system_metrics_node_id,
    set_system_metrics_samples_before_logging,
    set_system_metrics_sampling_interval,
)

__all__ = [
    "disable_system_metrics_logging",
    "enable_async_logging",
    "enable_system_metrics_logging",
    "get_registry_uri",
    "get_tracking_uri",
    "is_tracking_uri_set",
    "set_registry_uri",
    "set_system_metrics_node_id",
    "set_system_metrics_samples_before_logging",
    "set_system_metrics_sampling_interval",
    "set_tracking_uri",
]


def enable_async_logging(enable: bool = True) -> None:
    """Say whether calls return when their event is in the journal (the default) or, with False, when the store has committed it."""
    context.synchronous = not enable
