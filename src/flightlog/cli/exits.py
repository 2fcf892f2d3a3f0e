"""What the exit codes mean, and which error becomes which."""

from __future__ import annotations

from flightlog.schema.errors import FlightlogException, InvalidParameter, JournalFull, NotFound, StoreUnavailable

FINE = 0
UNEXPECTED = 1
USAGE = 2
NOT_FOUND = 3
UNREACHABLE = 4
PROBLEMS = 5
TAKEN = 6
READER_LEFT = 141
"""What a shell calls a process that SIGPIPE ended."""

MEANINGS = {
    FINE: "fine",
    UNEXPECTED: "an unexpected error",
    USAGE: "the command line or a setting is wrong",
    NOT_FOUND: "there is no such folder, run or experiment",
    UNREACHABLE: "the store or the spool cannot be reached",
    PROBLEMS: "problems were found (doctor, status --check, verify, artifacts, dead-letters, gc, archive), "
    "or not all was brought over (sync, import)",
    TAKEN: "another worker files this spool",
    READER_LEFT: "who read the output left before its end",
}
SENTENCE = "Exit codes: " + "; ".join(f"{code} {meaning}" for code, meaning in MEANINGS.items()) + "."

_CODES: dict[type[Exception], int] = {
    InvalidParameter: USAGE,
    NotFound: NOT_FOUND,
    StoreUnavailable: UNREACHABLE,
    JournalFull: UNREACHABLE,
    OSError: UNREACHABLE,
}


def code_of(error: FlightlogException | OSError) -> int:
    """Return the exit code for an error."""
    return next((code for kind, code in _CODES.items() if isinstance(error, kind)), UNEXPECTED)
