"""What `flightlog worker` and `flightlog ship` log on stderr: lines for people, or one JSON object a line for programs."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from types import TracebackType
from typing import Any

from flightlog.cli import output
from flightlog.schema.settings import LogFormat, LogLevel

TEXT = "%(asctime)s %(levelname)s %(process)d %(message)s"
KNOWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest was given through `extra`."""
TALKATIVE = ("alembic", "rq", "rq.worker", "botocore", "boto3", "urllib3", "s3transfer")
"""Libraries of which only warnings matter."""


class JsonLines(logging.Formatter):
    """A record as one JSON object on one line: time, level, logger, message, process, the fields of `extra`, and a traceback as a text."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. What JSON does not know is written as its text, NaN and the infinities as strings."""
        facts = _facts(record)
        fields = {name: value for name, value in vars(record).items() if name not in KNOWN and name not in facts}
        return json.dumps(output.plain({**facts, **fields, **self._trouble(record)}), default=str, allow_nan=False)

    def _trouble(self, record: logging.LogRecord) -> Mapping[str, str]:
        found = {}
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            found["stack"] = self.formatStack(record.stack_info)
        return found


def _facts(record: logging.LogRecord) -> Mapping[str, Any]:
    time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    message = record.getMessage()
    return {"time": time, "level": record.levelname, "logger": record.name, "message": message, "process": record.process}


def log_to_stderr(log_format: LogFormat, level: LogLevel) -> None:
    """Have everything that is logged from now on stand on stderr: ours from `level` on, that of libraries from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if log_format == "json" else logging.Formatter(TEXT))
    logging.basicConfig(handlers=[handler], force=True)
    logging.getLogger("flightlog").setLevel(level.upper())
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    if log_format == "json":
        logging.captureWarnings(capture=True)
        sys.excepthook = _log_end(sys.excepthook)


Hook = Callable[[type[BaseException], BaseException, TracebackType | None], object]


def _log_end(otherwise: Hook) -> Hook:
    """Return what logs the error that ends the process, so that its traceback is one line too."""

    def end(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        if issubclass(kind, Exception):
            logging.getLogger("flightlog").critical("ended by an error: %s", error, exc_info=(kind, error, traceback))
        else:
            otherwise(kind, error, traceback)

    return end
