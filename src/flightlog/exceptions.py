"""The errors under the path that MLflow scripts import them from."""

from flightlog.schema.errors import (
    AlreadyExists,
    FlightlogException,
    InvalidParameter,
    InvalidState,
    JournalFull,
    MlflowException,
    NotCommitted,
    NotFound,
    StoreUnavailable,
)

RestException = FlightlogException
"""What MLflow raises for an answer of a server: here one class, and `error_code`, tell errors apart."""

__all__ = [
    "AlreadyExists",
    "FlightlogException",
    "InvalidParameter",
    "InvalidState",
    "JournalFull",
    "MlflowException",
    "NotCommitted",
    "NotFound",
    "RestException",
    "StoreUnavailable",
]
