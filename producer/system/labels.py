"""Under which names a process logs system metrics, so that several processes of one run do not mix.

    who logs                                                         prefix
    the process that started the run                                 system/
    one that attached to it                                          system/<host>/
    the same, when it is not the first of its ranks on the host      system/<host>/rank_<rank>/
    the same, in a process of multiprocessing without a rank         system/<host>/<name of the process>/

A node id takes the place of the host and, as in MLflow, stands alone in a process that started or resumed the run. A process that
resumes a run counts as attached when it has a rank other than 0 and no node id: that is how the ranks of an MLflow script come to one run.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from flightlog.schema.sampling import SYSTEM_PREFIX

RANK_VARIABLES = (
    ("RANK", "LOCAL_RANK"),
    ("SLURM_PROCID", "SLURM_LOCALID"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"),
    ("PMI_RANK", "MPI_LOCALRANKID"),
)
"""Where launchers say which rank a process has, in all and on its machine: torchrun and its like, Slurm, Open MPI, MPICH and Intel MPI."""
MAX_LABEL = 60


@dataclass(frozen=True)
class Rank:
    """Which of several processes this is. `local` is its number on its machine, None where nobody says."""

    number: int
    local: int | None

    @property
    def is_first_here(self) -> bool:
        """Whether it may speak for its machine."""
        return not (self.number if self.local is None else self.local)

    @staticmethod
    def of(environ: Mapping[str, str]) -> Rank | None:
        """Return what the launcher said, None without one."""
        for variable, local_variable in RANK_VARIABLES:
            number = _number(environ.get(variable))
            if number is not None:
                return Rank(number, _number(environ.get(local_variable)))
        return None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdecimal() else None


def prefix_of(node_id: str | None, rank: Rank | None, *, attached: bool, resumed: bool = False) -> str:
    """Return what the names of this process's system metrics begin with."""
    if resumed and node_id is None and rank is not None and rank.number:
        attached = True
    if not attached:
        return f"{SYSTEM_PREFIX}{node_id}/" if node_id else SYSTEM_PREFIX
    parts = [node_id or _label(platform.node() or "host"), _process(rank)]
    return SYSTEM_PREFIX + "".join(f"{part}/" for part in parts if part)


def _process(rank: Rank | None) -> str | None:
    if rank is not None:
        return None if rank.is_first_here else f"rank_{rank.number}"
    processes = sys.modules.get("multiprocessing.process")  # whoever is a process of it has it imported
    if processes is None or processes.parent_process() is None:
        return None
    return _label(processes.current_process().name)


def _label(text: str) -> str:
    """Return a text as a part of a metric's name."""
    return re.sub(r"[^\w.\-]|^\.+", "_", text)[:MAX_LABEL] or f"process_{os.getpid()}"
