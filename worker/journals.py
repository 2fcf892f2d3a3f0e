"""A folder of journals as the source of a replay: read as any copy is, changing nothing, and brought as far as it goes.

What is damaged or missing becomes a gap where a later segment follows. At the end of a journal it is left out: its writer may still be
writing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from flightlog.schema import frames
from flightlog.schema.blocks import Block
from flightlog.schema.errors import NotFound
from flightlog.schema.fold import ArtifactState
from flightlog.schema.ids import WriterId
from flightlog.stores.base import Applied, Gap, WriterKey
from flightlog.stores.batches import end_of
from flightlog.worker.ingest import BATCH_EVENTS
from flightlog.worker.sources.copies import CopySource, CopyTail
from flightlog.worker.sources.segments import OpenSegment
from flightlog.worker.sources.tail import Tail
from flightlog.worker.spool import raise_file_limit

log = logging.getLogger("flightlog.worker")


class _PassingTail(CopyTail):
    """Passes over what is missing, as long as something follows."""

    def __init__(self, folder: Path, writer: WriterId) -> None:
        super().__init__(folder, writer, final=False)
        self._told: set[int] = set()

    def _gives_up(self, segment: OpenSegment | None) -> bool:
        return segment is None or self._later_start(segment) is not None

    def _quarantine_unreadable(self, number: int, error: frames.NotASegment) -> bool:
        if number not in self._told:
            log.warning("%s cannot be read and is left out: %s", self.path(number), error)
        self._told.add(number)
        return super()._quarantine_unreadable(number, error)


class _PassingSource(CopySource):
    """The journals of some runs, or all."""

    def __init__(self, folder: Path, known: Mapping[WriterKey, int], run_ids: Sequence[str]) -> None:
        super().__init__(folder, lambda subject, writer: known.get((subject, writer), 0))
        self._run_ids = run_ids

    def _copy(self, writer: WriterId) -> CopyTail:
        return _PassingTail(self._folder, writer)

    def _is_ready(self, tail: Tail) -> bool:
        return super()._is_ready(tail) and (not self._run_ids or tail.subject in self._run_ids)


@dataclass(frozen=True)
class JournalSource:
    """The journals in a folder, all or those of some runs (without the journals of experiments)."""

    folder: Path
    run_ids: Sequence[str] = ()

    def items(self, known: Mapping[WriterKey, int]) -> Iterator[Block | Gap]:
        """See `replay.Source.items`. Journals come in the order in which they were begun."""
        raise_file_limit()
        with closing(_PassingSource(self.folder, known, self.run_ids)) as source:
            while items := source.take(BATCH_EVENTS):
                yield from items
                source.acknowledge(Applied({item.writer: end_of(item) for item in items}))

    def events(self, known: Mapping[WriterKey, int]) -> int | None:
        """See `replay.Source.events`. It is not known without reading all."""
        del known
        return None

    def artifacts(self, run_id: str) -> Sequence[ArtifactState]:
        """See `replay.Source.artifacts`. A journal does not know."""
        del run_id
        return ()


def check_journals(folder: Path, run_ids: Sequence[str]) -> None:
    """Raise `NotFound` unless a folder holds journals, of each of the runs if some are given."""
    found = set(_subjects(folder))
    for run_id in run_ids:
        if run_id not in found:
            raise NotFound(f"{folder} has no journal of the run {run_id!r}")
    if not found:
        raise NotFound(f"{folder} has no journals")


def _subjects(folder: Path) -> Iterator[str]:
    for path in folder.glob(f"*{frames.SUFFIX}"):
        try:
            header, _ = frames.read_header(path)
        except (frames.NotASegment, FileNotFoundError):
            continue  # whoever reads it says why it cannot be read
        yield header.subject
