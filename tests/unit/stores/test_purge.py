"""Purging takes no more memory than a few blocks, however much was logged."""

from __future__ import annotations

import tracemalloc
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from contracts.facts import RUN, WRITER, block, started
from flightlog.schema.blocks import Block
from flightlog.schema.columns import join_metrics
from flightlog.schema.errors import NotFound
from flightlog.stores.purging import purge_block
from flightlog.stores.sql.store import SqlStore

BLOCKS, POINTS = 200, 5000


def test_the_ledger_of_a_run_that_is_purged_is_not_held_in_memory() -> None:
    with closing(SqlStore(f"sqlite:///{Path.cwd() / 'tracking.db'}")) as store:
        store.apply([block(RUN, started())])
        steps, values = np.arange(POINTS), np.random.default_rng(0).random(POINTS)
        records = join_metrics(steps * 0, steps, steps, values)
        for number in range(BLOCKS):
            store.apply([Block(RUN, WRITER, 1 + number * POINTS, {0: "loss"}, records)])
        tracemalloc.start()
        store.apply([purge_block(RUN, 5000)])
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < BLOCKS * values.nbytes / 3
        with pytest.raises(NotFound):
            store.get_run(RUN)
