"""Private servers for the tests: real ones, on free ports, with their data in a temporary folder.

A server can be killed as by `kill -9`, and started again on the same port and data (S3's are in memory and go with it). What was
committed survives a kill; a power loss it would not, since nothing is synced to disk.
"""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn, TypeVar

import psutil
import psycopg
import pymysql
import pytest
import redis

PATIENCE = 30.0
"""Seconds that a server has to answer or to end."""
HOST = "127.0.0.1"
SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/local/bin")


class Missing(Exception):
    """A server is not installed."""


class Server:
    """One server process. Subclasses say how to make its data, how to run it, and when it answers."""

    name = ""

    def __init__(self) -> None:
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix=f"flightlog-{self.name}-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The URL that a client takes."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server, or start it again, and wait until it answers."""
        assert self.process is None, f"{self.name} is running"
        if not (self.folder / "ready").exists():
            self.prepare()
            (self.folder / "ready").touch()
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command(), cwd=self.folder, stdout=log, stderr=log, user=self.user(), start_new_session=True
            )
        self._wait()

    def kill(self) -> None:
        """End the server and its children at once, as a crash of the machine would."""
        assert self.process is not None, f"{self.name} is not running"
        processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
        for process in processes:
            process.suspend()
        for process in processes:
            process.kill()
        self._reap(processes)

    def stop(self) -> None:
        """End the server in order if it runs, and remove its data."""
        if self.process is not None:
            processes = [psutil.Process(self.process.pid), *psutil.Process(self.process.pid).children(recursive=True)]
            self.process.terminate()
            self._reap(processes)
        shutil.rmtree(self.folder)

    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground."""
        raise NotImplementedError

    def prepare(self) -> None:
        """Make the data folder; called once."""

    def user(self) -> str | None:
        """Return the name of the user to run as, None for whoever runs the tests."""
        return None

    def answers(self) -> bool:
        """Say whether the server takes requests."""
        with socket.create_connection((HOST, self.port), timeout=1.0):
            return True

    def _wait(self) -> None:
        deadline = time.monotonic() + PATIENCE
        while not self._answers():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"{self.name} did not start:\n{(self.folder / 'server.log').read_text(errors='replace')[-4000:]}")
            time.sleep(0.02)

    def _answers(self) -> bool:
        try:
            return self.answers()
        except (OSError, psycopg.OperationalError, pymysql.Error, redis.RedisError):
            return False

    def _reap(self, processes: list[psutil.Process]) -> None:
        assert self.process is not None
        _, alive = psutil.wait_procs(processes, timeout=PATIENCE)
        for process in alive:
            process.kill()
        self.process.wait()
        self.process = None


class RedisServer(Server):
    """Redis or Valkey that appends what it is told to a file."""

    name = "redis"

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self) -> list[str]:
        """See `Server.command`."""
        program = find_program("redis-server", "valkey-server")
        options = {"bind": HOST, "port": self.port, "dir": self.folder, "appendonly": "yes", "appendfsync": "no", "save": ""}
        return [program, *itertools.chain.from_iterable((f"--{name}", str(value)) for name, value in options.items())]

    def answers(self) -> bool:
        """See `Server.answers`."""
        with redis.Redis(host=HOST, port=self.port) as client:
            return bool(client.ping())


