"""Artifacts of runs whose events travel through the queue: the machine that has the file stores it, the worker says where.

    flightlog:uploads    a Redis hash: snapshot -> msgpack [run id, artifact URI, path, size], or [] for one that nobody wants any more

A worker that has filed an artifact's event puts it there; the shipper that has the snapshot in its spool stores the file and tells the
outcome as an event. What Redis forgets, the next housekeeping puts there again.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgpack

from flightlog.schema.blocks import Block
from flightlog.schema.events import ArtifactSettled
from flightlog.schema.fold import NEVER, ArtifactState
from flightlog.schema.ids import monotone_ms
from flightlog.schema.limits import is_run_id
from flightlog.schema.names import SNAPSHOTS, UPLOADS
from flightlog.schema.plain import unpack_plain
from flightlog.stores.base import Gap, Outcome, PendingArtifact, Store
from flightlog.worker.logged_artifacts import Replacements, logged_in
from flightlog.worker.notes import leave_note
from flightlog.worker.streams import Streams

log = logging.getLogger("flightlog.worker")


UNWANTED: list[object] = []
"""What is said of a snapshot that a newer artifact has replaced before it was stored."""


class QueuedArtifacts:
    """What a shipper asks instead of a store. See `worker.uploads.Pending`."""

    def __init__(self, streams: Streams, spool: Path) -> None:
        self._streams, self._spool = streams, spool

    def pending_artifacts(self, limit: int = 1000, after: PendingArtifact | None = None) -> list[PendingArtifact]:
        """Return nothing: only what lies in this spool is our business."""
        del limit, after
        return []

    def pending_snapshots(self, snapshots: Collection[str]) -> list[PendingArtifact]:
        """Return those of the artifacts that wait to be stored whose snapshots are given by name."""
        names = sorted(snapshots)
        with self._streams.guarded():
            found: Any = self._streams.redis.hmget(UPLOADS, names)
        said = dict(zip(names, found, strict=True))
        self._drop([name for name, packed in said.items() if packed == msgpack.packb(UNWANTED)])
        waiting = (_pending(name, packed) for name, packed in said.items() if packed and packed != msgpack.packb(UNWANTED))
        return [item for item in waiting if item is not None]

    def _drop(self, names: Sequence[str]) -> None:
        """Delete snapshots that nobody wants any more."""
        for name in names:
            (self._spool / SNAPSHOTS / name).unlink(missing_ok=True)
        if names:
            with self._streams.guarded():
                self._streams.redis.hdel(UPLOADS, *names)

    def settle_artifacts(self, outcomes: Sequence[Outcome]) -> None:
        """Tell what became of artifacts."""
        for outcome in outcomes:
            leave_note(self._spool, outcome.run_id, _settled(outcome))
        gone = [outcome.artifact.snapshot for outcome in outcomes if outcome.state != "pending"]
        if gone:
            with self._streams.guarded():
                self._streams.redis.hdel(UPLOADS, *gone)


def _settled(outcome: Outcome) -> ArtifactSettled:
    state, artifact = cast("Literal['stored', 'failed', 'pending']", outcome.state), outcome.artifact
    stamp = monotone_ms()
    return ArtifactSettled(
        time=stamp, path=artifact.path, snapshot=artifact.snapshot, state=state, reason=outcome.reason, sha256=artifact.sha256
    )


class Announcements:
    """What a worker does for artifacts: it says which wait to be stored, and where."""

    def __init__(self, streams: Streams, store: Store) -> None:
        self._streams, self._store = streams, store
        self._replacements = Replacements(store)

    def run(self, items: Sequence[Block | Gap]) -> None:
        """Announce the artifacts of a batch, and which snapshots nobody wants any more."""
        logged = logged_in(items)
        if not logged:
            return
        self._withdraw(self._replacements.among(logged), {event.snapshot for _, event in logged})
        self._announce(self._store.pending_snapshots([event.snapshot for _, event in logged]))

    def _withdraw(self, unwanted: set[str], new: set[str]) -> None:
        """Say which snapshots nobody wants: new ones, and those that were announced and wait. Before newer ones are announced."""
        older = sorted(unwanted - new)
        with self._streams.guarded():
            announced: Any = self._streams.redis.hmget(UPLOADS, older) if older else []
        still = [name for name, packed in zip(older, announced, strict=True) if packed]
        self._say({name: msgpack.packb(UNWANTED) for name in [*still, *(unwanted & new)]})

    def look(self) -> None:
        """Do nothing: whoever has the files looks for them."""

    @property
    def is_waiting(self) -> bool:
        """Whether something is under way: never between two calls."""
        return False

    def sweep(self) -> None:
        """Announce everything that waits, again: Redis may have forgotten it."""
        last: PendingArtifact | None = None
        while page := self._store.pending_artifacts(after=last):
            self._announce(page)
            last = page[-1]

    def _announce(self, page: list[PendingArtifact]) -> None:
        said = {
            artifact.snapshot: msgpack.packb([run_id, uri, artifact.path, artifact.size], unicode_errors="backslashreplace")
            for run_id, uri, artifact in page
        }
        self._say(said)

    def _say(self, said: dict[str, bytes]) -> None:
        if said:
            with self._streams.guarded():
                self._streams.redis.hset(UPLOADS, mapping=cast("dict[Any, Any]", said))


def _pending(snapshot: str, packed: bytes) -> PendingArtifact | None:
    """Return what was announced, None where nobody of us said it."""
    try:
        run_id, uri, path, size = unpack_plain(packed)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        log.error("what the queue says of the artifact %s cannot be read: %s", snapshot, error)
        return None
    if (type(run_id), type(uri), type(path), type(size)) != (str, str, str, int) or not is_run_id(run_id):
        log.error("what the queue says of the artifact %s is no run, place, path and size", snapshot)
        return None
    return run_id, uri, ArtifactState(path, size, snapshot, None, NEVER)
