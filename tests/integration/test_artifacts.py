"""Artifacts from the script to where they are read again, with the worker that the run starts."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import flightlog
from flightlog.__main__ import main
from flightlog.artifacts import shown, split_uri
from flightlog.producer.context import context
from flightlog.schema.errors import ArtifactDamaged, FlightlogException, InvalidParameter, NotCommitted, NotFound
from flightlog.schema.names import SNAPSHOTS
from flightlog.stores.artifacts.local import LocalArtifacts

TEXT = hashlib.sha256(b"text").hexdigest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Give a folder as scripts log them."""
    folder = tmp_path / "model"
    (folder / "deep").mkdir(parents=True)
    (folder / "weights.bin").write_bytes(b"weights")
    (folder / "deep" / "config.json").write_text('{"layers": 3}')
    return folder


def _paths(folder: str) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def _snapshots() -> list[str]:
    folder = context.location.spool / SNAPSHOTS
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_what_was_just_logged_can_be_read_in_every_way_that_scripts_name_it(model: Path, tmp_path: Path) -> None:
    with flightlog.start_run() as run:
        flightlog.log_artifact(model)
        flightlog.log_artifacts(model, "flat")
        flightlog.log_text("text", "notes/a.txt")
        uri, run_id = str(run.info.artifact_uri), run.info.run_id
        assert flightlog.artifacts.load_text(f"{uri}/notes/a.txt") == "text"
    assert flightlog.artifacts.load_dict(f"runs:/{run_id}/model/deep/config.json") == {"layers": 3}
    assert flightlog.artifacts.load_text(f"{Path(uri).as_uri()}/notes/a.txt") == "text"
    for given in ({"run_id": run_id}, {"artifact_uri": f"runs:/{run_id}"}):
        assert [item.path for item in flightlog.artifacts.list_artifacts(**given)] == ["flat", "model", "notes"]
    assert [item.path for item in flightlog.artifacts.list_artifacts(f"runs:/{run_id}/model")] == ["model/deep", "model/weights.bin"]
    assert [item.path for item in flightlog.artifacts.list_artifacts(run_id=run_id, artifact_path="notes")] == ["notes/a.txt"]
    assert flightlog.artifacts.list_artifacts(f"runs:/{run_id}/notes/a.txt") == []
    whole = flightlog.artifacts.download_artifacts(run_id=run_id, dst_path=str(tmp_path / "whole"))
    assert whole == str(tmp_path / "whole")
    assert _paths(whole) == ["flat/deep/config.json", "flat/weights.bin", "model/deep/config.json", "model/weights.bin", "notes/a.txt"]
    file = flightlog.artifacts.download_artifacts(f"runs:/{run_id}/notes/a.txt", dst_path=str(tmp_path / "file"))
    assert (file, Path(file).read_text()) == (str(tmp_path / "file" / "notes" / "a.txt"), "text")
    folder = flightlog.artifacts.download_artifacts(f"{uri}/model/")
    assert _paths(folder) == ["deep/config.json", "weights.bin"]


def test_what_is_asked_for_wrongly_is_an_error(model: Path) -> None:
    with flightlog.start_run() as run:
        flightlog.log_artifacts(model)
    uri = f"runs:/{run.info.run_id}"
    for arguments in ({}, {"artifact_uri": uri, "run_id": run.info.run_id}, {"artifact_uri": uri, "artifact_path": "a"}):
        for verb in (flightlog.artifacts.download_artifacts, flightlog.artifacts.list_artifacts):
            with pytest.raises(InvalidParameter, match="artifact_"):
                verb(**arguments)
    with pytest.raises(NotFound, match="'nothing'"):
        flightlog.artifacts.download_artifacts(f"{uri}/nothing")
    with pytest.raises(InvalidParameter, match="leaves the run's artifacts"):
        flightlog.artifacts.load_text(f"{uri}/../../secret")
    with pytest.raises(FlightlogException, match="no JSON") as raised:
        flightlog.artifacts.load_dict(f"{uri}/weights.bin")
    assert raised.value.error_code == "BAD_REQUEST"
    (model / "latin").write_bytes(b"\xff")
    flightlog.MlflowClient().log_artifact(run.info.run_id, model / "latin")
    with pytest.raises(FlightlogException, match="no text in UTF-8"):
        flightlog.artifacts.load_text(f"{uri}/latin")
    with pytest.raises(FlightlogException, match="no image"):
        flightlog.artifacts.load_image(f"{uri}/latin")


