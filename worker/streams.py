"""The queue in Redis: for each shard a stream of entries that no store has committed yet, and what its reader and its senders must know.

    flightlog:{<shard>}:blocks               the stream; an entry has one field, `e`, see `entries`. Trimmed by whoever committed it
    flightlog:{<shard>}:lease                who reads the stream now; expires by itself
    flightlog:{<shard>}:turn                 counts leases; names the next drain job, so that one can be queued while another ends
    flightlog:{<shard>}:failures             drains in a row that found the store away
    flightlog:{<shard>}:committed:<writer>   the store's position, kept for a week
    flightlog:{<shard>}:rejected:<writer>    msgpack [how many, sequence, reason, message] of the writer's dead letters

Redis is transport: everything here may vanish at any time, and the senders, who keep their journals until the store has committed them,
make it good again. Every method raises `QueueUnavailable` when Redis cannot be reached or refuses.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import msgpack
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError
from redis.retry import Retry

from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import InvalidParameter, QueueUnavailable
from flightlog.schema.ids import WriterId
from flightlog.schema.names import SHARDS, shard_key, shard_of
from flightlog.schema.settings import without_password

log = logging.getLogger("flightlog.worker")

FIELD = b"e"
WATCH = "flightlog:watch"
"""Since when, without a break, and when last, somebody has looked after the queue."""
LEASE = 6_000
"""Milliseconds after which a lease that nobody renews is free: so long a killed worker keeps its shard."""
REMEMBERED = 7 * 86_400
"""Seconds for which a position is kept that nobody asks for."""
CONNECT_TIMEOUT, TIMEOUT = 5.0, 15.0
LOOK_TIMEOUT = 2.0
FIRST_HOLD, LAST_HOLD = 1_000, 30_000
"""Milliseconds for which a shard rests after its drain found the store away, growing with each time."""

FULL = 0.75
"""The share of Redis's memory from which on nothing more is sent: the rest is for workers, who free it, and for RQ."""

TAKE_LEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then return 1 end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
    redis.call('INCR', KEYS[2])
    return 1
end
return 0
"""
RENEW_LEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('PEXPIRE', KEYS[1], ARGV[2]) end return 0"
HOLD_LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
FREE_LEASE = "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0"
FREE_LEASE_IF_EMPTY = """
if redis.call('XLEN', KEYS[2]) > 0 then return 0 end
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""
SKIP_TURN = """
local turn = tonumber(redis.call('GET', KEYS[1]) or '0')
if turn == tonumber(ARGV[1]) then return redis.call('INCR', KEYS[1]) end
return turn
"""
ARE_THERE = """
local found = {}
for place, entry_id in ipairs(ARGV) do found[place] = #redis.call('XRANGE', KEYS[1], entry_id, entry_id) end
return found
"""


@dataclass(frozen=True)
class Sent:
    """An entry in a stream: its id there, the sequence after its last event, its size in bytes."""

    entry_id: bytes
    end: int
    size: int


@dataclass(frozen=True)
class Progress:
    """What a store has said of a writer. `rejected` and `newest` tell of its dead letters."""

    committed: int
    rejected: int = 0
    newest: tuple[int, str, str] | None = None


