"""How experiments come to be, are renamed and take their runs along: the rules that every store shares."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from flightlog.schema import events as e
from flightlog.schema.fold import NEVER, ExperimentState, Rejection, RunState, Stamp, fold_experiment, fold_run
from flightlog.schema.ids import DEFAULT_EXPERIMENT_ID, DEFAULT_EXPERIMENT_NAME, experiment_subject
from flightlog.schema.settings import is_chosen
from flightlog.stores.batches import experiment_of


class ExperimentBook(Protocol):
    """Where a store keeps its experiments while a batch is applied."""

    def get(self, experiment_id: str) -> ExperimentState | None:
        """Return an experiment that may be changed and then `put`."""

    def named(self, name: str) -> str | None:
        """Return the id of the experiment that has a name now."""

    def put(self, state: ExperimentState) -> None:
        """Keep a new or changed experiment."""

    def population(self, experiment_id: str) -> int:
        """Return how many runs an experiment has, deleted ones included."""

    def cascade(self, experiment_id: str, stage: str, stamp: Stamp) -> None:
        """Move all runs of an experiment to a lifecycle stage, unless a later event decided about them."""


def default_experiment() -> ExperimentState:
    """Return the experiment that always exists."""
    return ExperimentState(DEFAULT_EXPERIMENT_ID, DEFAULT_EXPERIMENT_NAME, "")


def apply_to_run(book: ExperimentBook, state: RunState, event: e.Event, stamp: Stamp) -> Rejection | None:
    """Apply an event to its run; a run that starts finds or founds its experiment. Returns why not, if not."""
    if isinstance(event, (e.RunPurged, e.ExperimentPurged)):
        return purge_refusal(book, state.run_id, event)
    if isinstance(event, e.RunStarted) and not state.started:
        if not is_experiment_id(event.experiment_id):
            return _bad_id(event.experiment_id)
        home = _home(book, event)
        event = event.model_copy(update={"experiment_id": home.experiment_id, "artifact_uri": _artifact_uri(home, state.run_id, event)})
    return fold_run(state, event, stamp)


def apply_to_experiment(book: ExperimentBook, experiment_id: str, event: e.Event, stamp: Stamp) -> Rejection | None:
    """Apply an event to its experiment, and a change of its lifecycle stage to its runs. Returns why not, if not."""
    if isinstance(event, (e.RunPurged, e.ExperimentPurged)):
        return purge_refusal(book, experiment_subject(experiment_id), event)
    state = _founded(book, experiment_id, event) if isinstance(event, e.ExperimentCreated) else _known(book, experiment_id)
    if isinstance(state, Rejection):
        return state
    if isinstance(event, e.ExperimentRenamed) and stamp > state.name_stamp and (refusal := _name_taken(book, experiment_id, event.name)):
        return refusal
    rejection = fold_experiment(state, event, stamp)
    if rejection is None:
        book.put(state)
    if isinstance(event, (e.ExperimentDeleted, e.ExperimentRestored)) and state.lifecycle_stamp == stamp:
        book.cascade(experiment_id, state.lifecycle_stage, stamp)
    return rejection


def purge_refusal(book: ExperimentBook, subject: str, event: e.RunPurged | e.ExperimentPurged) -> Rejection | None:
    """Return why a run or an experiment cannot be purged; None when it can."""
    experiment_id = experiment_of(subject)
    if (experiment_id is None) != isinstance(event, e.RunPurged):
        return Rejection("wrong-subject", f"{type(event).__name__} is no event of {'a run' if experiment_id is None else 'an experiment'}")
    if experiment_id is None:
        return None
    if experiment_id == DEFAULT_EXPERIMENT_ID or not is_experiment_id(experiment_id):
        return Rejection("invalid", f"experiment {experiment_id[:100]!r} cannot be purged: the default experiment always exists")
    count = book.population(experiment_id)
    return Rejection("not-empty", f"experiment {experiment_id} still has {count} runs; purge them first") if count else None


def _artifact_uri(home: ExperimentState, run_id: str, event: e.RunStarted) -> str:
    """Return where a run has its artifacts: at the place that its experiment was given, which not every writer knows."""
    usual = f"{event.artifact_location}/{run_id}/artifacts"
    if event.artifact_uri != usual or is_chosen(event.experiment_id, event.artifact_location or ""):
        return event.artifact_uri
    return f"{home.artifact_location}/{run_id}/artifacts" if is_chosen(home.experiment_id, home.artifact_location) else event.artifact_uri


def _home(book: ExperimentBook, event: e.RunStarted) -> ExperimentState:
    """Return the experiment that a run belongs to: the name decides, then the id; an unknown one is founded."""
    name = event.experiment_name or _placeholder_name(event.experiment_id)
    known = book.get(event.experiment_id)
    by_name = book.named(name) if event.experiment_name or known is None else None
    home = book.get(by_name) if by_name is not None else known
    if home is None:
        home = _new(event.experiment_id, name, event.artifact_location or "", event.time)
        book.put(home)
    elif event.artifact_location and not home.artifact_location:
        book.put(replace(home, artifact_location=event.artifact_location))
    return home


def _known(book: ExperimentBook, experiment_id: str) -> ExperimentState | Rejection:
    state = book.get(experiment_id) if is_experiment_id(experiment_id) else None
    return state or Rejection("unknown-experiment", f"no experiment has the id {experiment_id!r}; create it before changing it")


def _founded(book: ExperimentBook, experiment_id: str, event: e.ExperimentCreated) -> ExperimentState | Rejection:
    """Return the experiment that an ExperimentCreated speaks of: a new one, or the known one with what it lacked."""
    if event.experiment_id != experiment_id:
        return Rejection("wrong-subject", f"experiment {event.experiment_id!r} cannot be created under the id {experiment_id!r}")
    if not is_experiment_id(experiment_id):
        return _bad_id(experiment_id)
    if refusal := _name_taken(book, experiment_id, event.name):
        return refusal
    state = book.get(experiment_id)
    if state is None:
        return _new(experiment_id, event.name, event.artifact_location, event.time)
    if state.name == _placeholder_name(experiment_id) and state.name_stamp == NEVER:
        state.name = event.name
    state.artifact_location = state.artifact_location or event.artifact_location
    return state


def _new(experiment_id: str, name: str, artifact_location: str, time: int) -> ExperimentState:
    return ExperimentState(experiment_id, name, artifact_location, creation_time=time, last_update_time=time)


def _name_taken(book: ExperimentBook, experiment_id: str, name: str) -> Rejection | None:
    owner = book.named(name)
    if owner in (None, experiment_id):
        return None
    return Rejection("name-taken", f"experiment {owner} is already named {name!r}; choose another name for experiment {experiment_id}")


def _placeholder_name(experiment_id: str) -> str:
    return DEFAULT_EXPERIMENT_NAME if experiment_id == DEFAULT_EXPERIMENT_ID else f"experiment-{experiment_id}"


def is_experiment_id(text: str) -> bool:
    """Say whether a text is a number of 63 bits in its only decimal form."""
    return text.isascii() and text.isdigit() and len(text) < 20 and text == str(int(text)) and int(text) < 2**63


def _bad_id(experiment_id: str) -> Rejection:
    message = f"experiment id {experiment_id[:100]!r} is no decimal number below 2**63; use the id that the experiment was created with"
    return Rejection("invalid", message)
