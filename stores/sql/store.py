"""The SQL store: ledger, projector, queries and search behind `stores.base.Store`."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial

from sqlalchemy import Connection

from flightlog.schema.blocks import Block
from flightlog.schema.entities import Attempt, DeadLetter, Experiment, Metric, PagedList, Run, ViewType, WriterStatus
from flightlog.schema.filters.order import parse_experiment_order, parse_run_order
from flightlog.schema.filters.parser import parse_experiment_filter, parse_run_filter
from flightlog.schema.fold import ArtifactState
from flightlog.schema.ids import WriterId, now_ms
from flightlog.stores import series
from flightlog.stores.base import Applied, Envelope, Gap, History, PendingArtifact
from flightlog.stores.batches import lost_block
from flightlog.stores.sql import attempts, compaction, ledger, projector, queries
from flightlog.stores.sql.engine import lock_subjects, open_engine, reading, write
from flightlog.stores.sql.migrations import migrate
from flightlog.stores.sql.search import search_experiment_ids, search_run_ids
from flightlog.stores.sql.silence import silent_runs


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
        with reading(self._engine) as connection:
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

    def writers(self, subject: str | None = None) -> list[WriterStatus]:
        """See `RunReader.writers`."""
        with reading(self._engine) as connection:
            return ledger.statuses(connection, subject)

    def ledger(self, subject: str | None = None) -> Iterator[Block]:
        """See `RunReader.ledger`. Holds few blocks at once and no transaction in between."""
        place = 0
        while True:
            with reading(self._engine) as connection:
                blocks = ledger.blocks_after(connection, place, subject)
            if not blocks:
                return
            yield from (block for _, block in blocks)
            place = blocks[-1][0]

    def close(self) -> None:
        """See `Sink.close`."""
        self._engine.dispose()


def _apply(connection: Connection, items: Sequence[Block | Gap], now: int) -> Applied:
    lock_subjects(connection, {item.subject for item in items})
    admitted, positions = ledger.admit(connection, items, now)
    ledger.keep(connection, admitted)
    letters = projector.project(connection, admitted, now)
    ledger.keep_letters(connection, letters)
    events = sum(len(part.item.records) for part in admitted if isinstance(part.item, Block))
    return Applied(positions, [item.letter for item in letters], events)


def _mark_lost(connection: Connection, silent_since: int, living: Collection[str], now: int) -> int:
    """Mark the runs that are silent once nobody else can change them any more."""
    lock_subjects(connection, [run_id for run_id, _ in silent_runs(connection, silent_since, living)])
    lost = [lost_block(run_id, seen, now) for run_id, seen in silent_runs(connection, silent_since, living)]
    return _apply(connection, lost, now).events
