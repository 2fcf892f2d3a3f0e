"""Artifacts in S3, or in what speaks its protocol: where `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` says, which boto3 reads itself."""

from __future__ import annotations

import os
import posixpath
import uuid
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from flightlog.schema.entities import FileInfo
from flightlog.schema.errors import InvalidParameter, NotFound

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client


class S3Artifacts:
    """The files of one run under a key prefix. Credentials, region and endpoint are found as boto3 finds them."""

    def __init__(self, uri: str) -> None:
        parts = urlsplit(uri)
        if not parts.netloc:
            raise InvalidParameter(f"artifact URI {uri!r} names no bucket; it must be s3://bucket/prefix")
        self._uri, self._bucket, self._prefix = uri, parts.netloc, unquote(parts.path).strip("/")
        self._client = client(os.getpid())

    def put(self, source: Path, path: str) -> None:
        """See `ArtifactRepository.put`. Large files go in parts, and appear when the last has come.

        boto3 sends a checksum with each part, by which S3 refuses what was changed on the way.
        """
        self._call(lambda: self._client.upload_file(str(source), self._bucket, self._key(path)))

    def copy(self, source: Path, path: str) -> None:
        """See `ArtifactRepository.copy`: an upload leaves its source alone."""
        self.put(source, path)

    def list(self, path: str = "") -> list[FileInfo]:
        """See `ArtifactRepository.list`."""
        folder = self._key(path)
        prefix = f"{folder}/" if folder else ""
        found: list[FileInfo] = []
        for page in self._call(lambda: list(self._pages(prefix))):
            found += [
                FileInfo(self._path(item["Prefix"].rstrip("/")), is_dir=True, file_size=None) for item in page.get("CommonPrefixes", [])
            ]
            files = (item for item in page.get("Contents", []) if item["Key"] != prefix)
            found += [FileInfo(self._path(item["Key"]), is_dir=False, file_size=item["Size"]) for item in files]
        return sorted(found, key=lambda item: item.path)

    def _pages(self, prefix: str) -> Any:  # noqa: ANN401 - boto3's page
        return self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=prefix, Delimiter="/")

    def size(self, path: str) -> int | None:
        """See `ArtifactRepository.size`."""
        try:
            return int(self._call(lambda: self._client.head_object(Bucket=self._bucket, Key=self._key(path)))["ContentLength"])
        except NotFound:
            return None

    def get(self, path: str, target: Path) -> None:
        """See `ArtifactRepository.get`."""
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.with_name(f".{target.name[:100]}.{uuid.uuid4().hex}.partial")
        try:
            self._call(lambda: self._client.download_file(self._bucket, self._key(path), str(partial)))
            partial.replace(target)
        finally:
            partial.unlink(missing_ok=True)

    def delete(self, path: str) -> None:
        """See `ArtifactRepository.delete`."""
        self._call(lambda: self._client.delete_object(Bucket=self._bucket, Key=self._key(path)))

    def _key(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise InvalidParameter(f"artifact path {path!r} leads out of {self._uri}")
        return posixpath.join(self._prefix, path).rstrip("/")

    def _path(self, key: str) -> str:
        return key[len(self._prefix) + 1 :] if self._prefix else key

    def _call(self, request: Any) -> Any:  # noqa: ANN401 - whatever boto3 returns
        """Do a request. Raises `NotFound`, or `OSError` with what S3 said."""
        from boto3.exceptions import Boto3Error  # noqa: PLC0415 - boto3 is an extra, imported late
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415

        try:
            return request()
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") in ("404", "NoSuchKey", "NotFound"):
                raise NotFound(f"{self._uri} has no such object: {error}") from error
            raise OSError(f"{self._uri} cannot be used: {error}") from error
        except (BotoCoreError, Boto3Error) as error:
            raise OSError(f"{self._uri} cannot be used: {error}") from error


@lru_cache(maxsize=1)
def client(process: int) -> S3Client:  # noqa: ARG001 - a forked child must not share its parent's connections
    """Return the client of a process. Raises `InvalidParameter` where boto3 is missing."""
    try:
        import boto3  # noqa: PLC0415 - an extra
    except ModuleNotFoundError as error:
        raise InvalidParameter("s3:// needs boto3: pip install 'flightlog[s3]'") from error
    return boto3.client("s3")
