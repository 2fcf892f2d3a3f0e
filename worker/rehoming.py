"""Where the artifacts of a run from another machine are to live.

A run that was logged offline names a path of its machine. In the store that it is brought to, that path means nothing, or another place;
so the events that name it are filed with the place that the store would have given: `<artifact root>/<experiment>/<run>/artifacts`.
A URI with a scheme of its own, such as `s3:`, means the same everywhere and stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flightlog.schema.blocks import Block
from flightlog.schema.codec import with_fields
from flightlog.schema.events import ExperimentCreated, RunStarted
from flightlog.schema.records import Ints, Records
from flightlog.schema.settings import Location
from flightlog.stores.base import Gap
from flightlog.stores.batches import experiment_of

EVENT_HEAD = 0x94
"""The first byte of an event with fields; its code is the second."""


@dataclass(frozen=True)
class Rehoming:
    """Maps the artifact locations of runs and experiments to those of `location`."""

    location: Location

    def items(self, item: Block | Gap) -> Iterator[Block | Gap]:
        """Yield an item with its locations mapped: as it is, or as several blocks that follow each other."""
        if not isinstance(item, Block) or not len(places := _naming(item.records)):
            yield item
            return
        start = 0
        for place in places.tolist():
            if place > start:
                yield item.part(start, place)
            yield self._mapped(item.part(place, place + 1))
            start = place + 1
        if start < len(item.records):
            yield item.part(start, len(item.records))

    def _mapped(self, block: Block) -> Block:
        experiment_id = experiment_of(block.subject)

        def locations(fields: dict[str, Any]) -> dict[str, str]:
            home = self.location.artifact_location(str(fields.get("experiment_id") or experiment_id or "0"))
            places = {"artifact_location": home, "artifact_uri": f"{home}/{block.subject}/artifacts"}
            return {name: place for name, place in places.items() if self._is_elsewhere(fields.get(name))}

        return Block(
            block.subject, block.writer, block.first_sequence, block.names, Records.of([with_fields(block.records.payload(0), locations)])
        )

    def _is_elsewhere(self, uri: object) -> bool:
        """Whether a URI is a path, and not one below the artifact root."""
        if not isinstance(uri, str) or not is_path(uri):
            return False
        return not f"{uri}/".startswith(f"{self.location.artifact_root}/")


def is_path(uri: str) -> bool:
    """Say whether an artifact URI names a place in a file system; `file:` does."""
    return bool(uri) and ("://" not in uri or uri.startswith("file:"))


def _naming(records: Records) -> Ints:
    """Return the indices of the events that name a place for artifacts."""
    if not len(records):
        return np.empty(0, np.int64)
    long = np.flatnonzero(records.lengths > 1)
    first, second = records.buffer[records.offsets[long]], records.buffer[records.offsets[long] + 1]
    found: Ints = long[(first == EVENT_HEAD) & np.isin(second, (RunStarted.code, ExperimentCreated.code))]
    return found
