"""The events of artifacts in a block, found by how they begin, without decoding the others."""

from __future__ import annotations

import numpy as np

from flightlog.schema.blocks import Block
from flightlog.schema.codec import decode
from flightlog.schema.errors import DecodeError
from flightlog.schema.events import ArtifactLogged

ARTIFACT = bytes([0x94, ArtifactLogged.code])
"""How the event of an artifact begins."""


def logged_artifacts(block: Block) -> list[ArtifactLogged]:
    """Return the artifacts that a block tells of, in order."""
    records = block.records
    heads = records.buffer[records.offsets[records.lengths >= len(ARTIFACT)][:, None] + np.arange(len(ARTIFACT))]
    if not (heads == np.frombuffer(ARTIFACT, np.uint8)).all(axis=1).any():
        return []
    events = (_artifact(payload) for payload in records.payloads() if payload.startswith(ARTIFACT))
    return [event for event in events if event is not None]


def _artifact(payload: bytes) -> ArtifactLogged | None:
    try:
        event = decode(payload, {})
    except DecodeError:  # it is a dead letter already
        return None
    return event if isinstance(event, ArtifactLogged) else None
