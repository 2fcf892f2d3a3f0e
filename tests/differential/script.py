"""The script that MLflow and flightlog both run, statement by statement; see `runner`.

`m` is the module, `client` a client of its store, `folder` an empty folder. What a statement assigns or evaluates to, or the error that
it raises, is what is compared. Each function that takes these three is a chapter with experiments and runs of its own; ids are called after
the variable to which the experiment or run was first assigned. Whether a call is right, odd or wrong, the next one follows.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from contracts.rule_examples import EXAMPLES

NAN, INF = math.nan, math.inf
T = 1_600_000_000_000
"""A time that no clock says any more, so that it is compared as it is."""


def names(runs: list[Any]) -> list[str]:
    return [run.info.run_name for run in runs]


def points(history: list[Any]) -> list[tuple[int, int, float]]:
    return [(point.step, point.timestamp, point.value) for point in history]


def data(run: Any) -> tuple[Any, Any, Any]:
    """Return what was logged, without the tags that the system sets."""
    own = {key: value for key, value in run.data.tags.items() if not key.startswith("mlflow.")}
    return run.data.params, run.data.metrics, own


def listed(files: list[Any]) -> list[tuple[str, bool, int | None]]:
    return [(file.path, file.is_dir, file.file_size) for file in files]


def read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def columns(frame: Any) -> list[str]:
    """Return the columns of a frame of runs, without the tags that the system sets."""
    return [name for name in frame.columns if not name.startswith("tags.mlflow.")]


def text_of(error: Callable[[], Any]) -> str:
    try:
        return repr(error())
    except Exception as caught:  # noqa: BLE001 - its name is the answer
        return type(caught).__name__


def started(m: Any, **given: Any) -> str:
    """Start a run and end it, so that what follows does not depend on whether it could be started."""
    run: Any = m.start_run(**given)
    m.end_run()
    return str(run.info.run_name)


def ruled(item: str, door: Callable[[Any], Any]) -> list[str]:
    """Return what a door says to the examples of a rule. An error about a wrong type counts as one about a parameter."""
    return [_verdict(door, value) for value in EXAMPLES[item].good + EXAMPLES[item].bad]


def _verdict(door: Callable[[Any], Any], value: Any) -> str:
    try:
        door(value)
    except Exception as error:  # noqa: BLE001 - its code is the answer
        return str(getattr(error, "error_code", "INVALID_PARAMETER_VALUE"))
    return "accepted"


def dataset_input(m: Any, **fields: Any) -> Any:
    given = {"name": "n", "digest": "d", "source_type": "local", "source": "{}", **fields}
    return m.entities.DatasetInput(m.entities.Dataset(**given), [])


def tagged_input(m: Any, key: Any, value: Any) -> Any:
    return m.entities.DatasetInput(m.entities.Dataset("n", "d", "local", "{}"), [m.entities.InputTag(key, value)])


class Unprintable:
    def __str__(self) -> str:
        raise ValueError("no text")


class Scalar:
    """What an array or tensor with one element looks like."""

    def item(self) -> float:
        return 2.5

    def __float__(self) -> float:
        return 2.5


def experiments(m: Any, client: Any, folder: Path) -> None:
    one = client.create_experiment("one")
    client.get_experiment(one)
    client.get_experiment_by_name("one")
    client.get_experiment_by_name("never")
    client.get_experiment("99999")
    client.get_experiment("not-a-number")
    client.get_experiment("")
    client.get_experiment("0").name
    len({client.get_experiment(one)})
    client.create_experiment("one")
    client.create_experiment("")
    client.create_experiment(None)
    client.create_experiment(7)
    client.create_experiment("x" * 500) is not None
    client.create_experiment("x" * 501)
    place = client.create_experiment("place", artifact_location=str(folder / "elsewhere"))
    client.get_experiment(place).artifact_location
    client.create_experiment("runs uri", artifact_location="runs:/abc/def")
    client.create_experiment("long location", artifact_location="/" + "x" * 2048)
    tagged = client.create_experiment("tagged", tags={"team": "a"})
    client.create_experiment("tagged with a number", tags={"number": 5}) is not None
    client.get_experiment(tagged).tags
    client.create_experiment("bad tag", tags={"a//b": "1"})
    client.set_experiment_tag(tagged, "team", "b")
    client.set_experiment_tag(tagged, "none", None)
    client.set_experiment_tag(tagged, "dict", {"a": 1})
    client.set_experiment_tag(tagged, "", "x")
    client.set_experiment_tag(tagged, "a//b", "x")
    client.set_experiment_tag(tagged, "k" * 250, "longest key")
    client.set_experiment_tag(tagged, "k" * 251, "x")
    client.set_experiment_tag(tagged, "long", "x" * 20_000)
    client.set_experiment_tag(tagged, "longer", "x" * 20_001)
    client.set_experiment_tag("99999", "a", "b")
    sorted((key[:9], value[:9]) for key, value in client.get_experiment(tagged).tags.items())
    client.delete_experiment_tag(tagged, "team")
    client.delete_experiment_tag(tagged, "never")
    "team" in client.get_experiment(tagged).tags
    client.rename_experiment(one, "uno")
    client.get_experiment(one).name
    client.get_experiment_by_name("one")
    client.rename_experiment(one, "place")
    client.rename_experiment(one, "")
    client.rename_experiment("99999", "nobody")
    client.rename_experiment(one, "uno")
    again = client.create_experiment("one")
    again == one
    client.delete_experiment(one)
    client.delete_experiment(one)
    client.delete_experiment("99999")
    client.get_experiment(one).lifecycle_stage
    client.get_experiment_by_name("uno").lifecycle_stage
    client.set_experiment_tag(one, "a", "b")
    client.create_run(one)
    m.set_experiment(experiment_id=one)
    client.restore_experiment(one)
    client.restore_experiment(one)
    client.restore_experiment("99999")
    client.get_experiment(one).lifecycle_stage
    client.get_experiment(one).last_update_time >= client.get_experiment(one).creation_time
    sorted(dict(client.get_experiment(one)))
    m.get_experiment_by_name("uno").experiment_id == one
    m.get_experiment(one).name
    gone = client.create_experiment("gone")
    client.delete_experiment(gone)
    m.set_experiment("gone")
    client.create_experiment("gone")
    client.rename_experiment(gone, "gone too")
    client.get_experiment(gone).name
    renamed = client.create_experiment("renamed before")
    client.rename_experiment(renamed, "renamed after")
    client.create_experiment("renamed after")
    client.delete_experiment(renamed)
    m.set_experiment("renamed after")


def fluent_experiments(m: Any, client: Any, folder: Path) -> None:
    chosen = m.set_experiment("chosen")
    m.set_experiment("chosen").experiment_id == chosen.experiment_id
    m.set_experiment()
    m.set_experiment("a", experiment_id="1")
    m.set_experiment("")
    m.set_experiment("x" * 501)
    m.set_experiment(experiment_id="99999")
    m.set_experiment(experiment_id=chosen.experiment_id).name
    m.set_experiment_tag("a", 1)
    m.set_experiment_tags({"b": 2, "c": None})
    m.set_experiment_tags({"d": 1, "e//f": 2})
    m.get_experiment(chosen.experiment_id).tags
    m.delete_experiment_tag("a")
    m.delete_experiment_tag("a")
    m.get_experiment(chosen.experiment_id).tags
    named = m.create_experiment("created by a verb", tags={"x": "y"})
    m.get_experiment(named).tags
    m.create_experiment("created by a verb")
    m.delete_experiment(named)
    m.search_experiments(filter_string="name = 'created by a verb'")
    [item.name for item in m.search_experiments(view_type=m.entities.ViewType.DELETED_ONLY, filter_string="name = 'created by a verb'")]
    m.restore_experiment(named)
    with m.start_run(run_name="in it") as inside:
        pass
    inside.info.experiment_id == chosen.experiment_id
    with m.start_run(experiment_id=named, run_name="elsewhere") as outside:
        pass
    outside.info.experiment_id == named
    started(m, experiment_id="99998")
    m.active_run()
    m.delete_experiment(named)
    m.get_run(outside.info.run_id).info.lifecycle_stage
    m.restore_experiment(named)
    m.get_run(outside.info.run_id).info.lifecycle_stage


def search_experiments(m: Any, client: Any, folder: Path) -> None:
    s1 = client.create_experiment("search alpha", tags={"kind": "a", "n": "1"})
    s2 = client.create_experiment("search Beta", tags={"kind": "b"})
    s3 = client.create_experiment("search gamma")
    client.delete_experiment(s3)
    client.set_experiment_tag(s1, "late", "x")
    [e.name for e in client.search_experiments(filter_string="name LIKE 'search%'", order_by=["name"])]
    [e.name for e in client.search_experiments(filter_string="name ILIKE 'SEARCH b%'")]
    [e.name for e in client.search_experiments(filter_string="name LIKE 'SEARCH%'")]
    [e.name for e in client.search_experiments(filter_string="name = 'search alpha'")]
    [e.name for e in client.search_experiments(filter_string="name != 'search alpha' AND name LIKE 'search%'")]
    [e.name for e in client.search_experiments(filter_string="attribute.name = 'search alpha'")]
    [e.name for e in client.search_experiments(filter_string="tags.kind = 'a'")]
    [e.name for e in client.search_experiments(filter_string="tag.kind != 'a' AND name LIKE 'search%'")]
    [e.name for e in client.search_experiments(filter_string="tags.kind IS NULL AND name LIKE 'search%'")]
    [e.name for e in client.search_experiments(filter_string="tags.n IS NOT NULL AND name LIKE 'search%'")]
    [e.name for e in client.search_experiments(filter_string=f"experiment_id = '{s2}'")]
    [e.name for e in client.search_experiments(filter_string=f"experiment_id IN ('{s1}', '{s2}')", order_by=["name DESC"])]
    [e.name for e in client.search_experiments(filter_string="creation_time > 0 AND name LIKE 'search%'", order_by=["name"])]
    [e.name for e in client.search_experiments(filter_string="creation_time < 5")]
    [e.name for e in client.search_experiments(filter_string="name LIKE 'search%'", view_type=2)]
    [e.name for e in client.search_experiments(filter_string="name LIKE 'search%'", view_type=3, order_by=["name ASC"])]
    page = client.search_experiments(filter_string="name LIKE 'search%'", max_results=1, order_by=["name"])
    len(page), page[0].name, page.token is not None
    [
        e.name
        for e in client.search_experiments(filter_string="name LIKE 'search%'", max_results=1, order_by=["name"], page_token=page.token)
    ]
    client.search_experiments(max_results=0)
    client.search_experiments(max_results=-1)
    client.search_experiments(max_results=50_001)
    client.search_experiments(filter_string="owner = 'a'")
    client.search_experiments(filter_string="name > 'a'")
    client.search_experiments(filter_string="name = ")
    client.search_experiments(filter_string="name = unquoted")
    client.search_experiments(filter_string="name = 5")
    client.search_experiments(order_by=["colour"])
    client.search_experiments(order_by=["name SIDEWAYS"])
    client.search_experiments(page_token="nonsense")
    [e.name for e in m.search_experiments(filter_string="name LIKE 'search%'", order_by=["name"], max_results=1)]


def runs(m: Any, client: Any, folder: Path) -> None:
    place = client.create_experiment("for runs")
    a = client.create_run(place, start_time=T, tags={"team": "x"}, run_name="first")
    client.create_run(place, tags={"n": 1}).data.tags["n"]
    client.get_run(a.info.run_id)
    sorted(dict(client.get_run(a.info.run_id).info))
    sorted(client.get_run(a.info.run_id).to_dictionary())
    client.get_run(a.info.run_id).data.to_dictionary()
    client.get_run("0" * 32)
    client.get_run("not an id")
    client.get_run("")
    client.get_run(None)
    client.create_run("99999")
    client.create_run("abc")
    unnamed = client.create_run(place, start_time=T)
    unnamed.info.run_name is not None
    unnamed.data.tags["mlflow.runName"] == unnamed.info.run_name
    client.create_run(place, tags={"mlflow.runName": "by tag"}).info.run_name
    client.create_run(place, tags={"mlflow.runName": "x"}, run_name="y")
    client.create_run(place, tags={"mlflow.user": "somebody"}).info.user_id
    client.create_run(place, tags={"a//b": "1"})
    client.create_run(place, tags={"none": None}).data.tags.get("none")
    client.create_run(place, run_name="n" * 300).info.run_name == "n" * 300
    client.create_run(place, start_time=0).info.start_time
    client.create_run("0", run_name="in the default experiment")
    client.create_run(0, run_name="by a number").info.experiment_id
    client.update_run(a.info.run_id, name="renamed")
    client.get_run(a.info.run_id).info.run_name
    client.get_run(a.info.run_id).data.tags["mlflow.runName"]
    client.update_run(a.info.run_id, status="SCHEDULED")
    client.get_run(a.info.run_id).info.status
    client.update_run(a.info.run_id, status="BROKEN")
    client.update_run("0" * 32, name="x")
    client.update_run(a.info.run_id)
    client.update_run(a.info.run_id, name="")
    client.get_run(a.info.run_id).info.run_name
    client.set_tag(a.info.run_id, "mlflow.runName", "by a tag")
    client.get_run(a.info.run_id).info.run_name
    client.set_terminated(a.info.run_id, end_time=T + 5)
    client.get_run(a.info.run_id).info
    client.set_terminated(a.info.run_id, status="KILLED")
    client.get_run(a.info.run_id).info.status
    client.get_run(a.info.run_id).info.end_time is not None
    client.set_terminated(a.info.run_id, status="NEVER")
    client.set_terminated("0" * 32)
    client.update_run(a.info.run_id, status="RUNNING")
    client.get_run(a.info.run_id).info.end_time is not None
    client.log_metric(a.info.run_id, "after the end", 1)
    client.delete_run(a.info.run_id)
    client.get_run(a.info.run_id).info.lifecycle_stage
    client.delete_run(a.info.run_id)
    m.start_run(run_id=a.info.run_id)
    client.restore_run(a.info.run_id)
    client.restore_run(a.info.run_id)
    client.get_run(a.info.run_id).info.lifecycle_stage
    z = client.create_run(place, run_name="deleted")
    client.delete_run(z.info.run_id)
    client.log_metric(z.info.run_id, "m", 1)
    client.log_param(z.info.run_id, "p", 1)
    client.set_tag(z.info.run_id, "t", 1)
    client.delete_tag(z.info.run_id, "team")
    client.update_run(z.info.run_id, name="deleted")
    client.set_terminated(z.info.run_id)
    client.log_batch(z.info.run_id, tags=[m.entities.RunTag("t", "1")])
    client.log_text(z.info.run_id, "text", "after.txt")
    client.delete_run("0" * 32)
    client.restore_run("0" * 32)
    len({client.get_run(a.info.run_id): 1})
    a in {a: 1}
    client.get_parent_run(a.info.run_id)
    client.get_parent_run("0" * 32)
    m.entities.RunStatus.to_string(3)
    m.entities.RunStatus.is_terminated(m.entities.RunStatus.from_string("KILLED"))
    m.entities.RunStatus.from_string("NEVER")


def fluent_runs(m: Any, client: Any, folder: Path) -> None:
    home = m.set_experiment("fluent runs")
    with m.start_run(run_name="named", tags={"a": "1"}, description="a note") as named:
        pass
    m.get_run(named.info.run_id)
    m.get_run(named.info.run_id).data.tags["mlflow.note.content"]
    {key: value for key, value in m.get_run(named.info.run_id).data.tags.items() if "git" not in key}
    sorted(key for key in m.get_run(named.info.run_id).data.tags if "git" in key)
    outer = m.start_run(run_name="outer")
    m.active_run().info.run_id == outer.info.run_id
    m.start_run()
    inner = m.start_run(nested=True, run_name="inner")
    m.start_run(nested=True, parent_run_id=outer.info.run_id)
    m.active_run().info.run_id == inner.info.run_id
    m.end_run("FAILED")
    m.active_run().info.run_id == outer.info.run_id
    m.end_run()
    m.end_run()
    m.active_run()
    m.last_active_run().info.run_name
    m.get_parent_run(inner.info.run_id).info.run_name
    m.get_parent_run(outer.info.run_id)
    m.get_run(outer.info.run_id).info.status
    child = m.start_run(parent_run_id=outer.info.run_id, run_name="child")
    m.end_run()
    m.get_parent_run(child.info.run_id).info.run_name
    started(m, parent_run_id="0" * 32, run_name="orphan")
    started(m, parent_run_id="", run_name="no parent")
    m.active_run()
    with m.start_run(run_name="failing") as failing:
        raise KeyError("k")
    m.get_run(failing.info.run_id).info.status
    m.active_run()
    m.start_run(run_id="0" * 32)
    m.start_run(run_id="not an id")
    m.active_run()
    with m.start_run(run_id=named.info.run_id, tags={"again": "yes"}) as again:
        m.get_run(again.info.run_id).info.status
    data(m.get_run(named.info.run_id))
    m.start_run(run_id=named.info.run_id).info.status
    m.end_run()
    with m.start_run(run_id=named.info.run_id, run_name="other name"):
        pass
    m.get_run(named.info.run_id).info.run_name
    with m.start_run(run_id=named.info.run_id, description="another note"):
        pass
    m.get_run(named.info.run_id).data.tags["mlflow.note.content"]
    m.get_run(named.info.run_id).info.end_time is not None
    started(m, description="x", tags={"mlflow.note.content": "y"})
    started(m, run_name="x", tags={"mlflow.runName": "y"})
    started(m, run_name="bad tag", tags={"a//b": "1"})
    m.active_run()
    m.set_experiment("fluent runs elsewhere")
    m.start_run(run_id=named.info.run_id)
    m.active_run()
    m.set_experiment(experiment_id=home.experiment_id).name
    m.log_metric("starts a run", 1)
    m.active_run() is not None
    auto = m.active_run()
    m.end_run("KILLED")
    m.get_run(auto.info.run_id).info.status
    m.start_run(run_name="twice").info.run_name
    with m.active_run():
        m.end_run()
    m.delete_run(auto.info.run_id)
    m.get_run(auto.info.run_id).info.lifecycle_stage
    m.restore_run(auto.info.run_id)
    m.get_run(auto.info.run_id).info.lifecycle_stage
    m.delete_run("0" * 32)
    m.get_run("0" * 32)
    odd = m.start_run(run_name="ended oddly")
    m.end_run("NONSENSE")
    m.active_run() is None
    m.get_run(odd.info.run_id).info.status
    m.end_run()


def metrics(m: Any, client: Any, folder: Path) -> None:
    home = client.create_experiment("metrics")
    a = client.create_run(home, run_name="a")
    client.log_metric(a.info.run_id, "plain", 0.5)
    client.get_run(a.info.run_id).data.metrics
    len(client.get_metric_history(a.info.run_id, "plain"))
    client.log_metric(a.info.run_id, "int", 3, timestamp=T, step=2)
    client.get_metric_history(a.info.run_id, "int")
    client.log_metric(a.info.run_id, "text", "0.25", timestamp=T)
    client.log_metric(a.info.run_id, "text", "many", timestamp=T)
    client.log_metric(a.info.run_id, "text", "", timestamp=T)
    client.log_metric(a.info.run_id, "none", None, timestamp=T)
    client.log_metric(a.info.run_id, "list", [1.0], timestamp=T)
    client.log_metric(a.info.run_id, "true", True, timestamp=T)
    client.log_metric(a.info.run_id, "complex", 1 + 2j, timestamp=T)
    client.log_metric(a.info.run_id, "float32", np.float32(0.5), timestamp=T)
    client.log_metric(a.info.run_id, "int64", np.int64(7), timestamp=T)
    client.log_metric(a.info.run_id, "bool_", np.bool_(True), timestamp=T)
    client.log_metric(a.info.run_id, "array of one", np.array([2.5]), timestamp=T)
    client.log_metric(a.info.run_id, "array of none dimensions", np.array(2.5), timestamp=T)
    client.log_metric(a.info.run_id, "array of two", np.array([1.0, 2.0]), timestamp=T)
    client.log_metric(a.info.run_id, "scalar", Scalar(), timestamp=T)
    client.log_metric(a.info.run_id, "decimal", Decimal("0.1"), timestamp=T)
    client.log_metric(a.info.run_id, "fraction", Fraction(1, 4), timestamp=T)
    client.log_metric(a.info.run_id, "huge int", 10**400, timestamp=T)
    client.log_metric(a.info.run_id, "big int", 2**70, timestamp=T)
    client.log_metric(a.info.run_id, "nan", NAN, timestamp=T)
    client.log_metric(a.info.run_id, "inf", INF, timestamp=T)
    client.log_metric(a.info.run_id, "minus inf", -INF, timestamp=T)
    client.log_metric(a.info.run_id, "smallest", 5e-324, timestamp=T)
    client.log_metric(a.info.run_id, "minus zero", -0.0, timestamp=T)
    client.get_run(a.info.run_id).data.metrics["nan"]
    client.get_run(a.info.run_id).data.metrics["inf"]
    client.get_metric_history(a.info.run_id, "nan")
    client.get_metric_history(a.info.run_id, "inf")
    client.get_metric_history(a.info.run_id, "minus inf")
    {key: value for key, value in client.get_run(a.info.run_id).data.metrics.items() if "inf" not in key}
    client.log_metric(a.info.run_id, "step", 1, timestamp=T, step=-5)
    client.log_metric(a.info.run_id, "step", 1, timestamp=T, step=2**63 - 1)
    client.log_metric(a.info.run_id, "step", 1, timestamp=T, step=-(2**63))
    client.log_metric(a.info.run_id, "step", 1, timestamp=T, step=2**63)
    client.log_metric(a.info.run_id, "step", 1, timestamp=T, step=2.0)
    client.log_metric(a.info.run_id, "step", 1, timestamp=T, step="5")
    client.log_metric(a.info.run_id, "step", 1, timestamp=T, step=[1])
    points(client.get_metric_history(a.info.run_id, "step"))
    client.log_metric(a.info.run_id, "numpy step", 1, timestamp=T, step=np.int64(4))
    points(client.get_metric_history(a.info.run_id, "numpy step"))
    client.log_metric(a.info.run_id, "half step", 1, timestamp=T, step=2.5)
    points(client.get_metric_history(a.info.run_id, "half step"))
    client.log_metric(a.info.run_id, "time", 1, timestamp=0)
    client.log_metric(a.info.run_id, "time", 1, timestamp=-1)
    client.log_metric(a.info.run_id, "time", 1, timestamp="now")
    client.log_metric(a.info.run_id, "time", 1, timestamp=2**63 - 1)
    client.log_metric(a.info.run_id, "time", 1, timestamp=float(T))
    len(client.get_metric_history(a.info.run_id, "time"))
    client.log_metric(a.info.run_id, "time of a half", 1, timestamp=T + 0.5)
    client.get_metric_history(a.info.run_id, "never")
    client.get_metric_history("0" * 32, "plain")
    client.get_metric_history("not an id", "plain")
    client.log_metric("0" * 32, "plain", 1)
    client.log_metric(a.info.run_id, "", 1)
    client.log_metric(a.info.run_id, None, 1)
    client.log_metric(a.info.run_id, 5, 1)
    client.log_metric(a.info.run_id, "k" * 250, 1)
    client.log_metric(a.info.run_id, "k" * 251, 1)
    client.log_metric(a.info.run_id, "dir/val loss.top-5_x:y", 1)
    client.log_metric(a.info.run_id, "größe/数", 1)
    client.log_metric(a.info.run_id, "a%b", 1)
    client.log_metric(a.info.run_id, "a\nb", 1)
    client.log_metric(a.info.run_id, "a\n", 1)
    client.log_metric(a.info.run_id, "a//b", 1)
    client.log_metric(a.info.run_id, "/a", 1)
    client.log_metric(a.info.run_id, "./a", 1)
    client.log_metric(a.info.run_id, "../a", 1)
    client.log_metric(a.info.run_id, "a/..", 1)
    client.log_metric(a.info.run_id, "a/", 1)
    client.log_metric(a.info.run_id, "..a", 1)
    client.log_metric(a.info.run_id, ".", 1)
    client.log_metric(a.info.run_id, "a/../b", 1)
    sorted(key for key in client.get_run(a.info.run_id).data.metrics if len(key) < 30 and key not in ("a\n", "half step"))


def histories(m: Any, client: Any, folder: Path) -> None:
    home = client.create_experiment("histories")
    a = client.create_run(home, run_name="a")
    client.log_batch(
        a.info.run_id, [m.entities.Metric("m", value, T + time, step) for value, time, step in ((5.0, 3, 1), (4.0, 1, 2), (3.0, 2, 0))]
    )
    points(client.get_metric_history(a.info.run_id, "m"))
    client.get_run(a.info.run_id).data.metrics["m"]
    client.log_metric(a.info.run_id, "m", 9.0, timestamp=T + 9, step=0)
    client.get_run(a.info.run_id).data.metrics["m"]
    client.log_metric(a.info.run_id, "m", 1.0, timestamp=T + 1, step=2)
    client.get_run(a.info.run_id).data.metrics["m"]
    client.log_metric(a.info.run_id, "m", 8.0, timestamp=T + 1, step=2)
    client.get_run(a.info.run_id).data.metrics["m"]
    points(client.get_metric_history(a.info.run_id, "m"))
    client.log_metric(a.info.run_id, "twice", 1.0, timestamp=T, step=0)
    client.log_metric(a.info.run_id, "twice", 1.0, timestamp=T, step=0)
    len(client.get_metric_history(a.info.run_id, "twice"))
    client.log_metric(a.info.run_id, "mixed", NAN, timestamp=T, step=0)
    client.log_metric(a.info.run_id, "mixed", -5.0, timestamp=T, step=0)
    client.get_run(a.info.run_id).data.metrics["mixed"]
    client.log_metric(a.info.run_id, "mixed", 3.0, timestamp=T, step=0)
    client.get_run(a.info.run_id).data.metrics["mixed"]
    points(client.get_metric_history(a.info.run_id, "mixed"))
    client.log_batch(a.info.run_id, [m.entities.Metric("long", float(i), T + i, i) for i in range(1000)])
    len(client.get_metric_history(a.info.run_id, "long"))
    client.get_metric_history(a.info.run_id, "long")[-1].value
    client.get_metric_history(a.info.run_id, "m").token
    client.get_metric_history(a.info.run_id, "m")[0].key


def params(m: Any, client: Any, folder: Path) -> None:
    home = client.create_experiment("params")
    a = client.create_run(home, run_name="a")
    client.log_param(a.info.run_id, "rate", 0.1)
    client.log_param(a.info.run_id, "rate", "0.1")
    client.log_param(a.info.run_id, "rate", 0.2)
    client.log_param(a.info.run_id, "none", None)
    client.log_param(a.info.run_id, "empty", "")
    client.log_param(a.info.run_id, "zero", 0)
    client.log_param(a.info.run_id, "false", False)
    client.log_param(a.info.run_id, "dict", {"b": 1, "a": [2]})
    client.log_param(a.info.run_id, "float32", np.float32(0.5))
    client.log_param(a.info.run_id, "array", np.array([1, 2]))
    client.log_param(a.info.run_id, "unicode", "grüße 数 🌿")
    client.log_param(a.info.run_id, "lines", "two\nlines\ttabs")
    client.log_param(a.info.run_id, "unprintable", Unprintable())
    client.log_param(a.info.run_id, "longest", "x" * 6000) == "x" * 6000
    client.log_param(a.info.run_id, "longer", "x" * 6001) == "x" * 6001
    len(client.get_run(a.info.run_id).data.params["longer"])
    client.log_param(a.info.run_id, "", 1)
    client.log_param(a.info.run_id, None, 1)
    client.log_param(a.info.run_id, "a//b", 1)
    client.log_param(a.info.run_id, "a%b", 1)
    client.log_param(a.info.run_id, "k" * 250, 1)
    client.log_param(a.info.run_id, "k" * 251, 1)
    client.log_param(a.info.run_id, 5, 1)
    client.log_param("0" * 32, "a", 1)
    {key: value for key, value in client.get_run(a.info.run_id).data.params.items() if len(value) < 100 and len(key) < 100}


def tags(m: Any, client: Any, folder: Path) -> None:
    home = client.create_experiment("tags")
    a = client.create_run(home, run_name="a")
    client.set_tag(a.info.run_id, "team", "x")
    client.set_tag(a.info.run_id, "team", "y")
    client.set_tag(a.info.run_id, "none", None)
    client.set_tag(a.info.run_id, "empty", "")
    client.set_tag(a.info.run_id, "number", 1.5)
    client.set_tag(a.info.run_id, "unprintable", Unprintable())
    client.set_tag(a.info.run_id, "long", "x" * 8000)
    client.set_tag(a.info.run_id, "longer", "x" * 8001)
    len(client.get_run(a.info.run_id).data.tags["longer"])
    client.set_tag(a.info.run_id, "", 1)
    client.set_tag(a.info.run_id, None, 1)
    client.set_tag(a.info.run_id, "a//b", 1)
    client.set_tag(a.info.run_id, "a?b", 1)
    client.set_tag(a.info.run_id, "k" * 250, 1)
    client.set_tag(a.info.run_id, "k" * 251, 1)
    client.set_tag(a.info.run_id, 5, 1)
    client.set_tag("0" * 32, "a", 1)
    client.delete_tag(a.info.run_id, "team")
    client.delete_tag(a.info.run_id, "team")
    client.delete_tag(a.info.run_id, "never")
    client.delete_tag("0" * 32, "team")
    client.set_tag(a.info.run_id, "team", "z")
    {key: value for key, value in client.get_run(a.info.run_id).data.tags.items() if len(value) < 100 and len(key) < 100}
    client.set_tag(a.info.run_id, "mlflow.user", "other")
    client.get_run(a.info.run_id).info.user_id
    client.set_tag(a.info.run_id, "mlflow.runName", "")
    client.get_run(a.info.run_id).info.run_name


def batches(m: Any, client: Any, folder: Path) -> None:
    home = client.create_experiment("batches")
    a = client.create_run(home, run_name="a")
    client.log_batch(a.info.run_id)
    client.log_batch(
        a.info.run_id,
        metrics=[m.entities.Metric("m", 1.0, T, 0), m.entities.Metric("m", 2.0, T, 1)],
        params=[m.entities.Param("p", "1"), m.entities.Param("q", "2")],
        tags=[m.entities.RunTag("t", "3")],
    )
    data(client.get_run(a.info.run_id))
    b = client.create_run(home, run_name="b")
    client.log_batch(b.info.run_id, params=[m.entities.Param("same", "1"), m.entities.Param("same", "1")])
    client.log_batch(b.info.run_id, params=[m.entities.Param("other", "1"), m.entities.Param("other", "2")])
    client.get_run(b.info.run_id).data.params
    client.log_batch(a.info.run_id, params=[m.entities.Param("p", "changed")], tags=[m.entities.RunTag("kept?", "1")])
    client.log_batch(a.info.run_id, params=[m.entities.Param("p", "1")], tags=[m.entities.RunTag("again", "1")])
    client.log_batch(a.info.run_id, metrics=[m.entities.Metric("good", 1.0, T, 0), m.entities.Metric("a//b", 1.0, T, 0)])
    client.log_batch(a.info.run_id, metrics=[m.entities.Metric("good", 1.0, T, 0), m.entities.Metric("bad", "x", T, 0)])
    client.log_batch(a.info.run_id, metrics=[m.entities.Metric("good", 1.0, T, 0), m.entities.Metric("bad", 1.0, -1, 0)])
    client.log_batch(a.info.run_id, metrics=[m.entities.Metric("bool", True, T, 0)])
    client.log_batch(a.info.run_id, metrics=[m.entities.Metric("none", None, T, 0)])
    client.log_batch(a.info.run_id, tags=[m.entities.RunTag("twice", "1"), m.entities.RunTag("twice", "2")])
    client.log_batch(a.info.run_id, metrics=[m.entities.Metric("many", 1.0, T, i) for i in range(1001)])
    client.log_batch(a.info.run_id, params=[m.entities.Param(f"p{i}", "1") for i in range(101)])
    client.log_batch(a.info.run_id, tags=[m.entities.RunTag(f"t{i}", "1") for i in range(101)])
    client.log_batch("0" * 32, tags=[m.entities.RunTag("t", "1")])
    client.log_batch("not an id", tags=[m.entities.RunTag("t", "1")])
    len(client.get_metric_history(a.info.run_id, "many"))
    {key: value for key, value in data(client.get_run(a.info.run_id))[0].items() if len(key) < 3 or not key[1:].isdigit()}
    sorted(client.get_run(a.info.run_id).data.metrics)
    client.get_run(a.info.run_id).data.tags.get("kept?")
    client.get_run(a.info.run_id).data.tags["twice"]


def fluent_logging(m: Any, client: Any, folder: Path) -> None:
    m.set_experiment("fluent logging")
    a = m.start_run(run_name="a")
    m.log_param("rate", 0.1)
    m.log_param("rate", 0.2)
    m.log_params({"x": 1, "y": [1, 2]})
    m.log_params({"z": 1, "a//b": 2})
    m.log_params({})
    m.log_params({f"p{i}": i for i in range(150)})
    len(m.get_run(a.info.run_id).data.params)
    m.log_metric("loss", 0.5)
    m.log_metric("loss", 0.25, step=1)
    m.log_metric("loss", 0.125, 2)
    m.log_metric("loss", "x", step=3)
    m.log_metric("timed", 1, step=1, timestamp=T)
    m.log_metrics({"a": 1, "b": np.float64(2.5)}, step=7, timestamp=T)
    m.log_metrics({"c": 1, "d": "x"})
    m.log_metrics({"c": 1, "e//f": 1})
    m.log_metrics({})
    points(client.get_metric_history(a.info.run_id, "b"))
    m.set_tag("t", 1)
    m.set_tags({"u": 2, "v": None})
    m.set_tags({"w": 2, "a//b": 3})
    m.delete_tag("t")
    m.delete_tag("never")
    m.log_metric("s", 1, synchronous=True)
    m.log_param("s", 1, synchronous=True)
    m.set_tag("s", 1, synchronous=True)
    type(m.log_metric("later", 1, synchronous=False)).__name__
    type(m.log_params({"later": 1}, synchronous=False)).__name__
    m.set_tags({"later": 1}, synchronous=False).wait()
    m.log_metrics({"later": 2}, step=1, synchronous=False).wait()
    m.log_param("rate", 0.5, synchronous=False).wait()
    m.flush_async_logging()
    sorted(key for key in m.get_run(a.info.run_id).data.params if not key[1:].isdigit())
    m.get_run(a.info.run_id).data.metrics
    {key: value for key, value in m.get_run(a.info.run_id).data.tags.items() if not key.startswith("mlflow.")}
    other = client.create_run(a.info.experiment_id, run_name="other")
    m.log_metric("there", 1, run_id=other.info.run_id)
    m.log_metrics({"there too": 2}, run_id=other.info.run_id)
    m.log_params({"there": 3}, run_id=other.info.run_id)
    m.log_metric("nowhere", 1, run_id="1" * 32)
    m.log_params({"nowhere": 1}, run_id="2" * 32)
    data(m.get_run(other.info.run_id))
    m.active_run().info.run_name
    m.end_run()


def artifacts(m: Any, client: Any, folder: Path) -> None:
    (folder / "weights.bin").write_bytes(b"\0\1" * 50)
    (folder / "tree" / "deep").mkdir(parents=True)
    (folder / "tree" / "top.txt").write_text("top")
    (folder / "hollow" / "empty").mkdir(parents=True)
    (folder / "hollow" / "file.txt").write_text("x")
    (folder / "tree" / "deep" / "down.txt").write_text("down")
    home = m.set_experiment("artifacts")
    a = m.start_run(run_name="a")
    m.log_artifact(folder / "weights.bin")
    m.log_artifact(str(folder / "weights.bin"), "files/more")
    m.log_artifact(folder / "tree", "folders")
    m.log_artifacts(folder / "tree", "contents")
    m.log_artifacts(str(folder / "tree"))
    m.log_artifacts(folder / "hollow", "hollow")
    m.log_artifact(folder / "missing.txt")
    m.log_artifacts(folder / "missing")
    m.log_artifact(folder / "weights.bin", "../up")
    m.log_artifact(folder / "weights.bin", "/absolute")
    m.log_text("grüße", "texts/greeting.txt")
    m.log_text("", "empty.txt")
    m.log_text("x", "../up.txt")
    m.log_text("x", "/absolute.txt")
    m.log_text("x", "")
    m.log_text("x", "a//b.txt")
    m.log_text("x", "unseen/../beside.txt")
    m.log_dict({"a": 1}, "./unseen/../beside.json")
    m.log_artifact(folder / "weights.bin", "unseen/../beside") is None
    m.log_dict({"a": [1, None], "b": "grün"}, "config.json")
    m.log_dict({"a": [1, None], "b": "grün"}, "config.yaml")
    m.log_dict([1, 2], "list.json")
    m.log_dict({"when": Path("x")}, "default.json")
    m.log_dict({"a": 1}, "no_extension")
    m.log_stream(io.BytesIO(b"stream"), "streams/bytes.bin")
    m.log_stream(io.StringIO("grün"), "streams/text.txt")
    listed(client.list_artifacts(a.info.run_id))
    listed(client.list_artifacts(a.info.run_id, "files"))
    listed(client.list_artifacts(a.info.run_id, "folders/tree"))
    listed(client.list_artifacts(a.info.run_id, "contents"))
    listed(client.list_artifacts(a.info.run_id, "streams"))
    listed(client.list_artifacts(a.info.run_id, "hollow"))
    listed(client.list_artifacts(a.info.run_id, "never"))
    listed(client.list_artifacts(a.info.run_id, "config.json"))
    listed(client.list_artifacts(a.info.run_id, "../.."))
    listed(client.list_artifacts("0" * 32))
    read(client.download_artifacts(a.info.run_id, "config.json"))
    read(client.download_artifacts(a.info.run_id, "config.yaml"))
    read(client.download_artifacts(a.info.run_id, "default.json"))
    read(client.download_artifacts(a.info.run_id, "no_extension"))
    read(client.download_artifacts(a.info.run_id, "texts/greeting.txt"))
    read(client.download_artifacts(a.info.run_id, "contents/deep/down.txt", str(folder)))
    client.download_artifacts(a.info.run_id, "never")
    client.download_artifacts(a.info.run_id, "../up")
    sorted(path.name for path in Path(client.download_artifacts(a.info.run_id, "contents")).rglob("*"))
    m.artifacts.load_text(f"runs:/{a.info.run_id}/texts/greeting.txt")
    m.artifacts.load_dict(f"runs:/{a.info.run_id}/config.json")
    m.artifacts.load_text(f"runs:/{a.info.run_id}/never.txt")
    m.artifacts.load_dict(f"runs:/{a.info.run_id}/texts/greeting.txt")
    listed(m.artifacts.list_artifacts(run_id=a.info.run_id, artifact_path="texts"))
    listed(m.artifacts.list_artifacts(artifact_uri=f"runs:/{a.info.run_id}/texts"))
    listed(m.artifacts.list_artifacts(artifact_uri=f"runs:/{a.info.run_id}/folders/tree"))
    listed(m.artifacts.list_artifacts(artifact_uri=f"{a.info.artifact_uri}/folders/tree"))
    m.artifacts.list_artifacts()
    read(m.artifacts.download_artifacts(run_id=a.info.run_id, artifact_path="empty.txt"))
    read(m.artifacts.download_artifacts(artifact_uri=f"runs:/{a.info.run_id}/texts/greeting.txt", dst_path=str(folder)))
    m.artifacts.download_artifacts()
    m.get_artifact_uri() == m.get_run(a.info.run_id).info.artifact_uri
    m.get_artifact_uri("files") == m.get_run(a.info.run_id).info.artifact_uri + "/files"
    m.get_artifact_uri("../up")
    m.log_text("replaced", "texts/greeting.txt")
    m.artifacts.load_text(f"runs:/{a.info.run_id}/texts/greeting.txt")
    m.end_run()
    b = client.create_run(home.experiment_id, run_name="b")
    client.log_artifact(b.info.run_id, str(folder / "weights.bin"), "c")
    client.log_artifacts(b.info.run_id, str(folder / "tree"), "d")
    client.log_text(b.info.run_id, "x", "e.txt")
    client.log_dict(b.info.run_id, {"a": 1}, "f.json")
    client.log_text("0" * 32, "x", "e.txt")
    listed(client.list_artifacts(b.info.run_id))
    m.log_text("by id", "g.txt", run_id=b.info.run_id)
    m.log_dict({"by": "id"}, "h.json", run_id=b.info.run_id)
    m.log_artifact(folder / "weights.bin", run_id=b.info.run_id)
    listed(client.list_artifacts(b.info.run_id))
    m.active_run()


def figures_and_images(m: Any, client: Any, folder: Path) -> None:
    import matplotlib as mpl  # noqa: PLC0415 - only this chapter draws

    mpl.use("Agg")
    from matplotlib.figure import Figure  # noqa: PLC0415 - as above

    m.set_experiment("images")
    a = m.start_run(run_name="a")
    m.log_figure(Figure(), "plots/empty.png")
    m.log_figure(Figure(), "plots/empty.svg")
    m.log_figure("no figure", "plots/none.png")
    m.log_figure(Figure(), "unseen/../figure.png")
    [path for path, _, _ in listed(client.list_artifacts(a.info.run_id, "plots"))]
    m.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "black.png")
    m.log_image(np.zeros((4, 4), dtype=np.uint8), "grey.png")
    m.log_image(np.zeros((4, 4), dtype=np.uint8), "unseen/../grey too.png")
    m.log_image(np.full((4, 4), 0.5), "half.png")
    m.log_image(np.full((4, 4), 300), "out of range.png")
    m.log_image(np.zeros((4, 4, 7), dtype=np.uint8), "channels.png")
    m.log_image(np.zeros(4, dtype=np.uint8), "line.png")
    m.log_image(np.full((4, 4), "x"), "text.png")
    m.log_image("no image", "none.png")
    m.log_image(np.zeros((4, 4, 3), dtype=np.uint8))
    m.log_image(np.zeros((4, 4, 3), dtype=np.uint8), "both.png", key="k")
    m.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="dogs/small", step=3, timestamp=T, synchronous=True)
    m.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="bad#key", step=3)
    m.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="k", step=-1, synchronous=True)
    m.log_image(np.zeros((4, 4, 3), dtype=np.uint8), key="k", step="one", synchronous=True)
    sorted(path for path, _, _ in listed(client.list_artifacts(a.info.run_id)))
    m.flush_artifact_async_logging()
    sorted({path.split("+")[0] + Path(path).suffix for path, _, _ in listed(client.list_artifacts(a.info.run_id, "images"))})
    m.get_run(a.info.run_id).data.tags.get("mlflow.loggedImages")
    m.artifacts.load_image(f"runs:/{a.info.run_id}/black.png").size
    m.log_figure(Figure(), "plots of no kind")
    m.end_run()


def tables(m: Any, client: Any, folder: Path) -> None:
    m.set_experiment("tables")
    a = m.start_run(run_name="a")
    m.log_table({"x": [1, 2], "y": ["a", "b"]}, "t.json")
    m.log_table(pd.DataFrame({"x": [3], "y": ["c"]}), "t.json")
    m.log_table({"x": 4, "y": "d"}, "t.json")
    m.log_table({"x": [1.5, None]}, "deep/t.parquet")
    m.log_table([1, 2], "list.json")
    m.log_table({"x": [1]}, "t.csv")
    m.log_table({"x": [1]}, "bad:name.json")
    m.load_table("t.json")
    m.load_table("t.json", run_ids=[a.info.run_id], extra_columns=["run_id"]).columns.tolist()
    m.load_table("deep/t.parquet")
    m.load_table("never.json")
    m.get_run(a.info.run_id).data.tags.get("mlflow.loggedArtifacts")
    read(client.download_artifacts(a.info.run_id, "t.json"))
    m.end_run()


def datasets(m: Any, client: Any, folder: Path) -> None:
    home = m.set_experiment("datasets")
    a = m.start_run(run_name="a")
    frame = m.data.from_pandas(pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}), source="/data/a.csv", name="frame", targets="y")
    frame.name, frame.digest
    frame.profile
    frame.schema.to_dict()
    frame.to_dict()
    m.log_input(frame, context="train", tags={"split": "1"})
    m.log_input(frame, context="eval")
    m.get_run(a.info.run_id).inputs.to_dictionary()
    m.data.from_numpy([1, 2], source="/data/list").name
    array = m.data.from_numpy(np.arange(6.0).reshape(2, 3), source="/data/a.npy")
    array.name, array.digest, array.profile
    array.to_dict()
    pair = m.data.from_numpy({"a": np.arange(3), "b": np.ones(3)}, targets=np.zeros(3))
    pair.name, pair.digest, pair.profile
    m.data.from_pandas(pd.DataFrame({"x": [1]}), targets="missing")
    m.data.from_pandas([1, 2])
    m.data.from_pandas(pd.DataFrame({"x": [1, 2], "z": [0.5, None]}), name="typed").schema.to_dict()
    m.data.from_pandas(pd.DataFrame({"x": [1, 2]}), digest="given").digest
    m.data.from_pandas(pd.DataFrame()).digest
    m.log_inputs([array, pair], contexts=["train", None], tags_list=[None, {"a": "b"}])
    m.log_inputs([array], contexts=["train", "eval"], tags_list=[None])
    m.log_input()
    len(m.get_run(a.info.run_id).inputs.dataset_inputs)
    m.end_run()
    b = client.create_run(home.experiment_id, run_name="b")
    entity = m.entities.Dataset("by hand", "d1", "local", '{"uri": "/x"}', "{}", "{}")
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(entity, [m.entities.InputTag("mlflow.data.context", "test")])])
    client.get_run(b.info.run_id).inputs.to_dictionary()
    client.get_run(b.info.run_id).inputs.dataset_inputs[0].dataset.name
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(m.entities.Dataset("x" * 501, "d", "local", "{}"), [])])
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(m.entities.Dataset("n", "d" * 37, "local", "{}"), [])])
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(m.entities.Dataset("n", None, "local", "{}"), [])])
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(m.entities.Dataset(None, "d", "local", "{}"), [])])
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(m.entities.Dataset("n", "d", "local", "x" * 65_536), [])])
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(entity, [m.entities.InputTag("k" * 256, "v")])])
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(entity, [m.entities.InputTag("k", "v" * 501)])])
    client.log_inputs(b.info.run_id, [m.entities.DatasetInput(entity, [m.entities.InputTag("k", None)])])
    client.log_inputs(b.info.run_id, [])
    client.log_inputs("0" * 32, [m.entities.DatasetInput(entity, [])])
    names(client.search_runs([home.experiment_id], "dataset.name = 'by hand'"))
    names(client.search_runs([home.experiment_id], "dataset.context = 'test'"))
    names(client.search_runs([home.experiment_id], "datasets.name LIKE 'fra%'"))
    names(client.search_runs([home.experiment_id], "dataset.digest = 'd1'"))
    names(client.search_runs([home.experiment_id], "dataset.colour = 'd1'"))
    client.search_runs([home.experiment_id], "dataset.name = 'by hand'")[0].inputs.to_dictionary()


def search_runs(m: Any, client: Any, folder: Path) -> None:
    home = client.create_experiment("search runs")
    away = client.create_experiment("search runs elsewhere")
    a = client.create_run(home, start_time=T + 1, run_name="alpha", tags={"team": "x", "d.o.t": "1", "a b": "s"})
    b = client.create_run(home, start_time=T + 2, run_name="Beta", tags={"team": "y"})
    c = client.create_run(home, start_time=T + 3, run_name="gamma")
    d = client.create_run(home, start_time=T + 4, run_name="delta", tags={"team": "x"})
    e = client.create_run(away, start_time=T + 5, run_name="far")
    client.log_metric(a.info.run_id, "acc", 0.5, timestamp=T)
    client.log_metric(b.info.run_id, "acc", 0.75, timestamp=T)
    client.log_metric(c.info.run_id, "acc", NAN, timestamp=T)
    client.log_metric(d.info.run_id, "val/acc top-5", 0.9, timestamp=T)
    client.log_metric(e.info.run_id, "acc", -INF, timestamp=T)
    client.log_param(a.info.run_id, "lr", "0.1")
    client.log_param(b.info.run_id, "lr", "0.01")
    client.log_param(c.info.run_id, "model", "ResNet_50")
    client.log_param(d.info.run_id, "model", "resnet%18")
    client.set_terminated(a.info.run_id, end_time=T + 10)
    client.set_terminated(b.info.run_id, "FAILED", end_time=T + 20)
    client.delete_run(d.info.run_id)
    names(client.search_runs([home]))
    names(client.search_runs([home], run_view_type=2))
    names(client.search_runs([home], run_view_type=3))
    names(client.search_runs([home, away]))
    names(client.search_runs([]))
    names(client.search_runs(["99997"]))
    names(client.search_runs(home))
    names(client.search_runs([home], "metrics.acc > 0.6"))
    names(client.search_runs([home], "metrics.acc >= 0.5 and metrics.acc < 0.75"))
    names(client.search_runs([home], "metrics.acc != 0.5"))
    names(client.search_runs([home], "metrics.acc = 0.5"))
    names(client.search_runs([home], "metric.acc <= 5e-1"))
    names(client.search_runs([home], "metrics.acc > -1"))
    names(client.search_runs([home], "metrics.acc < -1"))
    names(client.search_runs([home], "metrics.`val/acc top-5` > 0.1", run_view_type=3))
    names(client.search_runs([home], 'metrics."val/acc top-5" > 0.1', run_view_type=3))
    names(client.search_runs([home], "metrics.val/acc > 0.1"))
    names(client.search_runs([home], "metrics.never > 0"))
    names(client.search_runs([home], "metrics.acc > '0.5'"))
    names(client.search_runs([home], "metrics.acc LIKE 'x'"))
    names(client.search_runs([home], "params.lr = '0.1'"))
    names(client.search_runs([home], "param.lr != '0.1'"))
    names(client.search_runs([home], "parameters.lr LIKE '0.%'"))
    names(client.search_runs([home], "params.model LIKE 'ResNet%'", run_view_type=3))
    names(client.search_runs([home], "params.model LIKE 'resnet%'", run_view_type=3))
    names(client.search_runs([home], "params.model ILIKE 'resnet%'", run_view_type=3))
    names(client.search_runs([home], "params.model LIKE 'ResNet_50'", run_view_type=3))
    names(client.search_runs([home], "params.model ILIKE 'resnet\\_50'", run_view_type=3))
    names(client.search_runs([home], "params.lr = 0.1"))
    names(client.search_runs([home], "params.lr > '0.05'"))
    names(client.search_runs([home], "params.lr IN ('0.1', '0.01')"))
    names(client.search_runs([home], "params.lr IS NULL"))
    names(client.search_runs([home], "params.lr IS NOT NULL"))
    names(client.search_runs([home], "tags.team = 'x'"))
    names(client.search_runs([home], "tag.team != 'x'"))
    names(client.search_runs([home], "tags.team IS NULL"))
    names(client.search_runs([home], "tags.d.o.t = '1'"))
    names(client.search_runs([home], "tags.`a b` = 's'"))
    names(client.search_runs([home], 'tags."a b" = "s"'))
    names(client.search_runs([home], "tags.mlflow.runName = 'alpha'"))
    names(client.search_runs([home], "run_name = 'alpha'"))
    names(client.search_runs([home], "attributes.run_name ILIKE 'b%'"))
    names(client.search_runs([home], "attributes.`Run name` = 'alpha'"))
    names(client.search_runs([home], "status = 'FAILED'"))
    names(client.search_runs([home], "attribute.status != 'FINISHED'"))
    names(client.search_runs([home], "status = 'failed'"))
    names(client.search_runs([home], "status IN ('FAILED')"))
    names(client.search_runs([home], f"run_id = '{a.info.run_id}'"))
    names(client.search_runs([home], f"run_id IN ('{a.info.run_id}', '{b.info.run_id}')"))
    names(client.search_runs([home], f"run_id NOT IN ('{a.info.run_id}')"))
    names(client.search_runs([home], "user_id = 'unknown'"))
    names(client.search_runs([home], f"start_time > {T + 1}"))
    names(client.search_runs([home], f"attributes.created <= {T + 1}"))
    names(client.search_runs([home], f"end_time = {T + 20}"))
    names(client.search_runs([home], f"end_time != {T + 20}"))
    names(client.search_runs([home], "end_time IS NULL"))
    names(client.search_runs([home], "start_time > 'yesterday'"))
    names(client.search_runs([home], "artifact_uri LIKE '%artifacts'"))
    names(client.search_runs([home], "experiment_id = '1'"))
    names(client.search_runs([home], "lifecycle_stage = 'active'"))
    names(client.search_runs([home], "colour = 'red'"))
    names(client.search_runs([home], "colours.a = 'red'"))
    names(client.search_runs([home], "params.lr = '0.1' AND tags.team = 'x' AND metrics.acc > 0"))
    names(client.search_runs([home], "params.lr = '0.1' OR tags.team = 'y'"))
    names(client.search_runs([home], "(params.lr = '0.1')"))
    names(client.search_runs([home], "NOT params.lr = '0.1'"))
    names(client.search_runs([home], "params.lr = '0.1';"))
    names(client.search_runs([home], "params.lr = 'o''clock'"))
    names(client.search_runs([home], "params.lr"))
    names(client.search_runs([home], "params.lr ="))
    names(client.search_runs([home], "params.lr = '0.1' AND"))
    names(client.search_runs([home], "params.1 = '1'"))
    names(client.search_runs([home], "params. = '1'"))
    names(client.search_runs([home], "   "))
    names(client.search_runs([home], None))
    names(client.search_runs([home], 5))
    names(client.search_runs([home], order_by=["metrics.acc"], run_view_type=3))
    names(client.search_runs([home], order_by=["metrics.acc DESC"], run_view_type=3))
    names(client.search_runs([home, away], order_by=["metrics.acc ASC"]))
    names(client.search_runs([home], order_by=["params.lr"], run_view_type=3))
    names(client.search_runs([home], order_by=["params.lr DESC"], run_view_type=3))
    names(client.search_runs([home], order_by=["tags.team", "start_time ASC"], run_view_type=3))
    names(client.search_runs([home], order_by=["start_time"]))
    names(client.search_runs([home], order_by=["attributes.start_time DESC"]))
    names(client.search_runs([home], order_by=["end_time", "run_name DESC"]))
    names(client.search_runs([home], order_by=["end_time DESC"]))
    names(client.search_runs([home], order_by=["run_name"]))
    names(client.search_runs([home], order_by=["status"]))
    names(client.search_runs([home], order_by=["metrics.`val/acc top-5`"], run_view_type=3))
    names(client.search_runs([home], order_by=["metrics.acc", "metrics.acc"]))
    names(client.search_runs([home], order_by=["colour"]))
    names(client.search_runs([home], order_by=["metrics.acc UPWARDS"]))
    names(client.search_runs([home], order_by=[""]))
    names(client.search_runs([home], order_by=[" metrics.acc "]))
    names(client.search_runs([home], order_by=["dataset.name"]))
    page = client.search_runs([home], max_results=2, order_by=["start_time"])
    names(page), page.token is not None
    names(client.search_runs([home], max_results=2, order_by=["start_time"], page_token=page.token))
    client.search_runs([home], max_results=2, order_by=["start_time"], page_token=page.token).token
    client.search_runs([home], max_results=0)
    client.search_runs([home], max_results=-1)
    client.search_runs([home], max_results=50_001)
    client.search_runs([home], page_token="nonsense")
    client.search_runs([home], "params.lr = '0.1'")


def search_frames(m: Any, client: Any, folder: Path) -> None:
    home = m.set_experiment("frames")
    with m.start_run(run_name="one", tags={"t": "1"}) as a:
        m.log_metric("m", 0.5)
        m.log_param("p", "x")
    with m.start_run(run_name="two") as b:
        m.log_metric("n", 2.0)
    columns(m.search_runs())
    m.search_runs(order_by=["start_time ASC"])["run_id"].tolist()
    m.search_runs(order_by=["start_time ASC"])[["status", "experiment_id", "metrics.m", "metrics.n", "params.p", "tags.t"]]
    [str(kind) for kind in m.search_runs().dtypes[["start_time", "end_time", "metrics.m", "status"]]]
    m.search_runs(filter_string="metrics.m > 1").columns.tolist()
    m.search_runs(filter_string="metrics.m > 1").shape
    names(m.search_runs(output_format="list", order_by=["start_time"]))
    names(m.search_runs([home.experiment_id], output_format="list", filter_string="params.p = 'x'"))
    names(m.search_runs(experiment_names=["frames"], output_format="list"))
    names(m.search_runs(experiment_names=["frames", "unheard of"], output_format="list"))
    names(m.search_runs(experiment_names=["unheard of"], output_format="list"))
    names(m.search_runs(output_format="list", max_results=1))
    names(m.search_runs(output_format="list", filter_string="tags.t = '1' AND params.p = 'x'", search_all_experiments=True))
    m.search_runs([home.experiment_id], experiment_names=["frames"])
    m.search_runs(output_format="tuple")
    m.search_runs(filter_string="nonsense")
    m.search_runs(max_results=0, output_format="list")
    m.search_runs(run_view_type=2, output_format="list")
    a.info.run_id == b.info.run_id


def entities(m: Any, client: Any, folder: Path) -> None:
    m.entities.Metric("a", 1.0, T, 2).to_dictionary()
    m.entities.Metric("a", 1.0, T, 2) == m.entities.Metric("a", 1.0, T, 2)
    m.entities.Metric("a", 1.0, T, 2) == m.entities.Metric("a", 1.0, T, 3)
    m.entities.Param("a", "1") == m.entities.Param("a", "2")
    m.entities.RunTag("a", "1") == m.entities.RunTag("a", "2")
    dict(m.entities.RunTag("a", "1"))
    dict(m.entities.Param("a", "1"))
    dict(m.entities.FileInfo("a/b", False, 5))
    m.entities.RunStatus.all_status()
    m.entities.ViewType.ALL
    m.entities.LifecycleStage.ACTIVE
    m.exceptions.MlflowException("text").error_code
    m.exceptions.MlflowException("text").get_http_status_code()
    m.exceptions.MlflowException("text").serialize_as_json()
    text_of(lambda: m.no_such_verb)
    issubclass(m.MlflowException, Exception)


def rules(m: Any, client: Any, folder: Path) -> None:
    home = client.create_experiment("rules")
    a = client.create_run(home, run_name="a")
    ruled("experiment name", client.create_experiment)
    ruled("experiment id", client.get_experiment)
    ruled("artifact location", lambda value: client.create_experiment(f"at {value[:9]}{len(value)}", artifact_location=value))
    ruled("run id", client.get_run)
    ruled("metric key", lambda value: client.log_metric(a.info.run_id, value, 1))
    ruled("param key", lambda value: client.log_param(a.info.run_id, value, 1))
    ruled("tag key", lambda value: client.set_tag(a.info.run_id, value, 1))
    ruled("metric value", lambda value: client.log_metric(a.info.run_id, "value", value))
    ruled("metric step", lambda value: client.log_metric(a.info.run_id, "step", 1, step=value))
    ruled("metric timestamp", lambda value: client.log_metric(a.info.run_id, "timestamp", 1, timestamp=value))
    ruled("params of one batch", lambda keys: client.log_batch(a.info.run_id, params=[m.entities.Param(key, "1") for key in keys]))
    ruled("experiment tag value", lambda value: client.set_experiment_tag(home, "k", value))
    ruled("dataset name", lambda value: client.log_inputs(a.info.run_id, [dataset_input(m, name=value)]))
    ruled("dataset digest", lambda value: client.log_inputs(a.info.run_id, [dataset_input(m, digest=value)]))
    ruled("dataset source type", lambda value: client.log_inputs(a.info.run_id, [dataset_input(m, source_type=value)]))
    ruled("dataset source", lambda value: client.log_inputs(a.info.run_id, [dataset_input(m, source=value)]))
    ruled("dataset schema", lambda value: client.log_inputs(a.info.run_id, [dataset_input(m, schema=value)]))
    ruled("dataset profile", lambda value: client.log_inputs(a.info.run_id, [dataset_input(m, profile=value)]))
    ruled("input tag key", lambda value: client.log_inputs(a.info.run_id, [tagged_input(m, value, "v")]))
    ruled("input tag value", lambda value: client.log_inputs(a.info.run_id, [tagged_input(m, "k", value)]))
    ruled("max_results", lambda value: client.search_runs([home], max_results=value))
