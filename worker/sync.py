"""Syncing: what journals and flight folders hold is brought into a store, once, whoever wrote it and wherever it was copied from."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flightlog.schema import frames
from flightlog.schema.blocks import Block
from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import NotFound
from flightlog.schema.ids import WriterId
from flightlog.schema.names import SNAPSHOTS
from flightlog.schema.settings import DATABASE_FILE, Location
from flightlog.stores.base import Gap, Store
from flightlog.stores.batches import experiment_of
from flightlog.stores.sql.ledger_file import has_ledger, ledger_items, opened_copy, subjects
from flightlog.worker.copied_artifacts import CopiedArtifacts
from flightlog.worker.ingest import BATCH_EVENTS
from flightlog.worker.poison import apply_around_poison
from flightlog.worker.rehoming import Rehoming
from flightlog.worker.shipper import ship_all
from flightlog.worker.sources.base import Source
from flightlog.worker.sources.copies import CopySource, Shortage
from flightlog.worker.sources.items import ItemSource
from flightlog.worker.spool import drain_spool, raise_file_limit
from flightlog.worker.status import Journal, read_spool

PASSES = 3
"""How often folders are read again for what another of them, or a worker that was filing meanwhile, has by then."""
LOOK = 0.25
"""Seconds between looks at a worker that files a spool."""
ARTIFACTS = "artifacts"
"""The folder of stored artifacts in a flight folder."""

Watch = Callable[[int], None]
"""Is told how many events were filed, or artifacts stored, since the last time."""


def unwatched(_: int) -> None:
    """Tell nobody."""


@dataclass
class Synced:
    """What a sync came to. `shortages` are events that neither the folders nor the store have; `open_journals` may still be written."""

    events: int = 0
    runs: set[str] = field(default_factory=set)
    letters: list[DeadLetter] = field(default_factory=list)
    shortages: list[Shortage] = field(default_factory=list)
    open_journals: int = 0
    artifacts: int = 0
    artifacts_missing: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to be missing."""
        return not self.shortages and not self.artifacts_missing and not any(letter.reason in LOSSES for letter in self.letters)


LOSSES = ("torn", "corrupt", "truncated", "missing", "too-large")
"""Reasons of dead letters that tell of events which are gone."""


@dataclass(frozen=True)
class Copy:
    """A folder that was copied from elsewhere: its folders of journals, its database if there is one, its stored artifacts."""

    folder: Path
    spools: tuple[Path, ...]
    database: Path | None
    artifacts: Path


def find_copy(folder: Path) -> Copy:
    """Look at a flight folder, or at a folder of journals. Raises `NotFound` for one that is neither, `OSError` when it cannot be read."""
    if not folder.is_dir():
        raise NotFound(f"there is no folder {folder}")
    inner = sorted(path for path in folder.iterdir() if path.is_dir() and path.name.partition("-")[0] == "journal")
    mine = [folder] if any(frames.parse_segment_name(path.name) for path in folder.iterdir()) else []
    database = folder / DATABASE_FILE
    if not (inner or mine or database.is_file()):
        raise NotFound(f"{folder} holds no journals (*{frames.SUFFIX}), no folder of journals and no {DATABASE_FILE}")
    return Copy(folder, (*mine, *inner), database if database.is_file() else None, folder / ARTIFACTS)


def sync_copies(
    folders: Sequence[Path],
    location: Location,
    store: Store,
    *,
    final: bool = False,
    rehome: bool = True,
    watch: Watch = unwatched,
    stored: Watch = unwatched,
) -> Synced:
    """Bring what folders hold into a store, and change nothing in them. Raises `NotFound`, `StoreUnavailable`, `OSError`.

    `final` says that nothing will be added to the folders: what is missing is filed as lost, as a worker does for a dead writer.
    `rehome` gives runs that name a path for their artifacts the store's own place.
    """
    raise_file_limit()
    shipment = Shipment([find_copy(folder) for folder in folders], location, store, rehome=rehome, watch=watch)
    for number in range(PASSES):
        before = shipment.synced.events
        was_short = shipment.ship()
        if not was_short or (number and shipment.synced.events == before):
            break
    if final:
        shipment.ship(final=True)
    shipment.store_artifacts(stored)
    return shipment.synced


