"""The types of data under the path that MLflow scripts import them from."""

from flightlog.schema.data_types import AnyType, Array, ColSpec, DataType, Map, Object, Property, Schema, TensorSpec

__all__ = ["AnyType", "Array", "ColSpec", "DataType", "Map", "Object", "Property", "Schema", "TensorSpec"]
