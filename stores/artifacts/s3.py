"""Artifacts in S3, or in what speaks its protocol: where `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` says, which boto3 reads itself.

A small file is one request; a large one goes in parts, several at a time, see `multipart`. boto3 sends a CRC32 with each request, by which
S3 refuses what was changed on the way. The SHA-256 is kept with the object, as `x-amz-meta-sha256`, and compared when it is fetched.
"""

from __future__ import annotations

import logging
import os
import posixpath
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from flightlog.schema.artifact_paths import check_artifact_file, check_artifact_path
from flightlog.schema.entities import FileInfo
from flightlog.schema.errors import InvalidParameter, NotFound
from flightlog.stores.artifacts.base import ArtifactsUnavailable, Told
from flightlog.stores.artifacts.checksums import check_sha256, copy_hashed, sha256_of
from flightlog.stores.artifacts.multipart import PART, Destination, Multipart, abandon, may_pass
from flightlog.stores.artifacts.partial import written_whole

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

log = logging.getLogger("flightlog.stores")

T = TypeVar("T")

CONNECTIONS = 32
CONNECT_TIMEOUT = 10.0
ATTEMPTS = 5
"""So often boto3 asks, with growing pauses, before it gives up; then the worker waits and tries again."""
SHA256 = "sha256"
"""The name of the object's metadata that holds its checksum."""


class S3Artifacts:
    """The files of one run under a key prefix. Credentials, region and endpoint are found as boto3 finds them."""

    def __init__(self, uri: str) -> None:
        bucket, _, prefix = uri.removeprefix("s3://").partition("/")
        if not bucket:
            raise InvalidParameter(f"artifact URI {uri!r} names no bucket; it must be s3://bucket/prefix")
        self._uri, self._bucket, self._prefix = uri, bucket, unquote(prefix).strip("/")
        self._client = client(os.getpid())

    def put(self, source: Path, path: str, sha256: str | None = None, told: Told | None = None) -> None:
        """See `ArtifactRepository.put`. A large file appears when its last part has come.

        An upload that was cut off goes on where it was, as a file beside the source remembers.
        """
        self._put(source, path, sha256, source.with_name(f"{source.name}{MEMO}"), told)

    def copy(self, source: Path, path: str, sha256: str | None = None, told: Told | None = None) -> None:
        """See `ArtifactRepository.copy`: an upload leaves its source alone."""
        self._put(source, path, sha256, None, told)

    def _put(self, source: Path, path: str, sha256: str | None, memo: Path | None, told: Told | None) -> None:
        key, metadata = self._key(check_artifact_file(path)), {SHA256: sha256} if sha256 else {}
        if source.stat().st_size > PART:
            destination = Destination(self._bucket, key, metadata)
            self._call(lambda: Multipart(self._client, source, destination, memo, told).upload())
        else:
            content = source.read_bytes()
            self._call(lambda: self._client.put_object(Bucket=self._bucket, Key=key, Body=content, Metadata=metadata))

    def list(self, path: str = "") -> list[FileInfo]:
        """See `ArtifactRepository.list`."""
        path = check_artifact_path(path)
        folder = self._key(path)
        prefix = f"{folder}/" if folder else ""
        found: list[FileInfo] = []
        for page in self._call(lambda: list(self._pages(prefix))):
            found += [
                FileInfo(self._path(item["Prefix"].rstrip("/")), is_dir=True, file_size=None) for item in page.get("CommonPrefixes", [])
            ]
            files = (item for item in page.get("Contents", []) if item["Key"] != prefix)
            found += [FileInfo(self._path(item["Key"]), is_dir=False, file_size=item["Size"]) for item in files]
        return sorted((item for item in found if self._is_plain(item.path, path)), key=lambda item: item.path)

    def _is_plain(self, path: str, folder: str) -> bool:
        """Whether a key is one that this class can have written: others, such as with `..` or `//`, cannot be fetched as files."""
        is_plain = path != "" and posixpath.dirname(path) == folder and posixpath.normpath(f"/{path}") == f"/{path}" and "\\" not in path
        if not is_plain:
            log.warning("%s has an object whose name is no path of an artifact, and which is left out: %r", self._uri, path)
        return is_plain

    def _pages(self, prefix: str) -> Any:  # noqa: ANN401 - boto3's page
        return self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/")

    def size(self, path: str) -> int | None:
        """See `ArtifactRepository.size`."""
        key = self._key(check_artifact_path(path))
        try:
            return self._call(lambda: self._client.head_object(Bucket=self._bucket, Key=key)["ContentLength"])
        except NotFound:
            return None

    def sha256(self, path: str) -> str | None:
        """See `ArtifactRepository.sha256`."""
        key = self._key(check_artifact_path(path))
        try:
            return self._call(lambda: self._sha256(key))
        except NotFound:
            return None

    def _sha256(self, key: str) -> str:
        kept = self._client.head_object(Bucket=self._bucket, Key=key)["Metadata"].get(SHA256)
        if kept is not None:
            return kept
        return _stream(self._client.get_object(Bucket=self._bucket, Key=key), Path(os.devnull), None)

    def get(self, path: str, target: Path, told: Told | None = None) -> None:
        """See `ArtifactRepository.get`."""
        key = self._key(check_artifact_path(path))
        with written_whole(target) as partial:
            self._call(lambda: self._fetch(key, partial, told))

    def _fetch(self, key: str, target: Path, told: Told | None) -> None:
        answer = self._client.get_object(Bucket=self._bucket, Key=key)
        if answer["ContentLength"] > PART:
            answer["Body"].close()
            self._client.download_file(self._bucket, key, str(target), Callback=told)
            found = sha256_of(target) if SHA256 in answer["Metadata"] else ""
        else:
            found = _stream(answer, target, told)
        check_sha256(f"s3://{self._bucket}/{key}", found, answer["Metadata"].get(SHA256))

    def delete(self, path: str) -> None:
        """See `ArtifactRepository.delete`."""
        key = self._key(check_artifact_file(path))
        self._call(lambda: self._client.delete_object(Bucket=self._bucket, Key=key))

    def _key(self, path: str) -> str:
        return posixpath.join(self._prefix, path).rstrip("/")

    def _path(self, key: str) -> str:
        return key[len(self._prefix) + 1 :] if self._prefix else key

    def _call(self, request: Callable[[], T]) -> T:
        """Do a request. Raises `NotFound`, or `OSError` with what S3 said: `ArtifactsUnavailable` where it may go well later."""
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 - boto3 is an extra, imported late
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            return request()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
                raise NotFound(f"{self._uri} has no such object: {error}") from error
            raise self._translated(error, passes=may_pass(error.response)) from error
        except (BotoCoreError, Boto3Error) as error:
            raise self._translated(error, passes=_is_no_connection(error)) from error

    def _translated(self, error: Exception, *, passes: bool) -> OSError:
        kind = ArtifactsUnavailable if passes else OSError
        return kind(f"{self._uri} cannot be used: {error}")


