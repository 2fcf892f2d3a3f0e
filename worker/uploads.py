"""Stores artifacts: moves snapshots from the spool to where the run's artifacts live, and notes what became of each.

What goes to one place in the network goes in several threads. What fails and may go well later stays pending, with the reason, and is tried
again with growing pauses; any other failure is noted and concerns its own artifact alone.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue
from typing import Protocol
from urllib.parse import urlsplit

from flightlog.schema.artifact_notes import ArtifactNote, note_path, note_text
from flightlog.schema.artifact_paths import check_artifact_file
from flightlog.schema.blocks import Block
from flightlog.schema.errors import ArtifactDamaged, InvalidParameter
from flightlog.schema.fold import ArtifactState
from flightlog.schema.names import SNAPSHOTS, STORING, is_snapshot
from flightlog.stores.artifacts import local_root, open_artifacts
from flightlog.stores.artifacts.base import Told, may_pass
from flightlog.stores.artifacts.checksums import sha256_of
from flightlog.stores.artifacts.partial import written_whole
from flightlog.stores.artifacts.s3 import MEMO, abandon_upload
from flightlog.stores.base import Gap, Outcome, PendingArtifact
from flightlog.worker.leftovers import Leftovers
from flightlog.worker.logged_artifacts import Known, Replacements, logged_in
from flightlog.worker.pauses import Pauses

log = logging.getLogger("flightlog.worker")

MAX_REASON = 2000
GRACE = 5.0
"""Seconds that the start of a run may come later than its first artifact, by another process, without a word to anybody."""
MARK = 2.0
"""Seconds between two signs that artifacts are being stored."""
THREADS = 16
"""So many artifacts go to places in the network at a time."""
LARGE = 8 << 20
"""Bytes up to which an artifact that is on its way is stored before a worker leaves."""
TOLD_AT, TOLD_AFTER = 500, 0.5
"""So many outcomes, or after so many seconds, are told in one transaction."""


class Stopped(Exception):
    """A file that was on its way is left for the next worker, because this one is told to leave."""


class Pending(Protocol):
    """What knows which artifacts wait to be stored, and is told what became of them: a store, or the queue on the way to it."""

    def pending_artifacts(self, limit: int = 1000, after: PendingArtifact | None = None) -> list[PendingArtifact]:
        """See `Sink.pending_artifacts`."""

    def pending_snapshots(self, snapshots: Collection[str]) -> list[PendingArtifact]:
        """See `Sink.pending_snapshots`."""

    def homeless_snapshots(self, snapshots: Collection[str]) -> dict[str, str]:
        """See `Sink.homeless_snapshots`."""

    def unwanted_snapshots(self, snapshots: Collection[str]) -> set[str]:
        """See `Sink.unwanted_snapshots`; what is not known yet is not returned."""

    def settle_artifacts(self, outcomes: Sequence[Outcome]) -> None:
        """See `Sink.settle_artifacts`."""


class Uploads:
    """Stores what the sink says is pending and this spool holds a snapshot of. A failure concerns only its own artifact."""

    def __init__(self, spool: Path, sink: Pending, known: Known | None = None, told: Told | None = None) -> None:
        """`known` tells of snapshots that nobody wants any more, because newer artifacts came at their paths; None: they stay.

        `told` hears of how many more artifacts something became.
        """
        self._told = told
        self._spool, self._folder = spool, spool / SNAPSHOTS
        self._sink = sink
        self._leftovers = Leftovers(spool, sink.unwanted_snapshots)
        self._marked = 0.0
        self._replacements = None if known is None else Replacements(known)
        self._stopping = False
        self._pauses = Pauses()
        self._noted: set[str] = set()
        """Snapshots beside which other files lie, such as notes."""
        self.is_storing = False
        self.delayed = 0
        """How many artifacts the last look left for later, because their place could not be used."""
        self.settled = 0
        """Of how many artifacts it was told what became of them."""

    def run(self, items: Sequence[Block | Gap] = ()) -> None:
        """Store the artifacts whose snapshots lie in the spool now and whose events have come, `items` being the newest."""
        self.drop_replaced(items)
        self.store_waiting()

    def look(self) -> None:
        """Do nothing: what waits is stored when its event comes, before the call returns."""

    @property
    def is_waiting(self) -> bool:
        """Whether something is under way: never between two calls."""
        return False

    def store_waiting(self) -> int:
        """See `run`; return how many artifacts something became of, 0 when told to leave."""
        if self._stopping or not self.has_files:
            return 0
        snapshots = self.snapshots()
        waiting = self._sink.pending_snapshots(snapshots) if snapshots else []
        told = self._store_all(waiting)
        if not told and not self._stopping:
            self._see_to_others(set(snapshots) - {artifact.snapshot for _, _, artifact in waiting})
        return told

    def _see_to_others(self, snapshots: Collection[str]) -> None:
        """Say of snapshots that do not wait to be stored why they cannot be, and delete what is of no use."""
        for name in filter(is_snapshot, sorted(self._noted - set(snapshots))):
            memo = self._folder / f"{name}{MEMO}"
            if memo.exists() and not (self._folder / name).exists():
                self._abandon(memo)
        unsaid = [name for name in snapshots if name not in self._noted and time.time() - self._made(name) > GRACE]
        for name, run_id in self._sink.homeless_snapshots(unsaid).items() if unsaid else ():
            self._note(
                name, ArtifactNote("pending", f"nobody has started the run {run_id}, as far as the store knows; is its id right?", 0)
            )
        self._leftovers.look()

    def _abandon(self, memo: Path) -> None:
        """Have an upload aborted whose artifact was replaced before it was whole. It is tried once: see `multipart.STALE`."""
        try:
            abandon_upload(memo)
        except Exception as error:  # noqa: BLE001 - whatever is missing here now, artifacts matter more
            log.warning("the unfinished upload that %s remembers cannot be aborted: %s", memo, error)
            memo.unlink(missing_ok=True)

    @property
    def has_files(self) -> bool:
        """Whether anything lies in the spool's folder of snapshots."""
        try:
            with os.scandir(self._folder) as entries:
                return next(entries, None) is not None
        except (FileNotFoundError, NotADirectoryError):
            return False

    def snapshots(self) -> list[str]:
        """Return the names of the snapshots that lie in the spool now."""
        names = os.listdir(self._folder) if self._folder.is_dir() else []  # noqa: PTH208 - paths of many files take long to make
        self._noted |= {name.partition(".")[0] for name in names if "." in name}
        return [name for name in names if is_snapshot(name)]

    def has_younger_than(self, seconds: float) -> bool:
        """Whether a snapshot lies in the spool that was made so shortly ago."""
        return any(time.time() - self._made(name) < seconds for name in self.snapshots())

    def _made(self, name: str) -> float:
        try:
            return (self._folder / name).stat().st_mtime
        except FileNotFoundError:
            return 0.0

    @property
    def trouble(self) -> float:
        """For how many seconds a place that artifacts wait for could not be used."""
        return self._pauses.longest() if self.delayed else 0.0

    def stop(self) -> None:
        """Leave after the small artifacts in hand; what has come of a large one in parts is not sent again. Safe in a signal handler."""
        self._stopping = True

    def mark(self) -> None:
        """Tell whoever waits for an artifact that a worker is storing some."""
        if time.monotonic() - self._marked > MARK:
            self._marked = time.monotonic()
            with suppress(OSError):  # such as that of a full disk: then whoever waits hears sooner that it takes long
                (self._spool / STORING).touch()

    def _go_on(self, _: int) -> None:
        if self._stopping:
            raise Stopped
        self.mark()

    def sweep(self) -> None:
        """Look at all pending artifacts, also at those without a snapshot here: some were stored just before a crash, some never can be.

        The others wait for another machine's spool, and may be many.
        """
        self.snapshots()
        last: PendingArtifact | None = None
        while not self._stopping and (page := self._sink.pending_artifacts(after=last)):
            self._store_all(page)
            last = page[-1]
        if not self._stopping:
            self._see_to_others(self.snapshots())

    def drop_replaced(self, items: Sequence[Block | Gap]) -> None:
        """Delete the snapshots of artifacts that were logged anew at their paths before they were stored."""
        logged = logged_in(items)
        if self._replacements is not None and logged:
            for snapshot in filter(self._is_here, self._replacements.among(logged)):
                self._drop(snapshot)

    def _is_here(self, snapshot: str) -> bool:
        return is_snapshot(snapshot) and (self._folder / snapshot).exists()

    def _store_all(self, items: Sequence[PendingArtifact]) -> int:
        """Store artifacts, and tell what became of them while others are under way; return how many that was."""
        wanted = [item for item in items if self._pauses.is_open(_place(item[1]))]
        self.delayed = len(items) - len(wanted)
        self.is_storing = bool(wanted)
        telling = _Telling(self._tell)
        try:
            with closing(self._outcomes(wanted)) as outcomes:  # when telling fails, the threads have ended before anybody hears of it
                for outcome in outcomes:
                    telling.add(outcome)
            telling.flush()
        finally:
            self.is_storing = False
        return telling.told

    def _outcomes(self, items: Sequence[PendingArtifact]) -> Generator[Outcome]:
        """Yield what became of artifacts, as it becomes known; nothing for one that is not ours."""
        near = [item for item in items if _is_near(item[1])]
        yield from (outcome for item in near if (outcome := self._outcome(item)) is not None)
        far = [item for item in items if not _is_near(item[1])]
        if far:
            yield from self._in_threads(far)

    def _in_threads(self, items: Sequence[PendingArtifact]) -> Generator[Outcome]:
        """Yield the outcomes of threads that take one artifact after the other: a task for each would cost as much as the rest."""
        left, outcomes = iter(items), SimpleQueue[Outcome | None]()
        threads = min(THREADS, len(items))
        with ThreadPoolExecutor(threads, "flightlog-upload") as pool:
            work = [pool.submit(self._take, left, outcomes) for _ in range(threads)]
            try:
                for _ in items:
                    if (outcome := outcomes.get()) is not None:
                        yield outcome
            except KeyboardInterrupt:
                self.stop()
                raise
            finally:
                for _ in left:
                    pass  # who is told of outcomes has failed: the others are left for later
        for thread in work:
            thread.result()

    def _take(self, left: Iterator[PendingArtifact], outcomes: SimpleQueue[Outcome | None]) -> None:
        for item in left:
            outcome = None
            try:
                outcome = self._outcome(item)
            finally:
                outcomes.put(outcome)

    def _outcome(self, item: PendingArtifact) -> Outcome | None:
        run_id, uri, artifact = item
        if self._stopping or not self._pauses.is_open(_place(uri)):
            return None
        try:
            stored = self._store(item)
        except Stopped:
            return None
        except FileNotFoundError as error:
            if not self._is_here(artifact.snapshot):  # a newer artifact has come at the path meanwhile
                return None
            return self._failure(run_id, _place(uri), artifact, error)
        except Exception as error:  # noqa: BLE001 - whatever a store of artifacts raises is this artifact's failure, and is kept
            return self._failure(run_id, _place(uri), artifact, error)
        if stored is None:
            return None
        self._pauses.went_well(_place(uri))
        return Outcome(run_id, stored, "stored")

    def _store(self, item: PendingArtifact) -> ArtifactState | None:
        """Store one artifact and return it with its checksum; None when its snapshot is in another machine's spool."""
        _, uri, artifact = item
        if not is_snapshot(artifact.snapshot):
            raise InvalidParameter(f"snapshot {artifact.snapshot[:100]!r} must be the name of a file in the spool, 32 hexadecimal digits")
        repository, path = open_artifacts(uri), check_artifact_file(artifact.path)
        snapshot = self._folder / artifact.snapshot
        if not snapshot.is_file():
            return None
        self.mark()
        told = self._go_on if artifact.size > LARGE else None
        sha256 = _checked(snapshot, artifact, told)
        repository.put(snapshot, path, sha256, told)
        return replace(artifact, sha256=sha256)

    def _failure(self, run_id: str, place: str, artifact: ArtifactState, error: Exception) -> Outcome:
        reason = f"{type(error).__name__}: {error}"[:MAX_REASON]
        if not may_pass(error):
            log.error("artifact %r of run %s could not be stored: %s", artifact.path, run_id, error)
            self._note(artifact.snapshot, ArtifactNote("failed", reason))
            return Outcome(run_id, artifact, "failed", reason)
        self.delayed += 1
        attempts, pause = self._pauses.failed(place)
        log.warning("artifact %r of run %s could not be stored, trying again in %.0f s: %s", artifact.path, run_id, pause, error)
        reason = f"attempt {attempts} failed, it is tried again: {reason}"
        self._note(artifact.snapshot, ArtifactNote("pending", reason, attempts))
        return Outcome(run_id, artifact, "pending", reason)

    def _note(self, snapshot: str, note: ArtifactNote) -> None:
        """Leave a note for whoever logged the artifact."""
        if not self._is_here(snapshot):
            return
        self._noted.add(snapshot)
        try:
            with written_whole(note_path(self._folder / snapshot)) as partial:
                partial.write_text(note_text(note), encoding="utf-8")
        except OSError as error:
            log.warning("whoever logged the artifact of snapshot %s cannot be told that it failed: %s", snapshot, error)

    def _tell(self, outcomes: Sequence[Outcome]) -> None:
        self._sink.settle_artifacts(outcomes)
        self.settled += len(outcomes)
        if self._told is not None:
            self._told(len(outcomes))
        for outcome in outcomes:
            if outcome.state == "stored":
                self._drop(outcome.artifact.snapshot)

    def _drop(self, snapshot: str) -> None:
        path = self._folder / snapshot
        try:
            path.unlink(missing_ok=True)
            if snapshot in self._noted:
                note_path(path).unlink(missing_ok=True)
            self._noted.discard(snapshot)
        except OSError as error:
            log.warning("the snapshot %s of an artifact that is stored cannot be deleted: %s", snapshot, error)


