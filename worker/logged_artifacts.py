"""The events of artifacts in a block, found by how they begin, without decoding the others."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from flightlog.schema.blocks import Block
from flightlog.schema.codec import decode
from flightlog.schema.errors import DecodeError
from flightlog.schema.events import ArtifactLogged
from flightlog.schema.fold import ArtifactState
from flightlog.stores.base import Gap, PendingArtifact

ARTIFACT = bytes([0x94, ArtifactLogged.code])
"""How the event of an artifact begins."""
REMEMBERED = 10_000
"""Of so many paths it is known which snapshot came last."""


def logged_artifacts(block: Block) -> list[ArtifactLogged]:
    """Return the artifacts that a block tells of, in order."""
    records = block.records
    heads = records.buffer[records.offsets[records.lengths >= len(ARTIFACT)][:, None] + np.arange(len(ARTIFACT))]
    if not (heads == np.frombuffer(ARTIFACT, np.uint8)).all(axis=1).any():
        return []
    events = (_artifact(payload) for payload in records.payloads() if payload.startswith(ARTIFACT))
    return [event for event in events if event is not None]


class Known(Protocol):
    """What knows the artifacts of runs: a store."""

    def pending_snapshots(self, snapshots: Collection[str]) -> list[PendingArtifact]:
        """See `Sink.pending_snapshots`."""

    def artifacts(self, run_id: str) -> list[ArtifactState]:
        """See `RunReader.artifacts`."""


def logged_in(items: Sequence[Block | Gap]) -> list[tuple[str, ArtifactLogged]]:
    """Return the artifacts that a batch tells of, each with the id of its run."""
    return [(item.subject, event) for item in items if isinstance(item, Block) for event in logged_artifacts(item)]


class Replacements:
    """Finds the snapshots of filed artifacts that nobody wants any more, because newer artifacts have come at their paths."""

    def __init__(self, known: Known) -> None:
        self._known = known
        self._last: dict[tuple[str, str], str] = {}

    def among(self, logged: Sequence[tuple[str, ArtifactLogged]]) -> set[str]:
        """Return those that the artifacts of a batch replace, or that are in the batch and were replaced themselves."""
        asked: dict[str, list[tuple[str, str]]] = {}
        for run_id, event in logged:
            older = self._last.get((run_id, event.path), event.snapshot)
            self._last[run_id, event.path] = event.snapshot
            asked.setdefault(run_id, []).extend({(event.path, older), (event.path, event.snapshot)})
        while len(self._last) > REMEMBERED:
            self._last.pop(next(iter(self._last)))
        return {snapshot for run_id, mine in asked.items() for snapshot in self._replaced(run_id, mine)}

    def _replaced(self, run_id: str, logged: Sequence[tuple[str, str]]) -> set[str]:
        waiting = {artifact.snapshot for _, _, artifact in self._known.pending_snapshots({snapshot for _, snapshot in logged})}
        others = [(path, snapshot) for path, snapshot in logged if snapshot not in waiting]
        newest = {artifact.path: artifact.snapshot for artifact in self._known.artifacts(run_id)} if others else {}
        return {snapshot for path, snapshot in others if newest.get(path, snapshot) != snapshot}


def _artifact(payload: bytes) -> ArtifactLogged | None:
    try:
        event = decode(payload, {})
    except DecodeError:  # it is a dead letter already
        return None
    return event if isinstance(event, ArtifactLogged) else None
