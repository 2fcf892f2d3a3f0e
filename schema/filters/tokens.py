"""A tokenizer that is asked for the token it should find, so that a word may be a keyword in one place and a key in another."""

from __future__ import annotations

import re
from typing import NamedTuple, NoReturn

from flightlog.schema.errors import InvalidParameter

EXCERPT = 60
"""How many characters an error shows on either side of its place."""


def _word(text: str) -> re.Pattern[str]:
    return re.compile(rf"{text}(?!\w)", re.IGNORECASE)


RULES: dict[str, re.Pattern[str]] = {
    "LEFT_PARENTHESIS": re.compile(r"\("),
    "RIGHT_PARENTHESIS": re.compile(r"\)"),
    "COMMA": re.compile(r","),
    "DOT": re.compile(r"\."),
    "AND": _word("and"),
    "OR": _word("or"),
    "NOT": _word("not"),
    "IN": _word("in"),
    "IS": _word("is"),
    "NULL": _word("null"),
    "LIKE": _word("i?like"),
    "DIRECTION": _word("(?:asc|desc)"),
    "COMPARATOR": re.compile(r"[<>=!~]+"),
    "STRING": re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\""),
    "NUMBER": re.compile(r"-?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?(?![\w.])"),
    "NAME": re.compile(r"[^\W\d]\w*"),
    "BARE_KEY": re.compile(r"\w+(?:\.\w+)*"),
    "QUOTED_KEY": re.compile(r"`[^`]+`|\"[^\"]+\""),
    "TEXT_KEY": re.compile(r"'[^']+'"),
    "ANYTHING": re.compile(r"'[^']*'|\"[^\"]*\"|[\w.]+|\S"),
    "END": re.compile(r"\Z"),
}
_SPACE = re.compile(r"\s*")


class Token(NamedTuple):
    """A piece of the source and where it starts."""

    name: str
    text: str
    start: int

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.start + len(self.text)


class Tokenizer:
    """Reads a source token by token; white space before a token is skipped. `what` names the source in errors."""

    def __init__(self, source: str, what: str) -> None:
        self.source = source
        self.what = what
        self.position = 0
        self._skip_space()

    def check(self, name: str) -> bool:
        """Say whether the next token is of that name."""
        return RULES[name].match(self.source, self.position) is not None

    def accept(self, name: str) -> Token | None:
        """Read and return the next token if it is of that name."""
        match = RULES[name].match(self.source, self.position)
        if match is None:
            return None
        token = Token(name, match[0], self.position)
        self.position = token.end
        self._skip_space()
        return token

    def expect(self, name: str, expected: str) -> Token:
        """Read and return the next token; raise `InvalidParameter` if it is not of that name."""
        return self.accept(name) or self.fail(f"expected {expected}")

    def fail(self, message: str, start: int | None = None, end: int | None = None) -> NoReturn:
        """Raise `InvalidParameter` that shows the source with carets under start .. end, the next token if not given."""
        if start is None or end is None:
            found = RULES["ANYTHING"].match(self.source, self.position)
            start, end = found.span() if found else (self.position, self.position)
            message += f", found {found[0][:EXCERPT]!r}" if found else ", found the end"
        raise InvalidParameter(f"invalid {self.what}: {message}\n{_pointed(self.source, start, end)}")

    def _skip_space(self) -> None:
        space = _SPACE.match(self.source, self.position)
        self.position = space.end() if space else self.position


def _pointed(source: str, start: int, end: int) -> str:
    left, right = max(start - EXCERPT, 0), start + EXCERPT
    shown = "".join(char if char.isprintable() else " " for char in source[left:right])
    before, after = "..." if left else "", "..." if right < len(source) else ""
    carets = "^" * max(min(end, right) - start, 1)
    return f"    {before}{shown}{after}\n    {' ' * (len(before) + start - left)}{carets}"
