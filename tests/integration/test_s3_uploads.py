"""Artifacts on their way to S3: cut off and gone on with, refused, away for a while, damaged. Real workers, a server of its own."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import pytest

import flightlog
from contracts.facts import RUN, block, started
from flightlog.__main__ import main
from flightlog.producer.context import context
from flightlog.schema.errors import ArtifactDamaged, FlightlogException
from flightlog.schema.events import ArtifactLogged
from flightlog.schema.names import SNAPSHOTS
from flightlog.stores.artifacts import multipart, open_artifacts, s3
from flightlog.stores.artifacts.base import ArtifactsUnavailable
from flightlog.stores.artifacts.multipart import PART
from flightlog.stores.memory import MemoryStore
from flightlog.worker.uploads import Uploads
from services import S3Server

PATIENCE = 60.0


def _until(done: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = done()
        if found:
            return found
        time.sleep(0.1)
    pytest.fail(f"{what} did not come in {PATIENCE:g} s")


def _parts(client: Any) -> set[int]:
    """Return the parts that have come of the only upload under way."""
    uploads = client.list_multipart_uploads(Bucket="flights").get("Uploads", [])
    if not uploads:
        return set()
    parts = client.list_parts(Bucket="flights", Key=uploads[0]["Key"], UploadId=uploads[0]["UploadId"]).get("Parts", [])
    return {part["PartNumber"] for part in parts}


def _worker(*options: str) -> subprocess.Popen[bytes]:
    location = context.location
    command = [sys.executable, "-m", "flightlog", "worker", "--spool", str(location.spool), "--tracking-uri", location.tracking_uri]
    return subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


KILLED_AFTER_THREE_PARTS = """
import itertools, os, signal, sys, threading
from flightlog.__main__ import main
from flightlog.stores.artifacts.multipart import Multipart

begun, done, send = itertools.count(), itertools.count(1), Multipart._send_part

def send_part(*given):
    if next(begun) >= 3:
        threading.Event().wait()
    send(*given)
    if next(done) == 3:
        os.kill(os.getpid(), signal.SIGKILL)

Multipart._send_part = send_part
main(sys.argv[1:])
"""


def test_after_a_worker_was_killed_only_the_parts_that_are_missing_go_again(
    bucket: str, s3_client: Any, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTLOG_ARTIFACT_ROOT", bucket)
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "false")
    content = os.urandom(PART) * 9 + b"the last part is short"
    (tmp_path / "model.bin").write_bytes(content)
    with flightlog.start_run() as run:
        flightlog.log_artifact(tmp_path / "model.bin")
    log = s3_server.folder / "server.log"
    before = log.stat().st_size

    spool, uri = str(context.location.spool), context.location.tracking_uri
    arguments = ["-c", KILLED_AFTER_THREE_PARTS, "worker", "--spool", spool, "--tracking-uri", uri]
    assert (
        subprocess.run([sys.executable, *arguments], stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False).returncode == -signal.SIGKILL
    )
    arrived = _parts(s3_client)
    assert len(arrived) == 3
    assert [path.suffix for path in (context.location.spool / SNAPSHOTS).iterdir() if path.suffix] == [".upload"]
    assert _worker("--idle", "0.5").wait(PATIENCE) == 0

    sent = Counter(int(number) for number in re.findall(r"PUT \S*[?&]partNumber=(\d+)\S* HTTP/1.1\" 200", log.read_text()[before:]))
    assert set(sent) == set(range(1, 11))
    assert all(sent[number] == 1 for number in arrived)
    [state] = flightlog.MlflowClient().artifact_states(run.info.run_id)
    assert (state.state, state.sha256) == ("stored", hashlib.sha256(content).hexdigest())
    assert list((context.location.spool / SNAPSHOTS).iterdir()) == []
    assert s3_client.list_multipart_uploads(Bucket="flights").get("Uploads", []) == []
    fetched = flightlog.artifacts.download_artifacts(f"runs:/{run.info.run_id}/model.bin", dst_path=str(tmp_path / "new"))
    assert Path(fetched).read_bytes() == content


TOLD_TO_LEAVE_AFTER_THREE_PARTS = """
import itertools, os, signal, sys, time
from flightlog.__main__ import main
from flightlog.stores.artifacts.multipart import Multipart

