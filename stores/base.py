"""The two faces of a store: a `Sink` takes events in, a `RunReader` gives runs back.

The whole correctness argument is in `Sink.apply`: events, positions and projections change in one transaction, and what lies before a
writer's position is skipped. So a crash anywhere repeats a batch, and the repetition does nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from flightlog.schema.blocks import Block
from flightlog.schema.entities import Attempt, DeadLetter, Experiment, Metric, PagedList, Run, WriterStatus
from flightlog.schema.errors import InvalidParameter
from flightlog.schema.fold import ArtifactState
from flightlog.schema.ids import WriterId
from flightlog.stores.run_columns import RunColumns

LEAST_SAMPLE = 4
BATCH_POINTS = 1_000_000
"""About so many points are in a batch of histories: 24 MB."""

WriterKey = tuple[str, WriterId]
"""Subject and writer: what has a position."""


@dataclass(frozen=True)
class Gap:
    """Events that can never come: a damaged journal. The position moves to `next_sequence`; a dead letter tells of it.

    `count` is how many events are missing, None if that cannot be known. `payload` is what is left of their bytes, cut short.
    """

    subject: str
    writer: WriterId
    sequence: int
    next_sequence: int
    reason: str
    message: str
    payload: bytes = b""
    count: int | None = None


@dataclass(frozen=True)
class Applied:
    """What a batch came to: each writer's position after it, and the dead letters that it left."""

    positions: dict[WriterId, int] = field(default_factory=dict)
    letters: list[DeadLetter] = field(default_factory=list)
    events: int = 0


@dataclass(frozen=True)
class History:
    """A metric's points as equally long arrays, ordered by (step, timestamp, value). `timestamp` is ms since the epoch."""

    step: npt.NDArray[np.int64]
    timestamp: npt.NDArray[np.int64]
    value: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.step)


@dataclass(frozen=True)
class Envelope:
    """A long history in buckets of equal step width: one row a bucket that is not empty.

    `start` and `end` are the least and greatest step in it; `min` and `max` leave NaN out and are NaN when nothing else is there.
    """

    start: npt.NDArray[np.int64]
    end: npt.NDArray[np.int64]
    count: npt.NDArray[np.int64]
    min: npt.NDArray[np.float64]
    max: npt.NDArray[np.float64]
    first: npt.NDArray[np.float64]
    last: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Histories:
    """Points of several metrics in columns: those of `owners[i]`, a run id and a key, are the rows from `bounds[i]` to `bounds[i + 1]`."""

    owners: list[tuple[str, str]]
    bounds: npt.NDArray[np.int64]
    points: History

    def __iter__(self) -> Iterator[tuple[str, str, History]]:
        """Yield run id, key and points of each metric."""
        step, timestamp, value = self.points.step, self.points.timestamp, self.points.value
        places = zip(self.owners, self.bounds[:-1].tolist(), self.bounds[1:].tolist(), strict=True)
        for (run_id, key), start, end in places:
            yield run_id, key, History(step[start:end], timestamp[start:end], value[start:end])


@dataclass(frozen=True)
class Portion:
    """Which points of a metric are read: steps from `start_step` to `end_step` inclusive, of an attempt as `metric_history` says.

    With `sample` no more than so many of them, at least 4: see `sampling.sampled`.
    """

    start_step: int | None = None
    end_step: int | None = None
    attempt: int | None = None
    sample: int | None = None

    def __post_init__(self) -> None:
        if self.sample is not None and self.sample < LEAST_SAMPLE:
            raise InvalidParameter(
                f"sample must be at least {LEAST_SAMPLE}, for the first, last, least and greatest point, not {self.sample}"
            )


ALL_POINTS = Portion()


@dataclass(frozen=True)
class Tombstone:
    """A run or experiment that was purged: when, ms since the epoch, and how many events of it came later and were dropped."""

    subject: str
    time: int
    dropped: int


PendingArtifact = tuple[str, str, ArtifactState]
"""Run id, artifact URI of the run, artifact."""


@dataclass(frozen=True)
class Outcome:
    """What became of an artifact: "stored", "failed", or "pending" when it has to be tried again. Its SHA-256 is noted with it."""

    run_id: str
    artifact: ArtifactState
    state: str
    reason: str | None = None


