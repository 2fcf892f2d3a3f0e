"""The histories of many runs and keys in one call, whole or as a stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypedDict, overload

from flightlog import columnar
from flightlog.reading import reader
from flightlog.schema.entities import Metric, Run
from flightlog.schema.errors import InvalidParameter
from flightlog.stores.base import Histories, History, Portion, RunReader

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa
    from typing_extensions import Unpack

Ids = Iterable["str | Run"] | str | Run
"""Run ids, or the runs themselves; one, or many."""
Keys = Iterable[str] | str | None


class Chosen(TypedDict, total=False):
    """Which points of a history are returned."""

    start_step: int | None
    end_step: int | None
    attempt: int | None
    sample: int | None


@overload
def get_metric_histories(
    run_ids: Ids, keys: Keys = ..., *, output_format: Literal["pandas"] = ..., **chosen: Unpack[Chosen]
) -> pd.DataFrame: ...


@overload
def get_metric_histories(run_ids: Ids, keys: Keys = ..., *, output_format: Literal["arrow"], **chosen: Unpack[Chosen]) -> pa.Table: ...


@overload
def get_metric_histories(
    run_ids: Ids, keys: Keys = ..., *, output_format: Literal["numpy"], **chosen: Unpack[Chosen]
) -> dict[str, dict[str, History]]: ...


@overload
def get_metric_histories(run_ids: Ids, keys: Keys = ..., *, output_format: Literal["list"], **chosen: Unpack[Chosen]) -> list[Metric]: ...


def get_metric_histories(
    run_ids: Ids,
    keys: Keys = None,
    *,
    start_step: int | None = None,
    end_step: int | None = None,
    attempt: int | None = None,
    sample: int | None = None,
    output_format: str = "pandas",
) -> Any:
    """Return the histories of many runs and keys, of all keys by default, that were logged to the current store.

    The formats are "pandas" and "arrow", a table with the columns run_id, key, step, timestamp (ms, UTC) and value; "numpy", a
    `History` of arrays for each run and key, as `{run_id: {key: history}}`; "list", entities `Metric` with their `run_id`. A table has the
    runs in the order given, then the keys in theirs or else by name, then the points by step. Steps are from `start_step` to
    `end_step`, inclusive; attempts count as in `Client.get_metric_history`. With `sample`, at least 4, no more than so many points of
    each run and key are returned, always the same: the first, the last, the least, the greatest, and the least and greatest of equal
    parts of the rest. What is unknown has no points. Raises `InvalidParameter`.
    """
    return histories_from(reader(), run_ids, keys, Portion(start_step, end_step, attempt, sample), output_format)


def stream_metric_histories(
    run_ids: Ids,
    keys: Keys = None,
    *,
    start_step: int | None = None,
    end_step: int | None = None,
    attempt: int | None = None,
    sample: int | None = None,
) -> pa.RecordBatchReader:
    """Return what `get_metric_histories` does as a stream of Arrow record batches of about a million rows, each read when it is asked for.

    So memory does not grow with the number of points. All batches have the same dictionaries of run ids and keys: of those asked for, and
    without `keys` of those that the runs have now. The stream holds a connection to the store until it is at its end or nothing refers to
    it.
    """
    return stream_from(reader(), run_ids, keys, Portion(start_step, end_step, attempt, sample))


def histories_from(store: RunReader, run_ids: Ids, keys: Keys, portion: Portion, output_format: str) -> Any:  # noqa: ANN401 - one of several formats
    """See `get_metric_histories`."""
    if output_format not in columnar.FORMATS:
        raise InvalidParameter(f"output_format must be one of {', '.join(map(repr, columnar.FORMATS))}, not {output_format!r}")
    return columnar.FORMATS[output_format](batches_from(store, run_ids, keys, portion))


def stream_from(store: RunReader, run_ids: Ids, keys: Keys, portion: Portion) -> pa.RecordBatchReader:
    """See `stream_metric_histories`."""
    ids, wanted = _ids(run_ids), _keys(keys)
    known = store.metric_keys(ids) if wanted is None else wanted
    return columnar.record_batches(store.metric_histories(ids, known, portion), columnar.Labels(ids, known))


def batches_from(store: RunReader, run_ids: Ids, keys: Keys, portion: Portion) -> Iterator[Histories]:
    """Return the histories of runs, given by themselves or by their ids, in batches."""
    return store.metric_histories(_ids(run_ids), _keys(keys), portion)


def _ids(run_ids: Ids) -> list[str]:
    items = [run_ids] if isinstance(run_ids, (str, Run)) else list(run_ids)
    found = [item.info.run_id if isinstance(item, Run) else item for item in items]
    for item in found:
        if not isinstance(item, str):
            raise InvalidParameter(f"run_ids must hold run ids or runs, and {item!r} is neither")
    return found


def _keys(keys: Keys) -> list[str] | None:
    return [keys] if isinstance(keys, str) else None if keys is None else list(keys)
