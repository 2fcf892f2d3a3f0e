"""The commands that search, compare, plot and export runs, on real folders and in real processes."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import flightlog as mlflow
from flightlog.__main__ import main
from flightlog.cli import exits, places
from flightlog.stores import open_store
from flightlog.worker.spool import drain_spool

Captured = pytest.CaptureFixture[str]
RATES = ("0.1", "0.01", "0.001")


@pytest.fixture(autouse=True)
def run_ids(monkeypatch: pytest.MonkeyPatch, fresh_flightlog: None) -> list[str]:
    """Log three runs of an experiment and one of another, and file them; return the ids of the three."""
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "0")
    monkeypatch.setenv("COLUMNS", "100")
    found = [log_run("digits", rate, number) for number, rate in enumerate(RATES)]
    log_run("other", "7", 9)
    location = places.find()
    store = open_store(location.database_url)
    drain_spool(location, store)
    store.close()
    return found


def log_run(experiment: str, rate: str, number: int) -> str:
    mlflow.set_experiment(experiment)
    with mlflow.start_run(run_name=f"run {number}", run_id=None) as run:
        mlflow.log_params({"rate": rate, "mode": "plain"})
        mlflow.set_tag("note", 'two "words",\nin lines' if number == 0 else "same")
        for step in range(50):
            mlflow.log_metric("loss", 1 / (step + 1) + number, step=step)
            mlflow.log_metric("accuracy", step / 50 - number, step=step)
        mlflow.log_metric("odd", math.nan)
    return run.info.run_id


def ask(capsys: Captured, *arguments: str, code: int = 0) -> Any:
    """Run a command with --json and return its document."""
    assert main([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def say(capsys: Captured, *arguments: str, code: int = 0) -> str:
    """Run a command and return what it printed."""
    assert main(arguments) == code
    return capsys.readouterr().out


def refused(capsys: Captured, *arguments: str, code: int = exits.USAGE) -> str:
    """Run a command that cannot be done and return what it said."""
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    return printed.err


def flightlog(*arguments: str, **environ: str) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-W", "error", "-m", "flightlog", *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=60, env={**os.environ, **environ})


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def names_in(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


# search


def test_a_search_shows_the_columns_asked_for_in_their_order(run_ids: list[str], capsys: Captured) -> None:
    columns = "params.rate,run_id,metrics.loss.min,metrics.l*,experiment_name"
    found = ask(capsys, "runs", "search", "--columns", columns, "--order-by", "metrics.loss ASC", "--experiment", "digits")
    assert [list(run) for run in found["runs"]] == [["params.rate", "run_id", "metrics.loss.min", "metrics.loss", "experiment_name"]] * 3
    assert [tuple(run.values()) for run in found["runs"]] == [
        (rate, run_id, 0.02 + number, 0.02 + number, "digits") for number, (rate, run_id) in enumerate(zip(RATES, run_ids, strict=True))
    ]
    printed = say(capsys, "runs", "search", "--columns", columns)
    assert printed.split()[:5] == ["params.rate", "run_id", "metrics.loss.min", "metrics.loss", "experiment_name"]
    assert all(run_id in printed for run_id in run_ids)


def test_a_search_as_csv_has_everything_and_can_be_read_back(run_ids: list[str], capsys: Captured) -> None:
    found = rows(say(capsys, "runs", "search", "--output", "csv", "--order-by", "metrics.loss ASC"))
    assert [row["run_id"] for row in found[:3]] == run_ids
    assert [row["params.rate"] for row in found] == [*RATES, "7"]
    assert found[0]["tags.note"] == 'two "words",\nin lines'
    assert (float(found[0]["metrics.loss"]), found[0]["metrics.odd"], found[0]["status_reason"]) == (0.02, "nan", "")


@pytest.mark.parametrize(
    ("arguments", "count", "has_more"),
    [([], 4, False), (["--limit", "3"], 3, True), (["--limit", "4"], 4, False), (["--view", "deleted"], 0, False)],
    ids=["all", "fewer", "just as many", "deleted"],
)
def test_a_search_says_whether_there_are_more(arguments: list[str], count: int, has_more: bool, capsys: Captured) -> None:
    found = ask(capsys, "runs", "search", *arguments)
    assert (len(found["runs"]), found["has_more"]) == (count, has_more)
    assert ("there are more than 3" in say(capsys, "runs", "search", *arguments)) == has_more


@pytest.mark.parametrize("column", ["nonsense", "metrics", "metrics.", "datasets.x"])
def test_a_column_that_runs_do_not_have_is_refused(column: str, capsys: Captured) -> None:
    assert f"no column {column!r}" in refused(capsys, "runs", "search", "--columns", f"run_id,{column}")


# compare


def test_a_comparison_shows_what_differs_and_marks_the_best(run_ids: list[str], capsys: Captured) -> None:
    found = ask(capsys, "runs", "compare", *run_ids)
    assert [run["run_id"] for run in found["runs"]] == run_ids
    assert found["params"] == {"rate": dict(zip(run_ids, RATES, strict=True))}
    assert list(found["metrics"]) == ["accuracy", "loss"]
    assert found["best"] == {
        key: {"better": better, "run_ids": [run_ids[0]]} for key, better in (("accuracy", "higher"), ("loss", "lower"))
    }
    assert list(found["tags"]) == ["note"]
    printed = say(capsys, "runs", "compare", *(run_id[:9] for run_id in run_ids))
    assert printed.count(" *") == 2
    assert "0.02 *" in printed
    assert "plain" not in printed


def test_a_comparison_of_everything_by_another_value_and_another_direction(run_ids: list[str], capsys: Captured) -> None:
    found = ask(capsys, "runs", "compare", *run_ids, "--all", "--value", "max", "--higher", "loss")
    assert found["params"]["mode"] == dict.fromkeys(run_ids, "plain")
    assert found["metrics"]["loss"] == {run_id: 1.0 + number for number, run_id in enumerate(run_ids)}
    assert found["best"]["loss"] == {"better": "higher", "run_ids": [run_ids[2]]}
    assert found["metrics"]["odd"] == dict.fromkeys(run_ids)
    assert "mlflow.runName" in found["tags"]


def test_runs_that_cannot_be_compared_are_refused(run_ids: list[str], capsys: Captured) -> None:
    assert "at least two" in refused(capsys, "runs", "compare", run_ids[0], run_ids[0])
    assert "no run has the id 'zz'" in refused(capsys, "runs", "compare", run_ids[0], "zz", code=exits.NOT_FOUND)


# history


def test_a_history_is_a_plot_with_a_line_for_each_run(run_ids: list[str], capsys: Captured) -> None:
    printed = say(capsys, "runs", "history", *run_ids, "--key", "loss", "--key", "accuracy")
    assert [line.split()[0] for line in printed.splitlines() if line.endswith("^")] == ["(loss)", "(accuracy)"]
    assert all(f"{run_id[:8]} run {number}" in printed for number, run_id in enumerate(run_ids))
    assert max(map(len, printed.splitlines())) <= 100
    assert "\x1b" not in printed


def test_a_terminal_that_is_no_utf_8_gets_ascii(run_ids: list[str]) -> None:
    done = flightlog("runs", "history", run_ids[0], "--key", "loss", PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, b"")
    assert b":" in done.stdout
    assert done.stdout.isascii()


@pytest.mark.parametrize(("environ", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)], ids=str)
def test_a_plot_has_colours_on_a_terminal_unless_they_are_not_wanted(run_ids: list[str], environ: dict[str, str], colored: bool) -> None:
    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "flightlog", "runs", "history", *run_ids, "--key", "loss"]
    wanted = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm", **environ}
    process = subprocess.Popen(command, stdout=terminal, env=wanted)
    os.close(terminal)
    printed = until_closed(screen)
    assert process.wait(60) == 0
    assert (b"\x1b[" in printed, b"*" in printed) == (colored, not colored)


def until_closed(screen: int) -> bytes:
    """Return what is written to a terminal until its writer has closed it."""
    found = b""
    try:
        while part := os.read(screen, 65536):
            found += part
    except OSError:
        pass
    os.close(screen)
    return found


def test_values_that_are_not_finite_are_told_of_and_not_drawn(run_ids: list[str], capsys: Captured) -> None:
    printed = say(capsys, "runs", "history", run_ids[0], "--key", "odd")
    assert printed == f"{run_ids[0][:8]} run 0: 1 point of odd, none of them finite\n"


def test_a_history_as_a_table_has_rows_of_buckets(run_ids: list[str], capsys: Captured) -> None:
    printed = say(capsys, "runs", "history", run_ids[0], "--key", "loss", "--output", "table", "--buckets", "2").splitlines()
    assert [line.split()[1:5] for line in printed if line.startswith(run_ids[0][:8])] == [
        ["0", "24", "25", "1"],
        ["25", "49", "25", "0.0384615"],
    ]


def test_a_history_as_json_and_as_csv_has_its_points(run_ids: list[str], capsys: Captured) -> None:
    [found] = ask(capsys, "runs", "history", run_ids[1], "--key", "loss", "--from-step", "40", "--to-step", "41")["histories"]
    assert (found["run_id"], found["step"], found["value"]) == (run_ids[1], [40, 41], [1 / 41 + 1, 1 / 42 + 1])
    points = rows(say(capsys, "runs", "history", run_ids[1], "--output", "csv", "--sample", "4"))
    assert [(row["key"], row["step"]) for row in points] == [
        *(("accuracy", step) for step in ("0", "1", "48", "49")),
        *(("loss", step) for step in ("0", "1", "48", "49")),
        ("odd", "0"),
    ]


def test_a_history_of_nothing_in_particular_is_refused(run_ids: list[str], capsys: Captured) -> None:
    assert "the metrics are accuracy, loss, odd" in refused(capsys, "runs", "history", run_ids[0])
    assert "'nothing'" in refused(capsys, "runs", "history", run_ids[0], "--key", "nothing", code=exits.NOT_FOUND)


def test_a_run_without_metrics_is_told_of(capsys: Captured) -> None:
    with mlflow.start_run() as run:
        pass
    flightlog("sync")
    assert f"no metrics were logged to {run.info.run_id}" in refused(capsys, "runs", "history", run.info.run_id, code=exits.NOT_FOUND)


# export


def parsed(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file of any format, as texts where the format has no other."""
    text = "" if path.suffix == ".parquet" else path.read_text(encoding="utf-8")
    if path.suffix == ".parquet":
        return list(pq.read_table(path).to_pylist())
    if path.suffix == ".csv":
        return list(rows(text))
    return [json.loads(line) for line in text.splitlines()] if path.suffix == ".jsonl" else list(json.loads(text))


