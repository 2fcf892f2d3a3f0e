"""Runs as a pandas DataFrame. Needs the extra `pandas`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Literal

from flightlog.schema.errors import FlightlogException
from flightlog.stores.run_columns import INFO, RunColumns, columns_of, joined

try:
    import pandas as pd
except ImportError as error:
    raise FlightlogException(
        'pandas is not installed; use output_format="list", or install it with: pip install "flightlog[pandas]"'
    ) from error

UNIT: Literal["us", "ns"] = "us" if int(pd.__version__.partition(".")[0]) >= 3 else "ns"
"""What pandas itself makes of times, so that they are the same numbers as with MLflow."""


def runs_frame(pages: list[RunColumns]) -> pd.DataFrame:
    """Return one row a run, with MLflow's columns in MLflow's order."""
    runs = joined(pages or [columns_of([])])
    columns: dict[str, Any] = {name: runs.info[name] for name in INFO}
    columns |= {name: _times(columns[name]) for name in ("start_time", "end_time")}
    columns |= {f"metrics.{key}": values for key, values in runs.metrics.items()}
    texts = {f"{prefix}.{key}": values for prefix, part in (("params", runs.params), ("tags", runs.tags)) for key, values in part.items()}
    frame: pd.DataFrame = pd.DataFrame(columns | {name: pd.Series(values, dtype=object) for name, values in texts.items()})
    return frame


def _times(milliseconds: list[int | None]) -> pd.Series[Any]:
    times: pd.Series[Any] = pd.Series(pd.to_datetime(pd.Series(milliseconds, dtype="Int64"), unit="ms", utc=True))
    with suppress(pd.errors.OutOfBoundsDatetime):  # nanoseconds end in the year 2262
        times = times.dt.as_unit(UNIT)
    return times