def test_an_image_comes_back(tmp_path: Path) -> None:
    import PIL.Image  # noqa: PLC0415 - an extra

    PIL.Image.new("RGB", (3, 2), "red").save(tmp_path / "a.png")
    with flightlog.start_run() as run:
        flightlog.log_artifact(tmp_path / "a.png")
    image = flightlog.artifacts.load_image(f"runs:/{run.info.run_id}/a.png")
    assert (image.size, image.getpixel((0, 0))) == ((3, 2), (255, 0, 0))


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("/a/b/c.txt", ("/a/b", "c.txt")),
        ("file:///a/b%20c/d", ("/a/b c", "d")),
        ("s3://bucket/a/b", ("s3://bucket/a", "b")),
        ("s3://bucket/a/b/", ("s3://bucket/a", "b")),
        ("s3://bucket/a", ("s3://bucket", "a")),
        ("s3://bucket", ("s3://bucket", "")),
    ],
)
def test_a_uri_is_a_place_and_a_name_in_it(uri: str, parts: tuple[str, str]) -> None:
    assert split_uri(uri) == parts


def test_a_synchronous_call_returns_when_the_artifact_is_stored(model: Path) -> None:
    with flightlog.start_run() as run:
        assert flightlog.log_artifacts(model, synchronous=True) is None
        assert _snapshots() == []
        operation = flightlog.log_artifact(model / "weights.bin", "again", synchronous=False)
        assert operation is not None
        operation.wait()
        assert _snapshots() == []
        client = flightlog.MlflowClient()
        client.log_artifact(run.info.run_id, model / "weights.bin", "third", synchronous=True)
        states = client.artifact_states(run.info.run_id)
    assert [(item.path, item.state) for item in states] == [
        (path, "stored") for path in ("again/weights.bin", "deep/config.json", "third/weights.bin", "weights.bin")
    ]
    assert {item.sha256 for item in states if item.path.endswith(".bin")} == {hashlib.sha256(b"weights").hexdigest()}


