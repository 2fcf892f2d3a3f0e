"""The calls of the script: its statements, each with a name by which a difference or a failed test speaks of it."""

from __future__ import annotations

import ast
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
    tree = ast.parse(SCRIPT.read_text(encoding="utf-8"))
    for chapter in (node for node in tree.body if isinstance(node, ast.FunctionDef) and is_chapter(node)):
        seen: Counter[str] = Counter()
        for statement in chapter.body:
            text = f"{chapter.name}: {' '.join(ast.unparse(statement).split())}"
            seen[text] += 1
            yield Call(chapter.name, text if seen[text] == 1 else f"{text} ({seen[text]})", statement)


def is_chapter(node: ast.FunctionDef) -> bool:
    """Say whether a function of the script is one of its chapters."""
    return [argument.arg for argument in node.args.args] == ["m", "client", "folder"]