class Streams:
    """The streams of one Redis database, which belongs to one store."""

    def __init__(self, queue_uri: str) -> None:
        """Connect with the first call."""
        self.place = without_password(queue_uri)
        self.redis = connect(queue_uri)

    @contextmanager
    def guarded(self) -> Iterator[None]:
        """Translate what Redis raises."""
        try:
            yield
        except RedisError as error:
            raise QueueUnavailable(f"the queue {self.place} cannot be used now: {error}") from error

    def send(self, entries: Sequence[tuple[str, bytes]]) -> list[bytes]:
        """Append entries, given with their subjects, all or none; return their ids."""
        with self.guarded(), self.redis.pipeline(transaction=True) as pipe:
            for subject, entry in entries:
                pipe.xadd(shard_key(shard_of(subject), "blocks"), {FIELD: entry})
            return list(pipe.execute())

    def read(self, shard: int, after: bytes, count: int) -> list[tuple[bytes, bytes]]:
        """Return the next (id, entry) of a stream after an id, at most `count`; `b"0"` is before all."""
        with self.guarded():
            found: Any = self.redis.xrange(shard_key(shard, "blocks"), min=b"(" + after, count=count)
        return [(entry_id, fields.get(FIELD, b"")) for entry_id, fields in found]

    def are_there(self, entries: Sequence[tuple[str, bytes]]) -> list[bool]:
        """Say of each (subject, id) whether the entry is still in its stream."""
        shards = _by_shard(subject for subject, _ in entries)
        with self.guarded(), self.redis.pipeline(transaction=False) as pipe:
            for shard, places in shards.items():  # a script, so that the entries themselves stay where they are
                pipe.eval(ARE_THERE, 1, shard_key(shard, "blocks"), *(entries[place][1] for place in places))
            return [bool(found) for found in _in_order(shards, pipe.execute())]

    def settle(self, shard: int, last: bytes, positions: Mapping[WriterId, int], letters: Iterable[DeadLetter]) -> None:
        """Publish what a store has committed of a shard, then forget its entries up to an id.

        Where Redis is full, only the forgetting succeeds; then there is room, and the publishing is done again.
        """
        rejected: dict[str, list[DeadLetter]] = {}
        for letter in letters:
            rejected.setdefault(letter.writer, []).append(letter)
        with self.guarded():
            before = self._rejections(shard, list(rejected))
            said: dict[str, bytes | int] = {
                f"rejected:{writer}": _packed_rejection(before[writer] + len(found), found[-1]) for writer, found in rejected.items()
            }
            said.update((f"committed:{writer}", position) for writer, position in positions.items())
            try:
                self._publish_and_forget(shard, said, last)
            except ResponseError:
                self._publish_and_forget(shard, said, last)

    def _publish_and_forget(self, shard: int, said: Mapping[str, bytes | int], last: bytes) -> None:
        with self.redis.pipeline(transaction=False) as pipe:
            for what, value in said.items():
                pipe.set(shard_key(shard, what), value, ex=REMEMBERED)
            pipe.xtrim(shard_key(shard, "blocks"), minid=_after(last), approximate=False)
            pipe.execute()

    def _rejections(self, shard: int, writers: Sequence[str]) -> dict[str, int]:
        keys = [shard_key(shard, f"rejected:{writer}") for writer in writers]
        found: Any = self.redis.mget(keys) if keys else []
        return {writer: _progress(None, said).rejected for writer, said in zip(writers, found, strict=True)}

    def progress(self, writers: Sequence[tuple[str, WriterId]]) -> list[Progress]:
        """Return what is known of each (subject, writer); a position of 0 where nothing is."""
        shards = _by_shard(subject for subject, _ in writers)
        with self.guarded(), self.redis.pipeline(transaction=False) as pipe:
            for shard, places in shards.items():
                for what in ("committed", "rejected"):
                    pipe.mget([shard_key(shard, f"{what}:{writers[place][1]}") for place in places])
            found = pipe.execute()
        committed, rejected = _in_order(shards, found[::2]), _in_order(shards, found[1::2])
        return [_progress(*said) for said in zip(committed, rejected, strict=True)]

    def is_full(self) -> bool:
        """Whether so much of the memory that Redis may use is in use that no more should be sent.

        False where Redis does not say so: then it refuses when it is full.
        """
        with self.guarded():
            try:
                said: Any = self.redis.info("memory")
            except ResponseError as error:
                log.debug("the queue %s does not say how full it is: %s", self.place, error)
                return False
        most = int(said.get("maxmemory", 0))
        return most > 0 and int(said.get("used_memory", 0)) > FULL * most

    def lengths(self) -> list[int]:
        """Return how many entries wait in each shard."""
        with self.guarded(), self.redis.pipeline(transaction=False) as pipe:
            for shard in range(SHARDS):
                pipe.xlen(shard_key(shard, "blocks"))
            return list(pipe.execute())

    def unattended(self, shards: Iterable[int]) -> dict[int, int]:
        """Return those of the shards that nobody reads, with the number of their next turn."""
        numbers = sorted(set(shards))
        with self.guarded(), self.redis.pipeline(transaction=False) as pipe:
            for shard in numbers:
                pipe.exists(shard_key(shard, "lease"))
                pipe.get(shard_key(shard, "turn"))
            found = pipe.execute()
        return {shard: int(turn or 0) for shard, held, turn in zip(numbers, found[::2], found[1::2], strict=True) if not held}

    def skip_turn(self, shard: int, turn: int) -> int:
        """Give up on the drain job of a turn, unless somebody has already; return the shard's turn now."""
        with self.guarded():
            now: Any = self.redis.eval(SKIP_TURN, 1, shard_key(shard, "turn"), turn)
        return int(now)

    def oldest(self) -> float | None:
        """Return when the oldest entry came, in seconds since the epoch by Redis's clock; None when nothing waits."""
        with self.guarded(), self.redis.pipeline(transaction=False) as pipe:
            for shard in range(SHARDS):
                pipe.xrange(shard_key(shard, "blocks"), count=1)
            firsts = [found[0][0] for found in pipe.execute() if found]
        return min((int(entry_id.partition(b"-")[0]) / 1000 for entry_id in firsts), default=None)

    def watched(self, now: float, longest_pause: float) -> float:
        """Note that somebody looks after the queue; return for how many seconds that has been so without a longer pause."""
        with self.guarded():
            said: Any = self.redis.get(WATCH)
            since, latest = msgpack.unpackb(said) if said else (now, now)
            since = since if 0 <= now - latest <= longest_pause else now
            self.redis.set(WATCH, msgpack.packb([since, now]))
        return float(now - since)

    def close(self) -> None:
        """Close the connections."""
        self.redis.close()


