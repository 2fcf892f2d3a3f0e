"""The flight folder of a test."""

from __future__ import annotations

import pytest

from process.scripts import Flight, flight_of_environment


@pytest.fixture
def flight(clean_environment: None) -> Flight:
    """Return the flight folder that scripts log to."""
    return flight_of_environment()
