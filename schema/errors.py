"""Every error that flightlog raises on purpose.

    FlightlogException            error_code INTERNAL_ERROR        (MlflowException is an alias)
    |-- InvalidParameter          INVALID_PARAMETER_VALUE          the caller's arguments break a rule
    |-- InvalidState              INVALID_STATE                    the thing is not in a state that allows the call
    |-- NotFound                  RESOURCE_DOES_NOT_EXIST          no such run, experiment, tag or artifact
    |-- AlreadyExists             RESOURCE_ALREADY_EXISTS          the name is taken
    |-- NotCommitted              TEMPORARILY_UNAVAILABLE          a bounded wait for the commit ran out; nothing is lost
    |-- JournalFull               RESOURCE_EXHAUSTED               the spool is full and the policy is "raise"
    |-- StoreUnavailable          TEMPORARILY_UNAVAILABLE          the database cannot be reached or is not ours
    |   `-- QueueUnavailable      TEMPORARILY_UNAVAILABLE          the queue cannot be reached or takes nothing now
    |-- ArtifactDamaged           DATA_LOSS                        a stored artifact is not what was logged
    `-- DecodeError               DATA_LOSS                        bytes that are no event of a version known here

The error codes and their HTTP statuses are those of MLflow's REST protocol, so that a handler written for them still works.
"""

from __future__ import annotations

import json

HTTP_STATUS = {
    "BAD_REQUEST": 400,
    "INVALID_PARAMETER_VALUE": 400,
    "RESOURCE_ALREADY_EXISTS": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "ENDPOINT_NOT_FOUND": 404,
    "RESOURCE_DOES_NOT_EXIST": 404,
    "RESOURCE_CONFLICT": 409,
    "RESOURCE_EXHAUSTED": 429,
    "NOT_IMPLEMENTED": 501,
    "TEMPORARILY_UNAVAILABLE": 503,
}


class FlightlogException(Exception):
    """The base of all errors raised by flightlog; `error_code` is a name of MLflow's REST protocol."""

    error_code = "INTERNAL_ERROR"

    def __init__(self, message: object, error_code: str | None = None) -> None:
        self.message = str(message)
        if error_code is not None:
            self.error_code = error_code
        super().__init__(self.message)

    def get_http_status_code(self) -> int:
        """Return the HTTP status that MLflow's server gives to this error code; 500 for one not in the table."""
        return HTTP_STATUS.get(self.error_code, 500)

    def serialize_as_json(self) -> str:
        """Return the body that MLflow's REST protocol uses for errors."""
        return json.dumps({"error_code": self.error_code, "message": self.message})


class InvalidParameter(FlightlogException):
    """An argument breaks a rule; nothing was written."""

    error_code = "INVALID_PARAMETER_VALUE"


class InvalidState(FlightlogException):
    """The run or experiment is not in a state that allows the call."""

    error_code = "INVALID_STATE"


class NotFound(FlightlogException):
    """No such run, experiment, tag or artifact."""

    error_code = "RESOURCE_DOES_NOT_EXIST"


class AlreadyExists(FlightlogException):
    """The name is taken."""

    error_code = "RESOURCE_ALREADY_EXISTS"


class NotCommitted(FlightlogException):
    """A bounded wait for the commit ran out. The events are in the journal and will arrive later."""

    error_code = "TEMPORARILY_UNAVAILABLE"


class JournalFull(FlightlogException):
    """The spool or the disk is full and the policy is "raise"; the event was not recorded."""

    error_code = "RESOURCE_EXHAUSTED"


class StoreUnavailable(FlightlogException):
    """The database cannot be reached, or holds something that is not a flightlog store."""

    error_code = "TEMPORARILY_UNAVAILABLE"


class QueueUnavailable(StoreUnavailable):
    """The queue on the way to the store cannot be reached, or takes nothing now. The events stay in the journal."""


class ArtifactDamaged(FlightlogException):
    """A stored artifact, or the copy that waits to be stored, is not what was logged: its size or its checksum differs."""

    error_code = "DATA_LOSS"


class DecodeError(FlightlogException):
    """Bytes that are no event of a type and version known here; `reason` is the dead letter's reason."""

    error_code = "DATA_LOSS"

    def __init__(self, reason: str, message: str) -> None:
        self.reason = reason
        super().__init__(message)


MlflowException = FlightlogException
