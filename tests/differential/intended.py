"""Where flightlog answers otherwise than MLflow, and means to. `docs/mlflow-differences.md` has the same table for users."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

SINCE_PANDAS_3 = int(pd.__version__.partition(".")[0]) >= 3


class Difference(NamedTuple):
    """What differs, what MLflow does, what happens here and why, and the calls of the script that show it."""

    what: str
    mlflow: str
    here: str
    calls: tuple[str, ...]


INTENDED = (
    Difference(
        "Infinite metrics",
        "Stores ±1.7976931348623157e308.",
        "Are kept: a loss that diverged is not a large number.",
        (
            'metrics: client.get_run(a.info.run_id).data.metrics["inf"]',
            'metrics: client.get_metric_history(a.info.run_id, "inf")',
            'metrics: client.get_metric_history(a.info.run_id, "minus inf")',
        ),
    ),
    Difference(
        "The same point twice",
        "Drops a point with the key, step, time and value of another.",
        "Both are kept, as two calls are two events.",
        ('histories: len(client.get_metric_history(a.info.run_id, "twice"))',),
    ),
    Difference(
        "Steps",
        "A numpy integer of 64 bits is stored as bytes and 2.5 as 2.5 where the store is SQLite; a REST store raises `TypeError`, "
        "and a step past 64 bits `INTERNAL_ERROR`.",
        "A step is a whole number of 64 bits, of whatever type. Any other is refused with `INVALID_PARAMETER_VALUE`.",
        (
            'metrics: client.log_metric(a.info.run_id, "step", 1, timestamp=T, step=2**63)',
            'metrics: points(client.get_metric_history(a.info.run_id, "numpy step"))',
            'metrics: client.log_metric(a.info.run_id, "half step", 1, timestamp=T, step=2.5)',
            'metrics: points(client.get_metric_history(a.info.run_id, "half step"))',
        ),
    ),
    Difference(
        "Long values of params and tags",
        "Are cut to 6,000 and 8,000 characters.",
        "Are kept whole.",
        (
            'params: len(client.get_run(a.info.run_id).data.params["longer"])',
            'tags: len(client.get_run(a.info.run_id).data.tags["longer"])',
        ),
    ),
    Difference(
        "Values and keys of a wrong type",
        "Raises `TypeError`, `OverflowError` or whatever the value raises, or `INTERNAL_ERROR`.",
        "`INVALID_PARAMETER_VALUE`, so that one handler catches all that is wrong with a call.",
        (
            "runs: client.get_run(None)",
            'metrics: client.log_metric(a.info.run_id, "list", [1.0], timestamp=T)',
            'metrics: client.log_metric(a.info.run_id, "complex", 1 + 2j, timestamp=T)',
            'metrics: client.log_metric(a.info.run_id, "huge int", 10**400, timestamp=T)',
            "metrics: client.log_metric(a.info.run_id, 5, 1)",
            'params: client.log_param(a.info.run_id, "unprintable", Unprintable())',
            "params: client.log_param(a.info.run_id, 5, 1)",
            'tags: client.set_tag(a.info.run_id, "unprintable", Unprintable())',
            "tags: client.set_tag(a.info.run_id, 5, 1)",
            'search_frames: m.search_runs(output_format="tuple")',
        ),
    ),
    Difference(
        "Keys that end in a line break",
        "Are taken.",
        "Are refused, as line breaks are elsewhere in a key.",
        ('metrics: client.log_metric(a.info.run_id, "a\\n", 1)',),
    ),
    Difference(
        "Tags of a new run and of a new experiment",
        "Their keys are not checked and their values not turned into text, until they are read again; None stays None, and a number "
        "for an experiment raises `TypeError`.",
        "Obey the rules of `set_tag`.",
        (
            'experiments: client.create_experiment("tagged with a number", tags={"number": 5}) is not None',
            'runs: client.create_run(place, tags={"n": 1}).data.tags["n"]',
            'runs: client.create_run(place, tags={"a//b": "1"})',
            'runs: client.create_run(place, tags={"none": None}).data.tags.get("none")',
            'fluent_runs: started(m, run_name="bad tag", tags={"a//b": "1"})',
        ),
    ),
    Difference(
        "Several tags of which one is wrong",
        "Those before it are set.",
        "All keys are checked before any is written.",
        (
            "fluent_experiments: m.get_experiment(chosen.experiment_id).tags",
            "fluent_experiments: m.get_experiment(chosen.experiment_id).tags (2)",
        ),
    ),
    Difference(
        "Start time 0",
        "Counts as none: the run starts now.",
        "Is 1970-01-01.",
        ("runs: client.create_run(place, start_time=0).info.start_time",),
    ),
    Difference(
        "Bare exceptions",
        "A second active run, an unknown status, and resuming a run of another experiment raise `Exception` itself.",
        "Raise `FlightlogException`, which is `MlflowException`, or `ValueError`: both are exceptions, so old handlers work.",
        (
            'runs: client.update_run(a.info.run_id, status="BROKEN")',
            'runs: client.set_terminated(a.info.run_id, status="NEVER")',
            'runs: m.entities.RunStatus.from_string("NEVER")',
            "fluent_runs: m.start_run()",
        ),
    ),
    Difference(
        "`end_run` with an unknown status",
        "The run is active no more, and stays `RUNNING`.",
        "Nothing ends; the run can be ended with a right one.",
        ('fluent_runs: m.end_run("NONSENSE")', "fluent_runs: m.active_run() is None"),
    ),
    Difference(
        "The parent of a new run, and the run id given to a verb",
        "Are looked up, and raise `RESOURCE_DOES_NOT_EXIST` where there is no such run.",
        "Are not: `start_run` and the verbs make no round trip. What is logged to a run that has not started yet waits for its start. "
        "A client does look.",
        (
            'fluent_runs: started(m, parent_run_id="0" * 32, run_name="orphan")',
            'fluent_logging: m.log_metric("nowhere", 1, run_id="1" * 32)',
            'fluent_logging: m.log_params({"nowhere": 1}, run_id="2" * 32)',
        ),
    ),
    Difference(
        "Deleting a tag that is not there, by the verb",
        "`RESOURCE_DOES_NOT_EXIST`.",
        "Does nothing, without a round trip. A client's `delete_tag` looks, and raises as MLflow does.",
        ('fluent_logging: m.delete_tag("never")',),
    ),
    Difference(
        "An empty tag `mlflow.runName`",
        "The run keeps its name.",
        "The tag is the name.",
        ("tags: client.get_run(a.info.run_id).info.run_name",),
    ),
    Difference(
        "Ids of experiments",
        "Count from 1, the empty id is that of the default experiment, and one that is no number is invalid.",
        "Follow from the name, so that two machines without a network mean the same experiment. An id that nobody has is unknown "
        "(`RESOURCE_DOES_NOT_EXIST`), whatever it looks like.",
        (
            'experiments: client.get_experiment("not-a-number")',
            'experiments: client.get_experiment("")',
            'runs: client.create_run("abc")',
            'rules: ruled("experiment id", client.get_experiment)',
        ),
    ),
    Difference(
        "An experiment's name that is taken",
        "`BAD_REQUEST` when renaming.",
        "`RESOURCE_ALREADY_EXISTS`, as when creating.",
        ('experiments: client.rename_experiment(one, "place")',),
    ),
    Difference(
        "The default experiment",
        "Was created when the database was.",
        "Is in every store without being created: its times are 0.",
        ('search_experiments: [e.name for e in client.search_experiments(filter_string="creation_time < 5")]',),
    ),
    Difference(
        "Fields of what is not served",
        "An experiment has a workspace, a trace location and a retention of traces.",
        "Has none of them.",
        ("experiments: sorted(dict(client.get_experiment(one)))",),
    ),
    Difference(
        "What is wrong with an asynchronous call",
        "`wait()` raises `INTERNAL_ERROR`.",
        "Raises the code of what was wrong.",
        ('fluent_logging: m.log_param("rate", 0.5, synchronous=False).wait()',),
    ),
    Difference(
        "Lists of different lengths in `log_inputs`",
        "`INTERNAL_ERROR`.",
        "`INVALID_PARAMETER_VALUE`.",
        ('datasets: m.log_inputs([array], contexts=["train", "eval"], tags_list=[None])',),
    ),
    Difference(
        "Artifact paths that lead out of the run, and folders with `..`",
        "`INTERNAL_ERROR` or `RESOURCE_DOES_NOT_EXIST`; `get_artifact_uri` builds a URI of it; no name at all raises `IsADirectoryError`.",
        "`INVALID_PARAMETER_VALUE` everywhere.",
        (
            'artifacts: m.log_artifact(folder / "weights.bin", "../up")',
            'artifacts: m.log_artifact(folder / "weights.bin", "/absolute")',
            'artifacts: m.log_artifact(folder / "weights.bin", "unseen/../beside") is None',
            'artifacts: m.log_text("x", "../up.txt")',
            'artifacts: m.log_text("x", "/absolute.txt")',
            'artifacts: m.log_text("x", "")',
            'artifacts: client.download_artifacts(a.info.run_id, "../up")',
            'artifacts: m.get_artifact_uri("../up")',
        ),
    ),
    Difference(
        "Empty folders",
        "Are kept where artifacts lie on a disk, and left out where they lie in a bucket.",
        "Are left out: what is kept are files.",
        ('artifacts: listed(client.list_artifacts(a.info.run_id, "hollow"))',),
    ),
    Difference(
        "Logging a file or folder that is not there",
        "A file raises `FileNotFoundError`, and a folder is silently left out.",
        "`INVALID_PARAMETER_VALUE` in both cases: what was meant to be kept is not.",
        ('artifacts: m.log_artifact(folder / "missing.txt")', 'artifacts: m.log_artifacts(folder / "missing")'),
    ),
    Difference(
        "Searching",
        "Takes comparisons joined by AND alone, of which one may join nothing; a filter of blanks and blanks around an order are wrong, "
        "and a key may be empty but no number.",
        "Takes OR, NOT, parentheses and numbers as keys too. Blanks mean nothing; an empty key is wrong, and so is an AND that joins "
        "nothing.",
        (
            "search_runs: names(client.search_runs([home], \"params.lr = '0.1' OR tags.team = 'y'\"))",
            "search_runs: names(client.search_runs([home], \"(params.lr = '0.1')\"))",
            "search_runs: names(client.search_runs([home], \"NOT params.lr = '0.1'\"))",
            "search_runs: names(client.search_runs([home], \"params.lr = '0.1' AND\"))",
            "search_runs: names(client.search_runs([home], \"params.1 = '1'\"))",
            "search_runs: names(client.search_runs([home], \"params. = '1'\"))",
            'search_runs: names(client.search_runs([home], order_by=[" metrics.acc "]))',
            'search_runs: names(client.search_runs([home], " "))',
        ),
    ),
    Difference(
        "Ordering twice by the same field",
        "`INTERNAL_ERROR`.",
        "`INVALID_PARAMETER_VALUE`.",
        ('search_runs: names(client.search_runs([home], order_by=["metrics.acc", "metrics.acc"]))',),
    ),
    Difference(
        "Params and tags that a run does not have, in a frame of runs",
        "None, or NaN since pandas 3.",
        "None, with every version of pandas.",
        SINCE_PANDAS_3
        * (
            (
                'search_frames: m.search_runs(order_by=["start_time ASC"])[["status", "experiment_id", "metrics.m", "metrics.n", "params.p", "tags.t"]]'
            ),
        ),
    ),
    Difference(
        "What is clear enough",
        "Refuses a figure whose name has no ending, and a list where an array is meant.",
        "Takes them.",
        (
            'figures_and_images: m.log_figure(Figure(), "plots of no kind")',
            'datasets: m.data.from_numpy([1, 2], source="/data/list").name',
        ),
    ),
    Difference(
        "Errors as JSON",
        "Have an SQL state and an error class, which are always the same.",
        "Have the code and the message.",
        ('entities: m.exceptions.MlflowException("text").serialize_as_json()',),
    ),
)