begun, send = itertools.count(), Multipart._send_part

def send_part(*given):
    if next(begun) == 3:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)
    return send(*given)

Multipart._send_part = send_part
main(sys.argv[1:])
"""


def test_a_worker_that_is_told_to_leave_gives_up_between_two_parts_and_the_next_goes_on(
    bucket: str, s3_client: Any, s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTLOG_ARTIFACT_ROOT", bucket)
    monkeypatch.setenv("FLIGHTLOG_START_WORKER", "false")
    (tmp_path / "model.bin").write_bytes(bytes(20 * PART))
    with flightlog.start_run() as run:
        flightlog.log_artifact(tmp_path / "model.bin")
    spool, uri = str(context.location.spool), context.location.tracking_uri
    command = [sys.executable, "-c", TOLD_TO_LEAVE_AFTER_THREE_PARTS, "worker", "--spool", spool, "--tracking-uri", uri]
    assert subprocess.run(command, stderr=subprocess.DEVNULL, timeout=PATIENCE, check=False).returncode == 0
    arrived = _parts(s3_client)
    assert 3 <= len(arrived) < 20
    assert flightlog.MlflowClient().artifact_states(run.info.run_id)[0].state == "pending"
    log = s3_server.folder / "server.log"
    before = log.stat().st_size
    assert _worker("--idle", "0.5").wait(PATIENCE) == 0
    sent = {int(number) for number in re.findall(r"PUT \S*[?&]partNumber=(\d+)\S* HTTP/1.1\" 200", log.read_text()[before:])}
    assert sent == set(range(1, 21)) - arrived
    assert flightlog.MlflowClient().artifact_states(run.info.run_id)[0].state == "stored"


def _put_partly(uri: str, source: Path, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """Begin an upload of a file of three parts, which ends at the second."""
    send = multipart.Multipart._send_part

    def failing(self: multipart.Multipart, upload_id: str, number: int, stop: Any) -> Any:
        if number == 2:
            raise error
        return send(self, upload_id, number, stop)

    with monkeypatch.context() as broken:
        broken.setattr(multipart.Multipart, "_send_part", failing)
        with pytest.raises(type(error)):
            open_artifacts(uri).put(source, "large.bin")


@pytest.mark.parametrize("change", ["content", "memo"])
def test_an_upload_of_something_else_is_not_gone_on_with(
    bucket: str, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    source, memo = tmp_path / "large.bin", tmp_path / "large.bin.upload"
    source.write_bytes(bytes(2 * PART + 1))
    _put_partly(bucket, source, monkeypatch, OSError("cut off"))
    assert memo.exists()
    if change == "content":
        source.write_bytes(b"\1" * (2 * PART + 1))
    else:
        memo.write_text("no JSON")
    open_artifacts(bucket).put(source, "large.bin")
    open_artifacts(bucket).get("large.bin", tmp_path / "fetched")
    assert (tmp_path / "fetched").read_bytes() == source.read_bytes()
    assert not memo.exists()
    assert s3_client.list_multipart_uploads(Bucket="flights").get("Uploads", []) == []


def test_an_upload_that_s3_has_forgotten_begins_anew(bucket: str, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(bytes(2 * PART + 1))
    _put_partly(bucket, source, monkeypatch, OSError("cut off"))
    [upload] = s3_client.list_multipart_uploads(Bucket="flights")["Uploads"]
    s3_client.abort_multipart_upload(Bucket="flights", Key=upload["Key"], UploadId=upload["UploadId"])
    open_artifacts(bucket).put(source, "large.bin")
    assert open_artifacts(bucket).size("large.bin") == 2 * PART + 1


@pytest.mark.parametrize("moment", ["_send_part", "_complete"])
def test_an_upload_that_s3_forgets_while_it_goes_on_begins_anew(
    bucket: str, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(bytes(2 * PART + 1))
    true = getattr(multipart.Multipart, moment)
    aborted: list[str] = []

    def forgotten(self: multipart.Multipart, upload_id: str, *given: Any) -> Any:
        if not aborted:
            aborted.append(upload_id)
            s3_client.abort_multipart_upload(Bucket="flights", Key="some/prefix/large.bin", UploadId=upload_id)
            raise self._client.exceptions.NoSuchUpload({"Error": {"Code": "NoSuchUpload"}}, "UploadPart")  # the server says 500 instead
        return true(self, upload_id, *given)

    monkeypatch.setattr(multipart.Multipart, moment, forgotten)
    open_artifacts(bucket).put(source, "large.bin")
    assert open_artifacts(bucket).size("large.bin") == 2 * PART + 1
    assert s3_client.list_multipart_uploads(Bucket="flights").get("Uploads", []) == []
    assert [path.name for path in tmp_path.glob("large.bin*")] == ["large.bin"]


def test_the_upload_of_an_artifact_that_a_newer_one_replaced_is_aborted_and_forgotten(
    bucket: str, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, store = tmp_path / SNAPSHOTS, MemoryStore()
    folder.mkdir()
    older, newer = (
        ArtifactLogged(time=1, path="large.bin", size=size, snapshot=name * 32) for size, name in ((2 * PART + 1, "a"), (5, "b"))
    )
    for event in (older, newer):
        (folder / event.snapshot).write_bytes(bytes(event.size))
    _put_partly(bucket, folder / older.snapshot, monkeypatch, OSError("cut off"))
    blocks = [block(RUN, started(artifact_uri=bucket), older, newer)]
    store.apply(blocks)
    uploads = Uploads(tmp_path, store, store)
    uploads.run(blocks)
    uploads.run()
    assert s3_client.list_multipart_uploads(Bucket="flights").get("Uploads", []) == []
    assert list(folder.iterdir()) == []
    assert open_artifacts(bucket).size("large.bin") == 5


def test_an_upload_that_is_refused_is_aborted_and_so_is_one_that_nobody_can_go_on_with(
    bucket: str, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "large.bin"
    source.write_bytes(bytes(2 * PART + 1))
    refused = s3_client.exceptions.ClientError(
        {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}, "UploadPart"
    )
    send = multipart.Multipart._send_part
    for call, error, raised in (("put", refused, OSError), ("copy", ValueError("cut off"), ValueError)):

        def failing(self: multipart.Multipart, upload_id: str, number: int, stop: Any, error: Exception = error) -> Any:
            if number == 2:
                raise error
            return send(self, upload_id, number, stop)

        with monkeypatch.context() as broken:
            broken.setattr(multipart.Multipart, "_send_part", failing)
            with pytest.raises(raised):
                getattr(open_artifacts(bucket), call)(source, "large.bin")
        assert s3_client.list_multipart_uploads(Bucket="flights").get("Uploads", []) == []
        assert [path.name for path in tmp_path.glob("large.bin*")] == ["large.bin"]


def test_a_bucket_that_is_not_there_fails_the_artifact_until_it_is_and_is_tried_again(
    s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLIGHTLOG_ARTIFACT_ROOT", "s3://later/x")
    (tmp_path / "a.txt").write_text("text")
    refusal = pytest.raises(FlightlogException, match=r"'a.txt' could not be stored: .*NoSuchBucket.*flightlog artifacts retry")
    with flightlog.start_run() as run, refusal:
        flightlog.log_artifact(tmp_path / "a.txt", synchronous=True)
    run_id = run.info.run_id
    [warning] = [record.message for record in caplog.records if "could not be stored" in record.message]
    assert f"1 artifact of run {run_id} could not be stored (failed), such as 'a.txt'" in warning
    assert main(["runs", "show", run_id]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "failed" in shown
    assert "NoSuchBucket" in shown
    assert main(["artifacts", "retry", run_id]) in (5, 0)
    _until(lambda: "failed" in {item.state for item in flightlog.MlflowClient().artifact_states(run_id)}, "the second failure")
    s3_client.create_bucket(Bucket="later")
    assert main(["artifacts", "retry", run_id]) == 0
    _until(lambda: {item.state for item in flightlog.MlflowClient().artifact_states(run_id)} == {"stored"}, "the artifact")
    assert flightlog.artifacts.load_text(f"runs:/{run_id}/a.txt") == "text"


def test_an_endpoint_that_is_away_delays_artifacts_and_loses_none(
    bucket: str, s3_client: Any, s3_server: S3Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FLIGHTLOG_ARTIFACT_ROOT", bucket)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3_server.kill()
    with flightlog.start_run() as run:
        flightlog.log_text("text", "a.txt")
    client, run_id = flightlog.MlflowClient(), run.info.run_id
    reason = _until(lambda: client.artifact_states(run_id)[0].reason, "the reason")
    assert re.match(r"attempt \d+ failed, it is tried again: ArtifactsUnavailable: s3://flights", reason)
    with pytest.raises(flightlog.exceptions.MlflowException, match="is not stored yet: attempt"):
        context.producer.wait_stored(context.producer.awaited.names(run_id), 0.1)
    s3_server.start()
    s3_client.create_bucket(Bucket="flights")
    _until(lambda: client.artifact_states(run_id)[0].state == "stored", "the artifact")
    assert flightlog.artifacts.load_text(f"runs:/{run_id}/a.txt") == "text"


def test_what_s3_has_is_held_to_the_checksum_that_is_kept_with_it(bucket: str, s3_client: Any, tmp_path: Path) -> None:
    for name, size in (("small", 4), ("large", PART + 1)):
        (tmp_path / name).write_bytes(bytes(size))
        sha256 = hashlib.sha256(bytes(size)).hexdigest()
        open_artifacts(bucket).copy(tmp_path / name, name, sha256)
        open_artifacts(bucket).get(name, tmp_path / "fetched" / name)
        s3_client.put_object(Bucket="flights", Key=f"some/prefix/{name}", Body=b"\1" * size, Metadata={"sha256": sha256})
        with pytest.raises(ArtifactDamaged, match=sha256):
            open_artifacts(bucket).get(name, tmp_path / "damaged" / name)
        assert not list(tmp_path.glob("damaged/*"))


def test_an_object_that_was_changed_is_not_taken_for_what_was_logged(
    bucket: str, s3_client: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLIGHTLOG_ARTIFACT_ROOT", bucket)
    with flightlog.start_run() as run:
        flightlog.log_text("text", "a.txt")
        flightlog.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt")
    [item] = s3_client.list_objects_v2(Bucket="flights")["Contents"]
    s3_client.put_object(Bucket="flights", Key=item["Key"], Body=b"fake")
    with pytest.raises(ArtifactDamaged, match=r"'a.txt' has the SHA-256"):
        flightlog.artifacts.load_text(f"runs:/{run.info.run_id}/a.txt")


@pytest.mark.parametrize("key", ["a/../../b", "/b", "a//b", "../b", "a\\b"])
def test_a_key_that_is_no_path_is_left_out(bucket: str, s3_client: Any, key: str, caplog: pytest.LogCaptureFixture) -> None:
    s3_client.put_object(Bucket="flights", Key=f"some/prefix/{key}", Body=b"x")
    s3_client.put_object(Bucket="flights", Key="some/prefix/fine", Body=b"x")
    repository = open_artifacts(bucket)
    found = repository.list() + [inner for item in repository.list() if item.is_dir for inner in repository.list(item.path)]
    assert [item.path for item in found if not item.is_dir] == ["fine"]
    assert "no path of an artifact" in caplog.text


@pytest.mark.parametrize(
    ("code", "status", "passes"),
    [
        ("SlowDown", 503, True),
        ("InternalError", 500, True),
        ("TooManyRequests", 429, True),
        ("ExpiredToken", 400, True),
        ("AccessDenied", 403, False),
        ("NoSuchBucket", 404, False),
        ("InvalidAccessKeyId", 403, False),
    ],
)
def test_what_s3_says_tells_whether_it_may_go_well_later(bucket: str, s3_client: Any, code: str, status: int, passes: bool) -> None:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}

    def refuse() -> None:
        raise s3_client.exceptions.ClientError(answer, "PutObject")

    repository = open_artifacts(bucket)
    assert isinstance(repository, s3.S3Artifacts)
    with pytest.raises(OSError, match=code) as raised:
        repository._call(refuse)
    assert isinstance(raised.value, ArtifactsUnavailable) is passes


def test_the_client_asks_again_as_the_environment_says(s3_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert s3.client(os.getpid()).meta.config.retries["total_max_attempts"] == s3.ATTEMPTS  # type: ignore[attr-defined]
    s3.client.cache_clear()
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    assert boto3.client("s3").meta.config.retries == s3.client(os.getpid()).meta.config.retries  # type: ignore[attr-defined]
