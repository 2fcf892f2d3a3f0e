"""How fast a ledger is replayed into an empty database, beside filing the same events from their journals.

    python benchmarks/bench_replay.py [--points 5000000] [--rounds 1] [--postgres URL]

Journals are written first and filed into SQLite with `drain_spool`: that is the floor. Then the ledger is replayed into an empty SQLite
database, and into an empty PostgreSQL database where a URL names one. Each in turn, in this process.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

from bench_ingest import SHAPES, file_journals, write_journals
from measure import Figure, median, ratio, report

from flightlog.stores import open_store
from flightlog.stores.replay import LedgerSource, replay


def replayed(source: Path, target_url: str) -> float:
    """Replay a folder's ledger into an empty database; return the seconds."""
    store, target = open_store(f"sqlite:///{source / 'tracking.db'}"), open_store(target_url)
    try:
        assert not target.writers(), f"{target_url} is not empty"
        return replay(LedgerSource(store), target).seconds
    finally:
        store.close()
        target.close()


def measure(shape: str, points: int, rounds: int, folder: Path) -> tuple[Figure, Path]:
    """Measure one shape; return the folder that was filed last as well."""
    original = folder / "original"
    write_journals(original, *SHAPES[shape], points)
    filed: list[float] = []
    again: list[float] = []
    copy = original
    for number in range(rounds):
        copy = folder / f"copy-{number}"
        shutil.copytree(original, copy)
        filed.append(file_journals(copy)["seconds"])
        again.append(replayed(copy, f"sqlite:///{folder / f'again-{number}.db'}"))
    shutil.rmtree(original)
    floor = f"filing {points / median(filed):,.0f}"
    return Figure(f"{shape}: events/s into SQLite", f"{points / median(again):,.0f}", floor, ratio(filed, again), 1, at_least=True), copy


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=5_000_000)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--postgres", metavar="URL", help="an empty database; the first shape is replayed into it as well")
    given = options.parse_args()
    figures: list[Figure] = []
    notes: list[str] = []
    for shape in SHAPES:
        with tempfile.TemporaryDirectory() as name:
            figure, filed = measure(shape, given.points, given.rounds, Path(name))
            figures.append(figure)
            if given.postgres and not notes:
                notes.append(f"{shape}: {given.points / replayed(filed, given.postgres):,.0f} events/s into PostgreSQL")
    report(f"Replaying {given.points:,} points (medians of {given.rounds})", figures, notes)


if __name__ == "__main__":
    main()