class Sink(Protocol):
    """Where events go."""

    def position(self, subject: str, writer: WriterId) -> int:
        """Return the next sequence that the store expects of a writer; 0 for a new one."""

    def apply(self, items: Sequence[Block | Gap]) -> Applied:
        """Apply a batch in one transaction, in order. Applying it again, or a part of it, does nothing.

        A block that starts past its writer's position is not applied: the sender comes again from the position. An event that
        cannot be projected becomes a dead letter; the rest goes on. Raises `StoreUnavailable` when nothing could be done.
        """

    def pending_artifacts(self, limit: int = 1000, after: PendingArtifact | None = None) -> list[PendingArtifact]:
        """Return a page of the artifacts that wait to be stored, in an order that does not change: those that come after a given one."""

    def pending_snapshots(self, snapshots: Collection[str]) -> list[PendingArtifact]:
        """Return those of the artifacts that wait to be stored whose snapshots are given by name."""

    def homeless_snapshots(self, snapshots: Collection[str]) -> dict[str, str]:
        """Return those of the snapshots whose artifacts wait for their run to be started, each with the run's id."""

    def unwanted_snapshots(self, snapshots: Collection[str]) -> set[str]:
        """Return those of the snapshots that no artifact which waits or failed and no dead letter names."""

    def settle_artifact(self, run_id: str, artifact: ArtifactState, state: str, reason: str | None = None) -> None:
        """Say what became of an artifact, unless a newer one at the path has come: see `Outcome`."""

    def settle_artifacts(self, outcomes: Sequence[Outcome]) -> None:
        """Say what became of many artifacts, in one transaction."""

    def mark_lost(self, silent_ms: int, living: Collection[str] = ()) -> int:
        """Take runs for lost that are under way and of whose writers none was heard of for so long; return how many.

        That is on the clock by which `WriterStatus.updated` was written. `living` are runs whose writers are known to live. Each becomes
        FAILED with the reason "lost" by an event of its own, until anything else is heard of it. One call marks a bounded number.
        """

    def maintain(self) -> bool:
        """Do one bounded piece of housekeeping; say whether there may be more."""

    def close(self) -> None:
        """Let go of everything that the store opened itself."""


class RunReader(Protocol):
    """Gives runs back, from SQL, over HTTP or from memory. Errors are `NotFound`, `InvalidParameter`, `StoreUnavailable`."""

    def get_run(self, run_id: str) -> Run:
        """Return a run with its latest metrics, params and tags; also a deleted one."""

    def search_runs(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = 1,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Run]:
        """Return one page of the runs that match; see `schema.filters` for the language."""

    def search_run_columns(
        self,
        experiment_ids: Sequence[str],
        filter_string: str = "",
        run_view_type: int = 1,
        max_results: int = 1000,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> tuple[RunColumns, str | None]:
        """Return the runs of the page that `search_runs` returns as columns, and the token of the next page, None on the last."""

    def get_experiment(self, experiment_id: str) -> Experiment:
        """Return an experiment; also a deleted one."""

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """Return the experiment of that name, also a deleted one, or None."""

    def search_experiments(
        self,
        view_type: int = 1,
        max_results: int = 1000,
        filter_string: str | None = None,
        order_by: Sequence[str] | None = None,
        page_token: str | None = None,
    ) -> PagedList[Experiment]:
        """Return one page of the experiments that match."""

    def attempts(self, run_id: str) -> list[Attempt]:
        """Return the attempts of a run, the first with the number 0; an unknown run has none."""

    def metric_history(self, run_id: str, key: str, attempt: int | None = None) -> list[Metric]:
        """Return the points of a metric ordered by (timestamp, step, value); an unknown run or key has none.

        Without an attempt: those that no later attempt has hidden by going back to their step or before it. With one: all points of it.
        """

    def metric_arrays(
        self, run_id: str, key: str, start_step: int | None = None, end_step: int | None = None, attempt: int | None = None
    ) -> History:
        """Return the points of a metric, steps from `start_step` to `end_step` inclusive, as arrays; of an attempt as `metric_history`."""

    def metric_keys(self, run_ids: Sequence[str]) -> list[str]:
        """Return the keys of which any of these runs has points, in the order of their code points; an unknown run has none."""

    def metric_histories(
        self,
        run_ids: Sequence[str],
        keys: Sequence[str] | None = None,
        portion: Portion = ALL_POINTS,
        batch_points: int = BATCH_POINTS,
    ) -> Iterator[Histories]:
        """Yield the histories of many runs and keys, all keys for None, in batches of about so many points.

        They come in the order of `run_ids`, and of `keys` or else of the keys' code points; each run and key counts once, and what has no
        points is left out. A long history may go on in the next batch; one that is sampled does not. A batch has a point at least.
        """

    def envelope(
        self,
        run_id: str,
        key: str,
        buckets: int = 1000,
        start_step: int | None = None,
        end_step: int | None = None,
        attempt: int | None = None,
    ) -> Envelope:
        """Return the points of a metric in at most `buckets` buckets over the step range; of an attempt as `metric_history`."""

    def artifacts(self, run_id: str) -> list[ArtifactState]:
        """Return what was logged as artifacts, with each one's state."""

    def dead_letters(self, subject: str | None = None, writer: str | None = None) -> list[DeadLetter]:
        """Return dead letters, oldest first."""

    def dropped(self) -> dict[str, int]:
        """Return, for each run that has lost some, how many events were not recorded because a spool or a disk was full."""

    def tombstones(self) -> list[Tombstone]:
        """Return what was purged, in order of the subjects."""

    def writers(self, subject: str | None = None) -> list[WriterStatus]:
        """Return how far the store has come with each writer."""

    def ledger(self, subject: str | None = None, known: Mapping[WriterKey, int] | None = None) -> Iterator[Block]:
        """Yield all blocks in the order in which they were applied, but for those that end at or before a known position."""

    def close(self) -> None:
        """Let go of everything that the reader opened itself."""


class Store(Sink, RunReader, Protocol):
    """Both faces over the same facts."""
