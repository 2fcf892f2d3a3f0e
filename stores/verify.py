"""Verify: a store's runs and experiments are what its ledger says, part by part.

The ledger is replayed into a scratch store, and what each of the two says of a run is compared. Small ledgers go to the memory store, whose
fold is the definition of what events mean; large ones to a SQLite file in a temporary folder, so that memory stays bounded.

A run may be written to meanwhile. It counts as compared only when the store's positions were the scratch store's, before and after.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.entities import Experiment, ViewType
from flightlog.schema.errors import NotFound
from flightlog.schema.ids import WriterId, experiment_subject
from flightlog.stores import open_store
from flightlog.stores.base import Gap, RunReader, Store, WriterKey
from flightlog.stores.batches import experiment_of, indices_of
from flightlog.stores.portraits import ABSENT, Portrait, digest_of, experiment_portrait, run_portrait
from flightlog.stores.replay import Tell, in_batches, read_ahead, without_holes

SMALL = 20_000
"""Events that are folded in memory."""
TRIES = 5
"""How often a run that is being written to is looked at again."""
CONTEXT = (e.RunStarted.code, e.RunPurged.code)
"""The events of other runs without which an experiment would not be what it is."""


@dataclass(frozen=True)
class Difference:
    """A part of a run or experiment that is not as the ledger says; None where it is not there at all."""

    part: str
    expected: Any
    found: Any


@dataclass(frozen=True)
class Verified:
    """What came of comparing one subject. `digest` is that of what the store shows, None if that is nothing.

    `is_moving` says that it was being written to all the while, so that nothing can be said.
    """

    subject: str
    events: int
    digest: str | None
    differences: tuple[Difference, ...] = ()
    is_moving: bool = False


@contextmanager
def scratch_store(events: int) -> Iterator[Store]:
    """Give an empty store that is gone afterwards."""
    if events <= SMALL:
        yield open_store("memory:")
        return
    with temporary_database() as url, closing(open_store(url)) as store:
        yield store


@contextmanager
def temporary_database() -> Iterator[str]:
    """Give the URL of a SQLite database in a temporary folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="flightlog-") as folder:
        yield f"sqlite:///{Path(folder) / 'scratch.db'}"


def verify(store: Store, run_ids: Sequence[str] = (), tell: Tell | None = None) -> Iterator[Verified]:
    """Yield, for each experiment and each run, or for the given runs only, what came of comparing it with the ledger.

    `tell` hears of events that were replayed. Raises `NotFound` for a given run that neither the ledger nor the tables know.
    """
    with scratch_store(sum(item.committed for item in store.writers())) as scratch:
        fill(store, scratch, run_ids, tell)
        comparison = Comparison(store, scratch, tuple(run_ids))
        if not run_ids:
            yield from comparison.experiments()
        for run_id in run_ids or known_runs(store):
            yield comparison.run(run_id)


def fill(store: RunReader, scratch: Store, run_ids: Sequence[str] = (), tell: Tell | None = None, late: Sequence[Block] = ()) -> None:
    """Replay the ledger into a scratch store: all of it, or what is needed to tell the given runs. May be repeated to catch up.

    `late` are events that the ledger does not have yet; see `replay.without_holes`.
    """
    for batch in read_ahead(in_batches(_items(store, scratch, run_ids, late))):
        scratch.apply(batch)
        if tell:
            tell(sum(len(item.records) for item in batch if isinstance(item, Block)))


def _items(store: RunReader, scratch: RunReader, run_ids: Sequence[str], late: Sequence[Block]) -> Iterator[Block | Gap]:
    known, ends = positions(scratch), positions(store)
    subjects = {subject for subject, _ in ends if not run_ids or subject in run_ids or experiment_of(subject) is not None}
    blocks = _in_context(store.ledger(known=known), subjects, known)
    letters = [letter for letter in store.dead_letters() if letter.subject in subjects]
    return without_holes(blocks, letters, {key: end for key, end in ends.items() if key[0] in subjects}, known, late)


def _in_context(blocks: Iterable[Block], subjects: set[str], known: Mapping[WriterKey, int]) -> Iterator[Block]:
    """Yield the blocks of some subjects whole, and of the others what founds experiments, each under a writer of its own."""
    for block in blocks:
        if block.subject in subjects:
            yield block
            continue
        for index in indices_of(block, CONTEXT):
            event = block.part(index, index + 1)
            writer = WriterId(f"{block.writer[:16]}{event.first_sequence:016x}")
            if (block.subject, writer) not in known:
                yield Block(block.subject, writer, 0, event.names, event.records)


