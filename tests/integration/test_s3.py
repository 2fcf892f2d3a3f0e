"""Artifacts and archives in S3, against a server that speaks its protocol."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import boto3
import pytest

from contracts.facts import RUN, block, metric, started
from flightlog.__main__ import main
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.stores.artifacts import open_artifacts, s3
from flightlog.stores.sql.store import SqlStore
from services import Server


@pytest.fixture
def bucket(s3_server: Server, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the URI of an empty bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.url)
    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    s3.client.cache_clear()
    client = boto3.client("s3", endpoint_url=s3_server.url)
    client.create_bucket(Bucket="flights")
    yield "s3://flights/some/prefix"
    for item in client.list_objects_v2(Bucket="flights").get("Contents", []):
        client.delete_object(Bucket="flights", Key=item["Key"])
    client.delete_bucket(Bucket="flights")
    client.close()
    s3.client.cache_clear()


def test_files_are_put_listed_measured_fetched_and_deleted(bucket: str, tmp_path: Path) -> None:
    repository = open_artifacts(bucket)
    source = tmp_path / "a.txt"
    source.write_text("text")
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(9 << 20))
    repository.put(source, "notes/a.txt")
    repository.put(large, "large.bin")
    assert [(item.path, item.is_dir, item.file_size) for item in repository.list()] == [
        ("large.bin", False, 9 << 20),
        ("notes", True, None),
    ]
    assert [item.path for item in repository.list("notes")] == ["notes/a.txt"]
    assert (repository.size("notes/a.txt"), repository.size("nothing"), repository.list("nothing")) == (4, None, [])
    repository.get("notes/a.txt", tmp_path / "deep" / "b.txt")
    assert (tmp_path / "deep" / "b.txt").read_text() == "text"
    with pytest.raises(NotFound):
        repository.get("nothing", tmp_path / "c.txt")
    repository.delete("notes/a.txt")
    repository.delete("notes/a.txt")
    assert [item.path for item in repository.list()] == ["large.bin"]
    with pytest.raises(InvalidParameter, match="leaves the run"):
        repository.size("../other")


def test_every_part_of_a_file_is_sent_with_a_checksum(bucket: str, tmp_path: Path) -> None:
    sent: list[str] = []
    repository = open_artifacts(bucket)
    events = s3.client(os.getpid()).meta.events
    events.register("before-send.s3.PutObject", lambda request, **_: sent.append(str(request.headers)))
    events.register("before-send.s3.UploadPart", lambda request, **_: sent.append(str(request.headers)))
    for name, size in (("small", 4), ("large", 9 << 20)):
        (tmp_path / name).write_bytes(bytes(size))
        repository.put(tmp_path / name, name)
    assert len(sent) == 3
    assert all("x-amz-checksum-crc32" in headers.lower() for headers in sent)


def test_a_bucket_that_is_not_there_is_an_error_that_names_it(bucket: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")
    with pytest.raises(OSError, match="s3://missing"):
        open_artifacts("s3://missing/x").put(tmp_path / "a.txt", "a.txt")
    with pytest.raises(InvalidParameter, match="bucket"):
        open_artifacts("s3:///x")


def test_a_run_is_archived_in_a_bucket_and_replayed_from_there(bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    store = SqlStore(f"sqlite:///{Path.cwd() / 'tracking.db'}")
    store.apply([block(RUN, started(), metric("loss", 1.0))])
    store.close()
    place = f"sqlite:///{Path.cwd() / 'tracking.db'}"
    assert main(["archive", place, "--to", bucket, "--run", RUN]) == 0
    assert "2 events of 1 run archived" in capsys.readouterr().out
    assert main(["verify", place]) == 0
    assert main(["replay", "--from", bucket, "--to", "copy"]) == 0
    assert main(["runs", "show", RUN, "--tracking-uri", "copy"]) == 0


def test_a_missing_boto3_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    s3.client.cache_clear()
    monkeypatch.setitem(__import__("sys").modules, "boto3", None)
    with pytest.raises(InvalidParameter, match=r"flightlog\[s3\]"):
        open_artifacts("s3://bucket/x")
