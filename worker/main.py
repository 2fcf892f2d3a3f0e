"""`python -m flightlog.worker.main`: the spool worker as a process of its own, as the first run of a script starts it."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a spool worker; return the exit code."""
    options = _parse(arguments)
    if options.nice and hasattr(os, "nice"):
        os.nice(options.nice)
    if options.detach and not _detach():
        return 0
    # Only now what takes long to import: whoever started us waits until we are detached.
    from flightlog.schema.names import TRACKING_VARIABLE  # noqa: PLC0415
    from flightlog.schema.settings import Settings, locate  # noqa: PLC0415
    from flightlog.worker.memory import collect_rarely  # noqa: PLC0415
    from flightlog.worker.spool import run_spool_worker  # noqa: PLC0415

    collect_rarely()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(process)d %(message)s", stream=sys.stderr)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    location = locate(options.tracking_uri or os.environ.get(TRACKING_VARIABLE), Settings(artifact_root=options.artifact_root))
    run_spool_worker(replace(location, spool=Path(options.spool).resolve()), options.idle)
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="flightlog worker", description=__doc__)
    parser.add_argument("--spool", required=True)
    parser.add_argument("--tracking-uri")
    parser.add_argument("--artifact-root")
    parser.add_argument("--idle", type=float, help="leave after so many seconds without work")
    parser.add_argument("--nice", type=int, default=0, help="run at a lower priority, as nice does")
    parser.add_argument("--detach", action="store_true", help="go on in the background")
    return parser.parse_args(arguments)


def _detach() -> bool:
    """Fork; True in the child, which has no parent that would have to reap it and no terminal whose end would end it."""
    if not hasattr(os, "fork"):
        return True
    if os.fork():
        return False
    if os.getsid(0) != os.getpid():
        try:
            os.setsid()
        except PermissionError:
            return True
    return True


if __name__ == "__main__":
    sys.exit(main())
