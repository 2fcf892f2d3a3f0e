"""The private servers of the tests: a killed one comes back on the same port with what was committed."""

from __future__ import annotations

import urllib.request

import redis
from sqlalchemy import create_engine, text

from services import DatabaseServer, MariaServer, PostgresServer, RedisServer, S3Server


def test_redis_keeps_what_it_was_told_when_it_is_killed(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("key", "value")
    redis_server.kill()
    redis_server.start()
    with redis.Redis.from_url(redis_server.url) as client:
        assert client.get("key") == b"value"


def _keeps_what_was_committed(server: DatabaseServer) -> None:
    with server.database() as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("CREATE TABLE kept (id INTEGER)"))
            connection.execute(text("INSERT INTO kept VALUES (7)"))
        engine.dispose()
        server.kill()
        server.start()
        with engine.begin() as connection:
            assert connection.execute(text("SELECT id FROM kept")).scalar() == 7
        engine.dispose()


def test_postgres_keeps_what_was_committed_when_it_is_killed(postgres_server: PostgresServer) -> None:
    _keeps_what_was_committed(postgres_server)


def test_mariadb_keeps_what_was_committed_when_it_is_killed(mariadb_server: MariaServer) -> None:
    _keeps_what_was_committed(mariadb_server)


def test_s3_answers_again_after_it_was_killed(s3_server: S3Server) -> None:
    s3_server.kill()
    s3_server.start()
    with urllib.request.urlopen(s3_server.url) as answer:
        assert answer.status == 200
