"""How a producer reaches the spool worker: a bell (a named pipe in the spool) and, where nobody answers, a new detached process."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

from flightlog.schema.names import DOORBELL, WORKER_LOG, WORKER_MODULE
from flightlog.schema.settings import Location

SPAWN_TIMEOUT = 30.0
NICE = 10
"""The worker steps back behind the training: it is in no hurry."""


def ring(spool: Path) -> bool:
    """Wake the worker of a spool; say whether there is one. Never blocks."""
    try:
        descriptor = os.open(spool / DOORBELL, os.O_WRONLY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        if not stat.S_ISFIFO(os.fstat(descriptor).st_mode):  # a copied folder may hold a plain file of that name
            return False
        os.write(descriptor, b"!")
    except OSError as error:
        return error.errno == errno.EAGAIN  # the pipe is full of rings that nobody has had time to hear
    finally:
        os.close(descriptor)
    return True


def spawn(location: Location, idle: float) -> None:
    """Start a detached worker for a spool. Two at once do no harm: the second finds the lock taken and leaves.

    Raises `OSError` when it cannot be started, with what it said.
    """
    location.spool.mkdir(parents=True, exist_ok=True)
    command = [sys.executable or "python3", "-m", WORKER_MODULE, "--spool", str(location.spool), "--tracking-uri", location.tracking_uri]
    command += ["--artifact-root", location.artifact_root, "--idle", str(idle), "--nice", str(NICE), "--detach"]
    with (location.spool / WORKER_LOG).open("ab") as output:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True)  # noqa: S603 - our own module
        code = process.wait(SPAWN_TIMEOUT)
    if code:
        raise OSError(f"the worker process ended with code {code}; {location.spool / WORKER_LOG} says why")
