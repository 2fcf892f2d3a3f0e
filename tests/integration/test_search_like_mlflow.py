"""Filters and orders mean what they mean in MLflow: the same questions have the same answers, but for a list of exceptions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contracts import search_questions as asked
from contracts.facts import block, created, param, started, tag
from flightlog.schema import events as e
from flightlog.schema.errors import FlightlogException
from flightlog.stores import open_store
from flightlog.stores.base import Store

TESTS = Path(__file__).resolve().parents[1]
Answer = list[str] | str
"""Ids, or the name of an error."""

DIFFERENCES: dict[str, list[str | list[str]]] = {
    "parentheses, OR and NOT": [
        "(metrics.loss > 0)",
        "(metrics.loss > 0) AND (params.lr = '0.1')",
        "metrics.loss > 0 OR params.lr = '0.1'",
        "NOT metrics.loss > 0",
        "not (params.lr = '0.1' or tags.team = 'vision')",
        "name = 'vision' OR name = 'Vision'",
        "NOT name = 'vision'",
        "(name = 'vision')",
    ],
    "statistics of a metric": [
        "metrics.loss.min = 1",
        "metrics.loss.max >= 3",
        "metrics.loss.first = 3",
        "metrics.loss.last = 2",
        "metrics.loss.count = 3",
        ["metrics.loss.min"],
        ["metrics.loss.count DESC"],
    ],
    "a doubled quote stands for one, without which a text could not hold both kinds": [
        "params.lr = 'it''s'",
        'params.lr = "say ""hi"""',
        "tags.team = ''''''",
        "name = 'it''s'",
    ],
    "an infinity in a filter is the infinity of a metric, which MLflow takes for the greatest number": ["metrics.loss < 1e999"],
    "MLflow drops an AND too many or too few, and finds what was not asked for": [
        "metrics.loss = 2 metrics.acc = 0.5",
        "metrics.loss > 0 AND",
        "AND metrics.loss > 0",
        "metrics.loss > 0 AND AND metrics.loss < 3",
        "AND",
        "name = 'vision' AND",
    ],
    "MLflow finds nothing where there is a mistake": [
        "metrics.`` = 2",
        "metrics. = 2",
        "params.lr = 'it\\'s'",
        "run_id IN ('a' 'b')",
        "run_id IN ('a', ('b'))",
        ["metrics."],
    ],
    "white space may stand between any two words": [
        " ",
        "\n\t ",
        "metrics. loss = 2",
        "metrics .loss = 2",
        "params.lr IS  NOT  NULL",
        [" metrics.loss DESC "],
    ],
    "MLflow trips over words that its SQL parser knows, and over quotes": ['"metrics".loss = 2', "metrics.in = 8"],
    "experiments take the same prefixes and numbers as runs": [
        "attributes.name = 'vision'",
        "attr.name = 'vision'",
        ["attributes.name"],
        "creation_time > 100.0",
        "creation_time > 99.5",
    ],
    "another code for what is an error in both, or in MLflow one of its own": [
        "run_id = ('a')",
        ["metrics.loss", "metrics.loss"],
        ["metrics.loss", "metric.loss DESC"],
        ["start_time", "created"],
        "experiment_id = '99999999999999999999999'",
    ],
}
"""Where the answers differ, and why."""
EXPECTED = [question for questions in DIFFERENCES.values() for question in questions]

RUN_QUESTIONS: list[tuple[str, list[str]]] = [(text, []) for text in asked.RUN_FILTERS] + [("", order) for order in asked.RUN_ORDERS]
EXPERIMENT_QUESTIONS: list[tuple[str, list[str]]] = [(text, []) for text in asked.EXPERIMENT_FILTERS]
EXPERIMENT_QUESTIONS += [("", order) for order in asked.EXPERIMENT_ORDERS]


@pytest.fixture(scope="module")
def mlflow_answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Answer]]:
    folder = tmp_path_factory.mktemp("mlflow")
    command = [sys.executable, str(TESTS / "mlflow_answers.py"), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(TESTS), "PYTHONUTF8": "1"}
    done = subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.PIPE, check=True)
    found: dict[str, list[Answer]] = json.loads(done.stdout)
    return found


@pytest.fixture(params=["memory:", "sqlite"], scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    url = request.param if request.param == "memory:" else f"sqlite:///{tmp_path_factory.mktemp('flightlog') / 'tracking.db'}"
    with closing(open_store(url)) as store:
        store.apply([block(asked.run_id(index), *run_facts(index, facts)) for index, facts in enumerate(asked.RUNS)])
        store.apply([block(f"experiment:{index + 1}", experiment(index, facts)) for index, facts in enumerate(asked.EXPERIMENTS)])
        assert store.dead_letters() == []
        yield store


def run_facts(index: int, facts: asked.Facts) -> Iterator[e.Event]:
    user, artifact_uri = facts.get("user", "unknown"), f"mlruns/{asked.run_id(index)}/artifacts"
    fields = {"run_name": facts["name"], "user_id": user, "artifact_uri": artifact_uri, "tags": {"mlflow.user": user}}
    yield started("0", None, asked.start_time(index), **fields)
    yield from (param(key, value) for key, value in facts.get("params", {}).items())
    yield from (tag(key, value) for key, value in facts.get("tags", {}).items())
    for key, points in facts.get("metrics", {}).items():
        yield from (e.MetricsLogged(time=time, step=step, points=((key, value),)) for value, step, time in points)
    if "end" in facts:
        status, time = facts["end"]
        yield e.RunEnded(time=time, status=status, end_time=time)


def experiment(index: int, facts: asked.Facts) -> e.ExperimentCreated:
    return created(str(index + 1), facts["name"], asked.creation_time(index), facts.get("tags", {}))


def answer(search: Callable[[], Any]) -> Answer:
    try:
        return [getattr(item, "experiment_id", None) or item.info.run_id for item in search()]
    except FlightlogException as error:
        return error.error_code


def differences(questions: list[tuple[str, list[str]]], theirs: list[Answer], ours: list[Answer]) -> dict[str, tuple[Answer, Answer]]:
    """Return what differs though it should not, and what should and does not."""
    found = zip(questions, theirs, ours, strict=True)
    return {repr(asked or order): (a, b) for (asked, order), a, b in found if (a == b) == ((asked or order) in EXPECTED)}


def test_filters_and_orders_of_runs_find_what_mlflow_finds(store: Store, mlflow_answers: dict[str, list[Answer]]) -> None:
    ours = [answer(partial(store.search_runs, ["0"], text, order_by=order)) for text, order in RUN_QUESTIONS]
    assert differences(RUN_QUESTIONS, mlflow_answers["runs"], ours) == {}


def test_filters_and_orders_of_experiments_find_what_mlflow_finds(store: Store, mlflow_answers: dict[str, list[Answer]]) -> None:
    questions = (partial(store.search_experiments, filter_string=text, order_by=order) for text, order in EXPERIMENT_QUESTIONS)
    ours = [answer(question) for question in questions]
    assert differences(EXPERIMENT_QUESTIONS, mlflow_answers["experiments"], ours) == {}
