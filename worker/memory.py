"""How a worker's process uses Python's memory."""

from __future__ import annotations

import gc

THRESHOLDS = (50_000, 20, 50)
"""A batch makes some ten thousand objects, none of them in a ring, and is done with them when it is committed."""


def collect_rarely() -> None:
    """Look for rings of objects seldom, and never among what was imported: a third of a batch's time went into that."""
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
