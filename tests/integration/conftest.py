"""A fresh flightlog in this process for every test: nothing active, the environment read anew, everything ended afterwards."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from flightlog.producer import lifecycle
from flightlog.producer.context import context


@pytest.fixture(autouse=True)
def fresh_flightlog(clean_environment: None) -> Iterator[None]:
    """Reset the process's state before and after."""
    context.reset()
    yield
    lifecycle.finish()
    context.reset()
