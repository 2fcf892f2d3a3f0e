"""What MLflow has recorded comes over whole and once, whichever version recorded it and wherever; the fixtures are MLflow's own work."""

from __future__ import annotations

import json
import math
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contracts.facts import THIRD_WRITER, block, created, everything, exact, exact_history, metric, rewound, tag
from flightlog.__main__ import main
from flightlog.cli import exits
from flightlog.cli.imports import open_history
from flightlog.schema import events as e
from flightlog.schema.blocks import Block
from flightlog.schema.columns import join_metrics, split_metrics
from flightlog.schema.entities import Dataset, DatasetInput, InputTag, LoggedModelInput, LoggedModelOutput, ViewType
from flightlog.schema.errors import InvalidParameter, NotFound, StoreUnavailable
from flightlog.stores.base import Applied, Store
from flightlog.stores.memory import MemoryStore
from flightlog.stores.mlflow_import import BATCH_EVENTS, Imported, import_mlflow
from flightlog.stores.sql import mlflow_database
from flightlog.stores.sql.store import SqlStore

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures" / "mlflow"
VERSIONS = sorted(path.name for path in FIXTURES.iterdir() if path.is_dir() and path.name[0].isdigit())
LARGEST = 1.7976931348623157e308
SOURCES = [(version, kind) for version in VERSIONS for kind in ("sql", "files")]
IDS = [f"{kind} of {version}" for version, kind in SOURCES]


def database(folder: Path, version: str = VERSIONS[-1]) -> str:
    """Load the database that a version of MLflow wrote; return its URL."""
    file = folder / "mlflow.db"
    with closing(sqlite3.connect(file)) as connection:
        connection.executescript((FIXTURES / version / "mlflow.sql").read_text(encoding="utf-8"))
    return f"sqlite:///{file}"


def files(folder: Path, version: str = VERSIONS[-1]) -> str:
    return str(shutil.copytree(FIXTURES / version / "mlruns", folder / "mlruns"))


MAKERS: dict[str, Callable[[Path, str], str]] = {"sql": database, "files": files}


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture(params=SOURCES, ids=IDS)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str, dict[str, Any]]:
    """Return kind and URI of a source, and what MLflow itself says is in it."""
    version, kind = request.param
    expected = json.loads((FIXTURES / version / f"expected-{kind}.json").read_text(encoding="utf-8"))
    return kind, MAKERS[kind](tmp_path, version), expected


def bring(uri: str, store: Store, *experiments: str, apply: Callable[[Sequence[Block]], Applied] | None = None) -> Imported:
    history = open_history(uri)
    try:
        return import_mlflow(history, store, apply or store.apply, experiments)
    finally:
        history.close()


def change(uri: str, *statements: str) -> None:
    with closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def full_run(store: Store) -> Any:
    return next(run for run in all_runs(store) if run.data.tags["mlflow.runName"] == "parent")


def all_runs(store: Store) -> list[Any]:
    ids = [item.experiment_id for item in store.search_experiments(ViewType.ALL)]
    return list(store.search_runs(ids, run_view_type=ViewType.ALL))


def test_experiments_come_with_id_name_time_and_stage(source: tuple[str, str, dict[str, Any]], store: MemoryStore) -> None:
    _, uri, expected = source
    imported = bring(uri, store)
    assert (imported.is_complete, imported.letters) == (True, [])
    for item in expected["experiments"]:
        found = store.get_experiment(item["experiment_id"])
        if item["experiment_id"] != "0":  # it is here before any import
            assert found.creation_time == (item["creation_time"] or 0)
            assert found.lifecycle_stage == item["lifecycle_stage"]
        assert (found.name, found.artifact_location, found.tags) == (item["name"], item["artifact_location"], item["tags"])


