"""How fast a worker files journals into PostgreSQL and MariaDB, what a point costs there, and how long a batch of many small writers takes.

    python benchmarks/bench_databases.py [--points 2000000] [--floor-points 500000] [--rounds 3] [--only postgres|mariadb]

The servers are private ones with durable settings: a commit is synced to disk. Journals are written first, as in bench_ingest; a new
process files them and is timed from its first look at the spool to the last acknowledgement. The floors, in turn with it, are bare rows
from a list that is ready: COPY in binary on PostgreSQL, 50,000 rows a transaction; INSERTs of 1,000 rows on MariaDB, 50,000 rows a
transaction. Of a floor only the rate counts, so it takes fewer points. A database's size is what its tables take beyond empty ones, after
the housekeeping that merges chunks and after the server's own (VACUUM).
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pymysql
from bench_ingest import SHAPES, Peak, bare_rows, write_journals
from measure import Figure, median, ratio, report
from sqlalchemy import make_url

sys.path.append(str(Path(__file__).parent.parent / "tests"))

from services import DatabaseServer, MariaServer, PostgresServer, running

ROWS = "(run int, metric int, step int, seq int, time bigint, value {}, primary key (run, metric, step, seq))"
TRANSACTION = 50_000
ONE_INSERT = 1_000
SMALL_WRITERS = 1_000
SMALL_TURNS = 8


class DurablePostgres(PostgresServer):
    """PostgreSQL as it comes."""

    settings: tuple[str, ...] = ()


class DurableMaria(MariaServer):
    """MariaDB as it comes, with a buffer of the size of PostgreSQL's."""

    settings: tuple[str, ...] = ("--innodb-buffer-pool-size=128M",)


SERVERS: dict[str, tuple[type[DatabaseServer], float]] = {"postgres": (DurablePostgres, 1.2), "mariadb": (DurableMaria, 3.0)}
"""The server, and how many times the floor's rate is to be reached."""


def file_journals(folder: Path, url: str) -> dict[str, Any]:
    """File the journals in this process; return what it took."""
    from flightlog.schema.settings import Settings, locate  # noqa: PLC0415 - only in the measured process
    from flightlog.stores import open_store  # noqa: PLC0415
    from flightlog.worker.memory import collect_rarely  # noqa: PLC0415
    from flightlog.worker.spool import drain_spool  # noqa: PLC0415

    collect_rarely()
    store = open_store(url)
    location = replace(locate(folder, Settings()), database_url=url)
    peak = Peak()
    start, cpu = time.perf_counter(), time.process_time()
    drain_spool(location, store)
    taken, cpu = time.perf_counter() - start, time.process_time() - cpu
    memory = peak.stop()
    while store.maintain():
        pass
    store.close()
    return {"seconds": taken, "cpu": cpu, "memory": memory}


def copy_rows(url: str, runs: int, keys: int, points: int) -> dict[str, Any]:
    """Copy the points into PostgreSQL as bare rows."""
    rows = bare_rows(runs, keys, points)
    with psycopg.connect(url.replace("+psycopg", "")) as connection, connection.cursor() as cursor:
        cursor.execute(f"create table points {ROWS.format('float8')}".encode())
        connection.commit()
        start = time.perf_counter()
        for first in range(0, points, TRANSACTION):
            with cursor.copy("copy points from stdin (format binary)") as copy:
                copy.set_types(["int4", "int4", "int4", "int4", "int8", "float8"])
                for row in rows[first : first + TRANSACTION]:
                    copy.write_row(row)
            connection.commit()
        return {"seconds": time.perf_counter() - start}


def insert_rows(url: str, runs: int, keys: int, points: int) -> dict[str, Any]:
    """Insert the points into MariaDB as bare rows."""
    rows = bare_rows(runs, keys, points)
    with connected(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"create table points {ROWS.format('double')}")
        start = time.perf_counter()
        for first in range(0, points, ONE_INSERT):
            cursor.executemany("insert into points values (%s, %s, %s, %s, %s, %s)", rows[first : first + ONE_INSERT])
            if (first + ONE_INSERT) % TRANSACTION == 0:
                connection.commit()
        connection.commit()
        return {"seconds": time.perf_counter() - start}


def apply_small_writers(url: str) -> dict[str, Any]:
    """Apply batches that hold a block of three points of each of many runs; return the seconds of each batch."""
    from contracts.facts import block, metric, started  # noqa: PLC0415 - only in the measured process
    from flightlog.schema.ids import WriterId  # noqa: PLC0415
    from flightlog.stores import open_store  # noqa: PLC0415
    from flightlog.worker.memory import collect_rarely  # noqa: PLC0415

    collect_rarely()
    store = open_store(url)
    names = [(f"{number:032x}", WriterId(f"{number:032x}")) for number in range(SMALL_WRITERS)]
    store.apply([block(run, started("7", "seven"), writer=writer) for run, writer in names])
    seconds: list[float] = []
    cpus: list[float] = []
    for turn in range(SMALL_TURNS):
        points = [[metric(f"metric_{key}", random.random(), turn) for key in range(3)] for _ in names]
        items = [block(run, *facts, writer=writer, first=1 + 3 * turn) for (run, writer), facts in zip(names, points, strict=True)]
        start, cpu = time.perf_counter(), time.process_time()
        store.apply(items)
        seconds.append(time.perf_counter() - start)
        cpus.append(time.process_time() - cpu)
    store.close()
    return {"seconds": seconds, "cpu": median(cpus)}


