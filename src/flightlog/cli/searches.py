"""Questions to a store that several commands ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from flightlog.schema.entities import Experiment, Run, ViewType
from flightlog.schema.errors import NotFound
from flightlog.stores.base import RunReader

PAGE = 500


def all_experiments(store: RunReader, view_type: int = ViewType.ALL) -> list[Experiment]:
    """Return the experiments of a store, page by page."""
    page = store.search_experiments(view_type)
    found = list(page)
    while page.token:
        page = store.search_experiments(view_type, page_token=page.token)
        found += page
    return found


def find_experiment(store: RunReader, name_or_id: str) -> Experiment:
    """Return the experiment of that name, else of that id. Raises `NotFound`."""
    named = store.get_experiment_by_name(name_or_id)
    if named is not None:
        return named
    try:
        return store.get_experiment(name_or_id)
    except NotFound:
        raise NotFound(f"no experiment has the name or the id {name_or_id!r}") from None


def runs_by_id(store: RunReader, run_ids: Sequence[str]) -> Iterator[Run]:
    """Yield the runs of these ids that the store knows, a few queries for all."""
    experiments = [experiment.experiment_id for experiment in all_experiments(store)]
    for start in range(0, len(run_ids), PAGE):
        quoted = ", ".join(f"'{run_id}'" for run_id in run_ids[start : start + PAGE])
        yield from store.search_runs(experiments, f"attributes.run_id IN ({quoted})", ViewType.ALL, PAGE)
