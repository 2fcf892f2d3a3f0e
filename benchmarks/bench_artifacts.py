"""What artifacts cost: the caller of a large one, and how long many small ones take to S3.

    python benchmarks/bench_artifacts.py [--rounds 5] [--size 1024] [--files 10000] [--only large|small]

The large one: `log_artifact` of a file of `--size` MiB, until the call returns, against `cp --reflink=auto` of the same file into the same
folder. Each takes a copy that is whole in the file system's cache; both copies are removed before the next is made, and what is to be
written back is written before each. The small ones: `--files` artifacts of 1 KiB from the first call until the last is stored in S3,
against `put_object` of the same contents by 16 threads of boto3. The server is moto's, one process; both share the machine with it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config
from measure import Figure, median, paired, ratio, report

import flightlog
from flightlog.producer import doorbell
from flightlog.producer.context import context
from flightlog.schema.names import SNAPSHOTS

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from process.scripts import wait_until
from services import S3Server, running

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

THREADS = 16
SMALL = 1024
BUCKET = "flights"


def caller_seconds(rounds: int, size: int) -> list[list[float]]:
    """Return how long the calls took, and how long cp took."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        source = Path(folder) / "model.bin"
        with source.open("wb") as file:
            for _ in range(size):
                file.write(os.urandom(1 << 20))
        os.environ["FLIGHTLOG_START_WORKER"] = "false"
        flightlog.set_tracking_uri(Path(folder) / "flight")
        with flightlog.start_run():
            flightlog.log_text("warm", "warm.txt")
            snapshots = context.location.spool / SNAPSHOTS
            taken = paired(
                lambda: timed(lambda: flightlog.log_artifact(source), snapshots),
                lambda: timed(lambda: copy(source, snapshots / "copy"), snapshots),
                rounds=rounds + 1,
            )
    return taken


def copy(source: Path, target: Path) -> None:
    """Copy a file as cp does."""
    subprocess.run(["cp", "--reflink=auto", str(source), str(target)], check=True)  # noqa: S607 - whichever cp the machine has


def timed(work: Callable[[], object], folder: Path) -> float:
    """Return how long some work took that puts a file into a folder; the folder is empty, and nothing waits to be written, before."""
    for path in folder.iterdir():
        path.unlink()
    os.sync()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def boto_seconds(client: S3Client, contents: list[bytes]) -> float:
    """Return how long 16 threads of boto3 take."""
    start = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda item: client.put_object(Bucket=BUCKET, Key=f"floor/{item[0]}", Body=item[1]), enumerate(contents)))
    return time.perf_counter() - start


@contextmanager
def worker() -> Iterator[None]:
    """Run a worker of the current store, at the priority of everybody else here: one that a run starts steps back for the script."""
    location = context.location
    command = [sys.executable, "-m", "flightlog.worker.main", "--spool", str(location.spool), "--tracking-uri", location.tracking_uri]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: process.poll() is not None or doorbell.ring(location.spool), "the worker answers")
        assert process.poll() is None, "the worker has ended"
        yield
    finally:
        process.terminate()
        process.wait()


def flightlog_seconds(files: list[Path], folder: Path) -> tuple[float, float]:
    """Return how long it takes until all artifacts are stored, and how much of it the calls took."""
    flightlog.set_tracking_uri(folder)
    producer = context.producer
    with worker():
        start = time.perf_counter()
        with flightlog.start_run() as run:
            for file in files:
                flightlog.log_artifact(file)
        called = time.perf_counter() - start
        while not producer.settle_artifacts(60):
            pass
        taken = time.perf_counter() - start
        states = flightlog.MlflowClient().artifact_states(run.info.run_id)
    assert [state.state for state in states] == ["stored"] * len(files)
    producer.close()
    return taken, called


def stored_seconds(rounds: int, count: int) -> tuple[list[float], list[float], list[float]]:
    """Return how long our artifacts took, how much of it the calls, and how long boto3 alone took."""
    contents = [os.urandom(SMALL) for _ in range(count)]
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        folder = Path(name)
        files = [folder / f"{number:05d}.bin" for number in range(count)]
        for file, content in zip(files, contents, strict=True):
            file.write_bytes(content)
        ours, called, floor = [], [], []
        for number in range(rounds):
            with running(S3Server) as server:  # a new one each time: it keeps everything in memory
                client = connected(server.url)
                warm = boto_seconds(client, contents[:100])
                floor.append(boto_seconds(client, contents))
                shutil.rmtree(folder / f"flight-{number}", ignore_errors=True)
                taken, calls = flightlog_seconds(files, folder / f"flight-{number}")
            ours.append(taken)
            called.append(calls)
            print(f"round {number + 1}: flightlog {taken:.2f} s (calls {calls:.2f} s), boto3 {floor[-1]:.2f} s (warm-up {warm:.2f} s)")
    return ours, called, floor


def connected(url: str) -> S3Client:
    """Return a client of an endpoint with a bucket; the worker finds it in the environment."""
    os.environ |= {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "FLIGHTLOG_ARTIFACT_ROOT": f"s3://{BUCKET}/runs",
        "FLIGHTLOG_START_WORKER": "false",
    }
    context.reset()
    client = boto3.client("s3", config=Config(max_pool_connections=2 * THREADS))
    client.create_bucket(Bucket=BUCKET)
    return client


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--size", type=int, default=1024)
    options.add_argument("--files", type=int, default=10_000)
    options.add_argument("--only", choices=["large", "small"])
    given = options.parse_args()
    figures, notes = [], []
    if given.only != "small":
        calls, copies = (values[1:] for values in caller_seconds(given.rounds, given.size))
        shown = f"{median(calls):.2f} s", f"cp {median(copies):.2f} s"
        figures.append(Figure(f"log_artifact of {given.size} MiB, in the caller", *shown, ratio(calls, copies), 1.2))
        notes.append(f"each call {', '.join(f'{value:.2f}' for value in calls)} s; cp {', '.join(f'{value:.2f}' for value in copies)} s")
    if given.only != "large":
        ours, called, floor = stored_seconds(max(given.rounds // 2, 1), given.files)
        shown = f"{median(ours):.1f} s", f"boto3, {THREADS} threads {median(floor):.1f} s"
        figures.append(Figure(f"{given.files:,} artifacts of 1 KiB until S3 has them", *shown, ratio(ours, floor), 1.2))
        notes.append(f"the calls took {median(called):.2f} s of it, {median(called) / given.files * 1e6:.0f} us each")
    report(f"Artifacts (medians of {given.rounds})", figures, notes)


if __name__ == "__main__":
    main()
