"""The bell is heard by a worker, and only by one."""

from __future__ import annotations

from pathlib import Path

import pytest

from flightlog.producer import doorbell
from flightlog.schema.names import DOORBELL
from flightlog.stores.memory import MemoryStore
from flightlog.worker.sources.spool import SpoolSource


def test_nobody_answers_where_there_is_no_spool(tmp_path: Path) -> None:
    assert not doorbell.ring(tmp_path / "nowhere")


def test_nobody_answers_after_the_worker_has_left(tmp_path: Path) -> None:
    SpoolSource(tmp_path, MemoryStore().position).close()
    assert (tmp_path / DOORBELL).exists()
    assert not doorbell.ring(tmp_path)


def test_a_plain_file_in_place_of_the_bell_is_no_worker(tmp_path: Path) -> None:
    (tmp_path / DOORBELL).touch()
    assert not doorbell.ring(tmp_path)
    assert (tmp_path / DOORBELL).read_bytes() == b""


@pytest.mark.parametrize("rings", [1, 100_000])
def test_a_worker_hears_the_bell_however_often_it_is_rung(tmp_path: Path, rings: int) -> None:
    source = SpoolSource(tmp_path, MemoryStore().position)
    try:
        assert all(doorbell.ring(tmp_path) for _ in range(rings))
        source.wait(60)  # returns at once, or the test takes too long
    finally:
        source.close()
