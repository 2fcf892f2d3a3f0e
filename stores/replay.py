"""Replay: the events that a source has are applied to a store anew, with their ids and times.

The store's positions make it a no-op the second time, and let it go on where a replay was cut off. A range of sequences that the source
does not have was lost on the way to it; it becomes a `Gap`, told in the words of the source's dead letters, so that what follows is not
held up.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Protocol

from flightlog.schema.blocks import Block
from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import NotFound, StoreUnavailable
from flightlog.schema.fold import ArtifactState
from flightlog.schema.ids import WriterId, experiment_subject
from flightlog.stores.base import Gap, PendingArtifact, RunReader, Sink, Store, WriterKey
from flightlog.stores.batches import end_of

BATCH_EVENTS = 200_000
"""Events that are applied together: the more points of a metric come at once, the fewer chunks its history has."""
BATCH_BYTES = 64 << 20

Tell = Callable[[int], None]


class Source(Protocol):
    """Where events come from."""

    def items(self, known: Mapping[WriterKey, int]) -> Iterator[Block | Gap]:
        """Yield blocks and gaps without holes, in the order of their application; may leave out what ends before a known position."""

    def events(self, known: Mapping[WriterKey, int]) -> int | None:
        """Return about how many events `items` will yield, None if that is not known."""

    def artifacts(self, run_id: str) -> Sequence[ArtifactState]:
        """Return what is known of a run's artifacts besides their events: whether they are stored."""


@dataclass(frozen=True)
class Replayed:
    """What a replay came to. `events` are those that the target had not, `gaps` ranges that the source had not."""

    events: int
    gaps: int
    letters: int
    seconds: float

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events / self.seconds if self.seconds else 0.0


def replay(source: Source, target: Store, tell: Tell | None = None) -> Replayed:
    """Apply all that a source has to a store. `tell` hears of events, those included that the store had already.

    One batch is read and decoded ahead. Killed at any point, it can be started again. Raises `StoreUnavailable`.
    """
    began = time.perf_counter()
    known = {(item.subject, WriterId(item.writer)): item.committed for item in target.writers()}
    events = gaps = letters = 0
    for batch in read_ahead(in_batches(source.items(known))):
        applied = target.apply(batch)
        _check_applied(target, batch, applied.positions)
        events, letters = events + applied.events, letters + len(applied.letters)
        gaps += sum(isinstance(item, Gap) for item in batch)
        if tell:
            tell(sum(len(item.records) for item in batch if isinstance(item, Block)))
    settle(source, target)
    return Replayed(events, gaps, letters, time.perf_counter() - began)


def settle(source: Source, sink: Sink) -> None:
    """Hand on which artifacts are stored: their bytes are where they were."""
    last: PendingArtifact | None = None
    while page := sink.pending_artifacts(after=last):
        for run_id in dict.fromkeys(run_id for run_id, _, _ in page):
            states = {artifact.path: artifact for artifact in source.artifacts(run_id)}
            for _, _, artifact in (item for item in page if item[0] == run_id and item[2].path in states):
                state = states[artifact.path]
                if state.state != artifact.state and state.stamp == artifact.stamp:
                    sink.settle_artifact(run_id, replace(artifact, sha256=state.sha256), state.state, state.reason)
        last = page[-1]


def _check_applied(sink: Sink, batch: Sequence[Block | Gap], positions: Mapping[WriterId, int]) -> None:
    """Raise `StoreUnavailable` when the store did not come to the end of a batch: it would be left with a hole."""
    for item in batch:
        if positions.get(item.writer, 0) < end_of(item) and sink.position(item.subject, item.writer) < end_of(item):
            raise StoreUnavailable(
                f"the store did not take events {item.subject} {item.writer} up to {end_of(item)}; replay again, it goes on where it is"
            )


def in_batches(items: Iterable[Block | Gap]) -> Iterator[list[Block | Gap]]:
    """Yield items in lists of about `BATCH_EVENTS` events or `BATCH_BYTES`."""
    batch: list[Block | Gap] = []
    events = size = 0
    for item in items:
        batch.append(item)
        if isinstance(item, Block):
            events, size = events + len(item.records), size + int(item.records.lengths.sum())
        if events >= BATCH_EVENTS or size >= BATCH_BYTES or len(batch) >= BATCH_EVENTS:
            yield batch
            batch, events, size = [], 0, 0
    if batch:
        yield batch