class Shipment:
    """One sync of some copies into a store."""

    def __init__(self, copies: Sequence[Copy], location: Location, store: Store, *, rehome: bool, watch: Watch) -> None:
        self.synced = Synced()
        self._copies = copies
        self._location = location
        self._store = store
        self._rehoming = Rehoming(location) if rehome else None
        self._watch = watch
        self._runs: set[str] = set()

    def ship(self, *, final: bool = False) -> bool:
        """Read all copies once: first the ledgers, which have what was freed from the journals. Say whether anything was missing."""
        shortages: list[Shortage] = []
        self.synced.open_journals = 0
        for copy in self._copies:
            if copy.database is not None and not self._is_ours(copy.database):
                self._ship_ledger(copy.database)
            for spool in copy.spools:
                shortages += self._ship_journals(spool, final=final)
        self.synced.shortages = [item for item in shortages if self._is_short(item)]
        return bool(shortages)

    def store_artifacts(self, stored: Watch) -> None:
        """Store the artifacts of the runs that the copies speak of."""
        spools = [spool for copy in self._copies for spool in copy.spools]
        kept = [copy.folder for copy in self._copies if not self._is_target(copy)]
        artifacts = CopiedArtifacts(spools, [copy.artifacts for copy in self._copies], kept, self._store, stored)
        artifacts.store(self._runs)
        self.synced.artifacts, self.synced.artifacts_missing = artifacts.stored, artifacts.missing

    def _is_target(self, copy: Copy) -> bool:
        """Whether a folder is the very one that things are brought to."""
        return copy.database is not None and self._is_ours(copy.database)

    def _is_ours(self, database: Path) -> bool:
        return self._location.database_url == f"sqlite:///{database.resolve()}"

    def _ship_ledger(self, database: Path) -> None:
        with opened_copy(database) as engine:
            if has_ledger(engine):
                self._see(subjects(engine))
                self._drain(ItemSource(self._rehomed(ledger_items(engine, self._store.position))))

    def _ship_journals(self, spool: Path, *, final: bool) -> list[Shortage]:
        source = CopySource(spool, self._store.position, final=final)
        try:
            self._drain(source)
            self._see(source.subjects())
            self.synced.open_journals += source.open_journals
            return source.shortages
        finally:
            source.close()

    def _drain(self, source: Source) -> None:
        while items := source.take(BATCH_EVENTS):
            mapped = list(self._rehomed(items))
            applied = apply_around_poison(self._store, mapped)
            source.acknowledge(applied)
            self.synced.events += applied.events
            self.synced.letters += applied.letters
            self.synced.runs.update(item.subject for item in mapped if applied.events and experiment_of(item.subject) is None)
            self._watch(applied.events)

    def _rehomed(self, items: Sequence[Block | Gap] | Iterator[Block | Gap]) -> Iterator[Block | Gap]:
        for item in items:
            yield from self._rehoming.items(item) if self._rehoming else (item,)

    def _see(self, found: set[str]) -> None:
        self._runs |= {subject for subject in found if experiment_of(subject) is None}

    def _is_short(self, item: Shortage) -> bool:
        """Whether the store still lacks what was missing: it may have come from another copy."""
        if item.subject is None:
            return True
        position = self._store.position(item.subject, item.writer)
        return position <= item.sequence if item.end is None else position < item.end


def sync_spool(location: Location, store: Store, watch: Watch = unwatched, stored: Watch = unwatched) -> Synced:
    """File what this machine's own spool holds now, and free it; where a worker is at it, wait until it has done so.

    Raises `StoreUnavailable`, `OSError`.
    """
    ends = {(journal.subject, journal.writer): journal.end for journal in read_spool(location.spool).journals}
    before = {key: store.position(*key) for key in ends}
    snapshots = _snapshots(location)
    while drain_spool(location, store, stored) is None and _outstanding(store, ends):
        watch(0)
        threading.Event().wait(LOOK)
    moved = {key: store.position(*key) - position for key, position in before.items()}
    runs = {subject for (subject, _), events in moved.items() if events and experiment_of(subject) is None}
    watch(sum(moved.values()))
    return Synced(sum(moved.values()), runs, _letters(store, before), artifacts=len(snapshots - _snapshots(location)))


def sync_through_queue(location: Location, watch: Watch = unwatched, stored: Watch = unwatched) -> Synced:
    """Ship what this machine's own spool holds now, and wait until a store has it; where a shipper is at it, wait for that.

    Of dead letters only the store knows. Raises `QueueUnavailable`, `OSError`.
    """
    before = {journal.writer: journal for journal in read_spool(location.spool).journals if journal.end > journal.committed}
    snapshots = _snapshots(location)
    while ship_all(location, stored) is None and _under_way(location, before):
        watch(0)
        threading.Event().wait(LOOK)
    events = sum(journal.end - journal.committed for journal in before.values())
    watch(events)
    runs = {journal.subject for journal in before.values() if experiment_of(journal.subject) is None}
    return Synced(events, runs, artifacts=len(snapshots - _snapshots(location)))


def _under_way(location: Location, before: dict[WriterId, Journal]) -> bool:
    """Whether a store is still to commit something that the spool held before."""
    now = {journal.writer: journal.committed for journal in read_spool(location.spool).journals}
    return any(now.get(writer, journal.end) < journal.end for writer, journal in before.items())


def _outstanding(store: Store, ends: dict[tuple[str, WriterId], int]) -> bool:
    return any(store.position(*key) < end for key, end in ends.items())


def _snapshots(location: Location) -> set[str]:
    folder = location.spool / SNAPSHOTS
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def _letters(store: Store, before: dict[tuple[str, WriterId], int]) -> list[DeadLetter]:
    """Return the dead letters that came beyond the positions."""
    found = (letter for subject in sorted({subject for subject, _ in before}) for letter in store.dead_letters(subject))
    return [letter for letter in found if letter.sequence >= before.get((letter.subject, WriterId(letter.writer)), letter.sequence + 1)]
