"""The fluent verbs that read, and those that need to look before they write.

A process that has logged reads its own writes: before a read it waits until the store has committed them, at most
`FLIGHTLOG_SYNC_TIMEOUT` seconds, and says so when it reads without them. What it has made itself is there for it all the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence, Sized
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload, runtime_checkable

from flightlog.producer import lifecycle
from flightlog.producer.client import Producer
from flightlog.producer.context import context, last_run_id
from flightlog.producer.experiments import experiment_of_run
from flightlog.producer.fluent import active_run, is_synchronous
from flightlog.schema.entities import Attempt, Experiment, LifecycleStage, Run, ViewType
from flightlog.schema.errors import FlightlogException, InvalidParameter, NotFound, StoreUnavailable
from flightlog.schema.limits import check_experiment_id, check_run_id
from flightlog.schema.names import PARENT_TAG
from flightlog.stores import open_store
from flightlog.stores.base import RunReader

if TYPE_CHECKING:
    import pandas as pd

PAGE = 10_000
Page = TypeVar("Page", bound=Sized)
Thing = TypeVar("Thing", Run, Experiment)


@runtime_checkable
class Readable(Protocol):
    """A producer that knows itself who reads what it has recorded."""

    def reader(self) -> RunReader:
        """Return a reader that sees everything that was recorded."""


@lru_cache(maxsize=16)
def _open(database_url: str, process: int) -> RunReader:  # noqa: ARG001 - a forked child must not share its parent's connections
    return open_store(database_url)


def reader_for(producer: Producer) -> RunReader:
    """Return a reader of a producer's store that sees everything the producer has recorded. Raises `StoreUnavailable`."""
    if isinstance(producer, Readable):
        return producer.reader()
    settings, location = producer.settings, producer.location
    if not location.is_store_named:
        raise StoreUnavailable(
            "events go into a queue, which cannot be read; set FLIGHTLOG_TRACKING_URI to the store that its workers file into"
        )
    if producer.pending() and not producer.settle(settings.sync_timeout if producer.can_arrive else 0):
        lifecycle.warn_once(
            f"reading without {producer.pending()} events that are not in the store yet; is a worker running? see: flightlog doctor"
        )
    return _open(location.database_url, os.getpid())


def reader() -> RunReader:
    """Return a reader of the current store that sees everything this process has logged to it."""
    return reader_for(context.producer)


def get_run(run_id: str) -> Run:
    """Return a run with its latest metrics, params and tags. Raises `NotFound`."""
    return run_from(context.producer, run_id)


def run_from(producer: Producer, run_id: str) -> Run:
    """Return a run as the store knows it; one that this process has made, and of which the store cannot say yet, as it began."""
    try:
        return reader_for(producer).get_run(check_run_id(run_id))
    except (NotFound, StoreUnavailable) as error:
        return _of_this_process(producer.known.begun(run_id), f"run {run_id}", producer, error)


def experiment_from(producer: Producer, experiment_id: object) -> Experiment:
    """Return an experiment as the store knows it; one that this process knows, and of which the store cannot say yet, as it knows it."""
    checked = check_experiment_id(experiment_id)
    try:
        return reader_for(producer).get_experiment(checked)
    except (NotFound, StoreUnavailable) as error:
        return _of_this_process(producer.known.with_id(checked), f"experiment {checked}", producer, error)


def experiment_named(producer: Producer, name: str) -> Experiment | None:
    """Return the experiment of a name, as `experiment_from` does, or None."""
    known = producer.known.named(name)
    try:
        found = reader_for(producer).get_experiment_by_name(name)
    except StoreUnavailable as error:
        return _of_this_process(known, f"experiment {name!r}", producer, error)
    return known if found is None and producer.pending() else found


def _of_this_process(known: Thing | None, name: str, producer: Producer, error: FlightlogException) -> Thing:
    """Return what this process knows of a run or experiment. What the store has not, and has been told all of, is not there."""
    if known is None or (isinstance(error, NotFound) and not producer.pending()):
        raise error
    lifecycle.warn_once_for("what this process made", f"{name}, and others that this process made, are shown as they began: {error}")
    return known


def get_attempts(run_id: str) -> list[Attempt]:
    """Return the attempts of a run: the first, and one for each time that it was resumed or rewound. Raises `NotFound`."""
    return attempts_from(reader(), run_id)


def attempts_from(store: RunReader, run_id: str) -> list[Attempt]:
    """See `get_attempts`."""
    return store.attempts(store.get_run(run_id).info.run_id)


def get_parent_run(run_id: str) -> Run | None:
    """Return the run that a run was nested in, or None."""
    parent = get_run(run_id).data.tags.get(PARENT_TAG)
    return get_run(parent) if parent else None


def last_active_run() -> Run | None:
    """Return the active run, or else the one that was active last in this context, as the store knows it."""
    run = active_run()
    if run is not None:
        return run
    run_id = last_run_id.get()
    return get_run(run_id) if run_id else None


def delete_run(run_id: str) -> None:
    """Move a run to the deleted ones."""
    stage_run(context.producer, get_run(run_id).info.run_id, LifecycleStage.DELETED)