def read_ahead(batches: Iterator[list[Block | Gap]]) -> Iterator[list[Block | Gap]]:
    """Yield what an iterator yields; a thread makes the next while the caller is busy with one."""
    with ThreadPoolExecutor(1, "flightlog-replay") as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def without_holes(
    blocks: Iterable[Block],
    letters: Iterable[DeadLetter],
    ends: Mapping[WriterKey, int],
    known: Mapping[WriterKey, int],
    late: Iterable[Block] = (),
) -> Iterator[Block | Gap]:
    """Yield blocks, and gaps for what lies between them, and after the last up to the position that a writer had come to.

    `known` are positions before which blocks may have been left out. `late` are blocks of one event that take the place of the gaps there.
    """
    told = _Told.of(letters, late)
    expected: dict[WriterKey, int] = dict(known)
    for block in blocks:
        key = (block.subject, block.writer)
        yield from told.gaps(key, expected.get(key, 0), block.first_sequence)
        yield block
        expected[key] = max(expected.get(key, 0), block.end)
    for key, end in sorted(ends.items()):
        yield from told.gaps(key, expected.get(key, 0), end)


@dataclass(frozen=True)
class _Told:
    """Dead letters by writer, in the order of their sequences, and events that are there nevertheless."""

    letters: dict[WriterKey, list[DeadLetter]] = field(default_factory=dict)
    late: dict[tuple[WriterKey, int], Block] = field(default_factory=dict)

    @staticmethod
    def of(letters: Iterable[DeadLetter], late: Iterable[Block]) -> _Told:
        told = _Told(late={((block.subject, block.writer), block.first_sequence): block for block in late})
        for letter in letters:
            told.letters.setdefault((letter.subject, WriterId(letter.writer)), []).append(letter)
        for found in told.letters.values():
            found.sort(key=lambda letter: letter.sequence)
        return told

    def gaps(self, key: WriterKey, start: int, end: int) -> Iterator[Block | Gap]:
        """Yield gaps that cover `start` .. `end` exactly, each with the words of the letter that tells of it."""
        every = self.letters.get(key, [])
        first = bisect.bisect_left(every, start, key=lambda letter: letter.sequence)
        last = bisect.bisect_left(every, end, key=lambda letter: letter.sequence)
        for index in range(first, last):
            letter, following = every[index], every[index + 1].sequence if index + 1 < last else end
            if letter.sequence < start or following == letter.sequence:
                continue
            if letter.sequence > start:
                yield _missing(key, start, letter.sequence)
            start = following if letter.count is None else min(letter.sequence + letter.count, following)
            gap = Gap(*key, letter.sequence, start, letter.reason, letter.message, letter.payload, letter.count)
            yield self.late.get((key, letter.sequence), gap)
        if start < end:
            yield _missing(key, start, end)


def _missing(key: WriterKey, start: int, end: int) -> Gap:
    return Gap(*key, start, end, "missing", f"{end - start} events are not in the ledger that was replayed", b"", end - start)


@dataclass(frozen=True)
class LedgerSource:
    """The ledger of a store as a source: all of it, or some runs with the experiments that they belong to. Raises `NotFound` for others."""

    reader: RunReader
    run_ids: Sequence[str] = ()

    def items(self, known: Mapping[WriterKey, int]) -> Iterator[Block | Gap]:
        """See `Source.items`. What is applied to the source meanwhile may or may not be among it."""
        if not self.run_ids:
            yield from self._items(None, known)
        for subject in self._subjects():
            yield from self._items(subject, known)

    def _items(self, subject: str | None, known: Mapping[WriterKey, int]) -> Iterator[Block | Gap]:
        ends = {(item.subject, WriterId(item.writer)): item.committed for item in self.reader.writers(subject)}
        yield from without_holes(self.reader.ledger(subject, known), self.reader.dead_letters(subject), ends, known)

    def _subjects(self) -> list[str]:
        experiments = {self.reader.get_run(run_id).info.experiment_id for run_id in self.run_ids}
        return [*sorted(map(experiment_subject, experiments)), *self.run_ids]

    def events(self, known: Mapping[WriterKey, int]) -> int | None:
        """See `Source.events`."""
        subjects: Sequence[str | None] = self._subjects() if self.run_ids else [None]
        statuses = [item for subject in subjects for item in self.reader.writers(subject)]
        return sum(max(item.committed - known.get((item.subject, WriterId(item.writer)), 0), 0) for item in statuses)

    def artifacts(self, run_id: str) -> Sequence[ArtifactState]:
        """See `Source.artifacts`."""
        return self.reader.artifacts(run_id)


def check_runs(reader: RunReader, run_ids: Sequence[str]) -> None:
    """Raise `NotFound` for the first run that a store does not know."""
    for run_id in run_ids:
        if not reader.writers(run_id):
            raise NotFound(f"no run has the id {run_id!r}")
