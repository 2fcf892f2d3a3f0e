"""Types and schemas: what JSON says of them, what comes back from it, and what two of them have in common."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flightlog.schema.data_types import AnyType, Array, ColSpec, DataType, Map, Object, Property, Schema, TensorSpec, Type, merged
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.inference import infer_schema
from flightlog.types import Schema as Exported

LONG, TEXT = DataType.long, DataType.string
PAIR = Object([Property("b", TEXT), Property("a", LONG, required=False)])

SCHEMAS = [
    Schema([ColSpec(kind) for kind in DataType]),
    Schema([ColSpec(LONG, "a"), ColSpec(Array(TEXT), "b", required=False), ColSpec(Map(Array(PAIR)), "c"), ColSpec(AnyType(), "d")]),
    Schema([TensorSpec(np.dtype("float32"), (-1, 3))]),
    Schema([TensorSpec(np.dtype("int64"), (-1,), "x"), TensorSpec(np.dtype("str"), (-1, 2), "y")]),
]


@pytest.mark.parametrize("schema", SCHEMAS, ids=repr)
def test_a_schema_comes_back_from_its_json(schema: Schema) -> None:
    assert Schema.from_json(schema.to_json()) == schema
    assert Exported is Schema


def test_a_type_can_be_given_by_its_name() -> None:
    assert ColSpec("long").type is LONG  # type: ignore[arg-type]  # as scripts do
    assert Array("string") == Array(TEXT)  # type: ignore[arg-type]  # as scripts do


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (LONG, LONG, LONG),
        (LONG, AnyType(), LONG),
        (AnyType(), LONG, LONG),
        (AnyType(), AnyType(), AnyType()),
        (Array(AnyType()), Array(LONG), Array(LONG)),
        (Map(LONG), Map(AnyType()), Map(LONG)),
        (PAIR, PAIR, PAIR),
        (PAIR, AnyType(), Object([Property("a", LONG, required=False), Property("b", TEXT, required=False)])),
        (Object([Property("a", LONG)]), Object([Property("b", TEXT)]), Object([Property("a", LONG, False), Property("b", TEXT, False)])),
        (LONG, TEXT, None),
        (LONG, Array(LONG), None),
        (Array(LONG), Map(LONG), None),
        (Array(LONG), Array(TEXT), None),
    ],
    ids=repr,
)
def test_values_of_two_types_have_one_in_common_or_none(a: Type, b: Type, expected: Type | None) -> None:
    for first, second in ((a, b), (b, a)):
        if expected is None:
            with pytest.raises(InvalidParameter, match="are in one column"):
                merged(first, second)
        else:
            assert merged(first, second) == expected


@pytest.mark.parametrize(
    ("build", "match"),
    [
        (lambda: Schema([]), "at least one"),
        (lambda: Schema([ColSpec(LONG), ColSpec(LONG, "a")]), "all parts of a schema have names"),
        (lambda: Schema([ColSpec(LONG, "a"), TensorSpec(np.dtype("int64"), (1,), "b")]), "not both"),
        (lambda: Schema([TensorSpec(np.dtype("int64"), (1,))] * 2), "several tensors"),
        (lambda: Schema([ColSpec(LONG, required=False)]), "needs a name"),
        (lambda: Object([]), "at least one property"),
        (lambda: Object([Property("a", LONG)] * 2), "two properties named 'a'"),
        (lambda: Property(1, LONG), "must be a string"),  # type: ignore[arg-type]  # on purpose
        (lambda: ColSpec("nonsense"), "no type of data"),  # type: ignore[arg-type]  # on purpose
    ],
)
def test_what_cannot_be_is_refused(build: Any, match: str) -> None:
    with pytest.raises(InvalidParameter, match=match):
        build()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ([], Schema([ColSpec(TEXT)])),
        (["a", "b"], Schema([ColSpec(TEXT)])),
        ("a", Schema([ColSpec(TEXT)])),
        ([{"a": 1, "b": "x"}, {"a": 2}], Schema([ColSpec(LONG, "a"), ColSpec(TEXT, "b", required=False)])),
        ({"a": [1, 2], "b": "x"}, Schema([ColSpec(Array(LONG), "a"), ColSpec(TEXT, "b")])),
    ],
    ids=repr,
)
def test_lists_and_maps_of_values_have_schemas(data: Any, expected: Schema) -> None:
    assert infer_schema(data) == expected