class _Telling:
    """Collects outcomes, so that many are told at once and none late."""

    def __init__(self, tell: Callable[[Sequence[Outcome]], None]) -> None:
        self._tell = tell
        self.told = 0
        self._outcomes: list[Outcome] = []
        self._since = time.monotonic()

    def add(self, outcome: Outcome) -> None:
        self._outcomes.append(outcome)
        if len(self._outcomes) >= TOLD_AT or time.monotonic() - self._since >= TOLD_AFTER:
            self.flush()

    def flush(self) -> None:
        outcomes, self._outcomes, self._since = self._outcomes, [], time.monotonic()
        if outcomes:
            self._tell(outcomes)
            self.told += len(outcomes)


def _checked(snapshot: Path, artifact: ArtifactState, told: Told | None) -> str:
    """Return the SHA-256 of a snapshot. Raises `ArtifactDamaged` where it is not what was logged."""
    size = snapshot.stat().st_size
    if size != artifact.size:
        raise ArtifactDamaged(f"the snapshot has {size} bytes, and {artifact.size} were logged: it was changed after that; log it again")
    sha256 = sha256_of(snapshot, told)
    if artifact.sha256 not in (None, sha256):
        raise ArtifactDamaged(
            f"the snapshot has the SHA-256 {sha256}, and {artifact.sha256} was logged: it was changed after that; log it again"
        )
    return sha256


def _place(uri: str) -> str:
    """Return what fails together: a server's bucket, or a file system as far as the path shows it."""
    try:
        parts = urlsplit(uri)
    except ValueError:  # no URI: opening it says so
        return uri
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else ""


def _is_near(uri: str) -> bool:
    try:
        return local_root(uri) is not None
    except ValueError:  # no URI: opening it says so
        return True
