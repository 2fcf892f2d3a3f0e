"""Runs as a pandas DataFrame. Needs the extra `pandas`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flightlog.schema.entities import Run
from flightlog.schema.errors import FlightlogException

try:
    import pandas as pd
except ImportError as error:
    raise FlightlogException(
        'pandas is not installed; use output_format="list", or install it with: pip install "flightlog[pandas]"'
    ) from error


def runs_frame(runs: list[Run]) -> pd.DataFrame:
    """Return one row a run, with MLflow's columns in MLflow's order."""
    columns: dict[str, Any] = {
        "run_id": [run.info.run_id for run in runs],
        "experiment_id": [run.info.experiment_id for run in runs],
        "status": [run.info.status for run in runs],
        "artifact_uri": [run.info.artifact_uri for run in runs],
        "start_time": _times([run.info.start_time for run in runs]),
        "end_time": _times([run.info.end_time for run in runs]),
    }
    columns |= _spread("metrics", runs, lambda run: run.data.metrics, float("nan"))
    texts = _spread("params", runs, lambda run: run.data.params, None) | _spread("tags", runs, lambda run: run.data.tags, None)
    frame: pd.DataFrame = pd.DataFrame(columns | {name: pd.Series(values, dtype=object) for name, values in texts.items()})
    return frame


def _times(milliseconds: list[int | None]) -> pd.Series[Any]:
    times: pd.Series[Any] = pd.Series(pd.to_datetime(pd.Series(milliseconds, dtype="Int64"), unit="ms", utc=True))
    return times


def _spread(prefix: str, runs: list[Run], part: Callable[[Run], dict[str, Any]], missing: Any) -> dict[str, list[Any]]:  # noqa: ANN401 - a float or None
    keys = dict.fromkeys(key for run in runs for key in part(run))
    return {f"{prefix}.{key}": [part(run).get(key, missing) for run in runs] for key in keys}
