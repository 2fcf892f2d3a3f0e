"""Ids are made by the client, without a round trip; clocks count milliseconds since the epoch, UTC."""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import NewType

RunId = NewType("RunId", str)
ExperimentId = NewType("ExperimentId", str)
WriterId = NewType("WriterId", str)

DEFAULT_EXPERIMENT_ID = ExperimentId("0")
DEFAULT_EXPERIMENT_NAME = "Default"
EXPERIMENT_SUBJECT = "experiment:"


def new_run_id() -> RunId:
    """Return 32 random hexadecimal digits."""
    return RunId(uuid.uuid4().hex)


def new_writer_id() -> WriterId:
    """Return 32 random hexadecimal digits that name one process writing to one subject."""
    return WriterId(uuid.uuid4().hex)


def experiment_id_for(name: str, predecessors: int = 0) -> ExperimentId:
    """Return the 63-bit decimal id of an experiment name, so that two offline machines mean the same experiment.

    The default experiment keeps MLflow's id "0". `predecessors` is how many experiments of that name have been renamed since.
    """
    if name == DEFAULT_EXPERIMENT_NAME and not predecessors:
        return DEFAULT_EXPERIMENT_ID
    told = f"{name}\0{predecessors}" if predecessors else name
    digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).digest()
    return ExperimentId(str(int.from_bytes(digest[:8], "big") >> 1))


def experiment_subject(experiment_id: str) -> str:
    """Return the subject under which events of an experiment are journaled (a run's subject is its run id)."""
    return EXPERIMENT_SUBJECT + experiment_id


_latest = 0


def monotone_ms() -> int:
    """Return milliseconds since the epoch, UTC, but never less than before in this process, whatever is done to the clock.

    The time of every event that is no metric: within a process, what was called later counts as later.
    """
    global _latest  # noqa: PLW0603 - one clock for the process; two threads at once give at worst the same time
    _latest = max(_latest, now_ms())
    return _latest


def now_ms() -> int:
    """Return milliseconds since the epoch, UTC."""
    return time.time_ns() // 1_000_000
