"""What a worker leaves beside a snapshot for whoever logged it: that storing it failed, or has to be tried again.

A snapshot that waits is a file `<name>` in the spool's folder of snapshots; one that is stored is gone. `<name>.state` is a JSON object
with the keys `state` ("pending" or "failed"), `reason` and `attempts`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

SUFFIX = ".state"


@dataclass(frozen=True)
class ArtifactNote:
    """How it stands with a snapshot that could not be stored at once."""

    state: str
    reason: str
    attempts: int = 1


def note_path(snapshot: Path) -> Path:
    """Return where the note of a snapshot lies."""
    return snapshot.with_name(f"{snapshot.name}{SUFFIX}")


def note_text(note: ArtifactNote) -> str:
    """Return a note as it is written."""
    return json.dumps(asdict(note))


def read_note(snapshot: Path) -> ArtifactNote | None:
    """Return the note of a snapshot, None where there is none that can be read."""
    try:
        known = json.loads(note_path(snapshot).read_text(encoding="utf-8"))
        return ArtifactNote(str(known["state"]), str(known["reason"]), int(known["attempts"]))
    except (OSError, ValueError, KeyError, TypeError):  # it is being replaced, or somebody else's
        return None