@pytest.mark.parametrize("form", ["parquet", "csv", "json", "jsonl"])
def test_everything_goes_into_a_folder_in_any_format(form: str, run_ids: list[str], capsys: Captured) -> None:
    files = ask(capsys, "export", "out", "--format", form, "--experiment", "digits")["files"]
    assert [(item["what"], item["path"], item["rows"]) for item in files] == [
        (what, str(Path("out") / f"{what}.{form}"), count)
        for what, count in (("runs", 3), ("params", 6), ("tags", 21 - 3 * 2), ("metrics", 303))
    ]
    assert names_in("out") == sorted(f"{item['what']}.{form}" for item in files)
    runs, params, metrics = (parsed(Path("out") / f"{what}.{form}") for what in ("runs", "params", "metrics"))
    assert {row["run_id"]: row["params.rate"] for row in runs} == dict(zip(run_ids, RATES, strict=True))
    assert {(row["key"], row["value"]) for row in params} == {("mode", "plain"), *(("rate", rate) for rate in RATES)}
    last = [float(row["value"]) for row in metrics if (row["run_id"], row["key"], int(row["step"])) == (run_ids[2], "loss", 49)]
    assert last == [1 / 50 + 2]
    assert {str(row["value"]).lower() for row in metrics if row["key"] == "odd"} == {"nan"}


