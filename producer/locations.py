"""Where experiments have their artifacts, as far as this machine has heard: what `create_experiment` was given.

It is remembered in the spool, so that a script which starts a run by the experiment's name knows the place without asking a store. A script
on another machine does not, and its runs get the place when the store hears of them.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from flightlog.schema.names import LOCATIONS
from flightlog.schema.settings import Location, is_chosen

log = logging.getLogger("flightlog")


class ArtifactLocations:
    """The artifact locations of one store's experiments."""

    def __init__(self, location: Location) -> None:
        self._location = location
        self._folder = location.spool / LOCATIONS
        self._known: dict[str, str] = {}

    def of(self, experiment_id: str) -> str:
        """Return the artifact location of an experiment: the one that it was given, else the default."""
        if experiment_id not in self._known:
            self._known[experiment_id] = self._remembered(experiment_id) or self._location.artifact_location(experiment_id)
        return self._known[experiment_id]

    def learn(self, experiment_id: str, artifact_location: str) -> None:
        """Remember the artifact location of an experiment if it is one that somebody chose."""
        if not is_chosen(experiment_id, artifact_location) or not experiment_id.isalnum():
            return
        self._known[experiment_id] = artifact_location
        if self._remembered(experiment_id) != artifact_location:
            try:
                self._note(experiment_id, artifact_location)
            except OSError as error:
                log.warning("flightlog: other scripts cannot be told where experiment %s has its artifacts: %s", experiment_id, error)

    def _note(self, experiment_id: str, artifact_location: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        hidden = self._folder / f".{experiment_id}.{os.getpid()}"
        hidden.write_text(artifact_location, encoding="utf-8")
        hidden.replace(self._path(experiment_id))

    def _remembered(self, experiment_id: str) -> str | None:
        if not experiment_id.isalnum():
            return None
        try:
            return self._path(experiment_id).read_text(encoding="utf-8") or None
        except OSError:  # nobody has noted it, or the spool cannot be used, which is said where events are written
            return None

    def _path(self, experiment_id: str) -> Path:
        return self._folder / experiment_id
