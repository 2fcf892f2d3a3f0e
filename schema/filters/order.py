"""The order of a search: clauses such as `metrics.loss DESC`, and the keys that break ties so that every order is total."""

from __future__ import annotations

from collections.abc import Sequence

from flightlog.schema.errors import InvalidParameter
from flightlog.schema.filters.nodes import Field, OrderKey
from flightlog.schema.filters.parser import Source, identifier
from flightlog.schema.filters.vocabulary import EXPERIMENT_ORDER, RUN_ORDER, Vocabulary

START_TIME = Field("attribute", "start_time")
RUN_ID = Field("attribute", "run_id")
CREATION_TIME = Field("attribute", "creation_time")
EXPERIMENT_ID = Field("attribute", "experiment_id")

MAX_CLAUSES = 20


def parse_run_order(clauses: Sequence[str] | None) -> tuple[OrderKey, ...]:
    """Parse an order of runs, in which no field may stand twice. Ties are broken by start_time DESC, then run_id ASC."""
    keys = _parse(clauses, RUN_ORDER)
    repeated = next((key for place, key in enumerate(keys) if key.field in {known.field for known in keys[:place]}), None)
    if repeated:
        raise InvalidParameter(f"order_by names the field {repeated.field.key!r} twice: {list(clauses or ())!r}"[:500])
    return _with_ties(keys, OrderKey(START_TIME, ascending=False), OrderKey(RUN_ID))


def parse_experiment_order(clauses: Sequence[str] | None) -> tuple[OrderKey, ...]:
    """Parse an order of experiments: creation_time DESC, experiment_id ASC if none is given, else ties are broken by experiment_id DESC.

    A field that stands twice counts where it stands first, as in MLflow.
    """
    first: dict[Field, OrderKey] = {}
    for key in _parse(clauses, EXPERIMENT_ORDER):
        first.setdefault(key.field, key)
    keys = tuple(first.values())
    if not keys:
        return OrderKey(CREATION_TIME, ascending=False), OrderKey(EXPERIMENT_ID)
    return _with_ties(keys, OrderKey(EXPERIMENT_ID, ascending=False))


def _parse(clauses: Sequence[str] | None, vocabulary: Vocabulary) -> tuple[OrderKey, ...]:
    if isinstance(clauses, str) or len(clauses or ()) > MAX_CLAUSES:
        raise InvalidParameter(f"order_by must be a list of at most {MAX_CLAUSES} clauses, not {str(clauses)[:200]!r}")
    return tuple(_clause(Source(clause, "order_by clause", vocabulary)) for clause in clauses or ())


def _clause(source: Source) -> OrderKey:
    """clause = identifier [ASC | DESC] END"""
    field = identifier(source)
    direction = source.accept("DIRECTION")
    source.expect("END", "the end" if direction else "ASC, DESC or the end")
    return OrderKey(field, ascending=not direction or direction.text.lower() == "asc")


def _with_ties(keys: tuple[OrderKey, ...], *ties: OrderKey) -> tuple[OrderKey, ...]:
    fields = {key.field for key in keys}
    return keys + tuple(tie for tie in ties if tie.field not in fields)
