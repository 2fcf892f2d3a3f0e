"""The SQL store: ledger, projector, queries and search behind `stores.base.Store`."""

from __future__ import annotations

import logging
import math
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from flightlog.schema.blocks import Block
from flightlog.schema.entities import Attempt, DeadLetter, Experiment, Metric, PagedList, Run, ViewType, WriterStatus
from flightlog.schema.errors import FlightlogException, StoreUnavailable
from flightlog.schema.filters.order import parse_experiment_order, parse_run_order
from flightlog.schema.filters.parser import parse_experiment_filter, parse_run_filter
from flightlog.schema.fold import ArtifactState
from flightlog.schema.ids import DEFAULT_EXPERIMENT_ID, WriterId, experiment_subject, now_ms
from flightlog.stores import series, verify
from flightlog.stores.archive import Merge
from flightlog.stores.artifacts import open_artifacts
from flightlog.stores.base import (
    ALL_POINTS,
    BATCH_POINTS,
    Applied,
    Envelope,
    Gap,
    Histories,
    History,
    Outcome,
    PendingArtifact,
    Portion,
    Tombstone,
    WriterKey,
)
from flightlog.stores.batches import after_positions, experiment_of, lost_block, without_named
from flightlog.stores.purging import portions
from flightlog.stores.replay import Tell
from flightlog.stores.run_columns import RunColumns
from flightlog.stores.sql import archives, attempts, bulk, compaction, deleted, late_events, ledger, projector, purge, queries, repair
from flightlog.stores.sql.archives import Sealed
from flightlog.stores.sql.deleted import DeletedExperiment, DeletedRun
from flightlog.stores.sql.engine import close_with, lock_subjects, open_engine, reading, reading_once, write
from flightlog.stores.sql.migrations import migrate
from flightlog.stores.sql.run_columns import load_columns
from flightlog.stores.sql.search import search_experiment_ids, search_run_ids
from flightlog.stores.sql.silence import silent_runs

log = logging.getLogger("flightlog.stores")

NOBODY = ""
"""A run id that no run has: a ledger is looked through for what concerns experiments only."""


