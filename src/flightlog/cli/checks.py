"""What `flightlog doctor` looks at. Each check gives findings and changes nothing; a file that it tries something with has no name."""

from __future__ import annotations

import mmap
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from flightlog.cli import output, places
from flightlog.cli.status import Overview, is_experiment, lag_seconds
from flightlog.schema.errors import FlightlogException
from flightlog.schema.names import SNAPSHOTS, WORKER_LOG
from flightlog.schema.settings import Location, shown
from flightlog.stores.sql.migrations import HEAD
from flightlog.worker.status import WriterProgress

Level = Literal["ok", "note", "problem"]

TRIAL_SIZE = 64 << 10
LITTLE_SPACE = 1 << 30
NO_SPACE = 64 << 20
STUCK_AFTER = 60.0
"""Seconds after which an event that is not committed is late."""
NETWORK_FILE_SYSTEMS = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "lustre", "glusterfs", "afs")
MOUNTS = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Finding:
    """What is so, and with a problem or a note what to do."""

    level: Level
    about: str
    message: str
    advice: str = ""


def check_place(location: Location) -> Iterator[Finding]:
    """Look at folders and database; none needs to exist yet."""
    yield from check_database(location)
    yield from check_spool(location.spool)
    yield from check_artifacts(location)


def check_database(location: Location) -> Iterator[Finding]:
    """Look whether the database can be reached and written, and which schema it has."""
    file = places.database_file(location)
    if file is not None and not file.exists():
        yield Finding("note", "database", f"{file} does not exist yet; a worker makes it when there is something to file")
        yield from _check_writable("database", file.parent)
        return
    if file is not None and not (os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)):
        advice = "give the user that runs the worker the right to write it and its folder"
        yield Finding("problem", "database", f"{file} cannot be written", advice)
    yield _check_schema(location)


def _check_schema(location: Location) -> Finding:
    try:
        revision = places.revision_of(location)
    except FlightlogException as error:
        return Finding("problem", "database", error.message, "see that the server runs, that the URL is right, and that the file is ours")
    if revision == HEAD:
        return Finding("ok", "database", f"reached, with schema revision {revision}")
    if revision is None:
        return Finding("note", "database", "reached, and without tables; a worker makes them when there is something to file")
    if revision < HEAD:
        return Finding("note", "database", f"reached, with schema revision {revision}; it becomes {HEAD} when it is next opened")
    return Finding("problem", "database", f"its schema revision {revision} is newer than this version's, {HEAD}", "upgrade flightlog")


def check_spool(spool: Path) -> Iterator[Finding]:
    """Look whether journals can be kept in a folder."""
    if not spool.exists():
        yield Finding("note", "spool", f"{spool} does not exist yet; the first run makes it")
    folder = _nearest(spool)
    if not _is_writable(folder):
        yield Finding(
            "problem", "spool", f"{folder} is no folder that can be written", "make it writable, or set FLIGHTLOG_SPOOL to a folder that is"
        )
        return
    yield _check_file_system(folder)
    yield _check_space(folder)
    yield _try_segment(folder)