def restore_run(run_id: str) -> None:
    """Make a deleted run active again."""
    stage_run(context.producer, get_run(run_id).info.run_id, LifecycleStage.ACTIVE)


def stage_run(producer: Producer, run_id: str, stage: str) -> None:
    """Move a run that there is to the deleted or the active ones."""
    operation = producer.delete_run(run_id) if stage == LifecycleStage.DELETED else producer.restore_run(run_id)
    if is_synchronous():
        operation.wait()
    producer.known.stage_run(run_id, stage)


def get_experiment(experiment_id: str) -> Experiment:
    """Return an experiment; also a deleted one. Raises `NotFound`."""
    return experiment_from(context.producer, experiment_id)


def get_experiment_by_name(name: str) -> Experiment | None:
    """Return the experiment of that name, also a deleted one, or None."""
    return experiment_named(context.producer, name)


def search_experiments(
    view_type: int = ViewType.ACTIVE_ONLY,
    max_results: int | None = None,
    filter_string: str | None = None,
    order_by: Sequence[str] | None = None,
) -> list[Experiment]:
    """Return all experiments that match."""
    found: list[Experiment] = []
    token: str | None = None
    store = reader()
    while max_results is None or len(found) < max_results:
        size = 1000 if max_results is None else min(1000, max_results - len(found))
        page = store.search_experiments(view_type, size, filter_string, order_by, token)
        found += page
        token = page.token
        if token is None:
            break
    return found


def _active_experiment_id() -> str:
    """Return the id of the experiment in which the next run would be; where others renamed it to its name, as the store has it."""
    experiment = experiment_of_run(None)
    found = reader().get_experiment_by_name(experiment.name) if experiment.name else None
    return found.experiment_id if found else experiment.experiment_id


@overload
def search_runs(
    experiment_ids: Sequence[str] | None = ...,
    filter_string: str = ...,
    run_view_type: int = ...,
    max_results: int = ...,
    order_by: Sequence[str] | None = ...,
    output_format: Literal["pandas"] = ...,
    search_all_experiments: bool = ...,
    experiment_names: Sequence[str] | None = ...,
) -> pd.DataFrame: ...


@overload
def search_runs(
    experiment_ids: Sequence[str] | None = ...,
    filter_string: str = ...,
    run_view_type: int = ...,
    max_results: int = ...,
    order_by: Sequence[str] | None = ...,
    *,
    output_format: Literal["list"],
    search_all_experiments: bool = ...,
    experiment_names: Sequence[str] | None = ...,
) -> list[Run]: ...


def search_runs(
    experiment_ids: Sequence[str] | None = None,
    filter_string: str = "",
    run_view_type: int = ViewType.ACTIVE_ONLY,
    max_results: int = 100_000,
    order_by: Sequence[str] | None = None,
    output_format: str = "pandas",
    search_all_experiments: bool = False,
    experiment_names: Sequence[str] | None = None,
) -> pd.DataFrame | list[Run]:
    """Return the runs that match, newest first by default, as a pandas DataFrame or, with output_format="list", as a list.

    Searches the experiments of the given ids or names, else the active one. The frame has the columns run_id, experiment_id, status,
    artifact_uri, start_time, end_time (UTC), then metrics.*, params.* and tags.*; what a run does not have is NaN or None.
    """
    if output_format not in ("pandas", "list"):
        raise InvalidParameter(f'output_format must be "pandas" or "list", not {output_format!r}')
    if experiment_ids and experiment_names:
        raise InvalidParameter("give experiment_ids or experiment_names, and not both")
    store = reader()
    ids = _experiments_to_search(store, experiment_ids, experiment_names, search_all_experiments)
    asked = (ids, filter_string, run_view_type)
    if output_format == "list":
        return [run for page in _pages(partial(_page_of_runs, store), asked, max_results, order_by) for run in page]
    from flightlog.dataframes import runs_frame  # noqa: PLC0415 - pandas is an extra and takes long to import

    return runs_frame(list(_pages(store.search_run_columns, asked, max_results, order_by)))


def _experiments_to_search(store: RunReader, ids: Sequence[str] | None, names: Sequence[str] | None, everywhere: bool) -> list[str]:
    if ids:
        return [str(item) for item in ids]
    if names:
        found = {name: store.get_experiment_by_name(name) for name in names}
        for name in (name for name, experiment in found.items() if experiment is None):
            lifecycle.warn_once(f"there is no experiment {name!r} to search")
        return [experiment.experiment_id for experiment in found.values() if experiment]
    if everywhere:
        return [experiment.experiment_id for experiment in search_experiments(ViewType.ALL)]
    return [_active_experiment_id()]


def _page_of_runs(store: RunReader, *asked: Any) -> tuple[list[Run], str | None]:  # noqa: ANN401 - what `search_runs` takes
    page = store.search_runs(*asked)
    return page, page.token


def _pages(
    search: Callable[..., tuple[Page, str | None]], asked: tuple[list[str], str, int], max_results: int, order_by: Sequence[str] | None
) -> Iterator[Page]:
    """Yield the pages of a search until there are no more runs, or as many as wanted."""
    left, token = max_results, None
    while asked[0] and left > 0:
        page, token = search(*asked, min(PAGE, left), order_by, token)
        left -= len(page)
        yield page
        if token is None:
            break