class Lease:
    """The right to read a shard. Two that hold it at once do no harm: the store's positions keep the data right."""

    def __init__(self, streams: Streams, shard: int) -> None:
        self._streams, self._shard = streams, shard
        self._token = uuid.uuid4().hex
        self._lease, self._turn, self._stream, self._failures = (shard_key(shard, what) for what in ("lease", "turn", "blocks", "failures"))

    def take(self) -> bool:
        """Take it, unless somebody has it."""
        return bool(self._run(TAKE_LEASE, [self._lease, self._turn], self._token, LEASE))

    def renew(self) -> bool:
        """Keep it for longer; False when it is lost: it was not renewed in time, and somebody else may have it."""
        return bool(self._run(RENEW_LEASE, [self._lease], self._token, LEASE))

    def free_if_empty(self) -> bool:
        """Give it back if the stream is empty, in one step: an entry either comes before, and False says so, or finds the shard free.

        False also for a lease that is lost while something waits: nobody may have been called for it.
        """
        return bool(self._run(FREE_LEASE_IF_EMPTY, [self._lease, self._stream], self._token))

    def free(self) -> None:
        """Give it back."""
        self._run(FREE_LEASE, [self._lease], self._token)

    def note_success(self) -> None:
        """Say that the store takes events."""
        with self._streams.guarded():
            self._streams.redis.delete(self._failures)

    def hold(self) -> None:
        """Let the shard rest, each time for longer: the store is away, and asking it all the time does not bring it back.

        Also where the lease has run out meanwhile, unless somebody else has it.
        """
        with self._streams.guarded():
            failures: Any = self._streams.redis.incr(self._failures)
            self._streams.redis.pexpire(self._failures, 10 * LAST_HOLD)
        self._run(HOLD_LEASE, [self._lease], self._token, min(FIRST_HOLD << min(int(failures) - 1, 10), LAST_HOLD))

    def _run(self, script: str, keys: list[str], *arguments: str | int) -> Any:  # noqa: ANN401 - what the script returns
        with self._streams.guarded():
            return self._streams.redis.eval(script, len(keys), *keys, *arguments)


def connect(queue_uri: str, timeout: float | None = TIMEOUT) -> Redis:
    """Return a client for a queue URI. It gives up on a call after `timeout` seconds; whoever calls tries again.

    Raises `InvalidParameter` for a URI that cannot be understood.
    """
    again_at_once = Retry(NoBackoff(), 1)  # for connections that died unnoticed; longer waits are the business of whoever calls
    try:
        return Redis.from_url(queue_uri, socket_connect_timeout=CONNECT_TIMEOUT, socket_timeout=timeout, retry=again_at_once)
    except ValueError:
        place = without_password(queue_uri)
        raise InvalidParameter(
            f"the queue URI {place!r} cannot be understood; in its password the characters / ? # @ must be written as %2F %3F %23 %40"
        ) from None  # what was raised may hold a part of the password


def _by_shard(subjects: Iterable[str]) -> dict[int, list[int]]:
    """Return for each shard the places of its subjects."""
    found: dict[int, list[int]] = {}
    for place, subject in enumerate(subjects):
        found.setdefault(shard_of(subject), []).append(place)
    return found


def _in_order(shards: Mapping[int, Sequence[int]], answers: Sequence[Sequence[Any]]) -> list[Any]:
    """Return what was answered shard by shard in the order of what was asked."""
    pairs = [pair for places, answer in zip(shards.values(), answers, strict=True) for pair in zip(places, answer, strict=True)]
    return [answer for _, answer in sorted(pairs, key=itemgetter(0))]


def connect_to_look(queue_uri: str) -> Redis:
    """Return a client for whoever only looks, and rather says that the queue is away than wait for it."""
    never = Retry(NoBackoff(), 0)
    return Redis.from_url(queue_uri, socket_connect_timeout=LOOK_TIMEOUT, socket_timeout=LOOK_TIMEOUT, retry=never)


def _after(entry_id: bytes) -> str:
    """Return the least id greater than a given one."""
    time, _, number = entry_id.decode().partition("-")
    return f"{time}-{int(number) + 1}"


def _packed_rejection(count: int, letter: DeadLetter) -> bytes:
    packed: bytes = msgpack.packb([count, letter.sequence, letter.reason, letter.message[:400]], unicode_errors="backslashreplace")
    return packed


def _progress(committed: bytes | None, rejected: bytes | None) -> Progress:
    """Read what was published. What is illegible was not said: the events are sent again, and the store takes them once."""
    try:
        position = int(committed or 0)
        if not rejected:
            return Progress(position)
        count, sequence, reason, message = msgpack.unpackb(rejected)
        return Progress(position, int(count), (int(sequence), str(reason), str(message)))
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        log.warning("the queue holds an illegible position, %r, or number of dead letters, %r: %s", committed, rejected, error)
        return Progress(0)
