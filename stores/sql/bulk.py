"""Histories of many runs and keys at once: one statement says which chunks there are, and few read them, batch by batch.

Chunks that overlap in no step are decoded one after the other straight into the columns of a batch. Only what overlaps, is hidden in
part by a later attempt, reaches beyond the steps asked for, or is to be sampled, goes through arrays of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, Select, func, literal, select

from flightlog.schema.fold import hidden_steps
from flightlog.stores import sampling, series
from flightlog.stores.base import Histories, History, Portion
from flightlog.stores.sampling import Owner
from flightlog.stores.sql.attempts import load_attempts
from flightlog.stores.sql.engine import reading
from flightlog.stores.sql.history import decode_into
from flightlog.stores.sql.queries import names_of_metrics
from flightlog.stores.sql.rows import MAX_LIST, fetch, find_numbers, in_parts
from flightlog.stores.sql.tables import metric_chunks, metric_names, runs

T = TypeVar("T")

RUNS_AT_ONCE = 200
CHUNKS_AT_ONCE = 100_000
"""Chunks that are planned together, some 100 MB; those of one run always are."""
CHUNK_COST = 64
"""What a chunk takes in memory beside its points, in points."""

chunk = metric_chunks.c


class Chunk(NamedTuple):
    """A chunk by its columns. `size` is the number of its points."""

    id: int
    run: int
    metric: int
    size: int
    min_step: int
    max_step: int
    attempt: int


@dataclass(frozen=True)
class Piece:
    """Chunks of one metric beside which no other point of it lies, at most `size` points of them asked for.

    `floors` say from which step on their points are hidden, if any are. A plain piece is one chunk, all of which is asked for.
    """

    owner: Owner
    chunks: list[Chunk]
    floors: list[int | None]
    size: int
    is_plain: bool


Floors = dict[int, list[int | None]]
"""For each run that has several attempts, the step from which on the points of each are hidden."""


def histories(
    engine: Engine, run_ids: Sequence[str], keys: Sequence[str] | None, portion: Portion, batch_points: int
) -> Iterator[Histories]:
    """Yield histories in batches; see `RunReader.metric_histories`."""
    for part in in_parts(dict.fromkeys(run_ids), RUNS_AT_ONCE):
        with reading(engine) as connection:
            plans = (_plan(connection, group, keys, portion) for group in _groups(connection, part))
            for pieces in _in_batches(chain.from_iterable(plans), batch_points):
                found = _read(connection, pieces, portion)
                if found.owners:
                    yield found


def keys(connection: Connection, run_ids: Sequence[str]) -> list[str]:
    """Return the keys of which any of these runs has points, in order; see `RunReader.metric_keys`."""
    numbers = find_numbers(connection, runs.c.run_id, set(run_ids))
    rows = fetch(connection, select(chunk.metric).distinct(), chunk.run, sorted(numbers.values()))
    return sorted(names_of_metrics(connection, {row.metric for row in rows}).values())


def _groups(connection: Connection, run_ids: Sequence[str]) -> Iterator[dict[str, int]]:
    """Yield the runs with their numbers, in order, as many at a time as can be planned together."""
    numbers = find_numbers(connection, runs.c.run_id, run_ids)
    query = select(chunk.run, func.count()).group_by(chunk.run)
    counts: dict[int, int] = {row[0]: row[1] for row in fetch(connection, query, chunk.run, sorted(numbers.values()))}
    known = [(run_id, numbers[run_id]) for run_id in run_ids if run_id in numbers]
    return map(dict, _in_heaps(known, lambda item: counts.get(item[1], 0), CHUNKS_AT_ONCE))


def _plan(connection: Connection, numbers: Mapping[str, int], keys: Sequence[str] | None, portion: Portion) -> Iterator[Piece]:
    """Yield the pieces of what is asked for, in order."""
    later = load_attempts(connection, sorted(numbers.values())) if portion.attempt is None else {}
    floors: Floors = {run: hidden_steps(attempts) for run, attempts in later.items()}
    wanted = None if keys is None else find_numbers(connection, metric_names.c.name, keys)
    groups: dict[tuple[int, int], list[Chunk]] = {}
    # SQLite reads the whole row for what stands behind the body, so the attempt is left alone where there is one only
    attempt = chunk.attempt if floors else literal(0)
    for item in _chunks(connection, attempt, sorted(numbers.values()), wanted, portion):
        groups.setdefault((item.run, item.metric), []).append(item)
    names = names_of_metrics(connection, {metric for _, metric in groups})
    run_ids_of = {number: run_id for run_id, number in numbers.items()}
    run_places, key_places = _places(numbers), _places(sorted(names.values()) if keys is None else keys)
    for run, metric in sorted(groups, key=lambda pair: (run_places[run_ids_of[pair[0]]], key_places[names[pair[1]]])):
        yield from _pieces((run_ids_of[run], names[metric]), groups[run, metric], floors.get(run), portion)


def _places(items: Iterable[str]) -> dict[str, int]:
    return {item: place for place, item in enumerate(dict.fromkeys(items))}


def _chunks(
    connection: Connection, attempt: ColumnElement[int], numbers: Sequence[int], metrics: Mapping[str, int] | None, portion: Portion
) -> Iterator[Chunk]:
    """Yield the chunks of runs and metrics that may have points asked for."""
    query: Select[Any] = select(chunk.id, chunk.run, chunk.metric, chunk["count"], chunk.min_step, chunk.max_step, attempt)
    query = _limited(query, portion)
    if metrics is not None and len(metrics) <= MAX_LIST:
        query = query.where(chunk.metric.in_(sorted(metrics.values())))
    chosen = None if metrics is None else set(metrics.values())
    rows = fetch(connection, query, chunk.run, numbers)
    return (Chunk(*row) for row in rows if chosen is None or row[2] in chosen)


def _limited(query: Select[Any], portion: Portion) -> Select[Any]:
    if portion.attempt is not None:
        query = query.where(chunk.attempt == portion.attempt)
    if portion.start_step is not None:
        query = query.where(chunk.max_step >= portion.start_step)
    if portion.end_step is not None:
        query = query.where(chunk.min_step <= portion.end_step)
    return query


def _pieces(owner: Owner, chunks: list[Chunk], floors: Sequence[int | None] | None, portion: Portion) -> Iterator[Piece]:
    """Yield the chunks of a metric in pieces, in the order of their steps; all in one where they are to be sampled together."""
    held: list[Chunk] = []
    reach = 0
    for item in sorted(chunks, key=lambda item: (item.min_step, item.id)):
        if held and item.min_step > reach and portion.sample is None:
            yield _piece(owner, held, floors, portion)
            held = []
        reach = max(reach, item.max_step) if held else item.max_step
        held.append(item)
    yield _piece(owner, held, floors, portion)


def _piece(owner: Owner, chunks: list[Chunk], floors: Sequence[int | None] | None, portion: Portion) -> Piece:
    mine = [None if floors is None else floors[item.attempt] for item in chunks]
    is_plain = portion.sample is None and len(chunks) == 1 and _is_whole(chunks[0], mine[0], portion)
    return Piece(owner, chunks, mine, sum(item.size for item in chunks), is_plain)


def _is_whole(item: Chunk, floor: int | None, portion: Portion) -> bool:
    starts = portion.start_step is None or portion.start_step <= item.min_step
    ends = portion.end_step is None or portion.end_step >= item.max_step
    return starts and ends and (floor is None or item.max_step < floor)


def _in_batches(pieces: Iterable[Piece], batch_points: int) -> Iterator[list[Piece]]:
    """Yield pieces in lists of about so many points."""
    return _in_heaps(pieces, lambda piece: piece.size + CHUNK_COST * len(piece.chunks), batch_points)


def _in_heaps(items: Iterable[T], weight: Callable[[T], int], most: int) -> Iterator[list[T]]:
    """Yield items in lists that together weigh no more than so much, unless one alone does."""
    held: list[T] = []
    total = 0
    for item in items:
        if held and total + weight(item) > most:
            yield held
            held, total = [], 0
        held.append(item)
        total += weight(item)
    if held:
        yield held


def _read(connection: Connection, pieces: Sequence[Piece], portion: Portion) -> Histories:
    """Read pieces into the columns of one batch."""
    every = [item.id for piece in pieces for item in piece.chunks]
    bodies: dict[int, bytes] = {row[0]: row[1] for row in fetch(connection, select(chunk.id, chunk.body), chunk.id, every)}
    size = sum(piece.size if portion.sample is None else min(piece.size, portion.sample) for piece in pieces)
    room = _empty(size)
    owners: list[Owner] = []
    bounds = [0]
    for piece in pieces:
        end = bounds[-1] + _read_piece(piece, bodies, _part(room, bounds[-1], size), portion)
        if owners and owners[-1] == piece.owner:
            bounds[-1] = end
        elif end > bounds[-1]:
            owners.append(piece.owner)
            bounds.append(end)
    return Histories(owners, np.array(bounds, np.int64), _part(room, 0, bounds[-1]))


def _read_piece(piece: Piece, bodies: Mapping[int, bytes], room: History, portion: Portion) -> int:
    """Put the points of a piece at the beginning of some room, and return how many they are."""
    if piece.is_plain:
        decode_into(bodies[piece.chunks[0].id], _part(room, 0, piece.size))
        return piece.size
    visible = series.between(_visible(piece, bodies), portion.start_step, portion.end_step)
    found = sampling.sampled(visible, portion.sample)
    for column, place in ((found.step, room.step), (found.timestamp, room.timestamp), (found.value, room.value)):
        place[: len(found)] = column
    return len(found)


def _visible(piece: Piece, bodies: Mapping[int, bytes]) -> History:
    """Return the points of a piece that no later attempt hides, in order."""
    room, end = _empty(piece.size), 0
    for item, floor in zip(piece.chunks, piece.floors, strict=True):
        part = _part(room, end, end + item.size)
        decode_into(bodies[item.id], part)
        end += len(series.before(part, floor))
    return series.ordered(_part(room, 0, end))


def _empty(size: int) -> History:
    return History(np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.float64))


def _part(history: History, start: int, end: int) -> History:
    return History(history.step[start:end], history.timestamp[start:end], history.value[start:end])
