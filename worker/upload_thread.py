"""A thread that stores artifacts, so that what else its process does never waits for a large file."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from flightlog.schema.blocks import Block
from flightlog.schema.errors import StoreUnavailable
from flightlog.stores.base import Gap
from flightlog.worker.uploads import GRACE, Uploads

log = logging.getLogger("flightlog.worker")

PAUSE, PAUSE_AFTER_FAILURE = 0.5, 15.0
"""Seconds between two looks at what waits."""
ANNOUNCED = 150.0
"""Seconds within which a worker says where a snapshot belongs, also where Redis forgot it: two rounds of housekeeping."""
TROUBLE = 3600.0
"""Seconds for which a worker stays that nobody else needs, to try again where artifacts could not be stored."""


class UploadThread:
    """Stores artifacts one look after the other, at most one at a time."""

    def __init__(self, uploads: Uploads, announced: float = ANNOUNCED) -> None:
        """For `announced` seconds after a snapshot was made somebody may still say where it belongs."""
        self._uploads = uploads
        self._announced = announced
        self._thread: threading.Thread | None = None
        self._next_look = 0.0
        self._is_sweep_due = False
        self._news = self._seen = 0
        self._finished = 0

    def run(self, items: Sequence[Block | Gap]) -> None:
        """See that the artifacts of a batch are stored soon."""
        self._uploads.drop_replaced(items)
        self._news += 1
        self._next_look = 0.0
        self.look()

    def sweep(self) -> None:
        """See that all that wait are looked at soon: see `Uploads.sweep`."""
        self._news += 1
        self._is_sweep_due = True
        self.look()

    def look(self) -> None:
        """See that artifacts which wait are stored, now or soon. Does not wait for it."""
        if self._is_at_work:
            self._uploads.mark()
        if self._is_at_work or (time.monotonic() < self._next_look and not self._is_sweep_due):
            return
        if not self._is_sweep_due and not self._uploads.has_files:
            self._seen = self._news
            return
        self._next_look = time.monotonic() + PAUSE
        self._thread = threading.Thread(target=self._store, name="flightlog-uploads", daemon=True)
        self._thread.start()

    def finish(self) -> int:
        """Store what waits now and wait for it. Raises `StoreUnavailable`.

        Returns of how many artifacts it was told what became of them since the last time, also those that were stored meanwhile: what was
        told may be an event that is still to be shipped.
        """
        if self._thread is not None:
            self._thread.join()
        self._uploads.store_waiting()
        before, self._finished = self._finished, self._uploads.settled
        return self._finished - before

    @property
    def is_waiting(self) -> bool:
        """Whether there is a file to store, or one that somebody may still say something about."""
        if self._news != self._seen or self._uploads.is_storing or 0 < self._uploads.trouble < TROUBLE:
            return True
        return self._announced > 0 and self._uploads.has_younger_than(self._announced)

    @property
    def _is_at_work(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _store(self) -> None:
        news = self._news
        try:
            if self._is_sweep_due:
                self._is_sweep_due = False
                self._uploads.sweep()
            while self._uploads.store_waiting():
                news = self._news
            if news == self._news:
                self._next_look = time.monotonic() + self._patience()
            self._seen = news
        except StoreUnavailable as error:
            log.debug("artifacts cannot be stored now: %s", error)
            self._next_look = time.monotonic() + PAUSE_AFTER_FAILURE
        except Exception:
            log.exception("artifacts cannot be stored now, trying again in %g s", PAUSE_AFTER_FAILURE)
            self._next_look = time.monotonic() + PAUSE_AFTER_FAILURE

    def _patience(self) -> float:
        """Return when to look again where nothing was to be done: soon while something may still be said or tried."""
        is_new = self._uploads.has_younger_than(max(self._announced, GRACE + PAUSE))
        return PAUSE if self._uploads.delayed or is_new else PAUSE_AFTER_FAILURE

    def close(self) -> None:
        """Leave after the small files in hand: see `Uploads.stop`.

        Nothing is on its way any more when this returns: the next worker of the spool may store a newer artifact at the same path.
        """
        self._uploads.stop()
        if self._thread is not None:
            self._thread.join()
