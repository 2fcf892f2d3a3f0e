"""Runs read into columns; see `stores.run_columns`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Table, select

from flightlog.stores.run_columns import INFO, Floats, RunColumns, Texts
from flightlog.stores.sql.queries import names_of_metrics
from flightlog.stores.sql.rows import fetch
from flightlog.stores.sql.summaries import last_of
from flightlog.stores.sql.tables import latest_metrics, params, runs, tags

Places = dict[int, int]
"""The row of the table that each `runs.id` has."""


def load_columns(connection: Connection, numbers: Sequence[int]) -> RunColumns:
    """Return the runs of the given `runs.id`, in that order, as columns."""
    places = {number: place for place, number in enumerate(numbers)}
    found = fetch(connection, select(runs.c.id, *(runs.c[name] for name in INFO)), runs.c.id, numbers)
    found.sort(key=lambda row: places[row[0]])
    info: dict[str, list[Any]] = {name: [row[index] for row in found] for index, name in enumerate(INFO, start=1)}
    info["experiment_id"] = [str(number) for number in info["experiment_id"]]
    return RunColumns(info, _metrics(connection, places), _texts(connection, params, places), _texts(connection, tags, places))


def _metrics(connection: Connection, places: Places) -> dict[str, Floats]:
    columns = (latest_metrics.c.run, latest_metrics.c.metric, latest_metrics.c.last_value, latest_metrics.c.specials)
    rows = fetch(connection, select(*columns), latest_metrics.c.run, places)
    if not rows:
        return {}
    run, metric, value, specials = zip(*rows, strict=True)
    place, values = np.array([places[number] for number in run]), np.array(value, np.float64)
    for index in np.flatnonzero(specials).tolist():
        values[index] = last_of(value[index], specials[index])
    ids, group = np.unique(np.array(metric), return_inverse=True)
    first = np.full(len(ids), len(places))
    np.minimum.at(first, group, place)
    table = np.full((len(ids), len(places)), math.nan)
    table[group, place] = values
    names = names_of_metrics(connection, ids.tolist())
    ordered = sorted(zip(first.tolist(), (names[number] for number in ids.tolist()), table, strict=True), key=lambda item: item[:2])
    return {name: column for _, name, column in ordered}


def _texts(connection: Connection, table: Table, places: Places) -> dict[str, Texts]:
    rows = fetch(connection, select(table.c.run, table.c.key, table.c.value).where(table.c.value.is_not(None)), table.c.run, places)
    found: dict[str, Texts] = {}
    first: dict[str, int] = {}
    same: dict[str, str] = {}
    for run, key, value in rows:
        if key not in found:
            found[key], first[key] = [None] * len(places), len(places)
        place = places[run]
        found[key][place] = same.setdefault(value, value)
        first[key] = min(first[key], place)
    return {key: found[key] for key in sorted(found, key=lambda key: (first[key], key))}
