"""What docker-compose.yml runs, run without containers: its commands with its environments, against private servers in place of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import redis

from deployment import ROOT, filled
from flightlog.stores import open_store
from services import HOST, Missing, PostgresServer, RedisServer, S3Server, absent, find_program, free_port, running

PATIENCE = 30.0
SECRETS = {"REDIS_PASSWORD": "Secret1", "POSTGRES_PASSWORD": "Secret2", "S3_ACCESS_KEY": "Key", "S3_SECRET_KEY": "Secret3"}
SERVICES: dict[str, dict[str, Any]] = filled(SECRETS)["services"]


class QueueServer(RedisServer):
    """The compose file's Redis, at a port of its own."""

    @property
    def url(self) -> str:
        return f"redis://:{SECRETS['REDIS_PASSWORD']}@{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        place = ("--bind", HOST, "--port", str(self.port), "--dir", str(self.folder))
        return [find_program("redis-server", "valkey-server"), *SERVICES["redis"]["command"][1:], *place]

    def answers(self) -> bool:
        with redis.Redis.from_url(self.url) as client:
            return bool(client.ping())


@dataclass(frozen=True)
class Deployment:
    """Where the services of the compose file are to be had here."""

    queue: str
    database: str
    s3: str
    spool: Path

    def environment(self, service: str) -> dict[str, str]:
        """Return a service's environment, with this machine's addresses in place of the containers'."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("FLIGHTLOG_", "MLFLOW_", "AWS_"))}
        given = {name: self._here(value) for name, value in SERVICES[service]["environment"].items()}
        return {**clean, **given, "FLIGHTLOG_SPOOL": str(self.spool)}

    def _here(self, value: str) -> str:
        places = {"redis://": self.queue, "postgresql+psycopg://": self.database, "http://s3": self.s3}
        return next((here for there, here in places.items() if value.startswith(there)), value)


@pytest.fixture
def deployment(postgres_server: PostgresServer, s3_server: S3Server, tmp_path: Path) -> Iterator[Deployment]:
    with ExitStack() as stack:
        try:
            queue = stack.enter_context(running(QueueServer))
        except Missing as reason:
            absent(reason)
        yield Deployment(queue.url, stack.enter_context(postgres_server.database()), s3_server.url, tmp_path / "spool")


@dataclass(frozen=True)
class Service:
    """A command that runs, its metrics port and its log."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    def metrics(self) -> dict[str, float]:
        """Return the metrics without labels that the service serves."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=5) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines) if name.isidentifier()}

    def lines(self) -> list[dict[str, Any]]:
        """Return what it has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def serving(name: str, deployment: Deployment, folder: Path) -> Iterator[Service]:
    """Run a service's command at a free metrics port and end it in order."""
    port, log = free_port(), folder / f"{name}.log"
    command = [{SERVICES[name]["expose"][0]: str(port), "0.0.0.0": HOST}.get(word, word) for word in SERVICES[name]["command"]]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "flightlog", *command], env=deployment.environment(name), cwd=folder, stdout=output, stderr=output
        )
    service = Service(process, port, log)
    try:
        yield service
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(PATIENCE)
    assert code == 0, log.read_text()


def wait_for(service: Service) -> None:
    """Wait until a service serves its metrics, as the health check of the worker asks for."""
    wait_until(lambda: is_serving(service))
    check = SERVICES["worker"]["healthcheck"]["test"]
    code = check[-1].replace(SERVICES["worker"]["expose"][0], str(service.port))
    subprocess.run([sys.executable, *check[2:-1], code], check=True)


def is_serving(service: Service) -> bool:
    assert service.process.poll() is None, service.log.read_text()
    try:
        return bool(service.metrics())
    except OSError:
        return False


def wait_until(condition: Any, told: object = "") -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, told
        time.sleep(0.05)


