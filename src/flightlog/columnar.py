"""Histories as Arrow, pandas, numpy or entities. Arrow needs the extra `arrow`, pandas the extra `pandas`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from flightlog.schema.entities import Metric
from flightlog.schema.errors import FlightlogException
from flightlog.stores.base import Histories, History
from flightlog.stores.series import merged, to_metrics

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

Numbers = npt.NDArray[np.int32]


class Words:
    """Numbers words in the order in which they come, some before all others."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        self._numbers = {word: number for number, word in enumerate(dict.fromkeys(words))}
        self._array: Any = None

    def numbers(self, words: Iterable[str], counts: npt.NDArray[np.int64]) -> Numbers:
        """Return the number of each word as often as `counts` says."""
        found = [self._numbers.setdefault(word, len(self._numbers)) for word in words]
        return np.repeat(np.array(found, np.int32), counts)

    def __iter__(self) -> Iterator[str]:
        """Yield the words in the order of their numbers."""
        return iter(self._numbers)

    def dictionary(self) -> pa.StringArray:
        """Return the words in the order of their numbers, the same array as before where no word has come since."""
        if self._array is None or len(self._array) < len(self._numbers):
            pa = arrow()
            self._array = pa.array(self._numbers, pa.string())
        return self._array


class Labels:
    """Numbers of run ids and of keys, the same for all batches: a later batch may know more of them, and none by another number."""

    def __init__(self, run_ids: Iterable[str] = (), keys: Iterable[str] = ()) -> None:
        self.run_ids, self.keys = Words(run_ids), Words(keys)

    def of(self, batch: Histories) -> tuple[Numbers, Numbers]:
        """Return the number of run id and key for each point of a batch."""
        counts = np.diff(batch.bounds)
        return self.run_ids.numbers((run_id for run_id, _ in batch.owners), counts), self.keys.numbers(
            (key for _, key in batch.owners), counts
        )


def arrow() -> Any:  # noqa: ANN401 - pyarrow has no types
    """Return the module pyarrow. Raises `FlightlogException`, which says how to install it."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra, and it takes long to import
    except ImportError as error:
        raise FlightlogException('pyarrow is not installed; install it with: pip install "flightlog[arrow]"') from error
    return pa


def has_arrow() -> bool:
    """Say whether pyarrow is installed."""
    return find_spec("pyarrow") is not None


def pandas() -> Any:  # noqa: ANN401 - the module
    """Return the module pandas. Raises `FlightlogException`, which says how to install it."""
    try:
        import pandas as pd  # noqa: PLC0415 - an extra, and it takes long to import
    except ImportError as error:
        raise FlightlogException('pandas is not installed; install it with: pip install "flightlog[pandas]"') from error
    return pd


def history_schema() -> pa.Schema:
    """Return the columns of histories: run_id and key in dictionaries, step, timestamp (ms, UTC) and value. None is ever null."""
    pa = arrow()
    word = pa.dictionary(pa.int32(), pa.string())
    types = {"run_id": word, "key": word, "step": pa.int64(), "timestamp": pa.timestamp("ms", tz="UTC"), "value": pa.float64()}
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in types.items()])


def record_batches(batches: Iterable[Histories], labels: Labels) -> pa.RecordBatchReader:
    """Return batches of histories as a stream of Arrow record batches, each read when it is asked for.

    Where `labels` know all run ids and keys from the beginning, the batches have one dictionary. Arrow can neither group by dictionaries
    that differ nor write them into a file of its own format; Parquet takes them.
    """
    schema = history_schema()
    return arrow().RecordBatchReader.from_batches(
        schema, (_record_batch(schema, labels, *labels.of(batch), batch.points) for batch in batches)
    )


def arrow_table(batches: Iterable[Histories]) -> pa.Table:
    """Return histories as an Arrow table. Its numbers are those that were read, not copies, and its chunks have one dictionary."""
    schema, labels = history_schema(), Labels()
    read = [(*labels.of(batch), batch.points) for batch in batches]
    return arrow().Table.from_batches([_record_batch(schema, labels, *columns) for columns in read], schema)


def _record_batch(schema: pa.Schema, labels: Labels, run: Numbers, key: Numbers, points: History) -> pa.RecordBatch:
    pa = arrow()
    times = pa.Array.from_buffers(schema.field("timestamp").type, len(points), [None, pa.py_buffer(points.timestamp)])
    words = (_dictionary(run, labels.run_ids), _dictionary(key, labels.keys))
    return pa.record_batch([*words, pa.array(points.step), times, pa.array(points.value)], schema=schema)


def _dictionary(numbers: Numbers, words: Words) -> pa.DictionaryArray:
    pa = arrow()
    return pa.DictionaryArray.from_arrays(pa.array(numbers), words.dictionary())


def history_frame(batches: Iterable[Histories]) -> pd.DataFrame:
    """Return histories as a DataFrame: run_id and key are categories, timestamp is in UTC."""
    frames, labels = pandas(), Labels()
    read = [(*labels.of(batch), batch.points.step, batch.points.timestamp, batch.points.value) for batch in batches]
    empty = (np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    run, key, step, time, value = (
        np.concatenate(column) if len(column) > 1 else column[0] for column in zip(*(read or [empty]), strict=True)
    )
    columns = {
        "run_id": frames.Categorical.from_codes(run, list(labels.run_ids)),
        "key": frames.Categorical.from_codes(key, list(labels.keys)),
        "step": step,
        "timestamp": frames.Series(time.view("M8[ms]"), copy=False).dt.tz_localize("UTC"),
        "value": value,
    }
    frame: pd.DataFrame = frames.DataFrame(columns, copy=False)
    return frame


def arrays(batches: Iterable[Histories]) -> dict[str, dict[str, History]]:
    """Return the history of each key of each run."""
    parts: dict[str, dict[str, list[History]]] = {}
    for batch in batches:
        for run_id, key, history in batch:
            parts.setdefault(run_id, {}).setdefault(key, []).append(history)
    return {run_id: {key: merged(found) for key, found in keys.items()} for run_id, keys in parts.items()}


def metrics(batches: Iterable[Histories]) -> list[Metric]:
    """Return each point as an entity, with its run's id; those of a metric ordered by (timestamp, step, value)."""
    every = ((run_id, key, history) for run_id, keys in arrays(batches).items() for key, history in keys.items())
    return [item for run_id, key, history in every for item in to_metrics(key, history, run_id)]


FORMATS: dict[str, Callable[[Iterable[Histories]], Any]] = {
    "pandas": history_frame,
    "arrow": arrow_table,
    "numpy": arrays,
    "list": metrics,
}
"""What histories can be returned as."""
