"""The calls of the script: its statements, each with a name by which a difference or a failed test speaks of it."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SCRIPT = Path(__file__).with_name("script.py")


class Call(NamedTuple):
    """A statement of a chapter. Its name is `chapter: text`, with `(2)` after it where the chapter says the same again."""

    chapter: str
    name: str
    statement: ast.stmt


def calls() -> Iterator[Call]:
    """Yield all calls, in order."""
    source = SCRIPT.read_text(encoding="utf-8")
    tree = ast.parse(source)
    for chapter in (node for node in tree.body if isinstance(node, ast.FunctionDef) and is_chapter(node)):
        seen: Counter[str] = Counter()
        for statement in chapter.body:
            text = f"{chapter.name}: {_on_one_line(ast.get_source_segment(source, statement) or '')}"
            seen[text] += 1
            yield Call(chapter.name, text if seen[text] == 1 else f"{text} ({seen[text]})", statement)


def is_chapter(node: ast.FunctionDef) -> bool:
    """Say whether a function of the script is one of its chapters."""
    return [argument.arg for argument in node.args.args] == ["m", "client", "folder"]


def _on_one_line(code: str) -> str:
    """Return code as it was written, but for line breaks: what `ast.unparse` writes depends on the version of Python."""
    joined = " ".join(code.split())
    return re.sub(r",? ([)\]}])", r"\1", re.sub(r"([(\[{]) ", r"\1", joined))
