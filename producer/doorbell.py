"""How a producer reaches the spool worker: a bell (a named pipe in the spool) and, where nobody answers, a new detached process."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

from flightlog.schema.names import DOORBELL, TRACKING_VARIABLE, WORKER_LOG, WORKER_MODULE
from flightlog.schema.settings import Location

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


class Spawned:
    """A worker process that is being started, detached. Two at once do no harm: the second finds the lock taken and leaves."""

    def __init__(self, location: Location, idle: float) -> None:
        """Start it, without waiting. Raises `OSError`."""
        location.spool.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable or "python3",
            "-m",
            WORKER_MODULE,
            "--spool",
            str(location.spool),
        ]
        command += ["--artifact-root", location.artifact_root, "--idle", str(idle), "--nice", str(NICE), "--detach"]
        self._log = location.spool / WORKER_LOG
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                cwd=location.spool,  # `-m` looks for modules there first, and must not find the script's own
                env={**os.environ, "PYTHONPATH": _absolute(os.environ.get("PYTHONPATH", "")), TRACKING_VARIABLE: location.tracking_uri},
            )

    def failure(self) -> str | None:
        """Return None while it is being started, "" when it is on its own, else why it could not be started."""
        code = self._process.poll()
        return None if code is None else f"its process ended with code {code}; {self._log} says why" if code else ""

    def wait(self, timeout: float = 30.0) -> None:
        """Wait until it is on its own. Raises `OSError` when it could not be started."""
        self._process.wait(timeout)
        if failure := self.failure():
            raise OSError(failure)

    def leave(self) -> None:
        """Stop looking after it: this process ends, and it goes on."""
        if self._process.poll() is None:
            self._process.returncode = 0


def _absolute(search_path: str) -> str:
    return os.pathsep.join(os.path.abspath(folder) for folder in search_path.split(os.pathsep) if folder)  # noqa: PTH100 - Path.resolve would follow links