def run(command: Sequence[str], environment: Mapping[str, str], folder: Path) -> str:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_trainer_a_shipper_and_two_workers_file_a_run_as_the_compose_file_has_them(deployment: Deployment, tmp_path: Path) -> None:
    folder = made(tmp_path / "elsewhere")
    make_bucket(deployment, folder)
    with ExitStack() as stack:
        workers = [stack.enter_context(serving("worker", deployment, made(folder / name))) for name in ("one", "two")]
        shipper = stack.enter_context(serving("shipper", deployment, folder))
        for service in (*workers, shipper):
            wait_for(service)
        script = ROOT / "examples" / Path(SERVICES["trainer"]["entrypoint"][-1]).name
        run_id = run([sys.executable, str(script)], deployment.environment("trainer"), folder).strip()
        store = open_store(deployment.database)
        found, losses = store.get_run(run_id), store.metric_arrays(run_id, "loss")
        store.close()
        assert (found.info.status, found.data.params["start"], len(losses)) == ("FINISHED", "5.0", 1_000)

        assert sum(worker.metrics()["flightlog_events_filed_total"] for worker in workers) >= 1_000
        assert shipper.metrics()["flightlog_shipped_events_total"] >= 1_000
        assert [worker.metrics()["flightlog_queue_workers"] for worker in workers] == [2, 2]
        status = seen(deployment, folder)
        while status["total"]["lag_events"]:  # what became of the artifact is an event that comes last
            status = seen(deployment, folder)
        assert (status["queue"]["entries"], status["queue"]["error"]) == (0, None)
        assert [process["kind"] for process in status["queue"]["processes"]] == ["shipper", "worker", "worker"]
        assert shipper.metrics()["flightlog_spool_lag_events"] == 0
        assert stored(deployment, f"artifacts/{found.info.experiment_id}/{run_id}/artifacts/result.txt").startswith(b"x = ")
    assert [line for service in (*workers, shipper) for line in service.lines() if line["level"] == "ERROR"] == []
    assert any(line.get("events", 0) >= 1_000 for worker in workers for line in worker.lines())


def seen(deployment: Deployment, folder: Path) -> dict[str, Any]:
    """Return what `flightlog status` says to whoever has a worker's environment."""
    status: dict[str, Any] = json.loads(
        run([sys.executable, "-m", "flightlog", "status", "--json"], deployment.environment("worker"), folder)
    )
    return status


def stored(deployment: Deployment, key: str) -> bytes:
    """Return what the bucket holds under a key."""
    with closing(s3_client(deployment)) as client:
        content: bytes = client.get_object(Bucket=deployment.environment("bucket")["S3_BUCKET"], Key=key)["Body"].read()
    return content


def s3_client(deployment: Deployment) -> Any:
    environment = deployment.environment("bucket")
    return boto3.client(
        "s3",
        endpoint_url=deployment.s3,
        region_name=environment["AWS_DEFAULT_REGION"],
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
    )


def make_bucket(deployment: Deployment, folder: Path) -> None:
    service = SERVICES["bucket"]
    run([sys.executable, *service["entrypoint"][1:], *service["command"]], deployment.environment("bucket"), folder)


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_the_bucket_is_made_once(deployment: Deployment, tmp_path: Path) -> None:
    for _ in range(2):
        make_bucket(deployment, tmp_path)
    with closing(s3_client(deployment)) as client:
        names = [bucket["Name"] for bucket in client.list_buckets()["Buckets"]]
    assert deployment.environment("bucket")["S3_BUCKET"] in names


def test_the_queue_refuses_a_stranger_and_keeps_what_it_has_when_it_is_full(deployment: Deployment) -> None:
    with (
        redis.Redis.from_url(deployment.queue.replace(SECRETS["REDIS_PASSWORD"], "wrong")) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()
    with redis.Redis.from_url(deployment.queue) as client:
        client.set("kept", b"x")
        client.config_set("maxmemory", 1)
        with pytest.raises(redis.OutOfMemoryError):
            client.set("refused", b"x")
        assert client.get("kept") == b"x"


def test_a_worker_leaves_when_it_is_told_to_while_the_database_is_away(deployment: Deployment, tmp_path: Path) -> None:
    away = f"postgresql+psycopg://flightlog@{HOST}:{free_port()}/flightlog"
    port, log = free_port(), tmp_path / "worker.log"
    environment = {**deployment.environment("worker"), "FLIGHTLOG_TRACKING_URI": away, "FLIGHTLOG_METRICS_PORT": str(port)}
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "flightlog", "worker"], env=environment, cwd=tmp_path, stderr=output)
    wait_until(lambda: "trying again" in log.read_text() or process.poll() is not None)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 128 + signal.SIGTERM
    assert "Traceback" not in log.read_text()
