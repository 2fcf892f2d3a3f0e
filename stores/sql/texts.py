"""Texts that every database keeps, compares and gives back exactly, whatever its own settings are.

MySQL compares as its collation says: most take `a`, `A` and `a ` for equal. The collation of code points without padding has one name
in MariaDB and another in MySQL, and only the server knows which it is. PostgreSQL cannot hold the code point 0 in a text. It is stored
as U+FFFE and `0`, and U+FFFE itself, which is no character, as U+FFFE and `1`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Dialect, String, Text, TypeDecorator
from sqlalchemy.dialects import mssql, mysql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.types import TypeEngine

MARK = "\ufffe"
ESCAPED_MARK, ESCAPED_NUL = f"{MARK}1", f"{MARK}0"
COLLATIONS = {True: "utf8mb4_nopad_bin", False: "utf8mb4_0900_bin"}
"""By whether the server is MariaDB."""
MSSQL_COLLATION = "Latin1_General_100_BIN2"

Process = Callable[[Any], Any]


def escape_nul(text: str) -> str:
    """Return a text without the code point 0."""
    return text.replace(MARK, ESCAPED_MARK).replace("\0", ESCAPED_NUL) if "\0" in text or MARK in text else text


def restore_nul(text: str | None) -> str | None:
    """Return the text that `escape_nul` was given, and None for None."""
    return text if text is None or MARK not in text else text.replace(ESCAPED_NUL, "\0").replace(ESCAPED_MARK, MARK)


class ExactText(TypeDecorator[str]):
    """A text of at most `length` characters, of any length without one."""

    impl = Text
    cache_ok = True

    def __init__(self, length: int | None = None) -> None:
        super().__init__(length)
        self.length = length

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Return the type of the column."""
        if dialect.name in ("mysql", "mariadb"):
            return dialect.type_descriptor(_LongCollated() if self.length is None else _Collated(self.length))
        if dialect.name == "mssql":
            return dialect.type_descriptor(mssql.NVARCHAR(self.length, collation=MSSQL_COLLATION))
        return dialect.type_descriptor(Text() if self.length is None else String(self.length))

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Return a text as it is stored."""
        return escape_nul(value) if value is not None and dialect.name == "postgresql" else value

    def result_processor(self, dialect: Dialect, coltype: object) -> Process | None:
        """Return what turns a stored text into what it was, None where that is the same: each call counts where texts are many."""
        del coltype
        return restore_nul if dialect.name == "postgresql" else None


class _Collated(mysql.VARCHAR):
    """A VARCHAR that compares code points."""


class _LongCollated(mysql.LONGTEXT):
    """A LONGTEXT that compares code points."""


@compiles(_Collated, "mysql", "mariadb")
def _compile_collated(type_: _Collated, compiler: Any, **_: object) -> str:  # noqa: ANN401 - SQLAlchemy's compiler of types
    return f"VARCHAR({type_.length}) CHARACTER SET utf8mb4 COLLATE {_collation(compiler)}"


@compiles(_LongCollated, "mysql", "mariadb")
def _compile_long_collated(_: _LongCollated, compiler: Any, **__: object) -> str:  # noqa: ANN401 - SQLAlchemy's compiler of types
    return f"LONGTEXT CHARACTER SET utf8mb4 COLLATE {_collation(compiler)}"


def _collation(compiler: Any) -> str:  # noqa: ANN401 - SQLAlchemy's compiler of types
    return COLLATIONS[bool(compiler.dialect.is_mariadb)]