def test_runs_come_with_ids_times_states_params_tags_and_every_point(source: tuple[str, str, dict[str, Any]], store: MemoryStore) -> None:
    kind, uri, expected = source
    bring(uri, store)
    assert len(all_runs(store)) == len(expected["runs"])
    for item in expected["runs"]:
        run = store.get_run(item["info"]["run_id"])
        assert {name: getattr(run.info, name) for name in item["info"]} | {"user_id": ""} == item["info"] | {"user_id": ""}
        assert (run.data.params, run.data.tags) == (item["params"], item["tags"])
        assert set(run.data.metrics) == set(item["metrics"])
        for key, points in item["metrics"].items():
            assert sorted(exact_history(store.metric_arrays(run.info.run_id, key))) == sorted(logged(points, kind))


def logged(points: list[Any], kind: str) -> list[tuple[int, int, str]]:
    """Return points as they were logged: MLflow's database gives back the largest number for an infinity."""
    values = [(step, time, float(value)) for step, time, value in points]
    return [(step, time, exact(math.copysign(math.inf, value) if abs(value) >= LARGEST else value)) for step, time, value in values]


def test_a_second_import_does_nothing(source: tuple[str, str, dict[str, Any]], store: MemoryStore) -> None:
    _, uri, _ = source
    assert bring(uri, store).events > 0
    before = everything(store, [])
    again = bring(uri, store)
    assert (again.events, again.is_complete) == (0, True)
    assert everything(store, []) == before


def test_the_sql_store_gets_the_same_as_the_store_in_memory(tmp_path: Path, store: MemoryStore) -> None:
    sql = SqlStore(f"sqlite:///{tmp_path / 'tracking.db'}")
    try:
        for target in (sql, store):
            bring(database(tmp_path / "." if target is sql else fresh(tmp_path)), target)
        assert everything(sql, [])["runs"] == everything(store, [])["runs"]
    finally:
        sql.close()


def fresh(folder: Path) -> Path:
    (folder / "again").mkdir()
    return folder / "again"


