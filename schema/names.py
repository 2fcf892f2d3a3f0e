"""What two processes must agree on."""

from __future__ import annotations

import re
import zlib

RUN_NAME_TAG = "mlflow.runName"
"""The tag that is the run's name."""
CONTEXT_TAG = "mlflow.data.context"
"""The tag of an input that says what a dataset was used for, such as `train`."""
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
USER_TAG = "mlflow.user"
SOURCE_NAME_TAG = "mlflow.source.name"
SOURCE_TYPE_TAG = "mlflow.source.type"
GIT_COMMIT_TAG = "mlflow.source.git.commit"
GIT_BRANCH_TAG = "mlflow.source.git.branch"
GIT_URL_TAG = "mlflow.source.git.repoURL"
IMAGES_TAG = "mlflow.loggedImages"
TABLES_TAG = "mlflow.loggedArtifacts"
"""A JSON list of the tables of a run: `{"path": ..., "type": "table"}`."""
WORKER_MODULE = "flightlog.worker.main"
TRACKING_VARIABLE = "FLIGHTLOG_TRACKING_URI"
QUEUE_VARIABLE = "FLIGHTLOG_QUEUE_URI"
"""How a worker is told its tracking URI: a command line, which may hold a password, can be read by everyone on the machine."""
DOORBELL = "doorbell"
WORKER_LOCK = "worker.lock"
WORKER_LOG = "worker.log"
LOCATIONS = "locations"
"""The folder in a spool that remembers where experiments were given a place for their artifacts: a file for each id."""
SNAPSHOTS = "artifacts"
"""The folder in a spool that holds copies of artifacts until the worker has stored them."""
_SNAPSHOT = re.compile(r"[0-9a-f]{32}")
STORING = "storing"
"""A file in a spool that a worker touches every few seconds while it stores artifacts."""

SHARDS = 16
"""Streams of a queue. Every shipper and worker must agree on it; it divides the number of a store's stripes."""
QUEUE = "flightlog"
"""The name of the RQ queue."""
DRAIN = "flightlog.worker.jobs.drain"
HOUSEKEEP = "flightlog.worker.jobs.housekeep"
"""The dotted names of the jobs; whoever enqueues one does not import it."""
UPLOADS = "flightlog:uploads"
"""A Redis hash of artifacts that wait to be stored: snapshot -> where it belongs."""
UNKNOWN = "flightlog:unknown"
"""A Redis set of snapshots that lie in a spool and of which no event tells, until a worker says whether the store knows better."""


def is_snapshot(name: str) -> bool:
    """Say whether a text is the name of a snapshot: 32 hexadecimal digits."""
    return _SNAPSHOT.fullmatch(name) is not None


def shard_of(subject: str) -> int:
    """Return the shard of a run or experiment: all its events travel through one stream."""
    return zlib.crc32(subject.encode("utf-8", "surrogatepass")) % SHARDS


def shard_key(shard: int, what: str) -> str:
    """Return the Redis key of something that belongs to a shard; the braces keep a shard's keys on one node of a cluster."""
    return f"flightlog:{{{shard}}}:{what}"
