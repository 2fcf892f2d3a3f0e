"""A short soak; `make soak` runs the long one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services import Missing, absent
from soak import soaked

SEED = int(os.environ.get("SOAK_SEED", "20"))
SECONDS = 25.0


@pytest.mark.timeout(400)
def test_whatever_is_killed_every_point_arrives_once_and_in_order(tmp_path: Path) -> None:
    try:
        with soaked(SECONDS, SEED, tmp_path) as (soak, store):
            assert soak.judge(store) > 1000
    except Missing as reason:
        absent(reason)