def test_a_folder_gets_parquet_where_that_can_be_written_and_else_csv(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    assert {item["format"] for item in ask(capsys, "export", "one")["files"]} == {"parquet"}
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert {item["format"] for item in ask(capsys, "export", "two")["files"]} == {"csv"}
    assert "flightlog[arrow]" in refused(capsys, "export", "a.parquet", "--what", "params", code=exits.UNEXPECTED)
    assert not Path("a.parquet").exists()


def test_a_file_has_what_was_chosen(run_ids: list[str], capsys: Captured) -> None:
    chosen = ["--run", run_ids[0][:10], "--key", "loss", "--from-step", "10", "--sample", "4"]
    assert say(capsys, "export", "a.parquet", "--what", "metrics", *chosen) == "4 rows of metrics in a.parquet\n"
    assert [(row["run_id"], row["step"]) for row in parsed(Path("a.parquet"))] == [(run_ids[0], step) for step in (10, 11, 48, 49)]
    say(capsys, "export", "b.csv", "--what", "runs", "--filter", "params.rate = '0.01'")
    assert [row["run_id"] for row in parsed(Path("b.csv"))] == [run_ids[1]]
    say(capsys, "export", "c.json", "--what", "tags", "--filter", "params.rate = 'none'")
    assert parsed(Path("c.json")) == []


def test_a_file_that_is_there_is_overwritten_only_by_force(capsys: Captured) -> None:
    Path("a.csv").write_text("mine", encoding="utf-8")
    assert "a.csv is there already; --force overwrites it" in refused(capsys, "export", "a.csv", "--what", "params")
    assert Path("a.csv").read_text(encoding="utf-8") == "mine"
    say(capsys, "export", "a.csv", "--what", "params", "--force")
    assert len(parsed(Path("a.csv"))) == 8


def test_an_export_that_fails_leaves_no_file_behind(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flightlog.cli.export.point_rows", lambda batch: iter([(1, 1 / 0)]))
    with pytest.raises(ZeroDivisionError):
        main(["export", "out", "--format", "csv"])
    assert names_in("out") == []


def test_a_file_that_came_meanwhile_is_not_overwritten(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("a.csv")
    monkeypatch.setattr("flightlog.cli.export.point_rows", lambda batch: iter([(1, path.write_text("mine", encoding="utf-8"))]))
    assert "a.csv is there already" in refused(capsys, "export", "a.csv", "--what", "metrics")
    assert (path.read_text(encoding="utf-8"), [name for name in names_in(".") if name.endswith(".part")]) == ("mine", [])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.csv"], "--what is missing"),
        (["-"], "--what is missing"),
        (["a.txt", "--what", "runs"], "--format is missing"),
        (["-", "--what", "runs", "--format", "parquet"], "cannot be written to stdout"),
        (["-", "--what", "runs", "--json"], "--json tells of files"),
        (["a.csv", "--what", "runs", "--run", "a" * 32, "--filter", "metrics.loss < 1"], "not both"),
        (["a.csv", "--what", "runs", "--filter", "metrics.loss <"], "^"),
    ],
    ids=["what", "what on stdout", "format", "parquet", "json", "run and filter", "filter"],
)
def test_an_export_that_cannot_be_is_refused_and_makes_nothing(arguments: Sequence[str], said: str, capsys: Captured) -> None:
    before = names_in(".")
    assert said in refused(capsys, "export", *arguments)
    assert names_in(".") == before


def test_stdout_takes_csv() -> None:
    done = flightlog("export", "-", "--what", "metrics", "--experiment", "digits")
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, b"", 304)


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "-", "--what", "metrics"],
        ["runs", "search"],
        ["runs", "search", "--json"],
        ["runs", "history", "RUN", "--output", "csv"],
        ["runs", "history", "RUN", "--key", "loss"],
        ["runs", "list", "--help"],
    ],
    ids=" ".join,
)
def test_a_reader_that_leaves_ends_a_command_quietly(arguments: list[str], run_ids: list[str]) -> None:
    command = [sys.executable, "-m", "flightlog", *(run_ids[0] if word == "RUN" else word for word in arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == exits.READER_LEFT


def test_a_disk_that_is_full_is_told_of() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "flightlog", "runs", "list"], stdout=full, stderr=subprocess.PIPE, check=False, timeout=60
        )
    assert (done.returncode, done.stderr.count(b"\n")) == (exits.UNREACHABLE, 1)
    assert b"No space left" in done.stderr


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_csv_on_stdout_is_utf_8_and_letters_that_a_terminal_lacks_are_written_out(encoding: str) -> None:
    log_run("λόγος", "ключ", 0)
    flightlog("sync")
    for command in (["runs", "search", "--output", "csv"], ["export", "-", "--what", "runs"]):
        done = flightlog(*command, "--experiment", "λόγος", PYTHONIOENCODING=encoding)
        assert (done.returncode, done.stderr) == (0, b"")
        assert [row["params.rate"] for row in rows(done.stdout.decode("utf-8"))] == ["ключ"]
    done = flightlog("runs", "list", PYTHONIOENCODING=encoding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "λόγος".encode("ascii", "backslashreplace") in done.stdout
