"""The ways to reach a queue: a socket file, and TLS with a certificate that must be right."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
import trustme

from fleet import Fleet, fleet_of
from flightlog.schema.errors import QueueUnavailable
from flightlog.worker.streams import Streams
from process.scripts import NO_WORKER, run, wait_until
from services import HOST, Missing, RedisServer, absent, running

LOG = """
import flightlog

with flightlog.start_run() as run:
    print(run.info.run_id, flush=True)
    for step in range(1000):
        flightlog.log_metric("loss", step / 2, step=step)
"""


class SocketRedis(RedisServer):
    """Redis that listens at a socket file only."""

    name = "redis-socket"

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return f"unix://{self.folder / 'redis.sock'}?db=3"

    def command(self) -> list[str]:
        """See `Server.command`."""
        return [*super().command(), "--port", "0", "--unixsocket", str(self.folder / "redis.sock")]

    def answers(self) -> bool:
        """See `Server.answers`."""
        with redis.Redis.from_url(self.url) as client:
            return bool(client.ping())


class TlsRedis(RedisServer):
    """Redis that speaks TLS only."""

    name = "redis-tls"

    @property
    def url(self) -> str:
        """See `Server.url`."""
        return f"rediss://{HOST}:{self.port}/0?ssl_ca_certs={self.folder / 'authority.pem'}"

    def prepare(self) -> None:
        """See `Server.prepare`."""
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.folder / "authority.pem"))
        authority.issue_cert(HOST).private_key_and_cert_chain_pem.write_to_path(str(self.folder / "server.pem"))

    def command(self) -> list[str]:
        """See `Server.command`."""
        pem, authority = str(self.folder / "server.pem"), str(self.folder / "authority.pem")
        options = ["--tls-cert-file", pem, "--tls-key-file", pem, "--tls-ca-cert-file", authority, "--tls-auth-clients", "no"]
        return [*super().command(), "--port", "0", "--tls-port", str(self.port), *options]

    def answers(self) -> bool:
        """See `Server.answers`."""
        with redis.Redis.from_url(self.url) as client:
            return bool(client.ping())


@pytest.fixture(params=[SocketRedis, TlsRedis])
def fleet(
    request: pytest.FixtureRequest, tmp_path: Path, clean_environment: None, monkeypatch: pytest.MonkeyPatch, nothing_is_left_behind: None
) -> Iterator[Fleet]:
    """Give an empty queue at such an address."""
    monkeypatch.delenv("FLIGHTLOG_TRACKING_URI")
    try:
        with running(request.param) as server, fleet_of(server, tmp_path) as fleet:
            monkeypatch.setenv("FLIGHTLOG_QUEUE_URI", server.url)
            yield fleet
    except Missing as reason:
        absent(reason)


def test_events_travel_and_journals_are_freed(fleet: Fleet) -> None:
    worker, shipper = fleet.ready(), fleet.start_shipper()
    run_id = run(LOG, **NO_WORKER).out.split()[0]
    wait_until(lambda: fleet.arrived(run_id) == 1000, "all points have arrived")
    wait_until(lambda: not fleet.segments, "the journals are freed")
    for process in (worker, shipper):
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


@pytest.mark.parametrize("fleet", [TlsRedis], indirect=True)
def test_a_certificate_that_nobody_vouches_for_is_refused(fleet: Fleet) -> None:
    streams = Streams(fleet.server.url.partition("?")[0])
    with pytest.raises(QueueUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        streams.lengths()
    streams.close()