def _check_file_system(folder: Path) -> Finding:
    kind = file_system(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        advice = "set FLIGHTLOG_SPOOL to a folder on a local disk"
        return Finding("problem", "spool", f"{folder} is on a network file system, {kind}, where journals are not safe", advice)
    return Finding("ok", "spool", f"file system {kind or 'of unknown type'}")


def file_system(folder: Path) -> str | None:
    """Return the type of the file system that a folder is on, None where the system does not tell."""
    try:
        lines = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return None
    found = ((line.split()[4], line.partition(" - ")[2].split()[0]) for line in lines if " - " in line)
    above = [(point, kind) for point, kind in found if folder.is_relative_to(point.encode().decode("unicode_escape"))]
    return max(above, key=lambda item: len(item[0]), default=(None, None))[1]


def _check_space(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free
    if free < NO_SPACE:
        return Finding("problem", "spool", f"{output.size(free)} are free in {folder}", "free some space, before events are dropped")
    if free < LITTLE_SPACE:
        return Finding("note", "spool", f"only {output.size(free)} are free in {folder}", "free some space soon")
    return Finding("ok", "spool", f"{output.size(free)} are free")


def _try_segment(folder: Path) -> Finding:
    """Do to a nameless file what a journal does to its segments."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, TRIAL_SIZE)
            else:
                file.truncate(TRIAL_SIZE)
            return _try_map(file.fileno())
    except OSError as error:
        advice = "free some space, or set FLIGHTLOG_SPOOL to another folder"
        return Finding("problem", "spool", f"no space can be reserved in {folder}: {error}", advice)


def _try_map(descriptor: int) -> Finding:
    try:
        with mmap.mmap(descriptor, TRIAL_SIZE) as pages:
            pages[:1] = b"!"
    except (OSError, ValueError) as error:
        advice = "set FLIGHTLOG_SPOOL to a folder on a local disk"
        return Finding("note", "spool", f"files cannot be mapped ({error}): nothing is lost, and each call takes longer", advice)
    return Finding("ok", "spool", "space can be reserved and files can be mapped")


def check_artifacts(location: Location) -> Iterator[Finding]:
    """Look whether artifacts can be stored."""
    path = places.local_path(location.artifact_root)
    if path is None:
        yield Finding("note", "artifacts", f"{shown(location.artifact_root)} is not on this machine and was not tried")
        return
    yield from _check_writable("artifacts", path)


def _check_writable(about: str, folder: Path) -> Iterator[Finding]:
    nearest = _nearest(folder)
    if _is_writable(nearest):
        yield Finding("ok", about, f"{folder} can be written" if nearest == folder else f"{folder} can be made")
    else:
        yield Finding("problem", about, f"{nearest} is no folder that can be written", "make it writable, or choose another folder")


def _is_writable(folder: Path) -> bool:
    return folder.is_dir() and os.access(folder, os.W_OK)


def _nearest(folder: Path) -> Path:
    """Return the path, or the nearest one above it that exists."""
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_journals(overview: Overview, pending: int = 0) -> Iterator[Finding]:
    """Look at what is under way: the worker, events and artifacts that do not arrive, what was lost. `pending` artifacts wait."""
    running = overview.spool.worker_running
    yield Finding("ok", "worker", "a worker is running" if running else "no worker is running; the next run starts one, unless told not to")
    late = [writer for item in overview.every for writer in item.writers if is_stuck(writer, overview)]
    if late:
        yield _stuck(late, overview)
    if pending and not running:
        snapshots = overview.spool.folder / SNAPSHOTS
        message = f"{output.counted(pending, 'artifact')} not stored yet; what was logged on this machine is in {snapshots}"
        yield Finding("problem", "artifacts", message, places.worker_command(overview.location))
    yield from check_losses(overview)


def is_stuck(writer: WriterProgress, overview: Overview) -> bool:
    """Say whether events of a writer are late, or nobody is there who would file them."""
    if not writer.lag:
        return False
    late = (lag_seconds(writer.oldest, overview.time) or 0.0) > STUCK_AFTER
    return late or (writer.state != "alive" and not overview.spool.worker_running)


def _stuck(late: list[WriterProgress], overview: Overview) -> Finding:
    spool = overview.spool.folder
    events = sum(writer.lag for writer in late)
    age = output.span(max((lag_seconds(writer.oldest, overview.time) or 0.0 for writer in late), default=None))
    message = (
        f"{output.counted(events, 'event')} of {output.counted(len(late), 'writer')} not in the database yet, "
        f"the oldest for {age}; nothing is lost, {spool} has all"
    )
    if overview.spool.worker_running:
        return Finding("problem", "journals", message, f"a worker is running and does not file them: {spool / WORKER_LOG} says why")
    return Finding("problem", "journals", message, places.worker_command(overview.location))


def check_losses(overview: Overview) -> Iterator[Finding]:
    """Look for events that were dropped, refused or damaged."""
    dropped = sum(item.dropped for item in overview.every)
    if dropped:
        advice = "free some space, raise FLIGHTLOG_SPOOL_LIMIT, or keep a worker running"
        yield Finding("problem", "events", f"{output.counted(dropped, 'event')} dropped because the spool or the disk was full", advice)
    refused = [item for item in overview.every if item.dead_letters]
    if refused:
        example = next((item.subject for item in refused if not is_experiment(item)), None)
        advice = f"flightlog runs show {example} tells which and why" if example else "flightlog status --all --json tells which"
        count = sum(item.dead_letters for item in refused)
        yield Finding(
            "problem", "events", f"{output.counted(count, 'event')} of {output.counted(len(refused), 'run')} could not be filed", advice
        )
    for path in overview.spool.corrupt:
        advice = "what could be read is in the database; look at the file with docs/journal-format.md, then delete it"
        yield Finding("problem", "journals", f"{path} is damaged and was set aside", advice)
    for path in overview.spool.unreadable:
        yield Finding("problem", "journals", f"{path} has no readable header", "a worker sets it aside; without one, move it away")
