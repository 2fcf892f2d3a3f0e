"""A folder of journals as a source of a replay: read from outside, as they lie there, changing nothing.

What a damaged segment holds before the damage is read; what it lost becomes a gap where a later segment follows, and is left out at the end
of a journal, since its writer may still be writing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from flightlog.schema import codec, frames
from flightlog.schema.blocks import Block
from flightlog.schema.errors import DecodeError, NotFound
from flightlog.schema.fold import ArtifactState
from flightlog.schema.records import Records, scan
from flightlog.stores.base import Gap, WriterKey
from flightlog.stores.replay import without_holes

log = logging.getLogger("flightlog.worker")

PART = 50_000
"""Events in a block at the most."""


@dataclass(frozen=True)
class JournalSource:
    """The journals in a folder, all or those of some runs (without the journals of experiments)."""

    folder: Path
    run_ids: Sequence[str] = ()

    def items(self, known: Mapping[WriterKey, int]) -> Iterator[Block | Gap]:
        """See `replay.Source.items`. Segments come in the order in which they were begun."""
        yield from without_holes(self._blocks(known), (), {}, known)

    def events(self, known: Mapping[WriterKey, int]) -> int | None:
        """See `replay.Source.events`. It is not known without reading all."""
        del known
        return None

    def artifacts(self, run_id: str) -> Sequence[ArtifactState]:
        """See `replay.Source.artifacts`. A journal does not know."""
        del run_id
        return ()

    def _blocks(self, known: Mapping[WriterKey, int]) -> Iterator[Block]:
        for path, header, end in sorted(self._segments(), key=lambda item: (item[1].created, item[1].writer, item[1].number)):
            if end is None or end > known.get((header.subject, header.writer), 0):
                block = read_segment(path, header)
                yield from (block.part(start, start + PART) for start in range(0, len(block.records), PART))

    def _segments(self) -> Iterator[tuple[Path, frames.SegmentHeader, int | None]]:
        for path in sorted(self.folder.iterdir()):
            if frames.parse_segment_name(path.name) is None:
                continue
            try:
                header, state = frames.read_header(path)
            except (frames.Blank, FileNotFoundError):
                continue
            except frames.NotASegment as error:
                log.warning("%s cannot be read and is left out: %s", path, error)
                continue
            if not self.run_ids or header.subject in self.run_ids:
                yield path, header, header.stated_end(state)


def read_segment(path: Path, header: frames.SegmentHeader) -> Block:
    """Return the events of a segment: all whole records before a damage."""
    records = scan(path.read_bytes(), frames.HEADER_SIZE).records
    first = records.buffer[records.offsets]
    is_names = ((first & 0xF0) == 0x80) | (first == 0xDE) | (first == 0xDF)
    events = records.take(~is_names)
    return Block(header.subject, header.writer, header.first_sequence, _names(records.take(is_names), path), events)


def _names(tables: Records, path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    for index in np.arange(len(tables)).tolist():
        try:
            names.update(codec.decode_names(tables.payload(index)))
        except DecodeError as error:
            log.warning("a name table in %s cannot be read, its metrics become dead letters: %s", path, error)
    return names


def check_journals(folder: Path, run_ids: Sequence[str]) -> None:
    """Raise `NotFound` unless a folder holds journals, of each of the runs if some are given."""
    found = {header.subject for _, header, _ in JournalSource(folder)._segments()}  # noqa: SLF001 - of this module
    for run_id in run_ids:
        if run_id not in found:
            raise NotFound(f"{folder} has no journal of the run {run_id!r}")
    if not found:
        raise NotFound(f"{folder} has no journals")
