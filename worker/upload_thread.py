"""A thread that stores artifacts, so that what else its process does never waits for a large file."""

from __future__ import annotations

import logging
import threading
import time

from flightlog.schema.errors import StoreUnavailable
from flightlog.worker.uploads import Uploads

log = logging.getLogger("flightlog.worker")

PAUSE, PAUSE_AFTER_FAILURE = 0.5, 15.0
"""Seconds between two looks at what waits."""
LAST_FILE = 10.0
"""Seconds that the file in hand has when the process is told to leave; what is not stored then comes again with the next."""
ANNOUNCED = 150.0
"""Seconds within which a worker says where a snapshot belongs, also where Redis forgot it: two rounds of housekeeping."""


class UploadThread:
    """Stores artifacts one after the other, at most one at a time."""

    def __init__(self, uploads: Uploads) -> None:
        self._uploads = uploads
        self._thread: threading.Thread | None = None
        self._next_look = 0.0

    def look(self) -> None:
        """See that artifacts which wait are stored, now or soon. Does not wait for it."""
        if self._is_at_work or time.monotonic() < self._next_look or not self._uploads.snapshots():
            return
        self._next_look = time.monotonic() + PAUSE
        self._thread = threading.Thread(target=self._store, name="flightlog-uploads", daemon=True)
        self._thread.start()

    def finish(self) -> int:
        """Store what waits now and wait for it; return how many artifacts were seen to. Raises `StoreUnavailable`."""
        if self._thread is not None:
            self._thread.join()
        return self._uploads.store_waiting()

    @property
    def is_waiting(self) -> bool:
        """Whether there is a file to store, or one that somebody may still say something about."""
        return self._is_at_work or self._uploads.has_younger_than(ANNOUNCED)

    @property
    def _is_at_work(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _store(self) -> None:
        try:
            self._uploads.store_waiting()
        except StoreUnavailable as error:
            log.debug("artifacts cannot be stored now: %s", error)
            self._next_look = time.monotonic() + PAUSE_AFTER_FAILURE
        except Exception:
            log.exception("artifacts cannot be stored now, trying again in %g s", PAUSE_AFTER_FAILURE)
            self._next_look = time.monotonic() + PAUSE_AFTER_FAILURE

    def close(self) -> None:
        """Leave after the file in hand."""
        self._uploads.stop()
        if self._thread is not None:
            self._thread.join(LAST_FILE)
