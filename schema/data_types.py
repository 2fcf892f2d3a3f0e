"""What data look like: the types of columns and tensors, with MLflow's names, constructors and JSON.

A `Schema` is a list of `ColSpec` or of `TensorSpec`. The type of a column is a `DataType` or is built of such: `Array`, `Object`, `Map`,
and `AnyType` for what only Nones were seen of. All are values.
"""

from __future__ import annotations

import datetime as dt
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np

from flightlog.schema.errors import InvalidParameter


class DataType(Enum):
    """A type of single values."""

    boolean = 1
    integer = 2
    long = 3
    float = 4
    double = 5
    string = 6
    binary = 7
    datetime = 8

    def __repr__(self) -> str:
        return self.name

    def to_dict(self) -> dict[str, Any]:
        """Return the type as JSON has it."""
        return {"type": self.name}

    def to_numpy(self) -> np.dtype[Any]:
        """Return the type of an array of such values."""
        return np.dtype(_NUMPY[self])

    def to_pandas(self) -> np.dtype[Any]:
        """Return the type of a column of such values; texts and bytes are objects."""
        return np.dtype(object) if self in (DataType.string, DataType.binary) else self.to_numpy()

    def to_python(self) -> type:
        """Return the type of one such value."""
        return _PYTHON[self]


_NUMPY = {
    DataType.boolean: "bool",
    DataType.integer: "int32",
    DataType.long: "int64",
    DataType.float: "float32",
    DataType.double: "float64",
    DataType.string: "str",
    DataType.binary: "bytes",
    DataType.datetime: "datetime64[ns]",
}
_PYTHON: dict[DataType, type] = {
    DataType.boolean: bool,
    DataType.integer: int,
    DataType.long: int,
    DataType.float: float,
    DataType.double: float,
    DataType.string: str,
    DataType.binary: bytes,
    DataType.datetime: dt.date,
}


@dataclass(frozen=True)
class AnyType:
    """The type of a column of which only Nones, or empty lists or maps, were seen."""

    def __repr__(self) -> str:
        return "Any"

    def to_dict(self) -> dict[str, Any]:
        """Return the type as JSON has it."""
        return {"type": "any"}


@dataclass(frozen=True)
class Array:
    """A list whose items have one type."""

    dtype: Type

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", as_type(self.dtype))

    def __repr__(self) -> str:
        return f"Array({self.dtype!r})"

    def to_dict(self) -> dict[str, Any]:
        """Return the type as JSON has it."""
        return {"type": "array", "items": self.dtype.to_dict()}


@dataclass(frozen=True)
class Map:
    """A map from texts to values of one type."""

    value_type: Type

    def __post_init__(self) -> None:
        object.__setattr__(self, "value_type", as_type(self.value_type))

    def __repr__(self) -> str:
        return f"Map(str -> {self.value_type!r})"

    def to_dict(self) -> dict[str, Any]:
        """Return the type as JSON has it."""
        return {"type": "map", "values": self.value_type.to_dict()}


@dataclass(frozen=True)
class Property:
    """One of the named values of an `Object`."""

    name: str
    dtype: Type
    required: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise InvalidParameter(f"the name of a property must be a string, not {type(self.name).__name__} {self.name!r}")
        object.__setattr__(self, "dtype", as_type(self.dtype))

    def __repr__(self) -> str:
        return f"{self.name}: {self.dtype!r} ({'required' if self.required else 'optional'})"

    def to_dict(self) -> dict[str, Any]:
        """Return the type by the name, as JSON has it."""
        return {self.name: {**self.dtype.to_dict(), "required": self.required}}


@dataclass(frozen=True)
class Object:
    """A map with values that have names and types of their own. They are in the order of the names."""

    properties: list[Property]

    def __post_init__(self) -> None:
        if not self.properties:
            raise InvalidParameter("an Object needs at least one property")
        ordered = sorted(self.properties, key=lambda item: item.name)
        for first, second in itertools.pairwise(ordered):
            if first.name == second.name:
                raise InvalidParameter(f"an Object cannot have two properties named {first.name!r}")
        object.__setattr__(self, "properties", ordered)

    def __repr__(self) -> str:
        return "{" + ", ".join(map(repr, self.properties)) + "}"

    def to_dict(self) -> dict[str, Any]:
        """Return the type as JSON has it."""
        return {"type": "object", "properties": {name: told for item in self.properties for name, told in item.to_dict().items()}}


Type = DataType | Array | Object | Map | AnyType


def as_type(given: Any) -> Type:  # noqa: ANN401 - a type or the name of one
    """Return a type, also for the name of a `DataType`."""
    if isinstance(given, str) and given in DataType.__members__:
        return DataType[given]
    if isinstance(given, (DataType, Array, Object, Map, AnyType)):
        return given
    raise InvalidParameter(f"{given!r} is no type of data; use Array, Object, Map, AnyType or one of {', '.join(DataType.__members__)}")


def type_from_dict(told: Mapping[str, Any]) -> Type:
    """Return the type that JSON tells of."""
    build = _READERS.get(told["type"])
    return build(told) if build else as_type(told["type"])


_READERS: dict[str, Callable[[Mapping[str, Any]], Type]] = {
    "array": lambda told: Array(type_from_dict(told["items"])),
    "map": lambda told: Map(type_from_dict(told["values"])),
    "any": lambda _: AnyType(),
    "object": lambda told: Object(
        [Property(name, type_from_dict(item), item.get("required", True)) for name, item in told["properties"].items()]
    ),
}


