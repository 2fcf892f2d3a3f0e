"""What a URI that a replay reads from means: a store, a folder or bucket of archives, or a folder of journals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from flightlog.cli import places
from flightlog.schema.frames import SUFFIX
from flightlog.stores.archive import SUFFIX as ARCHIVE_SUFFIX
from flightlog.stores.archive import ArchiveSource
from flightlog.stores.replay import LedgerSource, Source, check_runs
from flightlog.worker.journals import JournalSource, check_journals


@contextmanager
def opened(uri: str, run_ids: Sequence[str]) -> Iterator[Source]:
    """Give the source that a URI names, and close it. Raises `NotFound`, also for a run that it does not have."""
    folder = places.local_path(uri)
    if folder is not None and holds(folder, SUFFIX):
        check_journals(folder, run_ids)
        yield JournalSource(folder, run_ids)
        return
    if uri.startswith("s3:") or (folder is not None and holds(folder, ARCHIVE_SUFFIX)):
        archives = ArchiveSource(uri, run_ids)
        archives.check()
        yield archives
        return
    with places.opened(places.find(uri)) as store:
        check_runs(store, run_ids)
        yield LedgerSource(store, run_ids)


def holds(folder: Path, suffix: str) -> bool:
    """Say whether a folder has files with a suffix."""
    return folder.is_dir() and next(folder.glob(f"*{suffix}"), None) is not None
