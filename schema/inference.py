"""Which schema data have: of a pandas frame or column, of arrays, and of lists and maps of Python values. The rules are MLflow's.

Raises `InvalidParameter` for data of which no schema can be told.
"""

from __future__ import annotations

import datetime as dt
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from flightlog.schema.data_types import AnyType, Array, ColSpec, DataType, Object, Property, Schema, TensorSpec, Type, merged
from flightlog.schema.errors import InvalidParameter

SCALARS: dict[type, DataType] = {
    bool: DataType.boolean,
    np.bool_: DataType.boolean,
    int: DataType.long,
    np.int64: DataType.long,
    np.int32: DataType.integer,
    float: DataType.double,
    np.float64: DataType.double,
    np.float32: DataType.float,
    str: DataType.string,
    np.str_: DataType.string,
    bytes: DataType.binary,
    np.bytes_: DataType.binary,
    bytearray: DataType.binary,
    object: DataType.string,
    dt.date: DataType.datetime,
    dt.datetime: DataType.datetime,
    np.datetime64: DataType.datetime,
}
KINDS = {"b": DataType.boolean, "U": DataType.string, "S": DataType.binary, "M": DataType.datetime}
"""By the kind of a numpy type whose size says nothing."""


def infer_schema(data: Any) -> Schema:  # noqa: ANN401 - data of many kinds
    """Return the schema of a frame, a column, an array, a map of arrays, or a list or map of values."""
    if is_frame(data):
        return Schema([_column_spec(data[name], name) for name in data.columns])
    if is_series(data):
        return Schema([_column_spec(data, data.name)])
    if isinstance(data, np.ndarray) or _is_sparse(data):
        return Schema([_tensor_spec(data)])
    if isinstance(data, Mapping):
        return _schema_of_map(data)
    if isinstance(data, list):
        return _schema_of_list(data)
    return Schema([ColSpec(_known(data))])


def is_frame(data: object) -> bool:
    """Say whether something is a pandas frame, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.DataFrame)


def is_series(data: object) -> bool:
    """Say whether something is a pandas column, without importing pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(data, pandas.Series)


def _is_sparse(data: object) -> bool:
    return getattr(data, "format", None) in ("csr", "csc") and hasattr(data, "shape")


def _tensor_spec(data: Any, name: str | None = None) -> TensorSpec:  # noqa: ANN401 - an array, dense or sparse
    if not data.shape:
        raise InvalidParameter("an array without dimensions has no schema: its first dimension counts the rows")
    dtype = np.dtype({"U": "str", "S": "bytes"}.get(data.dtype.char, data.dtype))
    return TensorSpec(dtype, (-1, *data.shape[1:]), name)


def _schema_of_map(data: Mapping[Any, Any]) -> Schema:
    if all(isinstance(value, np.ndarray) for value in data.values()):
        return Schema([_tensor_spec(value, name) for name, value in data.items()])
    if not all(isinstance(key, str) for key in data):
        raise InvalidParameter(f"the keys of a map must be texts to be names of columns, not {list(data)[:5]}")
    return Schema([ColSpec(_known(value), name, required=_is_required(value)) for name, value in data.items()])


def _schema_of_list(data: Sequence[Any]) -> Schema:
    if not data:
        return Schema([ColSpec(DataType.string)])
    if not all(isinstance(item, dict) for item in data):
        return Schema([ColSpec(_type_of_items(data))])
    columns: dict[Any, list[Any]] = {}
    for item in data:
        for name, value in item.items():
            columns.setdefault(name, []).append(value)
    required = {name: all(item.get(name) is not None for item in data) for name in columns}
    return Schema([ColSpec(_type_of_items(values), name, required=required[name]) for name, values in columns.items()])


def _is_required(value: Any) -> bool:  # noqa: ANN401 - any value
    return not any(map(is_missing, value)) if isinstance(value, list) else not is_missing(value)


def is_missing(value: Any) -> bool:  # noqa: ANN401 - any value
    """Say whether a value is None, NaN or one of pandas' words for what is missing."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _column_spec(column: Any, name: Any) -> ColSpec:  # noqa: ANN401 - a pandas column, unless two have one name
    if not is_series(column):
        raise InvalidParameter(f"several columns are named {name!r}; give each a name of its own")
    required = not any(map(is_missing, column)) if column.hasnans else True
    return ColSpec(_type_of_column(column), name, required=required)


def _type_of_column(column: Any) -> Type:  # noqa: ANN401 - a pandas column
    inferred = column.infer_objects() if column.dtype.kind == "O" else column
    if inferred.dtype.kind != "O":
        return type_of_numpy(inferred.dtype)
    try:
        return _type_of_items(inferred.to_list())
    except (InvalidParameter, TypeError):
        from pandas.api.types import is_string_dtype  # noqa: PLC0415 - pandas is an extra, and here whoever made the column has it

        if is_string_dtype(inferred):
            return DataType.string
        raise


def type_of_numpy(dtype: Any) -> DataType:  # noqa: ANN401 - a numpy or pandas type
    """Return the type of values that an array or column of a type holds. Raises `InvalidParameter`."""
    size = dtype.itemsize
    if dtype.kind in KINDS:
        return KINDS[dtype.kind]
    if dtype.kind in "iu" and (size < 4 or (dtype.kind == "i" and size == 4)):
        return DataType.integer
    if dtype.kind in "iu" and (size < 8 or (dtype.kind == "i" and size == 8)):
        return DataType.long
    if dtype.kind == "f" and size <= 8:
        return DataType.float if size <= 4 else DataType.double
    raise InvalidParameter(f"values of the type {dtype} have no type in a schema; convert them first, for example to float64 or text")


def _known(data: Any) -> Type:  # noqa: ANN401 - any value
    found = type_of(data)
    if found is None:
        raise InvalidParameter("an empty array has no type; it needs at least one item")
    return found


def type_of(data: Any) -> Type | None:  # noqa: ANN401 - any value
    """Return the type of a value, None for an empty array."""
    if is_missing(data) or (isinstance(data, (list, dict)) and not data):
        return AnyType()
    if isinstance(data, dict):
        return Object([_property(name, _known(value)) for name, value in data.items()])
    if isinstance(data, (list, np.ndarray)):
        return _type_of_array(data)
    if type(data) in SCALARS:
        return SCALARS[type(data)]
    raise InvalidParameter(f"{type(data).__name__} {str(data)[:100]!r} has no type in a schema; convert it first, for example to text")


def _property(name: Any, found: Type) -> Property:  # noqa: ANN401 - checked there
    return Property(name, found, required=not isinstance(found, AnyType))


def _type_of_array(items: Iterable[Any]) -> Array | None:
    result: Type | None = None
    for item in items:
        found = type_of(item)
        if found is not None:
            result = found if result is None else merged(result, found)
    return None if result is None else Array(result)


def _type_of_items(items: Sequence[Any]) -> Type:
    """Return the one type of the items of a list."""
    found = type_of(list(items))
    if not isinstance(found, Array):
        raise InvalidParameter("there is no value whose type could be told")
    return found.dtype
