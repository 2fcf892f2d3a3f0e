"""Every event: an immutable fact about one run or experiment, in the past tense.

An event belongs to a *subject* (a run id, or `experiment:<id>`), was written by one *writer* and has a *sequence* there;
those three travel outside the event and identify it. `time` is milliseconds since the epoch, UTC. Except in `MetricsLogged`,
where it is the metric's own timestamp, it never runs backwards within a writer, so that (time, writer, sequence) orders
competing changes of the same thing; see `fold`.

A new optional field does not need a new version. A change of meaning takes the next version and an entry in `codec.UPCASTERS`.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Int64 = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Millis = Annotated[int, Field(ge=0, lt=2**63)]
RunStatusName = Literal["RUNNING", "SCHEDULED", "FINISHED", "FAILED", "KILLED"]


class Event(BaseModel):
    """What all events have: a type code, a version and a time."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, defer_build=True)

    code: ClassVar[int]
    version: ClassVar[int] = 1

    time: Millis


class MetricsLogged(Event):
    """One or more metrics at one step. Its wire form has fixed width; see `codec`."""

    code: ClassVar[int] = 1

    step: Int64
    points: tuple[tuple[str, float], ...]


class ParamLogged(Event):
    """A param. The first value stays; another value later becomes a dead letter."""

    code: ClassVar[int] = 2

    key: str
    value: str


class TagSet(Event):
    """A tag of a run. The latest wins. The tag `mlflow.runName` is the run's name."""

    code: ClassVar[int] = 3

    key: str
    value: str


class TagDeleted(Event):
    """A tag of a run was removed."""

    code: ClassVar[int] = 4

    key: str


class ArtifactLogged(Event):
    """A file was snapshotted. `path` is relative to the run's artifact root, with `/` between its parts.

    `snapshot` names the copy inside the spool's `artifacts` folder from which the worker stores it.
    """

    code: ClassVar[int] = 5

    path: str
    size: Count
    snapshot: str
    sha256: str | None = None


class RunStarted(Event):
    """A run began. The experiment is created by the store where it does not know it yet."""

    code: ClassVar[int] = 6

    experiment_id: str
    experiment_name: str | None = None
    artifact_location: str | None = None
    artifact_uri: str
    run_name: str
    user_id: str = "unknown"
    start_time: Millis
    tags: dict[str, str] = {}


class RunResumed(Event):
    """A new attempt writes to an existing run: its status is RUNNING again. Nothing of earlier attempts is hidden."""

    code: ClassVar[int] = 7


class RunEnded(Event):
    """A run reached a terminal status (or the status that `set_terminated` was given)."""

    code: ClassVar[int] = 8

    status: RunStatusName
    end_time: Millis
    reason: str | None = None


class RunStatusChanged(Event):
    """A run's status was set without ending it."""

    code: ClassVar[int] = 9

    status: RunStatusName


class RunDeleted(Event):
    """A run was moved to the deleted ones."""

    code: ClassVar[int] = 10


class RunRestored(Event):
    """A deleted run is active again."""

    code: ClassVar[int] = 11


class ExperimentCreated(Event):
    """An experiment exists from now on. Repeating it is harmless."""

    code: ClassVar[int] = 12

    experiment_id: str
    name: str
    artifact_location: str
    tags: dict[str, str] = {}


class ExperimentTagSet(Event):
    """A tag of an experiment. The latest wins."""

    code: ClassVar[int] = 13

    key: str
    value: str


class ExperimentTagDeleted(Event):
    """A tag of an experiment was removed."""

    code: ClassVar[int] = 14

    key: str


class ExperimentRenamed(Event):
    """An experiment has another name; its id stays."""

    code: ClassVar[int] = 15

    name: str


class ExperimentDeleted(Event):
    """An experiment, and with it its runs, was moved to the deleted ones."""

    code: ClassVar[int] = 16


class ExperimentRestored(Event):
    """A deleted experiment, and with it its runs, is active again."""

    code: ClassVar[int] = 17


class EventsDropped(Event):
    """The spool or the disk was full: `count` events before this one were not recorded."""

    code: ClassVar[int] = 18

    count: Annotated[int, Field(gt=0, lt=2**63)]
    reason: str


class WriterAlive(Event):
    """A writer that has had nothing to say for a while lives. It changes nothing of its run."""

    code: ClassVar[int] = 19


class RunRewound(Event):
    """A new attempt begins at `step`, as after going back to a checkpoint: earlier attempts' points from there on are hidden by default."""

    code: ClassVar[int] = 20

    step: Int64


class RunLost(Event):
    """The store has heard of no writer of the run for long. `last_seen` is when it last did, ms. Undone by whatever is heard later."""

    code: ClassVar[int] = 21

    last_seen: Millis


class RunPurged(Event):
    """A run was removed for good, with all that was logged to it. What still comes of it is dropped."""

    code: ClassVar[int] = 22


class ExperimentPurged(Event):
    """An experiment, which must have no runs any more, was removed for good. What still comes of it from before this time is dropped."""

    code: ClassVar[int] = 23


class ArtifactSettled(Event):
    """What became of an artifact's snapshot: it was stored, could not be, or has to be tried again, with the reason.

    `sha256` is its checksum where `ArtifactLogged` has none.
    """

    code: ClassVar[int] = 24

    path: str
    snapshot: str
    state: Literal["stored", "failed", "pending"]
    reason: str | None = None
    sha256: str | None = None


EVENT_TYPES: dict[int, type[Event]] = {
    event.code: event
    for event in (
        MetricsLogged,
        ParamLogged,
        TagSet,
        TagDeleted,
        ArtifactLogged,
        RunStarted,
        RunResumed,
        RunEnded,
        RunStatusChanged,
        RunDeleted,
        RunRestored,
        ExperimentCreated,
        ExperimentTagSet,
        ExperimentTagDeleted,
        ExperimentRenamed,
        ExperimentDeleted,
        ExperimentRestored,
        EventsDropped,
        WriterAlive,
        RunRewound,
        RunLost,
        RunPurged,
        ExperimentPurged,
        ArtifactSettled,
    )
}
