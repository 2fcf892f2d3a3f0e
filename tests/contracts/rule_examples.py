"""For each rule, values that obey it and values that break it; where MLflow can be asked, it agrees on all of them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple


class Examples(NamedTuple):
    good: tuple[Any, ...]
    bad: tuple[Any, ...]


KEYS = Examples(
    good=("a", "val/loss", "a b", "a-b_c.d:e", "größe", "数", "k" * 250, "0", "a..b", "..a"[1:]),
    bad=("", None, "a//b", "/a", "./a", "../a", "a/..", "a/", ".", "..", "..a", "a%b", "a\nb", "a\\b", "k" * 251),
)
EXAMPLES: dict[str, Examples] = {
    "experiment name": Examples(("a", "A b/c%", "y" * 500), ("", None, 7, "x" * 501)),
    "experiment id": Examples(("0", "12", 12, str(2**63 - 1)), (None, True, 1.5, ["0"])),
    "artifact location": Examples(("/a/b", "s3://bucket/x", "/" + "x" * 2047), ("runs:/a/b", "/" + "x" * 2048)),
    "run id": Examples(("a", "0" * 32, "A-b_c", "a" * 256), ("", "-a", "_a", "a b", "a/b", "a" * 257)),
    "metric key": KEYS,
    "param key": KEYS,
    "tag key": KEYS,
    "metric value": Examples((0, 1.5, "2.5", True, math.nan, math.inf, -math.inf, 2**70), ("x", "", None)),
    "metric step": Examples((0, -1, 2**63 - 1, -(2**63), 2.0), ("1", [1])),
    "metric timestamp": Examples((0, 1_600_000_000_000, 1.5), (-1, "now")),
    "params of one batch": Examples(((), ("a", "b")), (("a", "a"), ("a", "b", "a"))),
    "experiment tag value": Examples(("", "x" * 20_000), ("x" * 20_001,)),
    "dataset name": Examples(("a", "x" * 500), (None, "x" * 501)),
    "dataset digest": Examples(("a", "x" * 36), (None, "x" * 37)),
    "dataset source type": Examples(("local",), (None,)),
    "dataset source": Examples(("{}", "x" * 65_535), (None, "x" * 65_536)),
    "dataset schema": Examples((None, "x" * 1_048_575), ("x" * 1_048_576,)),
    "dataset profile": Examples((None, "{}"), ("x" * 16_777_216,)),
    "input tag key": Examples(("a", "k" * 255), (None, "k" * 256)),
    "input tag value": Examples(("", "v" * 500), (None, "v" * 501)),
    "artifact path": Examples(("a", "a/b.txt", "größe", "a..b"), ("..", "a/../../b", "/a", "a\\b", "C:/a", "a\0b")),
    "max_results": Examples((1, 1000, 50_000), (0, -1, 50_001)),
}