MEMO = ".upload"
"""How the name of the file ends that remembers an upload in parts: the source's name with this."""


def abandon_upload(memo: Path) -> None:
    """Abort the upload in parts that a file remembers, and delete the file: its source is gone. What S3 does not do is said in the log."""
    abandon(client(os.getpid()), memo)


def _stream(answer: GetObjectOutputTypeDef, target: Path, told: Told | None) -> str:
    """Write what S3 answers into a file and return its SHA-256. Raises `ArtifactsUnavailable` where it ends too soon."""
    from urllib3.exceptions import HTTPError  # noqa: PLC0415 - comes with boto3

    try:
        with target.open("wb") as writing:
            return copy_hashed(answer["Body"], writing, told)  # type: ignore[arg-type]  # a body is read like a file
    except HTTPError as error:
        raise ArtifactsUnavailable(f"the connection was lost while {target.name} was fetched: {error}") from error


def _is_no_connection(error: Exception) -> bool:
    from botocore.exceptions import ConnectionError as NoConnection  # noqa: PLC0415 - comes with boto3
    from botocore.exceptions import HTTPClientError, IncompleteReadError, ResponseStreamingError  # noqa: PLC0415

    return isinstance(error, (NoConnection, HTTPClientError, IncompleteReadError, ResponseStreamingError))


@lru_cache(maxsize=1)
def client(process: int) -> S3Client:  # noqa: ARG001 - a forked child must not share its parent's connections
    """Return the client of a process, which threads may share. Raises `InvalidParameter` where boto3 is missing."""
    try:
        import boto3  # noqa: PLC0415 - an extra
        from botocore.config import Config  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise InvalidParameter("s3:// needs boto3: pip install 'flightlog[s3]'") from error
    config = Config(max_pool_connections=CONNECTIONS, connect_timeout=CONNECT_TIMEOUT)
    if not os.environ.keys() & {"AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS"}:
        config = config.merge(Config(retries={"mode": "standard", "total_max_attempts": ATTEMPTS}))
    return boto3.client("s3", config=config)
