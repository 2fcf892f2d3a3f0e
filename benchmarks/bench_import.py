"""What `import flightlog` costs a script: time over a bare interpreter, and what it must not load.

    python benchmarks/bench_import.py [--rounds 15]

Each import is timed as a whole new process, in turn with a bare one and with the floor, `import json, sqlite3, logging`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from measure import Figure, median, report

HEAVY = ("sqlalchemy", "alembic", "numpy", "pandas", "redis", "rq", "boto3", "zstandard", "rich", "typer")


def process_seconds(code: str) -> float:
    """Return how long a new interpreter takes for some code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - start


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=15)
    rounds = options.parse_args().rounds
    codes = {"bare": "pass", "floor": "import json, sqlite3, logging", "flightlog": "import flightlog"}
    taken: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(rounds + 1):
        for name, code in codes.items():
            taken[name].append(process_seconds(code))
    ours, floor = (
        median([found - bare for found, bare in zip(taken[name], taken["bare"], strict=True)][1:]) for name in ("flightlog", "floor")
    )
    loaded = subprocess.run(
        [sys.executable, "-c", f"import flightlog, sys; print(*[name for name in {HEAVY} if name in sys.modules])"],
        capture_output=True,
        text=True,
        check=True,
    )
    report(
        f"Importing (medians of {rounds})",
        [
            Figure(
                "import flightlog over a bare interpreter",
                f"{ours * 1e3:.0f} ms",
                f"json, sqlite3, logging {floor * 1e3:.0f} ms",
                ours * 1e3,
                150,
            )
        ],
        [f"heavy modules loaded by it: {loaded.stdout.strip() or 'none'}"],
    )


if __name__ == "__main__":
    main()