class SqlStore:
    """A `Store` in a SQL database, which is made or brought up to date when it is opened. Threads and processes may share it."""

    def __init__(self, database_url: str) -> None:
        self._engine = open_engine(database_url)
        close_with(self, self._engine)
        self._compaction = compaction.Compaction()
        try:
            migrate(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

    def position(self, subject: str, writer: WriterId) -> int:
        """See `Sink.position`."""
        with reading_once(self._engine) as connection:
            return ledger.position(connection, subject, writer)

    def apply(self, items: Sequence[Block | Gap]) -> Applied:
        """See `Sink.apply`."""
        return write(self._engine, partial(_apply, items=items, now=now_ms()))

    def pending_artifacts(self, limit: int = 1000, after: PendingArtifact | None = None) -> list[PendingArtifact]:
        """See `Sink.pending_artifacts`."""
        with reading(self._engine) as connection:
            return queries.pending_artifacts(connection, limit, after)

    def pending_snapshots(self, snapshots: Collection[str]) -> list[PendingArtifact]:
        """See `Sink.pending_snapshots`."""
        with reading(self._engine) as connection:
            return queries.pending_snapshots(connection, snapshots)

    def homeless_snapshots(self, snapshots: Collection[str]) -> dict[str, str]:
        """See `Sink.homeless_snapshots`."""
        with reading(self._engine) as connection:
            return queries.homeless_snapshots(connection, snapshots)

    def unwanted_snapshots(self, snapshots: Collection[str]) -> set[str]:
        """See `Sink.unwanted_snapshots`."""
        with reading(self._engine) as connection:
            unnamed = queries.unnamed_snapshots(connection, snapshots)
            return without_named(unnamed, ledger.letters(connection, None, None)) if unnamed else unnamed

    def settle_artifact(self, run_id: str, artifact: ArtifactState, state: str, reason: str | None = None) -> None:
        """See `Sink.settle_artifact`."""
        self.settle_artifacts([Outcome(run_id, artifact, state, reason)])

    def settle_artifacts(self, outcomes: Sequence[Outcome]) -> None:
        """See `Sink.settle_artifacts`."""
        if outcomes:
            write(self._engine, partial(queries.settle_artifacts, outcomes=outcomes))

    def mark_lost(self, silent_ms: int, living: Collection[str] = ()) -> int:
        """See `Sink.mark_lost`. Looks first without holding anybody up, and again in the transaction that marks."""
        now = now_ms()
        with reading(self._engine) as connection:
            if not silent_runs(connection, now - silent_ms, living):
                return 0
        return write(self._engine, partial(_mark_lost, silent_since=now - silent_ms, living=living, now=now))

    def maintain(self) -> bool:
        """See `Sink.maintain`. Merges small chunks of histories."""
        return self._compaction.step(self._engine)

    def get_run(self, run_id: str) -> Run:
        """See `RunReader.get_run`."""
        with reading(self._engine) as connection:
            return queries.get_run(connection, run_id)

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Run]:
        """See `RunReader.search_runs`."""
        node, order = parse_run_filter(filter_string), parse_run_order(order_by)
        with reading(self._engine) as connection:
            numbers, token = search_run_ids(connection, experiment_ids, node, order, run_view_type, max_results, page_token)
            return PagedList(queries.load_runs(connection, numbers), token)

    def search_run_columns(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> tuple[RunColumns, str | None]:
        """See `RunReader.search_run_columns`."""
        node, order = parse_run_filter(filter_string), parse_run_order(order_by)
        with reading(self._engine) as connection:
            numbers, token = search_run_ids(connection, experiment_ids, node, order, run_view_type, max_results, page_token)
            return load_columns(connection, numbers), token

    def get_experiment(self, experiment_id: str) -> Experiment:
        """See `RunReader.get_experiment`."""
        with reading(self._engine) as connection:
            return queries.get_experiment(connection, experiment_id)

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """See `RunReader.get_experiment_by_name`."""
        with reading(self._engine) as connection:
            return queries.get_experiment_by_name(connection, name)

    def search_experiments(
        self,
        view_type: int = ViewType.ACTIVE_ONLY,
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Experiment]:
        """See `RunReader.search_experiments`."""
        node, order = parse_experiment_filter(filter_string), parse_experiment_order(order_by)
        with reading(self._engine) as connection:
            numbers, token = search_experiment_ids(connection, node, order, view_type, max_results, page_token)
            return PagedList(queries.list_experiments(connection, numbers), token)

    def attempts(self, run_id: str) -> list[Attempt]:
        """See `RunReader.attempts`."""
        with reading(self._engine) as connection:
            return attempts.list_attempts(connection, run_id)

    def metric_history(self, run_id: str, key: str, attempt: int | None = None) -> list[Metric]:
        """See `RunReader.metric_history`."""
        return series.to_metrics(key, self.metric_arrays(run_id, key, attempt=attempt))

    def metric_arrays(
        self, run_id: str, key: str, start_step: int | None = None, end_step: int | None = None, attempt: int | None = None
    ) -> History:
        """See `RunReader.metric_arrays`."""
        with reading(self._engine) as connection:
            return queries.metric_arrays(connection, run_id, key, start_step, end_step, attempt)

    def metric_keys(self, run_ids: Sequence[str]) -> list[str]:
        """See `RunReader.metric_keys`."""
        with reading(self._engine) as connection:
            return bulk.keys(connection, run_ids)

    def metric_histories(
        self,
        run_ids: Sequence[str],
        keys: Sequence[str] | None = None,
        portion: Portion = ALL_POINTS,
        batch_points: int = BATCH_POINTS,
    ) -> Iterator[Histories]:
        """See `RunReader.metric_histories`. The batches of some hundred runs at a time are of one state of the database."""
        return bulk.histories(self._engine, run_ids, keys, portion, batch_points)

    def envelope(
        self,
        run_id: str,
        key: str,
        buckets: int = 1000,
        start_step: int | None = None,
        end_step: int | None = None,
        attempt: int | None = None,
    ) -> Envelope:
        """See `RunReader.envelope`."""
        with reading(self._engine) as connection:
            return queries.envelope(connection, run_id, key, buckets, start_step, end_step, attempt)

    def artifacts(self, run_id: str) -> list[ArtifactState]:
        """See `RunReader.artifacts`."""
        with reading(self._engine) as connection:
            return queries.list_artifacts(connection, run_id)

    def dead_letters(self, subject: str | None = None, writer: str | None = None) -> list[DeadLetter]:
        """See `RunReader.dead_letters`."""
        with reading(self._engine) as connection:
            return ledger.letters(connection, subject, writer)

    def dropped(self) -> dict[str, int]:
        """See `RunReader.dropped`."""
        with reading(self._engine) as connection:
            return queries.dropped(connection)

    def tombstones(self) -> list[Tombstone]:
        """See `RunReader.tombstones`."""
        with reading(self._engine) as connection:
            return purge.all_tombstones(connection)

    def writers(self, subject: str | None = None) -> list[WriterStatus]:
        """See `RunReader.writers`."""
        with reading(self._engine) as connection:
            return ledger.statuses(connection, subject)

    def ledger(self, subject: str | None = None, known: Mapping[WriterKey, int] | None = None) -> Iterator[Block]:
        """See `RunReader.ledger`. Holds few blocks at once and no transaction in between."""
        positions = known or {}
        merge, archive, place, limit = Merge(), 0, 0, ledger.FIRST_PAGE
        while place >= 0:
            with reading(self._engine) as connection:  # one state: what leaves the ledger meanwhile is in an archive, and nothing in both
                found = archives.known(connection, subject, archive)
                following, blocks = ledger.blocks_after(connection, place, subject, positions, limit)
            for item in found:
                merge.add(item.first_place, item.blocks(place))
                archive = item.id
            for at, block in blocks:
                yield from after_positions(merge.before(at), positions)
                yield block
            limit = ledger.next_limit(limit, [block for _, block in blocks])
            place = following
        yield from after_positions(merge.before(math.inf), positions)

    def ended_runs(self, before: int) -> list[str]:
        """Return the runs that ended before a time, ms since the epoch, and have something in the ledger, in order of their ids."""
        with reading(self._engine) as connection:
            return archives.ended_runs(connection, before)

    def archive(self, run_id: str, folder: str) -> Sealed | None:
        """Move what the ledger has of a run into a file in a folder or bucket; None where there is nothing.

        The file is read back before the rows go, so that a crash leaves the rows or a whole archive; what it left of a file, the next call
        removes. Raises `OSError`, `InvalidParameter` or `DecodeError` where it cannot be written, `StoreUnavailable` when the ledger was
        changed meanwhile.
        """
        open_artifacts(folder)
        self._write_off(run_id)
        with tempfile.TemporaryDirectory(prefix="flightlog-") as temporary:
            path = Path(temporary) / "archive"
            with reading(self._engine) as connection:
                sealed = archives.seal(connection, run_id, path)
            if sealed is not None:
                self._move_to(run_id, folder, path, sealed)
        return sealed

    def _move_to(self, run_id: str, folder: str, path: Path, sealed: Sealed) -> None:
        number = write(self._engine, partial(archives.announce, subject=run_id, folder=folder, sealed=sealed))
        try:
            archives.put_file(path, folder, sealed.written)
            write(self._engine, partial(_move_out, run_id=run_id, number=number, sealed=sealed))
        except (FlightlogException, OSError):
            self._write_off(run_id)
            raise

    def _write_off(self, run_id: str) -> None:
        """Remove the files of a run that were not finished, or that nobody needs any more."""
        for archive in write(self._engine, partial(archives.write_off, subject=run_id)):
            try:
                archives.remove_file(archive)
            except (FlightlogException, OSError) as error:
                log.warning("nobody needs %s, and it could not be removed; remove it by hand if it is there: %s", archive.uri, error)
            write(self._engine, partial(archives.forget, archive=archive))

    def unarchive(self, run_id: str) -> None:
        """Bring the archived ledger of a run back into the database. Raises as reading an archive does."""
        write(self._engine, partial(_move_in, run_id=run_id))
        self._write_off(run_id)

    def remove_purged_archives(self) -> int:
        """Delete the archives of purged runs; return how many there were. Raises `OSError`, `InvalidParameter`."""
        with reading(self._engine) as connection:
            found = archives.purged(connection)
        for archive in found:
            archives.remove_file(archive)
            write(self._engine, partial(archives.forget, archive=archive))
        return len(found)

    def repair(self, subjects: Sequence[str]) -> None:
        """Replace what is projected of runs and experiments, and their dead letters, by what the ledger gives; one transaction each."""
        with self._projected_anew(subjects, []) as scratch:
            for subject in subjects:
                write(self._engine, partial(self._replace, scratch=scratch, subject=subject, late=[]))

    def rebuild(self, tell: Tell | None = None) -> int:
        """Project the whole ledger anew beside what is there, and swap it in; return how many runs and experiments there are.

        The new projection is made in a temporary SQLite database while events go on being filed. Then, while workers wait, it catches up
        and takes the place of the old one in one transaction: a reader sees the old one or the new one. `tell` hears of events.
        """
        with verify.temporary_database() as url, closing(SqlStore(url)) as scratch:
            verify.fill(self, scratch, (), tell)
            self._catch_up(scratch)
            return write(self._engine, partial(self._swap, scratch=scratch))

    def _catch_up(self, scratch: SqlStore) -> None:
        known = verify.positions(scratch)
        for subject in sorted({key[0] for key, end in verify.positions(self).items() if end > known.get(key, 0)}):
            verify.fill_subject(self, scratch, subject)

    def _swap(self, connection: Connection, scratch: SqlStore) -> int:
        lock_subjects(connection, {experiment_subject(DEFAULT_EXPERIMENT_ID)})  # an experiment's lock keeps all others out
        self._catch_up(scratch)
        if verify.positions(scratch) != verify.positions(self):
            raise StoreUnavailable("the new projection did not come to where the ledger is; nothing was changed, rebuild again")
        subjects = [*verify.known_experiments(self, scratch), *verify.known_runs(self)]
        with reading(scratch._engine) as fresh:
            for subject in subjects:
                repair.replace_subject(connection, fresh, subject)
        return len(subjects)

    @contextmanager
    def _projected_anew(self, subjects: Sequence[str], late: Sequence[Block]) -> Iterator[SqlStore]:
        run_ids = [subject for subject in subjects if experiment_of(subject) is None]
        with verify.temporary_database() as url, closing(SqlStore(url)) as scratch:
            verify.fill(self, scratch, run_ids or [NOBODY], None, late)
            yield scratch

    def _replace(self, connection: Connection, scratch: SqlStore, subject: str, late: Sequence[Block]) -> None:
        lock_subjects(connection, {subject})
        verify.fill_subject(self, scratch, subject)
        late_events.insert(connection, late)
        with reading(scratch._engine) as fresh:
            repair.replace_subject(connection, fresh, subject)

    def retry(self, dead_letters: Sequence[DeadLetter]) -> dict[str, str | None]:
        """Give events another try: those that were refused go into the ledger, and what is projected of their subjects is made anew.

        Return for each subject why the database refuses it still, or None. What it refuses is as it was before.
        """
        for subject in {letter.subject for letter in dead_letters if late_events.is_whole(letter)}:
            self.unarchive(subject)
        with reading(self._engine) as connection:
            late = late_events.find(connection, dead_letters)
        subjects = sorted({letter.subject for letter in dead_letters})
        with self._projected_anew(subjects, late) as scratch:
            return {subject: self._try(scratch, subject, [block for block in late if block.subject == subject]) for subject in subjects}

    def _try(self, scratch: SqlStore, subject: str, late: Sequence[Block]) -> str | None:
        try:
            write(self._engine, partial(self._replace, scratch=scratch, subject=subject, late=late))
        except DBAPIError as error:
            return f"{type(error).__name__}: {error.orig}"
        return None

    def drop_letters(self, dead_letters: Sequence[DeadLetter]) -> int:
        """Delete dead letters; return how many there were."""
        return write(self._engine, partial(ledger.drop_letters, dropped=dead_letters))

    def deleted_runs(self, before: int) -> list[DeletedRun]:
        """Return the runs that were deleted before a time, ms since the epoch."""
        with reading(self._engine) as connection:
            return deleted.deleted_runs(connection, before)

    def deleted_experiments(self, before: int) -> list[DeletedExperiment]:
        """Return the experiments that were deleted before a time, ms since the epoch."""
        with reading(self._engine) as connection:
            return deleted.deleted_experiments(connection, before)

    def shrink(self) -> None:
        """Give the room that deleted rows took back to the system, where the database does not see to that by itself.

        SQLite copies its file for it, and nobody can write meanwhile.
        """
        if self._engine.dialect.name == "sqlite":
            with closing(self._engine.raw_connection()) as connection:
                for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
                    connection.cursor().execute(statement)

    def close(self) -> None:
        """See `Sink.close`."""
        self._engine.dispose()


def _move_out(connection: Connection, run_id: str, number: int, sealed: Sealed) -> None:
    lock_subjects(connection, {run_id})
    archives.move_out(connection, run_id, number, sealed)


def _move_in(connection: Connection, run_id: str) -> None:
    lock_subjects(connection, {run_id})
    archives.move_in(connection, run_id)


def _apply(connection: Connection, items: Sequence[Block | Gap], now: int) -> Applied:
    lock_subjects(connection, {item.subject for item in items})
    applied = [_apply_portion(connection, portion, now) for portion in portions(items)]
    positions = {writer: position for part in applied for writer, position in part.positions.items()}
    return Applied(positions, [letter for part in applied for letter in part.letters], sum(part.events for part in applied))


def _apply_portion(connection: Connection, items: Sequence[Block | Gap], now: int) -> Applied:
    admitted, positions = ledger.admit(connection, items, now)
    admitted = purge.without_purged(connection, admitted)
    is_purge = purge.is_purge(connection, admitted)
    ledger.keep(connection, admitted)
    letters = [] if is_purge else projector.project(connection, admitted, now)
    ledger.keep_letters(connection, letters)
    events = sum(len(part.item.records) for part in admitted if isinstance(part.item, Block))
    return Applied(positions, [item.letter for item in letters], events)


def _mark_lost(connection: Connection, silent_since: int, living: Collection[str], now: int) -> int:
    """Mark the runs that are silent once nobody else can change them any more."""
    lock_subjects(connection, [run_id for run_id, _ in silent_runs(connection, silent_since, living)])
    lost = [lost_block(run_id, seen, now) for run_id, seen in silent_runs(connection, silent_since, living)]
    return _apply(connection, lost, now).events
