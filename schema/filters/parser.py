"""A recursive-descent parser of filters: a function a production, whose docstring is the production.

NOT binds tighter than AND, AND tighter than OR. Keywords are read in any case. A text is quoted with ' or ", in which the doubled
quote stands for one; a key that is not a plain word is quoted with ` or ". All errors are `InvalidParameter`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.filters.nodes import Comparison, Conjunction, Disjunction, Field, Negation, Node, Operator, Value, clamp
from flightlog.schema.filters.tokens import Token, Tokenizer
from flightlog.schema.filters.vocabulary import DATASET_KEYS, EXPERIMENTS, LISTS, NULLS, NUMBERS, RUNS, Vocabulary

MAX_DEPTH = 20
"""How deep parentheses and NOT may be nested."""
MAX_COMPARISONS = 200
MAX_VALUES = 10_000
"""How many texts the lists of a filter may hold together. Databases bound the size of a statement, each in its own way."""
MAX_PATTERN = 10_000
"""How many characters a LIKE pattern may have."""
UNSTORABLE = re.compile("[\\0\ud800-\udfff]")
WHOLE = re.compile(r"\s*-?[0-9]{1,100}\s*")


def parse_run_filter(text: str | None) -> Node | None:
    """Parse a filter of runs; None for an empty one."""
    return _parse(text, RUNS)


def parse_experiment_filter(text: str | None) -> Node | None:
    """Parse a filter of experiments; None for an empty one."""
    return _parse(text, EXPERIMENTS)


class Source(Tokenizer):
    """A tokenizer that knows its vocabulary and counts what is bounded."""

    def __init__(self, text: str, what: str, vocabulary: Vocabulary) -> None:
        if not isinstance(text, str):
            raise InvalidParameter(f"invalid {what}: it must be a string, not {type(text).__name__} {repr(text)[:100]}")
        super().__init__(text, what)
        self.vocabulary = vocabulary
        self._counts: dict[str, int] = {}
        unstorable = UNSTORABLE.search(text)
        if unstorable:
            self.fail(f"no database stores the character {unstorable[0]!r}", *unstorable.span())

    def count(self, what: str, limit: int, amount: int = 1) -> None:
        """Count; raise `InvalidParameter` past the limit."""
        self._counts[what] = self._counts.get(what, 0) + amount
        if self._counts[what] > limit:
            self.fail(f"at most {limit} {what} are allowed", self.position, self.position)


def _parse(text: str | None, vocabulary: Vocabulary) -> Node | None:
    """filter = [disjunction] END"""
    source = Source("" if text is None else text, "filter", vocabulary)
    if source.accept("END"):
        return None
    node = _disjunction(source)
    source.expect("END", "AND, OR or the end")
    return node


def _disjunction(source: Source) -> Node:
    """disjunction = conjunction { OR conjunction }"""
    nodes = _separated(source, "OR", _conjunction)
    return nodes[0] if len(nodes) == 1 else Disjunction(nodes)


def _conjunction(source: Source) -> Node:
    """conjunction = negation { AND negation }"""
    nodes = _separated(source, "AND", _negation)
    return nodes[0] if len(nodes) == 1 else Conjunction(nodes)


def _separated(source: Source, separator: str, part: Callable[[Source], Node]) -> tuple[Node, ...]:
    """separated = part { separator part }"""
    nodes = [part(source)]
    while source.accept(separator):
        nodes.append(part(source))
    return tuple(nodes)


def _negation(source: Source) -> Node:
    """negation = NOT negation | "(" disjunction ")" | comparison"""
    if source.accept("NOT"):
        return Negation(_nested(source, _negation))
    if source.accept("LEFT_PARENTHESIS"):
        node = _nested(source, _disjunction)
        source.expect("RIGHT_PARENTHESIS", "AND, OR or ')'")
        return node
    return _comparison(source)


def _nested(source: Source, part: Callable[[Source], Node]) -> Node:
    source.count("levels of parentheses and NOT", MAX_DEPTH)
    node = part(source)
    source.count("levels of parentheses and NOT", MAX_DEPTH, -1)
    return node


def _comparison(source: Source) -> Node:
    """comparison = identifier operator value"""
    source.count("comparisons", MAX_COMPARISONS)
    field = identifier(source)
    operator = _operator(source, field)
    return Comparison(field, operator, _value(source, field, operator))


def identifier(source: Source) -> Field:
    """identifier = [name "."] key"""
    start = source.position
    first = source.accept("QUOTED_KEY") or source.expect("NAME", "a field such as metrics.loss, params.lr, tags.team or an attribute")
    if not source.accept("DOT"):
        return _attribute(source, first, _unquoted(first))
    kind = source.vocabulary.kinds.get(_unquoted(first))
    if kind is None:
        source.fail(f"unknown prefix {_unquoted(first)!r}; expected one of {', '.join(source.vocabulary.kinds)}", start, first.end)
    token = _key(source)
    if kind == "attribute":
        return _attribute(source, token, _unquoted(token))
    if kind == "dataset" and _unquoted(token) not in DATASET_KEYS:
        source.fail(f"unknown field of a dataset; expected one of {', '.join(DATASET_KEYS)}", token.start, token.end)
    return Field(kind, _unquoted(token))


def _key(source: Source) -> Token:
    """key = word { "." word } | '`' characters '`' | '"' characters '"' | "'" characters "'" """
    quoted = source.accept("QUOTED_KEY") or source.accept("TEXT_KEY")
    return quoted or source.expect("BARE_KEY", "a key after the dot, quoted with ` unless it is a plain word")


def _unquoted(token: Token) -> str:
    return token.text[1:-1] if token.name in ("QUOTED_KEY", "TEXT_KEY") else token.text


def _attribute(source: Source, token: Token, name: str) -> Field:
    known = source.vocabulary.aliases.get(name, name)
    if known not in source.vocabulary.attributes:
        source.fail(f"unknown attribute {name!r}; expected one of {', '.join(source.vocabulary.attributes)}", token.start, token.end)
    return Field("attribute", known)


def _operator(source: Source, field: Field) -> Operator:
    """operator = COMPARATOR | LIKE | ILIKE | [NOT] IN | IS [NOT] NULL"""
    allowed = source.vocabulary.operators(field)
    start = source.position
    text, end = _operator_text(source)
    if text not in allowed:
        source.fail(f"{field.kind} {field.key!r} cannot be compared with {text}; expected one of {', '.join(allowed)}", start, end)
    return text


def _operator_text(source: Source) -> tuple[str, int]:
    token = source.accept("COMPARATOR") or source.accept("LIKE") or source.accept("IN")
    if token:
        return token.text.upper(), token.end
    if source.accept("NOT"):
        return "NOT IN", source.expect("IN", "IN after NOT").end
    if source.accept("IS"):
        negated = source.accept("NOT")
        return "IS NOT NULL" if negated else "IS NULL", source.expect("NULL", "NULL" if negated else "NULL or NOT NULL").end
    return source.fail("expected a comparison such as =, !=, <, LIKE or IN")


def _value(source: Source, field: Field, operator: Operator) -> Value:
    """value = NUMBER | STRING | list | nothing, as the operator and the field's type ask for"""
    if operator in NULLS:
        return None
    if operator in LISTS:
        return _list(source, field)
    if source.vocabulary.operators(field) == NUMBERS:
        return _number(source, field)
    return _text(source, field, operator)


