"""Names for runs that were given none: an adjective, a noun and a number, at most 20 characters."""

from __future__ import annotations

import random

ADJECTIVES = (
    "agile amber bold brave bright brisk calm clear crisp dapper deft eager early fair fleet fresh gentle golden grand happy humble keen "
    "kind light lively lucid lunar merry mild nimble noble polar proud quick quiet rapid silent silver smooth solar steady stellar swift "
    "tidy upbeat vivid warm wise"
).split()
NOUNS = (
    "auk bat bee boar carp cod colt crab crane crow deer dove duck eagle egret elk ewe falcon finch fox gnat goose grouse gull hare hawk "
    "heron hog horse ibis jay kite koi lark lynx mare mink mole moose moth mule newt owl perch pike pony quail ray rook seal shad shrew "
    "snipe stag stork swan swift tern toad trout wasp wren"
).split()

_random = random.SystemRandom()


def random_run_name() -> str:
    """Return a name such as `brisk-heron-417`, drawn apart from the script's own random state."""
    return f"{_random.choice(ADJECTIVES)}-{_random.choice(NOUNS)}-{_random.randrange(1000)}"
