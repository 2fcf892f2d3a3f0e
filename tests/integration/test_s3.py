"""Artifacts and archives in S3, against a server that speaks its protocol."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from contracts.artifact_contract import ArtifactContract
from contracts.facts import RUN, block, metric, started
from flightlog.__main__ import main
from flightlog.schema.errors import InvalidParameter
from flightlog.stores.artifacts import open_artifacts, s3
from flightlog.stores.artifacts.base import ArtifactRepository
from flightlog.stores.sql.store import SqlStore


class TestS3Artifacts(ArtifactContract):
    @pytest.fixture
    def repository(self, bucket: str) -> ArtifactRepository:
        return open_artifacts(bucket)


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


def test_places_that_differ_behind_a_number_sign_are_different_places(bucket: str, tmp_path: Path) -> None:
    source = tmp_path / "a.txt"
    places = [open_artifacts(f"{bucket}/trial #{number}?x/{number}") for number in (1, 2)]
    for number, place in enumerate(places):
        source.write_text(str(number))
        place.put(source, "a.txt")
    for number, place in enumerate(places):
        place.get("a.txt", tmp_path / "back.txt")
        assert (tmp_path / "back.txt").read_text() == str(number)