class DatabaseServer(Server):
    """A server with many databases."""

    def __init__(self) -> None:
        super().__init__()
        self.databases: set[str] = set()
        """The databases that tests have made once and share."""
        self._numbers = itertools.count()

    def url_of(self, database: str) -> str:
        """Return the SQLAlchemy URL of a database."""
        raise NotImplementedError

    def execute(self, statement: str) -> None:
        """Execute a statement as the administrator, outside of any transaction."""
        raise NotImplementedError

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make a fresh database, give its URL and drop it in the end, also under open connections."""
        name = f"fresh_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        try:
            yield self.url_of(name)
        finally:
            self.drop(name)

    def drop(self, database: str) -> None:
        """Drop a database."""
        self.execute(f"DROP DATABASE {database}")


class PostgresServer(DatabaseServer):
    """PostgreSQL whose default collation is not that of code points, as on most installations. It refuses to run as root."""

    name = "postgres"
    settings: tuple[str, ...] = ("fsync=off", "full_page_writes=off", "max_connections=60", "shared_buffers=32MB", "log_checkpoints=off")

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """See `DatabaseServer.url_of`."""
        return f"postgresql+psycopg://postgres@{HOST}:{self.port}/{database}"

    def user(self) -> str | None:
        """See `Server.user`."""
        return "postgres" if os.geteuid() == 0 else None

    def prepare(self) -> None:
        """See `Server.prepare`."""
        user = self.user()
        if user:
            shutil.chown(self.folder, user)
        locale = ("--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US")
        options = ("--username=postgres", "--auth=trust", "--no-sync", *locale)
        run([_postgres("initdb"), "-D", str(self.folder / "data"), *options], cwd=self.folder, user=self.user())

    def command(self) -> list[str]:
        """See `Server.command`."""
        settings = itertools.chain.from_iterable(("-c", setting) for setting in self.settings)
        place = ("-D", str(self.folder / "data"), "-k", str(self.folder), "-h", HOST, "-p", str(self.port))
        return [_postgres("postgres"), *place, *settings]

    def answers(self) -> bool:
        """See `Server.answers`."""
        self.execute("SELECT 1")
        return True

    def execute(self, statement: str) -> None:
        """See `DatabaseServer.execute`."""
        with psycopg.connect(host=HOST, port=self.port, user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute(statement.encode())

    def drop(self, database: str) -> None:
        """See `DatabaseServer.drop`."""
        self.execute(f"DROP DATABASE {database} WITH (FORCE)")


class MariaServer(DatabaseServer):
    """MariaDB."""

    name = "mariadb"
    settings: tuple[str, ...] = (
        "--innodb-flush-log-at-trx-commit=2",
        "--innodb-flush-method=nosync",
        "--innodb-doublewrite=0",
        "--innodb-buffer-pool-size=64M",
    )

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return self.url_of("mysql")

    def url_of(self, database: str) -> str:
        """See `DatabaseServer.url_of`."""
        return f"mysql+pymysql://root@{HOST}:{self.port}/{database}"

    def prepare(self) -> None:
        """See `Server.prepare`."""
        options = ("--no-defaults", f"--datadir={self.folder / 'data'}", "--auth-root-authentication-method=normal", "--skip-test-db")
        run([find_program("mariadb-install-db", "mysql_install_db"), *options, *self._user()], cwd=self.folder)

    def command(self) -> list[str]:
        """See `Server.command`."""
        files = (f"--datadir={self.folder / 'data'}", f"--socket={self.folder / 'socket'}", f"--pid-file={self.folder / 'pid'}")
        address = (f"--bind-address={HOST}", f"--port={self.port}", "--skip-name-resolve")
        return [find_program("mariadbd", "mysqld"), "--no-defaults", *files, *address, *self.settings, *self._user()]

    def answers(self) -> bool:
        """See `Server.answers`."""
        self.execute("SELECT 1")
        return True

    def execute(self, statement: str) -> None:
        """See `DatabaseServer.execute`."""
        with pymysql.connect(host=HOST, port=self.port, user="root") as connection, connection.cursor() as cursor:
            cursor.execute(statement)

    @staticmethod
    def _user() -> tuple[str, ...]:
        return ("--user=root",) if os.geteuid() == 0 else ()


class S3Server(Server):
    """moto's server, which takes any key and secret. `url` is the endpoint."""

    name = "s3"

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> list[str]:
        """See `Server.command`."""
        return [sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(self.port)]


ServerKind = TypeVar("ServerKind", bound=Server)


@contextmanager
def running(kind: type[ServerKind]) -> Iterator[ServerKind]:
    """Give a server that runs, and stop it in the end. Raises `Missing`."""
    server = kind()
    try:
        server.start()
        yield server
    finally:
        server.stop()


def absent(reason: object) -> NoReturn:
    """Skip the test for want of a service; under CI=true fail it."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}; with CI set every service must be there")
    pytest.skip(str(reason))


def free_port() -> int:
    """Return a TCP port that nobody uses now."""
    with socket.socket() as found:
        found.bind((HOST, 0))
        port: int = found.getsockname()[1]
        return port


def find_program(*names: str) -> str:
    """Return the path of the first program that is installed. Raises `Missing`."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS))
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise Missing(f"{names[0]} is not installed")


def _postgres(name: str) -> str:
    """Return a program of the newest PostgreSQL; Debian keeps them out of the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name), reverse=True)
    for folder in folders:
        if (folder / name).exists():
            return str(folder / name)
    return find_program(name)


def run(command: list[str], *, cwd: Path, user: str | None = None) -> None:
    """Run a command that makes something; its output is shown when it fails."""
    done = subprocess.run(command, cwd=cwd, user=user, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.returncode == 0, f"{command[0]} failed:\n{done.stdout.decode(errors='replace')}"
