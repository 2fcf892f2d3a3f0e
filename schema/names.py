"""What two processes must agree on."""

from __future__ import annotations

RUN_NAME_TAG = "mlflow.runName"
"""The tag that is the run's name."""
WORKER_MODULE = "flightlog.worker.main"
TRACKING_VARIABLE = "FLIGHTLOG_TRACKING_URI"
"""How a worker is told its tracking URI: a command line, which may hold a password, can be read by everyone on the machine."""
DOORBELL = "doorbell"
WORKER_LOCK = "worker.lock"
WORKER_LOG = "worker.log"
SNAPSHOTS = "artifacts"
"""The folder in a spool that holds copies of artifacts until the worker has stored them."""
