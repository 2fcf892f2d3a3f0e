"""Short ways to say events and blocks, and what two stores must agree on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.codec import encode, encode_metrics
from flightlog.schema.entities import DeadLetter, MetricSummary, PagedList, ViewType
from flightlog.schema.ids import WriterId
from flightlog.schema.records import Records
from flightlog.stores.base import Histories, History, Portion, Store
from flightlog.stores.sampling import sampled

RUN = "a" * 32
OTHER_RUN = "b" * 32
WRITER = WriterId("1" * 32)
OTHER_WRITER = WriterId("2" * 32)
THIRD_WRITER = WriterId("3" * 32)
KEYS = ("a", "b", "ключ")
"""The metrics of which `everything` looks at all attempts."""

Fact = e.Event | bytes
"""An event, or payload bytes as they are."""


def block(subject: str, *facts: Fact, writer: WriterId = WRITER, first: int = 0) -> Block:
    """Return a block of events."""
    keys = sorted({key for fact in facts if isinstance(fact, e.MetricsLogged) for key, _ in fact.points})
    ids = {key: number for number, key in enumerate(keys)}
    payloads = [_payload(fact, ids) for fact in facts]
    return Block(subject, writer, first, {number: key for key, number in ids.items()}, Records.of(payloads))


def _payload(fact: Fact, ids: dict[str, int]) -> bytes:
    if isinstance(fact, bytes):
        return fact
    return encode_metrics(fact, ids) if isinstance(fact, e.MetricsLogged) else encode(fact)


def started(experiment_id: str = "0", name: str | None = None, time: int = 1000, **fields: Any) -> e.RunStarted:
    """Return the start of a run."""
    given = {"artifact_uri": "/artifacts", "run_name": "calm-owl-1", "start_time": time, **fields}
    return e.RunStarted(time=time, experiment_id=experiment_id, experiment_name=name, **given)


def created(experiment_id: str, name: str, time: int = 1000, tags: dict[str, str] | None = None) -> e.ExperimentCreated:
    """Return the creation of an experiment."""
    return e.ExperimentCreated(
        time=time, experiment_id=experiment_id, name=name, artifact_location=f"/artifacts/{experiment_id}", tags=tags or {}
    )


def metric(key: str, value: float, step: int = 0, time: int = 1000) -> e.MetricsLogged:
    """Return one point."""
    return e.MetricsLogged(time=time, step=step, points=((key, value),))


def rewound(step: int, time: int = 2000) -> e.RunRewound:
    """Return the beginning of an attempt at a step."""
    return e.RunRewound(time=time, step=step)


def losses(*steps: int, time: int = 1000) -> list[e.MetricsLogged]:
    """Return a point at each step, whose value is the step."""
    return [metric("loss", float(step), step, time) for step in steps]


def param(key: str, value: str, time: int = 1000) -> e.ParamLogged:
    """Return a param."""
    return e.ParamLogged(time=time, key=key, value=value)


def tag(key: str, value: str, time: int = 1000) -> e.TagSet:
    """Return a tag."""
    return e.TagSet(time=time, key=key, value=value)


def artifact(path: str, time: int = 1000, size: int = 3) -> e.ArtifactLogged:
    """Return an artifact."""
    return e.ArtifactLogged(time=time, path=path, size=size, snapshot=f"snapshot-{time}")


def dataset(name: str, digest: str = "1", time: int = 1000, **fields: Any) -> e.DatasetLogged:
    """Return a dataset."""
    return e.DatasetLogged(time=time, name=name, digest=digest, **{"source_type": "code", "source": "{}", **fields})


def reasons(letters: Iterable[DeadLetter]) -> list[str]:
    """Return why events became dead letters."""
    return [letter.reason for letter in letters]


def exact(value: float) -> str:
    """Return a float so that NaN equals itself and -0.0 differs from 0.0."""
    return "nan" if math.isnan(value) else repr(value)


def exact_summary(summary: MetricSummary) -> list[Any]:
    """Return a summary so that it can be compared."""
    ends = (summary.last, summary.first, summary.min, summary.max)
    points = [point and (exact(point.value), point.step, point.timestamp) for point in ends]
    return [summary.key, points, summary.count, summary.non_finite]


def exact_history(history: History) -> list[tuple[int, int, str]]:
    """Return a history so that it can be compared."""
    return list(zip(history.step.tolist(), history.timestamp.tolist(), map(exact, history.value.tolist()), strict=True))


def one_history(store: Store, run_id: str, key: str, portion: Portion) -> list[tuple[int, int, str]]:
    """Return a portion of one history, read by itself, so that it can be compared."""
    history = store.metric_arrays(run_id, key, portion.start_step, portion.end_step, portion.attempt)
    return exact_history(sampled(history, portion.sample))


def collected(batches: Iterable[Histories]) -> dict[tuple[str, str], list[tuple[int, int, str]]]:
    """Return histories that were read in batches, in their order, so that they can be compared."""
    found: dict[tuple[str, str], list[tuple[int, int, str]]] = {}
    for batch in batches:
        for run_id, key, part in batch:
            found.setdefault((run_id, key), []).extend(exact_history(part))
    return found


def everything(store: Store, subjects: Sequence[str]) -> dict[str, Any]:
    """Return all that a reader can learn from a store, but for the times at which it learned it itself."""
    experiments: PagedList[Any] = store.search_experiments(ViewType.ALL)
    runs = store.search_runs([item.experiment_id for item in experiments], run_view_type=ViewType.ALL)
    return {
        "experiments": sorted((item.to_dictionary() for item in experiments), key=lambda item: str(item["experiment_id"])),
        "runs": {run.info.run_id: _run(store, run) for run in runs},
        "letters": [
            (item.subject, item.writer, item.sequence, item.reason, item.message, item.payload, item.count) for item in store.dead_letters()
        ],
        "writers": [(item.subject, item.writer, item.committed, item.dead_letters) for item in store.writers()],
        "tombstones": store.tombstones(),
        "positions": {subject: store.position(subject, WRITER) for subject in subjects},
    }


def _run(store: Store, run: Any) -> dict[str, Any]:
    run_id, metrics, attempts = run.info.run_id, run.data.metric_summaries, store.attempts(run.info.run_id)
    return {
        "info": run.info.to_dictionary(),
        "attempts": [item.to_dictionary() for item in attempts],
        "attempt histories": [exact_history(store.metric_arrays(run_id, key, attempt=item.attempt)) for item in attempts for key in KEYS],
        "params": run.data.params,
        "tags": run.data.tags,
        "latest": {key: exact(value) for key, value in run.data.metrics.items()},
        "summaries": [exact_summary(summary) for summary in metrics.values()],
        "histories": {key: exact_history(store.metric_arrays(run_id, key)) for key in {*metrics, *KEYS}},
        "artifacts": store.artifacts(run_id),
        "inputs": run.inputs.to_dictionary(),
        "outputs": run.outputs.to_dictionary(),
        "equal": store.get_run(run_id).to_dictionary().keys() == run.to_dictionary().keys(),
    }
