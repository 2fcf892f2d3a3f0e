"""Questions to a store that several commands ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from flightlog.schema.entities import Experiment, Run, ViewType
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.schema.limits import check_run_id
from flightlog.stores.base import RunReader

PAGE = 500
SHOWN = 3
"""So many runs are named that some digits may mean."""


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


def experiment_names(store: RunReader, chosen: Sequence[str], view_type: int = ViewType.ACTIVE_ONLY) -> dict[str, str]:
    """Return the names of the chosen experiments by id; when none is chosen, of all in which runs of that view may be."""
    view = ViewType.ACTIVE_ONLY if view_type == ViewType.ACTIVE_ONLY else ViewType.ALL
    found = [find_experiment(store, item) for item in chosen] or all_experiments(store, view)
    return {experiment.experiment_id: experiment.name for experiment in found}


def run_pages(
    store: RunReader,
    experiment_ids: Sequence[str],
    filter_string: str = "",
    view_type: int = ViewType.ACTIVE_ONLY,
    order_by: Sequence[str] | None = None,
    limit: int | None = None,
) -> Iterator[list[Run]]:
    """Yield the runs that match in pages, at most `limit` runs."""
    token: str | None = None
    left = limit
    while left is None or left > 0:
        page = store.search_runs(experiment_ids, filter_string, view_type, PAGE if left is None else min(PAGE, left), order_by, token)
        yield page
        token = page.token
        left = None if left is None else left - len(page)
        if token is None:
            return


def find_runs(store: RunReader, names: Sequence[str]) -> list[Run]:
    """Return the runs of these ids, or first digits of ids, each once and in that order. Raises `NotFound`, `InvalidParameter`."""
    known = {run.info.run_id: run for run in runs_by_id(store, [check_run_id(name) for name in names])}
    found = [known.get(name) or _find_run(store, name) for name in names]
    return list({run.info.run_id: run for run in found}.values())


def _find_run(store: RunReader, digits: str) -> Run:
    """Return the one run whose id begins with some digits."""
    experiments = [experiment.experiment_id for experiment in all_experiments(store)]
    pages = run_pages(store, experiments, f"attributes.run_id LIKE '{digits}%'", ViewType.ALL)
    every = (run for page in pages for run in page if run.info.run_id.startswith(digits))  # an underscore in a pattern is any letter
    matching = list(islice(every, SHOWN))
    if not matching:
        raise NotFound(f"no run has the id {digits!r}, and none has one that begins with it")
    if len(matching) > 1:
        some = ", ".join(run.info.run_id for run in matching)
        raise InvalidParameter(f"{digits!r} is the beginning of several run ids: {some}; give more digits")
    return matching[0]
