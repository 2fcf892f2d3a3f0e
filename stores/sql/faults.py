"""What an error of a database means: the statement's fault, a race that a repetition settles, or a database that cannot be used now.

Drivers sort errors differently and too coarsely (a table that a colleague dropped is a `ProgrammingError`, and no event's fault), so the
codes of the servers decide where there are any.
"""

from __future__ import annotations

from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError

FAULT_CLASSES = (DataError, IntegrityError, ProgrammingError)
"""Errors without a code: a driver refuses a value before it sends it. SQLite has no others."""
POSTGRES_FAULTS = ("22", "23", "54")
"""The beginning of an SQLSTATE: a value that is not possible, a constraint, a limit of the program."""
POSTGRES_RACES = ("40001", "40P01", "55P03", "23503", "23505")
"""Serialization failure, deadlock, a lock that was not to be had, a key of another row that is gone, a key that another took."""
MYSQL_FAULTS = frozenset(
    {
        1048,  # a column cannot be NULL
        1062,  # a key is there already
        1070,  # a key has too many parts
        1071,  # a key is too long
        1118,  # a row is too large
        1153,  # a statement is longer than max_allowed_packet
        1264,  # a number is out of range
        1265,  # a value would be cut
        1292,  # a value is of the wrong form
        1300,  # a text is not in the character set
        1301,  # a result is longer than max_allowed_packet
        1366,  # a value cannot be stored in its column
        1390,  # too many values are bound
        1406,  # a text is too long for its column
        1451,  # a row is referred to
        1452,  # a row refers to none
        1690,  # a number is out of range
        3140,  # a text is no JSON
    }
)
MYSQL_RACES = frozenset({1062, 1205, 1213, 1451, 1452, 3572})
"""A key that another took, a lock that took too long, a deadlock, a row that refers to none, a lock that was not to be had."""


def is_fault_of_statement(error: DBAPIError) -> bool:
    """Say whether trying again later would not cure an error. Such an event becomes a dead letter."""
    state, number = _sqlstate(error), _number(error)
    if state is not None:
        return state.startswith(POSTGRES_FAULTS)
    if number is not None:
        return number in MYSQL_FAULTS
    return isinstance(error, FAULT_CLASSES)


def is_race(error: DBAPIError) -> bool:
    """Say whether another transaction was in the way, so that the same work may well succeed at once."""
    return _sqlstate(error) in POSTGRES_RACES or _number(error) in MYSQL_RACES


def _sqlstate(error: DBAPIError) -> str | None:
    """Return the code that PostgreSQL gave to an error."""
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state if _is_of("psycopg", error) else None


def _number(error: DBAPIError) -> int | None:
    """Return the number that MySQL gave to an error. PyMySQL's own refusals have a text in its place, or the number 0."""
    arguments = error.orig.args if error.orig is not None and _is_of("pymysql", error) else ()
    return arguments[0] if arguments and isinstance(arguments[0], int) and arguments[0] else None


def _is_of(driver: str, error: DBAPIError) -> bool:
    return type(error.orig).__module__.startswith(driver)
