"""Artifacts of runs whose events travel through the queue: the machine that has the file stores it, the worker says where.

    flightlog:uploads    a Redis hash: snapshot -> msgpack [run id, artifact URI, path, size], [run id] while nobody has started the run,
                         or [] for one that nobody wants any more
    flightlog:unknown    a Redis set of snapshots of which no event in their spool tells

A worker that has filed an artifact's event puts it there; the shipper that has the snapshot in its spool stores the file and tells the
outcome as an event. What Redis forgets, the next housekeeping puts there again. Of what a shipper does not know, housekeeping looks up
whether the store does.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgpack

from flightlog.schema.artifact_notes import note_path
from flightlog.schema.blocks import Block
from flightlog.schema.events import ArtifactSettled
from flightlog.schema.fold import NEVER, ArtifactState
from flightlog.schema.ids import monotone_ms
from flightlog.schema.limits import is_run_id
from flightlog.schema.names import SNAPSHOTS, UNKNOWN, UPLOADS
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

    def homeless_snapshots(self, snapshots: Collection[str]) -> dict[str, str]:
        """Return those of the snapshots whose artifacts wait for their run to be started, each with the run's id."""
        names = sorted(snapshots)
        with self._streams.guarded():
            found: Any = self._streams.redis.hmget(UPLOADS, names)
        said = {name: _homeless(packed) for name, packed in zip(names, found, strict=True) if packed}
        return {name: run_id for name, run_id in said.items() if run_id is not None}

    def unwanted_snapshots(self, snapshots: Collection[str]) -> set[str]:
        """Ask for the snapshots and return nothing: the answer comes with a later look at what waits."""
        with self._streams.guarded():
            self._streams.redis.sadd(UNKNOWN, *sorted(snapshots))
        return set()

    def _drop(self, names: Sequence[str]) -> None:
        """Delete snapshots that nobody wants any more."""
        for name in names:
            snapshot = self._spool / SNAPSHOTS / name
            snapshot.unlink(missing_ok=True)
            note_path(snapshot).unlink(missing_ok=True)
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
        names = [event.snapshot for _, event in logged]
        self._say({name: msgpack.packb([run_id]) for name, run_id in self._store.homeless_snapshots(names).items()})
        self._announce(self._store.pending_snapshots(names))

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
            self._take_back(page)
            last = page[-1]
        self._answer()

    def _take_back(self, page: list[PendingArtifact]) -> None:
        """Take back what waits no more, because another worker has filed meanwhile that it was settled, or a newer artifact at its path."""
        still = {artifact.snapshot for _, _, artifact in self._store.pending_snapshots([artifact.snapshot for _, _, artifact in page])}
        gone = [(run_id, artifact) for run_id, _, artifact in page if artifact.snapshot not in still]
        newest = {run_id: {item.path: item.snapshot for item in self._store.artifacts(run_id)} for run_id in {run_id for run_id, _ in gone}}
        replaced = {item.snapshot for run_id, item in gone if newest[run_id].get(item.path, item.snapshot) != item.snapshot}
        self._say({name: msgpack.packb(UNWANTED) for name in replaced})
        settled = {item.snapshot for _, item in gone} - replaced
        if settled:
            with self._streams.guarded():
                self._streams.redis.hdel(UPLOADS, *sorted(settled))

    def _answer(self) -> None:
        """Say which of the snapshots that shippers ask for nobody wants. They ask when all that their journals said is filed."""
        with self._streams.guarded():
            asked: Any = self._streams.redis.smembers(UNKNOWN)
        names = sorted(name.decode("ascii", "replace") for name in asked)
        if names:
            self._say({name: msgpack.packb(UNWANTED) for name in self._store.unwanted_snapshots(names)})
            with self._streams.guarded():
                self._streams.redis.srem(UNKNOWN, *asked)

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


def _homeless(packed: bytes) -> str | None:
    """Return the id of a run that nobody has started, None where something else was said."""
    try:
        known = unpack_plain(packed)
    except (ValueError, TypeError, msgpack.UnpackException):  # who looks at what waits says so
        return None
    return known[0] if _is_homeless(known) else None


def _is_homeless(known: Any) -> bool:  # noqa: ANN401 - whatever the queue says
    return isinstance(known, list) and len(known) == 1 and isinstance(known[0], str) and is_run_id(known[0])


def _pending(snapshot: str, packed: bytes) -> PendingArtifact | None:
    """Return what was announced, None where nobody of us said it."""
    try:
        known = unpack_plain(packed)
        if _is_homeless(known):
            return None
        run_id, uri, path, size = known
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        log.error("what the queue says of the artifact %s cannot be read: %s", snapshot, error)
        return None
    if (type(run_id), type(uri), type(path), type(size)) != (str, str, str, int) or not is_run_id(run_id):
        log.error("what the queue says of the artifact %s is no run, place, path and size", snapshot)
        return None
    return run_id, uri, ArtifactState(path, size, snapshot, None, NEVER)
