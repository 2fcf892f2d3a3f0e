"""`python -m flightlog` and the command `flightlog`."""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line, that of this process by default; return the exit code."""
    from flightlog.cli.app import run  # noqa: PLC0415 - importing this module costs next to nothing

    return run(sys.argv[1:] if arguments is None else arguments)


if __name__ == "__main__":
    sys.exit(main())
