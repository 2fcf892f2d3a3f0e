"""Datasets of all sorts, made with whichever module has MLflow's constructors; also a command that tells what MLflow says of them."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl

MOMENT = dt.datetime(2020, 1, 1)  # noqa: DTZ001 - most columns of times have no zone
Build = Callable[[Any], Any]


def frames() -> dict[str, pd.DataFrame]:
    """Return frames of all sorts."""
    rng = np.random.default_rng(7)
    large = pd.DataFrame({"x": rng.normal(size=10_050), "name": [f"n{number % 13}" for number in range(10_050)]})
    return {
        "plain": pd.DataFrame({"a": [1, 2, 3], "b": [0.5, -0.0, 2.0], "c": ["x", "y", "z"]}),
        "numbers": pd.DataFrame({name: np.array([0, 1, 2], name) for name in NUMBER_TYPES}),
        "large numbers": pd.DataFrame({"u": np.array([1, 2**63], "uint64")}),
        "half": pd.DataFrame({"h": np.array([1, 2], "float16")}),
        "complex": pd.DataFrame({"z": [1j, 2j]}),
        "missing": pd.DataFrame({"a": [1.0, np.nan, np.inf], "b": ["x", None, "z"], "c": [None, None, None]}),
        "extension": pd.DataFrame(
            {"i": pd.array([1, None], "Int64"), "b": pd.array([True, None], "boolean"), "s": pd.array(["a", None], "string")}
        ),
        "texts": pd.DataFrame({"o": pd.Series(["a", "b"], dtype=object), "s": pd.array(["a", "b"], "string")}),
        "categories": pd.DataFrame(
            {"c": pd.Categorical(["a", "b", "a"]), "n": pd.Categorical([1, 2, 1]), "m": pd.Categorical(["a", None, "b"])}
        ),
        "times": pd.DataFrame({"t": pd.date_range("2020-01-01", periods=2), "z": pd.date_range("2020", periods=2, tz="UTC")}),
        "spans": pd.DataFrame({"d": pd.to_timedelta([1, 2], "s")}),
        "objects": pd.DataFrame({"d": [dt.date(2020, 1, 1)], "t": [MOMENT], "b": [b"x"], "f": [True]}),
        "mixed": pd.DataFrame({"m": pd.Series([1, "a"], dtype=object), "n": [1, 2]}),
        "decimals": pd.DataFrame({"d": [decimal.Decimal(1), decimal.Decimal(2)]}),
        "lists": pd.DataFrame({"l": [["a", "b"], []], "n": [[1], [2, 3]], "e": [[], []], "d": [[["a"], []], [[]]]}),
        "arrays": pd.DataFrame({"a": [np.array([1.0, 2.0]), np.array([3.0])], "e": [np.array([]), np.array([1], "int32")]}),
        "maps": pd.DataFrame({"m": [{"a": 1, "b": {"c": "x"}}, {"a": None, "b": {"d": 1.5}}], "n": [{}, {"x": [1]}]}),
        "unlike lists": pd.DataFrame({"l": [["a"], [1]]}),
        "unlike maps": pd.DataFrame({"l": [{"a": 1}, {"a": "x"}]}),
        "only nones": pd.DataFrame({"n": [None, None]}),
        "no rows": pd.DataFrame({"a": np.array([], "int64"), "b": pd.Series([], dtype=object)}),
        "no columns": pd.DataFrame(index=[0, 1]),
        "nothing": pd.DataFrame(),
        "numbered columns": pd.DataFrame([[1, 2.0], [3, 4.0]]),
        "columns of one name": pd.DataFrame([[1, 2]], columns=["a", "a"]),
        "columns of two levels": pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "b"), ("a", "c")])),
        "other index": pd.DataFrame({"a": [1, 2]}, index=["x", "y"]),
        "not in order": pd.DataFrame({"z": ["b", "a"], "a": [2, 1], "m": [0.1, 0.2]}),
        "a column without name": pd.DataFrame({None: [1], "a": [2]}),
        "letters": pd.DataFrame({"ключ": ["ä", "🙂"]}),
        "large": large,
        "large, more": large.assign(x=large["x"].where(large.index < 10_000, 0.0)),
        "large, fewer": large.head(10_001),
    }


NUMBER_TYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "float32", "float64", "bool")


def arrays() -> dict[str, dict[str, Any]]:
    """Return features and targets of all sorts."""
    rng = np.random.default_rng(7)
    structured = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
    return {
        "vector": {"features": np.arange(5)},
        "cube": {"features": rng.normal(size=(4, 3, 2)), "targets": np.array([0, 1, 0, 1])},
        "columns first": {"features": np.asfortranarray(rng.normal(size=(30, 40)))},
        "every second": {"features": np.arange(40).reshape(4, 10)[::2, ::2]},
        "large": {"features": rng.normal(size=(200, 60))},
        "large, more": {"features": rng.normal(size=(300, 60)), "targets": np.arange(20_000)},
        "maps": {"features": {"b": np.ones((2, 2)), "a": np.zeros(2, "int32")}, "targets": {"y": np.array(["p", "q"])}},
        "texts": {"features": np.array(["a", "long"]), "targets": np.array([b"a", b"bc"])},
        "flags": {"features": np.array([True, False])},
        "times": {"features": np.array(["2020-01-01", "2020-01-02"], "datetime64[ns]")},
        "complex": {"features": np.array([1j, 2])},
        "half": {"features": np.array([1, 2], "float16")},
        "objects": {"features": np.array(["a", 1, None], dtype=object)},
        "structured": {"features": structured},
        "missing": {"features": np.array([np.nan, -0.0, np.inf])},
        "empty": {"features": np.empty((0, 3))},
        "a number": {"features": np.array(3.0)},
    }


def polars_frames() -> dict[str, pl.DataFrame]:
    """Return Polars frames of all sorts."""
    return {
        "plain": pl.DataFrame({"a": [1, 2], "b": ["x", None], "c": [0.5, 1.5], "d": [True, False], "e": [b"x", b"y"]}),
        "types": pl.DataFrame({name: [1] for name in ("i8", "i16", "i32", "u8", "u16", "u32", "f32")}).cast(
            {"i8": pl.Int8, "i16": pl.Int16, "i32": pl.Int32, "u8": pl.UInt8, "u16": pl.UInt16, "u32": pl.UInt32, "f32": pl.Float32}
        ),
        "nested": pl.DataFrame({"l": [[1, 2], [3]], "s": [{"x": 1, "y": ["a"]}, {"x": 2, "y": []}]}),
        "times": pl.DataFrame({"d": [dt.date(2020, 1, 1)], "t": [MOMENT]}),
        "categories": pl.DataFrame({"c": ["a", "b"]}).cast({"c": pl.Categorical}),
        "nothing but nulls": pl.DataFrame({"n": pl.Series([None, None], dtype=pl.Int64)}),
        "no type": pl.DataFrame({"d": [dt.timedelta(1)]}),
        "empty": pl.DataFrame({"a": pl.Series([], dtype=pl.Int64)}),
        "nothing": pl.DataFrame(),
    }


SOURCES: dict[str, Any] = {
    "a relative path": "data.csv",
    "a path": "/data/train.csv",
    "a Path": Path("/data/train.csv"),
    "a file URI": "file:///data/train.csv",
    "s3": "s3://bucket/key.parquet",
    "gs": "gs://bucket/key",
    "wasbs": "wasbs://container@account.blob.core.windows.net/key",
    "abfss": "abfss://container@account.dfs.core.windows.net/key",
    "hdfs": "hdfs://host/key",
    "viewfs": "viewfs://host/key",
    "ftp": "ftp://user@host/key",
    "sftp": "sftp://host/key",
    "r2": "r2://bucket@account/key",
    "b2": "b2://bucket/key",
    "http": "http://host/data.tar.gz",
    "https": "https://host/data.tar.gz?x=1",
}


def cases() -> dict[str, Build]:
    """Return what makes each dataset, given the module that has the constructors."""
    source = "/data/train.csv"
    small = frames()["plain"]
    found: dict[str, Build] = {}
    found |= {f"pandas: {name}": _caller("from_pandas", df, source=source) for name, df in frames().items()}
    found |= {f"numpy: {name}": _caller("from_numpy", **item, source=source) for name, item in arrays().items()}
    found |= {f"polars: {name}": _caller("from_polars", df, source=source) for name, df in polars_frames().items()}
    found |= {f"source: {name}": _caller("from_pandas", small, source=uri, digest="1") for name, uri in SOURCES.items()}
    found["targets"] = _caller("from_pandas", small, source=source, targets="c", predictions="a", name="with targets")
    found["digest"] = _caller("from_pandas", small, source=source, digest="abc")
    found["meta"] = lambda data: data.meta_dataset.MetaDataset(
        data.http_dataset_source.HTTPDatasetSource("https://host/x.tar.gz"), name="m"
    )
    found["meta without name"] = lambda data: data.meta_dataset.MetaDataset(data.http_dataset_source.HTTPDatasetSource(url="http://host/x"))
    found["hub"] = lambda data: data.meta_dataset.MetaDataset(
        data.huggingface_dataset_source.HuggingFaceDatasetSource("owner/name", "config", split="train")
    )
    found["code"] = lambda data: data.meta_dataset.MetaDataset(data.code_dataset_source.CodeDatasetSource({"mlflow.user": "ada"}))
    return found


def _caller(function: str, *args: Any, **kwargs: Any) -> Build:
    return lambda data: getattr(data, function)(*args, **kwargs)


def told(data: Any) -> dict[str, Any]:
    """Return what a module says of each dataset, or that it refuses it."""
    return {name: _told(build, data) for name, build in cases().items()}


def _told(build: Build, data: Any) -> Any:
    try:
        found = build(data).to_dict()
    except Exception as error:  # noqa: BLE001 - whatever it raises, it refuses
        return f"refused: {error}"
    schema = found.get("schema")
    return {**found, "schema": None if schema == "null" else schema, "profile": found.get("profile")}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    import mlflow.data

    sys.stdout.write(json.dumps(told(mlflow.data)))
