"""The queue's keys in Redis: what is sent and settled, and who may read a shard."""

from __future__ import annotations

import msgpack
import pytest
from redis.exceptions import ResponseError

from flightlog.schema.entities import DeadLetter
from flightlog.schema.errors import InvalidParameter, QueueUnavailable
from flightlog.schema.names import shard_key, shard_of
from flightlog.worker.streams import Lease, Progress, Streams
from journals import OTHER_WRITER, RUN, WRITER
from queues import SHARD, block, fake_streams, fragile, send, waiting


def _letter(sequence: int, reason: str = "invalid") -> DeadLetter:
    return DeadLetter(RUN, WRITER, sequence, reason, "it is wrong", b"", 1)


def test_what_is_settled_is_published_and_forgotten(streams: Streams) -> None:
    first, last, _ = send(streams, block("a"), block("b", first=1), block("c", first=2))
    streams.settle(SHARD, last, {WRITER: 2}, [_letter(0), _letter(1, "refused")])
    assert streams.progress([(RUN, WRITER)]) == [Progress(2, 2, (1, "refused", "it is wrong"))]
    assert waiting(streams) == [(2, 3)]
    assert streams.are_there([(RUN, first)]) == [False]


def test_dead_letters_are_counted_over_all_batches(streams: Streams) -> None:
    for sequence in range(3):
        streams.settle(SHARD, send(streams, block("a"))[0], {}, [_letter(sequence)])
    assert streams.progress([(RUN, WRITER)])[0].rejected == 3


ILLEGIBLE = [(b"many", None), (b"7", b"\xc1"), (b"7", b"\x05"), (b"7", msgpack.packb(["a", 1, "b", "c"])), (b"7", b"\x94\x01")]


@pytest.mark.parametrize(("committed", "rejected"), ILLEGIBLE)
def test_an_illegible_position_is_one_that_was_never_told(streams: Streams, committed: bytes, rejected: bytes | None) -> None:
    streams.redis.set(shard_key(SHARD, f"committed:{WRITER}"), committed)
    if rejected:
        streams.redis.set(shard_key(SHARD, f"rejected:{WRITER}"), rejected)
    assert streams.progress([(RUN, WRITER)]) == [Progress(0)]
    streams.settle(SHARD, b"0-1", {WRITER: 3}, [_letter(1)])
    assert streams.progress([(RUN, WRITER)]) == [Progress(3, 1, (1, "invalid", "it is wrong"))]


def test_progress_answers_in_the_order_of_the_question(streams: Streams) -> None:
    writers = [(f"{number:032x}", WRITER if number % 2 else OTHER_WRITER) for number in range(40)]
    for number, (subject, writer) in enumerate(writers):
        streams.settle(shard_of(subject), b"0-1", {writer: number}, [])
    newest = {(shard_of(subject), writer): number for number, (subject, writer) in enumerate(writers)}
    assert [found.committed for found in streams.progress(writers)] == [newest[shard_of(item[0]), item[1]] for item in writers]


def test_entries_are_looked_for_without_being_fetched(streams: Streams) -> None:
    subjects = [f"{number:032x}" for number in range(40)]
    ids = send(streams, *(block("a", subject=subject) for subject in subjects))
    for subject in subjects[::3]:
        streams.redis.delete(shard_key(shard_of(subject), "blocks"))
    gone = {shard_of(subject) for subject in subjects[::3]}
    asked = list(zip(subjects, ids, strict=True))
    assert streams.are_there(asked) == [shard_of(subject) not in gone for subject in subjects]