def test_what_was_logged_since_comes_with_the_next_import(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    bring(uri, store)
    run_id = full_run(store).info.run_id
    change(
        uri,
        f"INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan) VALUES ('loss', 7.0, 9, '{run_id}', 99, 0)",
        f"INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan) VALUES ('loss', 8.0, 9, '{run_id}', -5, 0)",
        f"INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan) VALUES ('odd/value', 0, 9, '{run_id}', 0, 1)",
        f"INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan) VALUES ('new', 1.0, 9, '{run_id}', 0, 0)",
        f"INSERT INTO params(key, value, run_uuid) VALUES ('late', 'p', '{run_id}')",
        f"UPDATE tags SET value = 'y' WHERE key = 'plain' AND run_uuid = '{run_id}'",
        f"DELETE FROM tags WHERE key = 'note' AND run_uuid = '{run_id}'",
        f"UPDATE runs SET status = 'KILLED', end_time = 1600000095000, lifecycle_stage = 'deleted' WHERE run_uuid = '{run_id}'",
        "UPDATE experiments SET name = 'sight' WHERE name = 'vision'",
    )
    later = bring(uri, store)
    run = full_run(store)
    assert later.is_complete
    assert later.events == 4 + 1 + 2 + 2 + 1
    assert (run.data.params["late"], run.data.tags["plain"], "note" in run.data.tags) == ("p", "y", False)
    assert (run.info.status, run.info.end_time, run.info.lifecycle_stage) == ("KILLED", 1600000095000, "deleted")
    assert (run.data.metrics["loss"], run.data.metric_summaries["loss"].count, run.data.metrics["new"]) == (7.0, 52, 1.0)
    assert store.get_experiment(run.info.experiment_id).name == "sight"
    assert bring(uri, store).events == 0


def insert_point(run_id: str, key: str, step: int) -> str:
    return f"INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan) VALUES ('{key}', 7.0, 9, '{run_id}', {step}, 0)"


@pytest.mark.parametrize("step", [-100, 10], ids=["all", "some"])
def test_points_that_a_later_attempt_hides_do_not_come_again(step: int, tmp_path: Path) -> None:
    uri = database(tmp_path)
    with closing(SqlStore(f"sqlite:///{tmp_path / 'tracking.db'}")) as store:
        import_around_a_rewind(uri, store, step)


def import_around_a_rewind(uri: str, store: Store, step: int) -> None:
    bring(uri, store)
    run_id = full_run(store).info.run_id
    store.apply([block(run_id, rewound(step, time=2_000_000_000_000), metric("loss", 0.5, 20), writer=THIRD_WRITER)])
    again = bring(uri, store)
    assert (again.events, again.is_complete) == (0, True)
    change(uri, insert_point(run_id, "loss", 99), insert_point(run_id, "late", 99))
    assert [bring(uri, store).events for _ in range(2)] == [2, 0]


def test_a_run_that_was_purged_does_not_come_again(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    bring(uri, store)
    run_id = full_run(store).info.run_id
    store.apply([block(run_id, e.RunDeleted(time=2_000_000_000_000), e.RunPurged(time=2_000_000_000_001), writer=THIRD_WRITER)])
    again = bring(uri, store)
    assert (again.events, again.differences) == (0, [f"run {run_id} is not in the store"])
    assert all(item.dropped == 0 for item in store.tombstones())


def bring_until_broken(uri: str, store: Store, apply: Callable[[Sequence[Block]], Applied]) -> bool:
    try:
        assert bring(uri, store, apply=apply).is_complete
    except KeyboardInterrupt:
        return True
    return False


def test_an_import_that_broke_off_goes_on_where_it_was(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)

    def file_some(blocks: Sequence[Block]) -> Applied:
        store.apply([blocks[0].part(0, 7)])
        raise KeyboardInterrupt

    broken = 0
    while bring_until_broken(uri, store, file_some):
        broken += 1
    assert broken > 15
    whole = MemoryStore()
    bring(uri, whole)
    assert everything(store, [])["runs"] == everything(whole, [])["runs"]


def test_a_change_that_was_made_here_is_not_undone_by_the_next_import(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    bring(uri, store)
    run_id = full_run(store).info.run_id
    store.apply([block(run_id, tag("plain", "mine", time=2_000_000_000_000))])
    assert bring(uri, store).events == 0
    assert store.get_run(run_id).data.tags["plain"] == "mine"


def test_an_experiment_whose_id_is_taken_gets_another_and_keeps_its_name(tmp_path: Path, store: MemoryStore) -> None:
    store.apply([block("experiment:1", created("1", "ours"))])
    imported = bring(database(tmp_path), store)
    ((name, there, here),) = imported.moved
    assert (name, there, imported.is_complete) == ("vision", "1", True)
    assert full_run(store).info.experiment_id == here
    assert store.get_experiment("1").name == "ours"
    assert bring(f"sqlite:///{tmp_path / 'mlflow.db'}", store).events == 0


def test_an_experiment_of_the_same_name_takes_the_runs_in_and_keeps_its_stage(tmp_path: Path, store: MemoryStore) -> None:
    store.apply([block("experiment:77", created("77", "gone"))])
    bring(database(tmp_path), store)
    assert store.get_experiment("77").lifecycle_stage == "active"
    assert len(store.search_runs(["77"], run_view_type=ViewType.ALL)) == 1


def test_only_the_experiments_that_are_named_come(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    assert bring(uri, store, "vision").source.runs == 4
    with pytest.raises(NotFound, match="'nowhere'"):
        bring(uri, store, "nowhere")


def test_what_has_no_events_here_is_counted(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    change(uri, "INSERT INTO registered_models (name) VALUES ('m')")
    assert bring(uri, store).left_out == {"registered models": 1}
    uri = files(tmp_path)
    (Path(uri) / "models" / "m").mkdir(parents=True)
    assert bring(uri, MemoryStore()).left_out == {"registered models": 1}


@pytest.mark.parametrize("version", [version for version in VERSIONS if version != "1.30"])
@pytest.mark.parametrize("kind", MAKERS)
def test_datasets_come_with_the_runs_that_used_them(kind: str, version: str, tmp_path: Path, store: MemoryStore) -> None:
    imported = bring(MAKERS[kind](tmp_path, version), store)
    assert (imported.source.inputs, imported.target.inputs, imported.is_complete) == (1, 1, True)
    assert full_run(store).inputs.dataset_inputs == [DatasetInput(Dataset("iris", "d1", "local", "{}"))]


def test_inputs_that_were_added_since_come_with_their_tags(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    bring(uri, store)
    run_id, experiment_id = full_run(store).info.run_id, full_run(store).info.experiment_id
    change(
        uri,
        f"INSERT INTO datasets VALUES ('u', {experiment_id}, 'words', 'd2', 's3', '{{}}', 'schema', 'profile')",
        f"INSERT INTO inputs VALUES ('i', 'DATASET', 'u', 'RUN', '{run_id}', 0)",
        "INSERT INTO input_tags VALUES ('i', 'mlflow.data.context', 'train')",
        f"INSERT INTO inputs VALUES ('j', 'RUN_INPUT', '{run_id}', 'MODEL_INPUT', 'm-1', 0)",
        f"INSERT INTO inputs VALUES ('k', 'RUN_OUTPUT', '{run_id}', 'MODEL_OUTPUT', 'm-2', 7)",
    )
    assert (bring(uri, store).events, bring(uri, store).events) == (3, 0)
    run = full_run(store)
    added = DatasetInput(Dataset("words", "d2", "s3", "{}", "schema", "profile"), [InputTag("mlflow.data.context", "train")])
    assert (run.inputs.dataset_inputs[1], run.inputs.model_inputs) == (added, [LoggedModelInput("m-1")])
    assert run.outputs.model_outputs == [LoggedModelOutput("m-2", 7)]


def test_models_come_from_a_folder_as_well(tmp_path: Path, store: MemoryStore) -> None:
    uri = files(tmp_path)
    bring(uri, store)
    run = full_run(store)
    for place, told in (("inputs/a", "source_type: MODEL_INPUT\nsource_id: m-1\n"), ("outputs/m-2", "source_id: m-2\nstep: 7\n")):
        folder = Path(uri) / run.info.experiment_id / run.info.run_id / place
        folder.mkdir(parents=True)
        (folder / "meta.yaml").write_text(told, encoding="utf-8")
    assert (bring(uri, store).events, bring(uri, store).events) == (2, 0)
    assert full_run(store).inputs.model_inputs == [LoggedModelInput("m-1")]
    assert full_run(store).outputs.model_outputs == [LoggedModelOutput("m-2", 7)]


def test_a_dataset_that_breaks_a_rule_is_told_and_stops_nothing(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    change(uri, "UPDATE datasets SET name = ''")
    imported = bring(uri, store)
    assert [letter.reason for letter in imported.letters] == ["invalid"]
    assert (imported.is_complete, imported.different) == (False, 1)
    assert "datasets and models" in imported.differences[0]


def test_what_the_store_refused_is_not_filed_again(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    change(uri, "UPDATE datasets SET name = ''")
    bring(uri, store)
    run_id = full_run(store).info.run_id
    change(uri, f"UPDATE runs SET end_time = 1600000095000 WHERE run_uuid = '{run_id}'", insert_point(run_id, "loss", 99))
    later = [bring(uri, store) for _ in range(2)]
    assert [(len(item.letters), item.events, item.different) for item in later] == [(0, 2, 1), (0, 0, 1)]
    assert len(store.dead_letters()) == 1
    change(uri, "UPDATE datasets SET name = 'mended'")
    assert (bring(uri, store).is_complete, len(store.dead_letters())) == (True, 1)


def test_a_run_that_cannot_be_read_is_told_and_stops_no_other(tmp_path: Path, store: MemoryStore) -> None:
    uri = files(tmp_path)
    whole = MemoryStore()
    bring(uri, whole)
    run = full_run(whole)
    folder = Path(uri) / run.info.experiment_id / run.info.run_id
    (folder / "meta.yaml").write_text("!!python/object/apply:os.system ['true']", encoding="utf-8")
    imported = bring(uri, store)
    assert (imported.is_complete, imported.source.runs) == (False, len(all_runs(whole)) - 1)
    assert "cannot be read" in imported.problems[0]


def test_a_damaged_line_of_a_metric_costs_that_point_alone(tmp_path: Path, store: MemoryStore) -> None:
    uri = files(tmp_path)
    (file,) = Path(uri).glob("*/*/metrics/twice")
    with file.open("a", encoding="utf-8") as content:
        content.write(f"12 1.5\nnonsense\n{'9' * 40} 1.0 1\n")
    imported = bring(uri, store)
    summary = full_run(store).data.metric_summaries["twice"]
    assert (summary.count, summary.first.step, len(imported.problems)) == (3, 0, 2)
    assert not imported.is_complete


def test_a_long_history_comes_in_pages(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    many = BATCH_EVENTS * 2 + 7
    run_id = json.loads((FIXTURES / VERSIONS[-1] / "expected-sql.json").read_text(encoding="utf-8"))["runs"][0]["info"]["run_id"]
    rows = (
        f"WITH RECURSIVE n(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < {many - 1}) SELECT 'long', i, i, '{run_id}', i, 0 FROM n"
    )
    change(uri, f"INSERT INTO metrics(key, value, timestamp, run_uuid, step, is_nan) {rows}")
    sql = SqlStore(f"sqlite:///{tmp_path / 'tracking.db'}")
    try:
        assert bring(uri, sql).is_complete
        assert np.array_equal(sql.metric_arrays(run_id, "long").value, np.arange(many, dtype=np.float64))
    finally:
        sql.close()


def test_a_source_is_not_changed(tmp_path: Path, store: MemoryStore) -> None:
    uri = database(tmp_path)
    file = tmp_path / "mlflow.db"
    before = file.read_bytes()
    bring(uri, store)
    assert (file.read_bytes(), [path.name for path in tmp_path.iterdir()]) == (before, ["mlflow.db"])


def test_a_database_that_is_locked_is_not_read_past_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    uri = database(tmp_path)
    monkeypatch.setattr(mlflow_database, "BUSY_TIMEOUT", 0.01)
    with closing(sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        with pytest.raises(StoreUnavailable, match="locked"):
            open_history(uri)


def test_what_is_not_mlflows_is_refused(tmp_path: Path) -> None:
    SqlStore(f"sqlite:///{tmp_path / 'ours.db'}").close()
    (tmp_path / "empty").mkdir()
    for uri, error in (
        (f"sqlite:///{tmp_path / 'ours.db'}", InvalidParameter),
        (f"sqlite:///{tmp_path / 'none.db'}", NotFound),
        (str(tmp_path / "empty"), InvalidParameter),
        (str(tmp_path / "none"), NotFound),
        ("http://server:5000", InvalidParameter),
    ):
        with pytest.raises(error):
            open_history(uri)
    assert not (tmp_path / "none.db").exists()


def test_rows_of_points_are_what_is_taken_apart_again() -> None:
    step, time = np.array([-1, 2**62]), np.array([0, 1_700_000_000_000])
    value, key = np.array([math.nan, -math.inf]), np.array([0, 3])
    metrics, others = split_metrics(join_metrics(key, step, time, value))
    assert len(others) == 0
    assert [metrics.id.tolist(), metrics.step.tolist(), metrics.time.tolist()] == [key.tolist(), step.tolist(), time.tolist()]
    assert np.array_equal(metrics.value, value, equal_nan=True)


def test_the_command_compares_and_exits_with_5_when_something_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    uri = files(tmp_path)
    assert main(["import", "mlflow", uri, "--to", "target", "--json"]) == exits.FINE
    document = json.loads(capsys.readouterr().out)
    assert (document["source"], document["complete"]) == (document["target"], True)
    next(Path(uri).glob("*/*/meta.yaml")).write_text("- 1", encoding="utf-8")
    assert main(["import", "mlflow", uri, "--to", "target"]) == exits.PROBLEMS
    assert "not read: " in capsys.readouterr().out
    assert main(["import", "mlflow", uri]) == exits.USAGE


@pytest.fixture(autouse=True)
def _no_open_files(recwarn: pytest.WarningsRecorder) -> Iterator[None]:
    yield
    assert not [item for item in recwarn if issubclass(item.category, ResourceWarning)]
