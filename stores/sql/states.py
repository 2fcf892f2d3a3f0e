"""Rows to states of the fold and back."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, Connection, Row, select

from flightlog.schema.fold import NEVER, ArtifactState, ExperimentState, RunState, Stamp, Stamped
from flightlog.stores.sql.rows import Values, fetch
from flightlog.stores.sql.tables import artifacts, experiment_tags, experiments, runs

ARTIFACT_COLUMNS = tuple(artifacts.c[name] for name in ("path", "size", "snapshot", "sha256", "stamp", "state", "reason"))
HEX = 16


def stamp_text(stamp: Stamp) -> str:
    """Return a stamp as text that sorts as stamps do; see `tables`."""
    return "" if stamp == NEVER else f"{stamp.time:0{HEX}x}{stamp.writer}{stamp.sequence:0{HEX}x}"


def stamp_of(text: str) -> Stamp:
    """Return the stamp that `stamp_text` made a text of."""
    return Stamp(int(text[:HEX], HEX), text[HEX:-HEX], int(text[-HEX:], HEX)) if text else NEVER


def run_of(row: Row[Any]) -> RunState:
    """Return a row of `runs` as a state without params, tags, artifacts, metrics and attempts."""
    return RunState(
        run_id=row.run_id,
        experiment_id=str(row.experiment_id),
        user_id=row.user_id,
        status=row.status,
        start_time=row.start_time,
        end_time=row.end_time,
        status_reason=row.status_reason,
        lost_status=row.lost_status,
        lifecycle_stage=row.lifecycle_stage,
        artifact_uri=row.artifact_uri,
        started=bool(row.started),
        status_stamp=stamp_of(row.status_stamp),
        lifecycle_stamp=stamp_of(row.lifecycle_stamp),
        dropped=row.dropped,
    )


def run_row(state: RunState) -> Values:
    """Return a state as a row of `runs` without its `id`."""
    names = ("run_id", "user_id", "status", "start_time", "end_time", "lifecycle_stage", "artifact_uri", "dropped")
    return {
        **{name: getattr(state, name) for name in (*names, "status_reason", "lost_status", "attempt")},
        "experiment_id": int(state.experiment_id),
        "name": state.run_name,
        "started": int(state.started),
        "status_stamp": stamp_text(state.status_stamp),
        "lifecycle_stamp": stamp_text(state.lifecycle_stamp),
    }


RUN_COLUMNS: tuple[Column[Any], ...] = tuple(column for column in runs.c if column.name != "name")


def tag_row(owner: str, number: int, key: str, tag: Stamped) -> Values:
    """Return a tag as a row of `tags` or `experiment_tags`; `owner` names the column that says whose it is."""
    return {owner: number, "key": key, "value": tag.value, "stamp": stamp_text(tag.stamp)}


def path_hash(path: str) -> str:
    """Return what stands for a path in a key."""
    return hashlib.sha256(path.encode()).hexdigest()


def artifact_of(row: Sequence[Any]) -> ArtifactState:
    """Return `ARTIFACT_COLUMNS` as a state."""
    path, size, snapshot, sha256, stamp, state, reason = row
    return ArtifactState(path, size, snapshot, sha256, stamp_of(stamp), state, reason)


def artifact_row(run: int, artifact: ArtifactState) -> Values:
    """Return a state as a row of `artifacts`."""
    return {
        "run": run,
        "path_hash": path_hash(artifact.path),
        "path": artifact.path,
        "size": artifact.size,
        "snapshot": artifact.snapshot,
        "sha256": artifact.sha256,
        "state": artifact.state,
        "reason": artifact.reason,
        "stamp": stamp_text(artifact.stamp),
    }


def load_experiments(connection: Connection, experiment_ids: Sequence[int]) -> dict[int, ExperimentState]:
    """Return those of the experiments that exist, with their tags, in two queries."""
    rows = fetch(connection, select(experiments), experiments.c.experiment_id, experiment_ids)
    found = {row.experiment_id: _experiment_of(row) for row in rows}
    for owner, key, value, stamp in fetch(connection, select(experiment_tags), experiment_tags.c.experiment_id, list(found)):
        found[owner].tags[key] = Stamped(value, stamp_of(stamp))
    return found


def _experiment_of(row: Row[Any]) -> ExperimentState:
    return ExperimentState(
        experiment_id=str(row.experiment_id),
        name=row.name,
        artifact_location=row.artifact_location,
        lifecycle_stage=row.lifecycle_stage,
        creation_time=row.creation_time,
        last_update_time=row.last_update_time,
        lifecycle_stamp=stamp_of(row.lifecycle_stamp),
        name_stamp=stamp_of(row.name_stamp),
    )


def experiment_row(state: ExperimentState) -> Values:
    """Return a state as a row of `experiments`."""
    names = ("name", "artifact_location", "lifecycle_stage", "creation_time", "last_update_time")
    return {
        "experiment_id": int(state.experiment_id),
        **{name: getattr(state, name) for name in names},
        "lifecycle_stamp": stamp_text(state.lifecycle_stamp),
        "name_stamp": stamp_text(state.name_stamp),
    }
