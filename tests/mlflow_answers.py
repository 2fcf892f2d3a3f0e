"""What MLflow answers to the questions of `contracts.search_questions`, over SQLite: `python mlflow_answers.py FOLDER` writes JSON.

It writes to standard output, for each question, the ids that were found, in order, or the name of the error.
"""

from __future__ import annotations

import itertools
import json
import logging
import sys
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

from mlflow.entities import Metric, Param, RunStatus, RunTag, ViewType
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from contracts import search_questions as asked

EXPERIMENT = "0"


def fill(store: Any) -> None:
    """Make the runs and experiments."""
    for index, facts in enumerate(asked.RUNS):
        with patch("uuid.uuid4", return_value=uuid.UUID(asked.run_id(index))):
            user, start = facts.get("user", "unknown"), asked.start_time(index)
            run = store.create_run(EXPERIMENT, user, start, [RunTag("mlflow.user", user)], facts["name"])
        points = [Metric(key, value, time, step) for key, found in facts.get("metrics", {}).items() for value, step, time in found]
        params = [Param(key, value) for key, value in facts.get("params", {}).items()]
        tags = [RunTag(key, value) for key, value in facts.get("tags", {}).items()]
        store.log_batch(run.info.run_id, points, params, tags)
        if "end" in facts:
            status, time = facts["end"]
            store.update_run_info(run.info.run_id, RunStatus.from_string(status), time, None)
    make_experiments(store)


def make_experiments(store: Any) -> None:
    """Make the experiments, at times of ours."""
    with store.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE experiments SET creation_time = 0, last_update_time = 0")
    for index, facts in enumerate(asked.EXPERIMENTS):
        number = store.create_experiment(facts["name"])
        with store.engine.begin() as connection:
            time = asked.creation_time(index)
            for key, value in facts.get("tags", {}).items():
                row = (int(number), key, value)
                connection.exec_driver_sql("INSERT INTO experiment_tags (experiment_id, key, value) VALUES (?, ?, ?)", row)
            change = "UPDATE experiments SET creation_time = ?, last_update_time = ? WHERE experiment_id = ?"
            connection.exec_driver_sql(change, (time, time, int(number)))


def answer(question: Callable[[], list[str]]) -> list[str] | str:
    """Return the ids that a question finds, or the name of the error."""
    try:
        return question()
    except MlflowException as error:
        return str(error.error_code)


def main() -> None:
    """Ask and write."""
    logging.disable(logging.CRITICAL)
    folder = Path(sys.argv[1])
    store: Any = SqlAlchemyStore(f"sqlite:///{folder / 'mlflow.db'}", str(folder / "artifacts"))  # type: ignore[no-untyped-call]
    fill(store)

    def runs(text: str, order: list[str]) -> list[str]:
        return [run.info.run_id for run in store.search_runs([EXPERIMENT], text, ViewType.ACTIVE_ONLY, 1000, order)]

    def experiments(text: str, order: list[str]) -> list[str]:
        return [item.experiment_id for item in store.search_experiments(ViewType.ACTIVE_ONLY, 1000, text, order)]

    run_questions = itertools.chain(((text, []) for text in asked.RUN_FILTERS), (("", order) for order in asked.RUN_ORDERS))
    experiment_questions = itertools.chain(
        ((text, []) for text in asked.EXPERIMENT_FILTERS), (("", order) for order in asked.EXPERIMENT_ORDERS)
    )
    found = {
        "runs": [answer(partial(runs, *question)) for question in run_questions],
        "experiments": [answer(partial(experiments, *question)) for question in experiment_questions],
    }
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
