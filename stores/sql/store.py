"""The SQL store: ledger, projector, queries and search behind `stores.base.Store`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import partial

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from flightlog.schema.blocks import Block
from flightlog.schema.entities import Attempt, DeadLetter, Experiment, Metric, PagedList, Run, ViewType, WriterStatus
from flightlog.schema.filters.order import parse_experiment_order, parse_run_order
from flightlog.schema.filters.parser import parse_experiment_filter, parse_run_filter
from flightlog.schema.fold import ArtifactState
from flightlog.schema.ids import WriterId, now_ms
from flightlog.stores import series, verify
from flightlog.stores.base import Applied, Envelope, Gap, History, PendingArtifact, Tombstone, WriterKey
from flightlog.stores.batches import experiment_of, lost_block
from flightlog.stores.purging import portions
from flightlog.stores.sql import attempts, compaction, deleted, late_events, ledger, projector, purge, queries, repair
from flightlog.stores.sql.deleted import DeletedExperiment, DeletedRun
from flightlog.stores.sql.engine import lock_subjects, open_engine, reading, reading_once, write
from flightlog.stores.sql.migrations import migrate
from flightlog.stores.sql.search import search_experiment_ids, search_run_ids
from flightlog.stores.sql.silence import silent_runs

NOBODY = ""
"""A run id that no run has: a ledger is looked through for what concerns experiments only."""


class SqlStore:
    """A `Store` in a SQL database, which is made or brought up to date when it is opened. Threads and processes may share it."""

    def __init__(self, database_url: str) -> None:
        self._engine = open_engine(database_url)
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

    def settle_artifact(self, run_id: str, artifact: ArtifactState, state: str, reason: str | None = None) -> None:
        """See `Sink.settle_artifact`."""
        work = partial(queries.settle_artifact, run_id=run_id, artifact=artifact, state=state, reason=reason)
        write(self._engine, work)

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
        place, limit = 0, ledger.FIRST_PAGE
        while place >= 0:
            with reading(self._engine) as connection:
                place, blocks = ledger.blocks_after(connection, place, subject, known or {}, limit)
            yield from (block for _, block in blocks)
            limit = ledger.next_limit(limit, [block for _, block in blocks])

    def repair(self, subjects: Sequence[str]) -> None:
        """Replace what is projected of runs and experiments, and their dead letters, by what the ledger gives; one transaction each."""
        with self._projected_anew(subjects, []) as scratch:
            for subject in subjects:
                write(self._engine, partial(self._replace, scratch=scratch, subject=subject, late=[]))

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
