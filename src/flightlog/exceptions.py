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

__all__ = [
    "AlreadyExists",
    "FlightlogException",
    "InvalidParameter",
    "InvalidState",
    "JournalFull",
    "MlflowException",
    "NotCommitted",
    "NotFound",
    "StoreUnavailable",
]
