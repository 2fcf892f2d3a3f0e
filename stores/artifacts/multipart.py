"""Large files in S3: sent in parts, several at a time, and after a crash only those that are missing.

A file beside the source remembers the upload, as one JSON object. When its content, key or part size differ now, it counts for nothing and
the upload that it names is aborted. Which parts have come is what S3 says.
"""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flightlog.stores.artifacts.base import Told
from flightlog.stores.artifacts.partial import written_whole

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client
    from mypy_boto3_s3.type_defs import CompletedPartTypeDef

log = logging.getLogger("flightlog.stores")

PART = 8 << 20
"""Bytes of a part, and of the largest file that is sent as a whole."""
MAX_PARTS = 10_000
THREADS = 8
STALE = timedelta(days=1)
"""An upload to the same key that was begun so long ago is nobody's any more."""
PASSING_CODES = frozenset(
    "InternalError ServiceUnavailable SlowDown RequestTimeout RequestTimeTooSkewed Throttling ThrottlingException RequestLimitExceeded "
    "TooManyRequests OperationAborted BandwidthLimitExceeded RequestThrottled ExpiredToken TokenRefreshRequired".split()
)
"""What S3 says when the same request may go well later."""


@dataclass(frozen=True)
class Destination:
    """Where an object comes to be, and what is kept with it."""

    bucket: str
    key: str
    metadata: dict[str, str]