def test_positions_are_published_also_when_only_forgetting_makes_room_for_them(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    entry_id = send(streams, block("a"))[0]
    once = streams._publish_and_forget
    tried: list[int] = []

    def full_at_first(shard: int, said: dict[str, bytes | int], last: bytes) -> None:
        if not tried:
            tried.append(1)
            once(shard, {}, last)
            raise ResponseError("OOM command not allowed when used memory > 'maxmemory'.")
        once(shard, said, last)

    monkeypatch.setattr(streams, "_publish_and_forget", full_at_first)
    streams.settle(SHARD, entry_id, {WRITER: 1}, [])
    assert streams.progress([(RUN, WRITER)]) == [Progress(1)]


def test_the_queue_is_full_before_redis_is(streams: Streams, monkeypatch: pytest.MonkeyPatch) -> None:
    for used, most, is_full in ((74, 100, False), (76, 100, True), (76, 0, False)):
        monkeypatch.setattr(streams.redis, "info", lambda _, used=used, most=most: {"used_memory": used, "maxmemory": most})
        assert streams.is_full() is is_full


def test_whatever_redis_raises_says_which_queue_and_no_password() -> None:
    streams = Streams("redis://me:se%2Fcr%40et@localhost:1/0?password=hidden")
    with pytest.raises(QueueUnavailable, match=r"redis://me:\*\*\*@localhost:1/0\?password=\*\*\* cannot be used now"):
        streams.lengths()
    streams.close()


@pytest.mark.parametrize("uri", ["redis://me:se/cret@localhost:1/0", "redis://localhost:port", "redis://localhost:70000"])
def test_a_uri_that_cannot_be_understood_is_refused_without_its_password(uri: str) -> None:
    with pytest.raises(InvalidParameter, match="cannot be understood") as caught:
        Streams(uri)
    assert "cret" not in str(caught.value)


def test_one_reader_has_a_shard(streams: Streams) -> None:
    mine, other = Lease(streams, SHARD), Lease(streams, SHARD)
    assert mine.take()
    assert not other.take()
    assert streams.unattended([SHARD]) == {}
    other.free()
    assert not other.take()
    mine.free()
    assert streams.unattended([SHARD]) == {SHARD: 1}
    assert other.take()


def test_a_lease_that_is_taken_twice_because_the_answer_was_lost_is_taken(streams: Streams) -> None:
    lease = Lease(streams, SHARD)
    assert lease.take()
    assert lease.take()
    assert streams.redis.get(shard_key(SHARD, "turn")) == b"1"


def test_a_lease_is_not_freed_while_something_waits(streams: Streams) -> None:
    lease = Lease(streams, SHARD)
    lease.take()
    last = send(streams, block("a"))[0]
    assert not lease.free_if_empty()
    assert streams.unattended([SHARD]) == {}
    streams.settle(SHARD, last, {}, [])
    assert lease.free_if_empty()
    assert streams.unattended([SHARD]) == {SHARD: 1}


def test_a_lease_that_ran_out_does_not_say_that_all_is_done_while_something_waits(streams: Streams) -> None:
    lease = Lease(streams, SHARD)
    lease.take()
    streams.redis.delete(shard_key(SHARD, "lease"))
    send(streams, block("a"))
    assert not lease.renew()
    assert not lease.free_if_empty()


def test_a_lease_that_ran_out_leaves_the_next_one_alone(streams: Streams) -> None:
    mine, other = Lease(streams, SHARD), Lease(streams, SHARD)
    mine.take()
    streams.redis.delete(shard_key(SHARD, "lease"))
    assert other.take()
    assert mine.free_if_empty()
    mine.hold()
    mine.free()
    assert other.renew()


def test_a_shard_rests_longer_each_time_its_store_is_away(streams: Streams) -> None:
    rests = []
    for _ in range(8):
        lease = Lease(streams, SHARD)
        lease.take()
        streams.redis.delete(shard_key(SHARD, "lease"))  # it ran out while the store was asked
        lease.hold()
        rests.append(round(streams.redis.pttl(shard_key(SHARD, "lease")) / 1000))
        streams.redis.delete(shard_key(SHARD, "lease"))
    assert rests == [1, 2, 4, 8, 16, 30, 30, 30]
    lease = Lease(streams, SHARD)
    lease.note_success()
    lease.hold()
    assert 0 < streams.redis.pttl(shard_key(SHARD, "lease")) <= 1000


def test_a_turn_is_skipped_once_by_whoever_gives_up_on_it(streams: Streams) -> None:
    assert [streams.skip_turn(SHARD, 0) for _ in range(3)] == [1, 1, 1]
    assert streams.skip_turn(SHARD, 1) == 2


def test_a_transaction_that_fails_sends_nothing() -> None:
    streams = fake_streams()
    fragile(streams).away = True
    with pytest.raises(QueueUnavailable, match="away"):
        send(streams, block("a"))
    fragile(streams).away = False
    assert waiting(streams) == []
    streams.close()


def test_what_is_published_is_plain_msgpack(streams: Streams) -> None:
    streams.settle(SHARD, b"0-1", {}, [DeadLetter(RUN, WRITER, 3, "invalid", "\ud800 is no text", b"", 1)])
    assert msgpack.unpackb(streams.redis.get(shard_key(SHARD, f"rejected:{WRITER}"))) == [1, 3, "invalid", "\\ud800 is no text"]
