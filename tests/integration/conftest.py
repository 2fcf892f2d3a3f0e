"""A fresh flightlog in this process for every test: nothing active, the environment read anew, everything ended afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import boto3
import pytest

from flightlog.producer import lifecycle
from flightlog.producer.context import context
from flightlog.stores.artifacts import s3
from services import S3Server


@pytest.fixture(autouse=True)
def fresh_flightlog(clean_environment: None) -> Iterator[None]:
    """Reset the process's state before and after."""
    context.reset()
    yield
    lifecycle.finish()
    context.reset()


@pytest.fixture
def s3_client(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Give a client of the private S3 endpoint, which the environment names from now on."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_server.url)
    for name, value in (("AWS_ACCESS_KEY_ID", "key"), ("AWS_SECRET_ACCESS_KEY", "secret"), ("AWS_DEFAULT_REGION", "us-east-1")):
        monkeypatch.setenv(name, value)
    s3.client.cache_clear()
    client = boto3.client("s3", endpoint_url=s3_server.url)
    yield client
    client.close()
    s3.client.cache_clear()


@pytest.fixture
def bucket(s3_client: Any) -> Iterator[str]:
    """Give the URI of an empty bucket."""
    s3_client.create_bucket(Bucket="flights")
    yield "s3://flights/some/prefix"
    for item in s3_client.list_objects_v2(Bucket="flights").get("Contents", []):
        s3_client.delete_object(Bucket="flights", Key=item["Key"])
    s3_client.delete_bucket(Bucket="flights")