def fill_subject(store: RunReader, scratch: Store, subject: str) -> None:
    """Catch up with what came of one subject since a scratch store was filled."""
    known = positions(scratch, subject)
    items = without_holes(store.ledger(subject, known), store.dead_letters(subject), positions(store, subject), known)
    for batch in in_batches(items):
        scratch.apply(batch)


def positions(reader: RunReader, subject: str | None = None) -> dict[WriterKey, int]:
    """Return how far a store has come with each writer."""
    return {(item.subject, WriterId(item.writer)): item.committed for item in reader.writers(subject)}


def known_runs(store: RunReader) -> list[str]:
    """Return the runs that the ledger or the tables know, in order."""
    logged = {item.subject for item in store.writers() if experiment_of(item.subject) is None}
    return sorted(logged | {run_id for page in _pages(store) for run_id in page})


def known_experiments(*readers: RunReader) -> list[str]:
    """Return the subjects of the experiments that one of the stores shows, in order."""
    return sorted({experiment_subject(experiment_id) for reader in readers for experiment_id in _experiments(reader)})


def _pages(store: RunReader) -> Iterator[list[str]]:
    experiment_ids = [experiment.experiment_id for experiment in _experiments(store).values()]
    token: str | None = None
    while True:
        page = store.search_runs(experiment_ids, run_view_type=ViewType.ALL, page_token=token)
        yield [run.info.run_id for run in page]
        token = page.token
        if not token:
            return


def _experiments(store: RunReader) -> dict[str, Experiment]:
    page = store.search_experiments(ViewType.ALL)
    found = list(page)
    while page.token:
        page = store.search_experiments(ViewType.ALL, page_token=page.token)
        found += page
    return {experiment.experiment_id: experiment for experiment in found}


class Comparison:
    """A store beside the scratch store that its ledger was replayed into, all of it or what is needed to tell some runs."""

    def __init__(self, store: Store, scratch: Store, run_ids: Sequence[str]) -> None:
        self._store, self._scratch, self._run_ids = store, scratch, run_ids
        self._dropped = store.dropped(), scratch.dropped()

    def experiments(self) -> list[Verified]:
        """Return what came of comparing each experiment."""
        for _ in range(TRIES):
            before = positions(self._store)
            found = self._compare_experiments()
            if before == positions(self._store) == positions(self._scratch) or not any(item.differences for item in found):
                return found
            self._catch_up()
        return [replace(item, differences=(), is_moving=True) if item.differences else item for item in self._compare_experiments()]

    def _compare_experiments(self) -> list[Verified]:
        found, expected = ({key: experiment_portrait(item) for key, item in _experiments(reader).items()} for reader in self._both)
        every = sorted(found.keys() | expected.keys())
        return [self._verified(experiment_subject(key), found.get(key, ABSENT), expected.get(key, ABSENT)) for key in every]

    def run(self, run_id: str) -> Verified:
        """Return what came of comparing a run; one that is written to meanwhile is caught up with, a bounded number of times."""
        verified = self._compare(run_id)
        for _ in range(TRIES):
            if verified is not None:
                return verified
            self._catch_up()
            verified = self._compare(run_id)
        return verified or Verified(run_id, self._events(run_id), None, is_moving=True)

    def _compare(self, run_id: str) -> Verified | None:
        """Compare a run; None if it was written to meanwhile."""
        before = positions(self._store, run_id)
        found, expected = (_portrait(reader, run_id, dropped) for reader, dropped in zip(self._both, self._dropped, strict=True))
        if not found and not expected and not before:
            raise NotFound(f"no run has the id {run_id!r}")
        is_steady = before == positions(self._store, run_id) == positions(self._scratch, run_id)
        return self._verified(run_id, found, expected) if is_steady else None

    def _verified(self, subject: str, found: Portrait, expected: Portrait) -> Verified:
        digest = digest_of(found) if found else None
        return Verified(subject, self._events(subject), digest, tuple(differences(expected, found)))

    def _events(self, subject: str) -> int:
        return sum(item.committed for item in self._store.writers(subject))

    def _catch_up(self) -> None:
        fill(self._store, self._scratch, self._run_ids)
        self._dropped = self._store.dropped(), self._scratch.dropped()

    @property
    def _both(self) -> tuple[Store, Store]:
        return self._store, self._scratch


def _portrait(reader: RunReader, run_id: str, dropped: Mapping[str, int]) -> Portrait:
    try:
        return run_portrait(reader, run_id, dropped.get(run_id, 0))
    except NotFound:
        return ABSENT


def differences(expected: Portrait, found: Portrait) -> Iterator[Difference]:
    """Yield the parts that differ, in order."""
    for part in sorted(expected.keys() | found.keys()):
        if expected.get(part) != found.get(part):
            yield Difference(part, expected.get(part), found.get(part))