def test_a_synchronous_call_raises_why_an_artifact_could_not_be_stored(model: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file where a folder should be")
    flightlog.set_experiment(experiment_id=flightlog.create_experiment("e", artifact_location=str(tmp_path / "taken")))
    with flightlog.start_run() as run:
        with pytest.raises(FlightlogException, match=r"'weights.bin' could not be stored: .*flightlog artifacts retry") as raised:
            flightlog.log_artifact(model / "weights.bin", synchronous=True)
        assert run.info.run_id in str(raised.value)
    assert main(["artifacts", "retry", run.info.run_id]) in (0, 5)
    (tmp_path / "taken").unlink()
    flightlog.MlflowClient().log_artifact(run.info.run_id, model / "weights.bin", "other", synchronous=True)


def test_without_a_worker_a_synchronous_call_says_where_the_copy_is(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "false")
    monkeypatch.setenv("FLIGHTLOG_SYNC_TIMEOUT", "0.1")
    with flightlog.start_run(), pytest.raises(NotCommitted, match="flightlog worker --spool"):
        flightlog.log_artifact(model / "weights.bin", synchronous=True)
    assert len(_snapshots()) == 1


def test_where_one_file_of_a_folder_cannot_be_logged_none_is(model: Path) -> None:
    os.mkfifo(model / "pipe")
    with flightlog.start_run() as run, pytest.raises(InvalidParameter, match="a named pipe"):
        flightlog.log_artifacts(model)
    assert _snapshots() == []
    assert flightlog.MlflowClient().artifact_states(run.info.run_id) == []


def test_links_out_of_a_folder_are_followed_where_the_setting_says_so(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "blob").write_text("text")
    (model / "link").symlink_to(tmp_path / "blob")
    monkeypatch.setenv("FLIGHTLOG_FOLLOW_LINKS", "true")
    with flightlog.start_run() as run:
        flightlog.log_artifacts(model)
    assert flightlog.artifacts.load_text(f"runs:/{run.info.run_id}/link") == "text"


def test_a_stored_file_that_was_changed_is_not_taken_for_what_was_logged() -> None:
    with flightlog.start_run() as run:
        flightlog.log_text("text", "a.txt")
        assert flightlog.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt") == "text"
    Path(str(run.info.artifact_uri), "a.txt").write_text("fake")
    with pytest.raises(ArtifactDamaged, match=TEXT):
        flightlog.MlflowClient().download_artifacts(run.info.run_id, "")


def test_an_artifact_that_is_replaced_while_it_is_fetched_is_not_called_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    with flightlog.start_run() as run:
        flightlog.log_text("text", "a.txt")
    get = LocalArtifacts.get
    replaced: list[str] = []

    def replace_and_get(self: LocalArtifacts, path: str, target: Path, told: Any = None) -> None:
        if not replaced:
            replaced.append(path)
            flightlog.MlflowClient().log_text(run.info.run_id, "newer", "a.txt")
            assert context.producer.settle_artifacts(30)
        get(self, path, target, told)

    monkeypatch.setattr(LocalArtifacts, "get", replace_and_get)
    assert flightlog.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt") == "newer"


class TestArtifactLocation:
    def test_it_counts_in_every_process_that_names_the_experiment(self, tmp_path: Path) -> None:
        place = tmp_path / "elsewhere"
        flightlog.create_experiment("e", artifact_location=str(place))
        code = "import flightlog; flightlog.set_experiment('e'); run = flightlog.start_run(); flightlog.log_text('text', 'a.txt')"
        done = subprocess.run([sys.executable, "-c", f"{code}; print(run.info.artifact_uri)"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(str(place))
        assert [path.read_text() for path in place.rglob("a.txt")] == ["text"]

    def test_it_counts_where_nobody_on_the_machine_has_heard_of_it(self, tmp_path: Path) -> None:
        place = tmp_path / "elsewhere"
        flightlog.create_experiment("e", artifact_location=str(place))
        flightlog.get_experiment_by_name("e")
        context.producer.locations._known.clear()
        for note in (context.location.spool / "locations").iterdir():
            note.unlink()
        flightlog.set_experiment("e")
        with flightlog.start_run() as run:
            flightlog.log_text("text", "a.txt")
        assert str(flightlog.get_run(run.info.run_id).info.artifact_uri).startswith(str(place))
        assert flightlog.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt") == "text"
        assert [path.read_text() for path in place.rglob("a.txt")] == ["text"]

    def test_it_is_a_path_in_the_folder_in_which_it_was_given(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        flightlog.create_experiment("e", artifact_location="relative")
        experiment = flightlog.get_experiment_by_name("e")
        assert experiment is not None
        assert experiment.artifact_location == str(Path.cwd() / "relative")

    def test_it_counts_for_the_client_too(self, tmp_path: Path) -> None:
        client = flightlog.MlflowClient()
        experiment_id = client.create_experiment("e", artifact_location=str(tmp_path / "elsewhere"))
        run = client.create_run(experiment_id)
        assert run.info.artifact_uri == f"{tmp_path / 'elsewhere'}/{run.info.run_id}/artifacts"
        assert client.get_run(run.info.run_id).info.artifact_uri == run.info.artifact_uri
        usual = client.create_run("0")
        assert usual.info.artifact_uri == f"{context.location.artifact_location('0')}/{usual.info.run_id}/artifacts"


SCRIPT = """
import flightlog
with flightlog.start_run() as run:
    flightlog.log_text("text", "a.txt")
    flightlog.log_text("text", "b.txt")
print(run.info.run_id)
"""


def _script(**environment: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, env={**os.environ, **environment}, timeout=60
    )
    return done.stdout.strip(), done.stderr


def test_a_script_whose_artifacts_are_stored_says_nothing_when_it_ends() -> None:
    _, said = _script()
    assert said == ""


def test_a_script_says_which_artifacts_could_not_be_stored_and_how_to_go_on() -> None:
    run_id, said = _script(FLIGHTLOG_ARTIFACT_ROOT="gs://unknown/x")
    [line] = [line for line in said.splitlines() if "could not be stored" in line]
    assert f"2 artifacts of run {run_id} could not be stored (failed), such as 'a.txt': InvalidParameter: artifact URI 'gs://" in line
    assert f"flightlog artifacts retry {run_id} --tracking-uri {context.location.tracking_uri}" in line


def test_a_script_says_which_artifacts_nobody_has_stored_yet() -> None:
    run_id, said = _script(FLIGHTLOG_START_WORKER="false")
    assert f"2 artifacts are not stored yet, such as 'a.txt' of run {run_id}; the copies are safe in the spool" in said
    assert said.count("not stored yet") == 1


def test_the_end_of_a_process_is_not_held_up_by_an_artifact_that_is_tried_in_vain() -> None:
    began = time.monotonic()
    environment = {
        "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_MAX_ATTEMPTS": "1",
    }
    run_id, said = _script(FLIGHTLOG_ARTIFACT_ROOT="s3://flights/x", FLIGHTLOG_EXIT_TIMEOUT="20", AWS_DEFAULT_REGION="x", **environment)
    assert time.monotonic() - began < 20
    assert f"of run {run_id} could not be stored (tried in vain so far), such as" in said or "not stored yet" in said
    os.kill(_worker_pid(), 15)


def _worker_pid() -> int:
    import psutil  # noqa: PLC0415 - only here

    mine = [item for item in psutil.process_iter(["cmdline"]) if str(context.location.spool) in (item.info["cmdline"] or [])]
    return mine[0].pid


class TestCommands:
    def test_a_run_is_logged_to_listed_and_fetched(self, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with flightlog.start_run() as run:
            pass
        run_id = run.info.run_id
        assert main(["artifacts", "log-artifact", "--run-id", run_id, "--local-file", str(model / "weights.bin"), "-a", "plots"]) == 0
        assert main(["artifacts", "log-artifacts", "--run-id", run_id, "--local-dir", str(model)]) == 0
        capsys.readouterr()
        assert main(["artifacts", "list", "--run-id", run_id]) == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[2:]] == ["deep/", "plots/", "weights.bin"]
        assert main(["artifacts", "download", "--run-id", run_id, "-a", "plots", "-d", str(tmp_path / "new")]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path / "new" / "plots")
        assert main(["artifacts", "download", "-u", f"runs:/{run_id}/weights.bin", "-d", str(tmp_path / "new")]) == 0
        assert _paths(str(tmp_path / "new")) == ["plots/weights.bin", "weights.bin"]

    def test_what_is_not_stored_is_listed_with_the_reason(self, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
        flightlog.set_experiment(experiment_id=flightlog.create_experiment("e", artifact_location=str(model / "weights.bin" / "in-a-file")))
        with flightlog.start_run() as run:
            flightlog.log_text("text", "a.txt")
        assert context.producer.settle_artifacts(30)
        assert main(["artifacts", "list", "--run-id", run.info.run_id, "--json"]) == 0
        assert '"state": "failed"' in capsys.readouterr().out
        assert main(["artifacts", "retry", "f" * 32]) == 3


def test_a_long_download_is_shown_where_somebody_watches(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "true")
    with shown(2, 2048) as told:
        assert told is not None
        told(2048)
    assert "2 artifacts" in capfd.readouterr().err
    monkeypatch.setenv("FLIGHTLOG_PROGRESS_BAR", "false")
    context.reset()
    with shown(2, 1 << 40) as told:
        assert told is None
    assert capfd.readouterr().err == ""


def test_a_newer_artifact_at_a_path_replaces_one_that_still_waits(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    with flightlog.start_run() as run:
        for number in range(50):
            flightlog.log_text(str(number), "a.txt")
        assert context.producer.settle_artifacts(30)
    assert flightlog.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt") == "49"
    assert _snapshots() == []
    assert caplog.records == []


def test_a_synchronous_call_for_a_run_that_nobody_has_started_says_so(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    unknown, began = "f" * 32, time.monotonic()
    with pytest.raises(NotCommitted, match=f"'a.txt' is not stored yet: nobody has started the run {unknown}"):
        flightlog.log_artifact(tmp_path / "a.txt", run_id=unknown, synchronous=True)
    assert time.monotonic() - began < 20


def test_a_synchronous_call_of_which_no_worker_says_anything_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FLIGHTLOG_SYNC_TIMEOUT", "2")
    monkeypatch.setattr("flightlog.producer.awaited.SIGN", 1.0)
    (tmp_path / "a.txt").write_text("text")
    operation = flightlog.log_artifact(tmp_path / "a.txt", run_id="f" * 32, synchronous=False)
    assert operation is not None
    [snapshot] = (context.location.spool / SNAPSHOTS).iterdir()
    os.utime(snapshot, (time.time() + 60, time.time() + 60))  # the start of the run may still come
    assert context.producer.settle(30)
    with pytest.raises(NotCommitted, match=r"'a.txt' is not stored yet, and nothing was heard of it for 2 s"):
        operation.wait()
    snapshot.unlink()