def merged(a: Type, b: Type) -> Type:
    """Return the type of what is of one type or the other. Raises `InvalidParameter` where there is none."""
    if a == b or isinstance(b, AnyType):
        return _optional(a) if isinstance(a, Object) and a != b else a
    if isinstance(a, AnyType):
        return merged(b, a)
    if isinstance(a, Array) and isinstance(b, Array):
        return Array(merged(a.dtype, b.dtype))
    if isinstance(a, Map) and isinstance(b, Map):
        return Map(merged(a.value_type, b.value_type))
    if isinstance(a, Object) and isinstance(b, Object):
        return _merged_objects(a, b)
    raise InvalidParameter(f"values of the types {a!r} and {b!r} are in one column; give it one type, or use AnyType")


def _optional(item: Object) -> Object:
    return Object([Property(known.name, known.dtype, required=False) for known in item.properties])


def _merged_objects(a: Object, b: Object) -> Object:
    first, second = ({item.name: item for item in each.properties} for each in (a, b))
    alone = [
        Property(item.name, item.dtype, required=False) for name, item in {**first, **second}.items() if (name in first) != (name in second)
    ]
    both = [
        Property(name, merged(first[name].dtype, second[name].dtype), first[name].required and second[name].required)
        for name in first
        if name in second
    ]
    return Object([*alone, *both])


@dataclass(frozen=True)
class ColSpec:
    """A column: its type, its name, None where columns have none, and whether it has a value in every row."""

    type: Type
    name: Any = None
    required: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "type", as_type(self.type))

    def __repr__(self) -> str:
        told = f"{self.type!r} ({'required' if self.required else 'optional'})"
        return told if self.name is None else f"{self.name!r}: {told}"

    def to_dict(self) -> dict[str, Any]:
        """Return the column as JSON has it."""
        return {**self.type.to_dict(), **({} if self.name is None else {"name": self.name}), "required": self.required}

    @classmethod
    def from_json_dict(cls, **told: Any) -> ColSpec:  # noqa: ANN401 - what JSON held
        """Return the column that JSON tells of."""
        return cls(type_from_dict(told), told.get("name"), told.get("required", True))


@dataclass(frozen=True)
class TensorSpec:
    """A tensor: its type, its shape, where -1 stands for any size, and its name, None where it is the only one."""

    type: np.dtype[Any]
    shape: tuple[int, ...]
    name: str | None = None
    required = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))

    def __repr__(self) -> str:
        told = f"Tensor({self.type.name!r}, {self.shape!r})"
        return told if self.name is None else f"{self.name!r}: {told}"

    def to_dict(self) -> dict[str, Any]:
        """Return the tensor as JSON has it."""
        told = {"type": "tensor", "tensor-spec": {"dtype": self.type.name, "shape": self.shape}}
        return told if self.name is None else {"name": self.name, **told}

    @classmethod
    def from_json_dict(cls, **told: Any) -> TensorSpec:  # noqa: ANN401 - what JSON held
        """Return the tensor that JSON tells of."""
        spec = told["tensor-spec"]
        return cls(np.dtype(spec["dtype"]), tuple(spec["shape"]), told.get("name"))


Spec = ColSpec | TensorSpec


@dataclass(frozen=True)
class Schema:
    """The columns or the tensors of data, in their order: all with names or all without."""

    inputs: list[Spec]

    def __post_init__(self) -> None:
        names = [item.name for item in self.inputs]
        if not self.inputs:
            raise InvalidParameter("a schema needs at least one column or tensor")
        if len({name is None for name in names}) > 1:
            raise InvalidParameter(f"either all parts of a schema have names or none has, not {names}")
        if len({isinstance(item, TensorSpec) for item in self.inputs}) > 1:
            raise InvalidParameter("a schema has columns or tensors, and not both")
        if self.is_tensor_spec() and len(names) > 1 and None in names:
            raise InvalidParameter("several tensors need names")
        if None in names and not all(item.required for item in self.inputs):
            raise InvalidParameter("a column that may lack values needs a name")

    def __len__(self) -> int:
        return len(self.inputs)

    def __iter__(self) -> Iterator[Spec]:
        return iter(self.inputs)

    def __repr__(self) -> str:
        return repr(self.inputs)

    def is_tensor_spec(self) -> bool:
        """Say whether it tells of tensors."""
        return isinstance(self.inputs[0], TensorSpec)

    def has_input_names(self) -> bool:
        """Say whether the columns or tensors have names."""
        return self.inputs[0].name is not None

    def input_names(self) -> list[Any]:
        """Return the names, the places where there are none."""
        return [item.name or place for place, item in enumerate(self.inputs)]

    def input_types(self) -> list[Any]:
        """Return the types."""
        return [item.type for item in self.inputs]

    def input_dict(self) -> dict[Any, Spec]:
        """Return the columns or tensors by their names. Raises `InvalidParameter` where they have none."""
        if not self.has_input_names():
            raise InvalidParameter("the columns of this schema have no names")
        return {item.name: item for item in self.inputs}

    def to_dict(self) -> list[dict[str, Any]]:
        """Return the schema as JSON has it."""
        return [item.to_dict() for item in self.inputs]

    def to_json(self) -> str:
        """Return the schema as JSON."""
        return json.dumps(self.to_dict(), default=str)

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """Return the schema that JSON tells of."""
        return cls([(TensorSpec if item["type"] == "tensor" else ColSpec).from_json_dict(**item) for item in json.loads(text)])