def _list(source: Source, field: Field) -> tuple[str, ...]:
    """list = "(" STRING { "," STRING } [","] ")" """
    source.expect("LEFT_PARENTHESIS", "a list such as ('a', 'b')")
    values = [_item(source, field)]
    while source.accept("COMMA") and not source.check("RIGHT_PARENTHESIS"):
        values.append(_item(source, field))
    source.expect("RIGHT_PARENTHESIS", "',' or ')'")
    return tuple(values)


def _item(source: Source, field: Field) -> str:
    source.count("values in lists", MAX_VALUES)
    return _content(source, field, source.expect("STRING", "a text in quotes"))


def _text(source: Source, field: Field, operator: Operator) -> str:
    token = source.expect("STRING", "a text in quotes")
    if operator in ("LIKE", "ILIKE") and len(token.text) > MAX_PATTERN:
        source.fail(f"a pattern may have at most {MAX_PATTERN} characters", token.start, token.end)
    return _content(source, field, token)


def _content(source: Source, field: Field, token: Token) -> str:
    quote = token.text[0]
    text = token.text[1:-1].replace(quote * 2, quote)
    return _experiment_id(source, token, text) if field.kind == "attribute" and field.key == "experiment_id" else text


def _experiment_id(source: Source, token: Token, text: str) -> str:
    """Return the one way to write a number, so that ids can be compared as texts."""
    if not WHOLE.fullmatch(text):
        source.fail("an experiment id is a whole number in quotes", token.start, token.end)
    return str(int(text))


def _number(source: Source, field: Field) -> float | int:
    text = source.expect("NUMBER", "a number without quotes").text
    value = clamp(float(text))
    whole = field.kind == "attribute" and text.lstrip("-").isdigit() and abs(value) < 2**64
    return int(Decimal(text)) if whole else value
