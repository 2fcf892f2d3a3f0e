"""The pytest plugin with the fixture `flightlog_capture`: `pytest_plugins = ["flightlog.pytest_plugin"]` in conftest.py.

It is no entry point: pytest would rewrite the assertions of all of flightlog in every project where that is installed.
"""

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