def size_of(url: str) -> int:
    """Return how many bytes the tables of a database take, as its server counts them; not its free pages, which the next rows fill."""
    if url.startswith("postgresql"):
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("vacuum")
            found = connection.execute("select pg_database_size(current_database())").fetchone()
            return int(found[0]) if found else 0
    with connected(url) as maria, maria.cursor() as cursor:
        cursor.execute("select table_name from information_schema.tables where table_schema = database()")
        for (table,) in cursor.fetchall():
            cursor.execute(f"analyze table {table}")
        cursor.execute("select sum(data_length + index_length) from information_schema.tables where table_schema = database()")
        return int(cursor.fetchall()[0][0])


def connected(url: str) -> pymysql.Connection[pymysql.cursors.Cursor]:
    """Return a connection to a database of MariaDB."""
    place = make_url(url)
    return pymysql.connect(host=place.host, port=place.port or 0, user="root", database=place.database)


def counted(url: str) -> int:
    """Return how many points the projection says there are."""
    from sqlalchemy import create_engine, text  # noqa: PLC0415 - only here

    engine = create_engine(url)
    with engine.connect() as connection:
        count = int(connection.execute(text("select sum(count) from latest_metrics")).scalar_one())
    engine.dispose()
    return count


def empty_size(server: DatabaseServer) -> int:
    """Return how many bytes a store takes before it holds anything."""
    from flightlog.stores import open_store  # noqa: PLC0415 - only here

    with server.database() as url:
        open_store(url).close()
        return size_of(url)


def measure(kind: str, server: DatabaseServer, shape: str, journals: Path, given: argparse.Namespace) -> list[Figure]:
    """Measure one shape of journals on one server."""
    runs, keys = SHAPES[shape]
    empty = empty_size(server)
    ours: list[dict[str, Any]] = []
    bare: list[dict[str, Any]] = []
    for number in range(given.rounds):
        with server.database() as url, tempfile.TemporaryDirectory(prefix="flightlog-bench-") as folder:
            copy = shutil.copytree(journals, Path(folder) / f"copy-{number}")
            ours.append(in_new_process("file", copy, url))
            ours[-1]["bytes"] = size_of(url) - empty
            assert counted(url) == given.points
        with server.database() as url:
            bare.append(in_new_process("rows", url, runs, keys, given.floor_points))
    rates = [given.points / found["seconds"] for found in ours]
    floors = [given.floor_points / found["seconds"] for found in bare]
    size, memory = median([found["bytes"] for found in ours]) / given.points, max(found["memory"] for found in ours) / 2**20
    cpu = median([found["cpu"] / found["seconds"] for found in ours])
    name = f"{kind}, {shape}"
    return [
        Figure(
            f"{name}: points/s filed",
            f"{median(rates):,.0f}",
            f"bare rows {median(floors):,.0f}",
            ratio(rates, floors),
            SERVERS[kind][1],
            at_least=True,
        ),
        Figure(f"{name}: bytes a point", f"{size:.1f}", "in bytes", size, 24),
        Figure(f"{name}: worker memory, MiB (busy {cpu:.0%})", f"{memory:.0f}", "in MiB", memory, 200),
    ]


def measure_small_writers(kind: str, server: DatabaseServer) -> list[Figure]:
    """Measure a batch of many small writers."""
    with server.database() as url:
        found = in_new_process("small", url)
    first, *rest = (1000 * seconds for seconds in found["seconds"])
    name = f"{kind}, a batch of {SMALL_WRITERS:,} runs x 3 points, ms"
    return [Figure(f"{name} (processor {1000 * found['cpu']:.0f})", f"{median(rest):.0f}", f"first {first:.0f}", median(rest), 300)]


MEASUREMENTS: dict[str, Callable[..., dict[str, Any]]] = {
    "file": lambda folder, url: file_journals(Path(folder), url),
    "rows": lambda url, *numbers: (copy_rows if url.startswith("postgresql") else insert_rows)(url, *map(int, numbers)),
    "small": apply_small_writers,
}


def in_new_process(*arguments: object) -> dict[str, Any]:
    """Run one measurement in an interpreter of its own."""
    done = subprocess.run([sys.executable, __file__, "--measure", *map(str, arguments)], stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Measure and report."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--points", type=int, default=2_000_000)
    options.add_argument("--floor-points", type=int, default=500_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--only", choices=SERVERS)
    options.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.measure:
        kind, *arguments = given.measure
        print(json.dumps(MEASUREMENTS[kind](*arguments)))
        return
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="flightlog-bench-") as folder:
        for shape, (runs, keys) in SHAPES.items():
            write_journals(Path(folder) / shape, runs, keys, given.points)
        for kind in [given.only] if given.only else SERVERS:
            with running(SERVERS[kind][0]) as server:
                figures += measure_small_writers(kind, server)
                for shape in SHAPES:
                    figures += measure(kind, server, shape, Path(folder) / shape, given)
    report("Filing journals into database servers", figures)


if __name__ == "__main__":
    main()
