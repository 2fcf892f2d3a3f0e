"""The pytest plugin, which pytest finds by itself where flightlog is installed: the fixture `flightlog_capture`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from flightlog.testing import Captured


@pytest.fixture
def flightlog_capture() -> Iterator[Captured]:
    """Keep in memory what the test logs: see `flightlog.testing.capture`."""
    from flightlog.testing import capture  # noqa: PLC0415 - each run of pytest imports this module, few tests need that one

    with capture() as captured:
        yield captured