@dataclass(frozen=True)
class Plan:
    """What must be the same for an upload to go on: the content and how it is cut."""

    bucket: str
    key: str
    size: int
    modified: int
    part_size: int
    sha256: str | None

    def parts(self) -> range:
        """Return the numbers of the parts."""
        return range(1, -(-self.size // self.part_size) + 1)

    def length(self, number: int) -> int:
        """Return how many bytes a part has."""
        return min(self.part_size, self.size - (number - 1) * self.part_size)


def may_pass(response: Any) -> bool:  # noqa: ANN401 - boto3's answer
    """Say whether the request that was answered so may go well later."""
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= 500 or status == 429 or response.get("Error", {}).get("Code") in PASSING_CODES


class Multipart:
    """One upload in parts. What goes wrong is raised as boto3 raises it."""

    def __init__(self, client: S3Client, source: Path, destination: Destination, memo: Path | None, told: Told | None = None) -> None:
        """`memo` is the file that remembers the upload; None where none may be left. `told` is told of each part that has come."""
        self._client, self._source, self._destination, self._memo = client, source, destination, memo
        self._told = told
        self._checks = client.meta.config.request_checksum_calculation != "when_required"  # type: ignore[attr-defined]  # not in the stubs
        found = source.stat()
        size = max(PART, -(-found.st_size // MAX_PARTS))
        sha256 = destination.metadata.get("sha256")
        self._plan = Plan(destination.bucket, destination.key, found.st_size, found.st_mtime_ns, size, sha256)

    def upload(self) -> None:
        """Send what S3 has not got yet and have it put together. What S3 forgets meanwhile begins anew, once."""
        upload_id = self._remembered()
        parts = self._arrived(upload_id) if upload_id else None
        if upload_id is None or parts is None:
            upload_id, parts = self._begin(), {}
        try:
            self._finish(upload_id, parts)
        except self._client.exceptions.NoSuchUpload:
            log.warning("S3 knows the upload of %s no more, and it begins anew", self._plan.key)
            self._finish(self._begin(), {})
        self._forget()

    def _finish(self, upload_id: str, parts: dict[int, CompletedPartTypeDef]) -> None:
        try:
            self._send(upload_id, parts)
            self._complete(upload_id, parts)
        except BaseException as error:
            self._give_up(upload_id, error)
            raise

    def _remembered(self) -> str | None:
        """Return the upload that was begun for the same content; abort one for another."""
        if self._memo is None or not self._memo.is_file():
            return None
        known = _read(self._memo)
        if known is None:
            return None
        plan, upload_id = known
        if plan == self._plan:
            return upload_id
        _abort(self._client, plan.bucket, plan.key, upload_id)
        return None

    def _arrived(self, upload_id: str) -> dict[int, CompletedPartTypeDef] | None:
        """Return the parts that S3 has of an upload; None where it knows the upload no more."""
        pages = self._client.get_paginator("list_parts").paginate(Bucket=self._plan.bucket, Key=self._plan.key, UploadId=upload_id)
        try:
            every = [part for page in pages for part in page.get("Parts", [])]
        except self._client.exceptions.NoSuchUpload:
            return None
        found = {part["PartNumber"]: _completed(part["PartNumber"], part) for part in every if self._is_whole(part)}
        log.info("the upload of %s goes on: %d of %d parts have come", self._plan.key, len(found), len(self._plan.parts()))
        return found

    def _is_whole(self, part: Any) -> bool:  # noqa: ANN401 - as S3 lists it
        return part["PartNumber"] in self._plan.parts() and part["Size"] == self._plan.length(part["PartNumber"])

    def _begin(self) -> str:
        self._abort_stale()
        destination, algorithm = self._destination, self._algorithm()
        answer = self._client.create_multipart_upload(
            Bucket=destination.bucket, Key=destination.key, Metadata=destination.metadata, **algorithm
        )
        upload_id = answer["UploadId"]
        if self._memo is not None:
            with written_whole(self._memo) as partial:
                partial.write_text(json.dumps({**asdict(self._plan), "upload_id": upload_id}), encoding="utf-8")
        return upload_id

    def _algorithm(self) -> Any:  # noqa: ANN401 - a keyword, where checksums are wanted
        return {"ChecksumAlgorithm": "CRC32"} if self._checks else {}

    def _send(self, upload_id: str, parts: dict[int, CompletedPartTypeDef]) -> None:
        stop = threading.Event()
        with ThreadPoolExecutor(THREADS, "flightlog-part") as pool:
            missing = [number for number in self._plan.parts() if number not in parts]
            futures = [pool.submit(self._send_part, upload_id, number, stop) for number in missing]
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            stop.set()
            for future in futures:
                future.cancel()
        for future in done:
            part = future.result()
            if part is not None:
                parts[int(part.get("PartNumber", 0))] = part

    def _send_part(self, upload_id: str, number: int, stop: threading.Event) -> CompletedPartTypeDef | None:
        if stop.is_set():
            return None
        with self._source.open("rb") as content:
            content.seek((number - 1) * self._plan.part_size)
            body = content.read(self._plan.length(number))
        answer = self._client.upload_part(
            Bucket=self._plan.bucket, Key=self._plan.key, UploadId=upload_id, PartNumber=number, Body=body, **self._algorithm()
        )
        if self._told is not None:
            self._told(len(body))
        return _completed(number, answer)

    def _complete(self, upload_id: str, parts: dict[int, CompletedPartTypeDef]) -> None:
        ordered = [parts[number] for number in sorted(parts)]
        plan = self._plan
        self._client.complete_multipart_upload(Bucket=plan.bucket, Key=plan.key, UploadId=upload_id, MultipartUpload={"Parts": ordered})
        stored = self._client.head_object(Bucket=plan.bucket, Key=plan.key)["ContentLength"]
        if stored != plan.size:
            raise OSError(f"s3://{plan.bucket}/{plan.key} has {stored} bytes, and {plan.size} were sent")

    def _give_up(self, upload_id: str, error: BaseException) -> None:
        """Leave an upload to whoever goes on with it; abort one with which nobody can."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - an extra

        is_refused = isinstance(error, ClientError) and not may_pass(error.response)
        if self._memo is None or is_refused or not self._source.exists():
            _abort(self._client, self._plan.bucket, self._plan.key, upload_id)
            self._forget()

    def _forget(self) -> None:
        if self._memo is not None:
            self._memo.unlink(missing_ok=True)

    def _abort_stale(self) -> None:
        for upload_id in self._stale():
            _abort(self._client, self._plan.bucket, self._plan.key, upload_id)

    def _stale(self) -> Iterator[str]:
        """Yield the uploads to our key that somebody began long ago. Not everybody may list them, and what cannot be listed stays."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - an extra

        since = datetime.now(timezone.utc) - STALE
        try:
            answer = self._client.list_multipart_uploads(Bucket=self._plan.bucket, Prefix=self._plan.key)
        except ClientError as error:
            log.debug("unfinished uploads to s3://%s cannot be listed: %s", self._plan.bucket, error)
            return
        for item in answer.get("Uploads", []):
            if item["Key"] == self._plan.key and item["Initiated"] < since:
                yield item["UploadId"]


def abandon(client: S3Client, memo: Path) -> None:
    """Abort the upload that a file remembers, and delete the file: nobody will go on with it. What S3 does not do is said in the log."""
    known = _read(memo)
    if known is not None:
        plan, upload_id = known
        _abort(client, plan.bucket, plan.key, upload_id)
    memo.unlink(missing_ok=True)


def _read(memo: Path) -> tuple[Plan, str] | None:
    try:
        known = json.loads(memo.read_text(encoding="utf-8"))
        upload_id = str(known.pop("upload_id"))
        return Plan(**known), upload_id
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("what %s remembers of an upload cannot be read: %s", memo, error)
        return None


def _abort(client: S3Client, bucket: str, key: str, upload_id: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - an extra

    try:
        with suppress(client.exceptions.NoSuchUpload):
            client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload_id)
    except (BotoCoreError, ClientError) as error:
        log.warning("the unfinished upload %s to s3://%s/%s cannot be aborted: %s", upload_id, bucket, key, error)


def _completed(number: int, part: Any) -> CompletedPartTypeDef:  # noqa: ANN401 - as S3 lists or answers it
    completed: CompletedPartTypeDef = {"PartNumber": number, "ETag": part["ETag"]}
    if "ChecksumCRC32" in part:
        completed["ChecksumCRC32"] = part["ChecksumCRC32"]
    return completed
