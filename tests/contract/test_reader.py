"""The hub's ReplyReader on real brokers: a ring is a hint, an entry is never missed, doubled or out of order."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from common.broker.broker import Broker
from common.broker.shapes import Fields
from common.streams.replies import Doorbell, ReplyStreams, ReplyWrite, Written
from common.types import RequestId
from common.wire import EntryId, ReplyEntry
from hub.relay import reader as reader_module
from hub.relay.inbox import Inbox
from hub.relay.reader import ReplyReader
from tests.contract.story import HUB, KEYS, a_job, at_work, flush, on_real_brokers, publish, raw
from tests.support.brokers import BrokerProcess

BELL = KEYS.doorbell(HUB)
REPLY = a_job("r1").reply


@asynccontextmanager
async def reading(broker: Broker, *, inbox_bytes: int = 2**20) -> AsyncIterator[ReplyReader]:
    """A reader at work, with its doorbell."""
    bell = Doorbell(broker, HUB)
    await bell.keep(60_000)
    reader = ReplyReader(bell, ReplyStreams(broker), reply_ttl_ms=30_000, inbox_bytes=inbox_bytes)
    async with at_work(reader.run(), reader.keep(), reader.tick()):
        yield reader


async def say(broker: Broker, begin: int, end: int, request: str = "r1", *, size: int = 0, attempt: int = 1) -> None:
    """Write entries whose data are their numbers, as a provider does: one pipeline, one ring."""
    reply = a_job(request).reply
    writes = [
        ReplyWrite(
            reply, BELL, RequestId(request), EntryId(attempt, n), ReplyEntry(data=(b"%d " % n).ljust(size, b"."))
        )
        for n in range(begin, end)
    ]
    assert {*await ReplyStreams(broker).write(writes)} == {Written.YES}


async def say_unrung(broker: Broker, begin: int, end: int, request: str = "r1") -> None:
    """Write entries and lose the ring."""
    for n in range(begin, end):
        await raw(broker).xadd(a_job(request).reply, {"data": b"%d " % n}, id=f"1-{n}")


async def take(inbox: Inbox, count: int, within_s: float = 10) -> list[EntryId]:
    """Take entries as a handler does, until so many have come."""
    taken: list[EntryId] = []
    async with asyncio.timeout(within_s):
        while len(taken) < count:
            await inbox.wait()
            taken += [entry_id for entry_id, _ in inbox.take()]
    return taken


def numbered(count: int, begin: int = 0) -> list[EntryId]:
    return [EntryId(1, n) for n in range(begin, begin + count)]


@on_real_brokers
class TestNews:
    async def test_what_is_said_arrives_in_order_and_once(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            taking = asyncio.create_task(take(inbox, 300))
            for begin in range(0, 300, 3):
                await say(broker, begin, begin + 3)
            assert await taking == numbered(300)
            assert inbox.take() == []

    async def test_a_ring_brings_it_long_before_the_next_look_at_all(self, broker: Broker) -> None:
        """Of five entries at random moments not all can fall just before the look that comes once a second."""
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            waits = []
            for n in range(5):
                began = time.monotonic()
                await say(broker, n, n + 1)
                assert await take(inbox, 1) == [EntryId(1, n)]
                waits.append(time.monotonic() - began)
            assert sorted(waits)[2] < 0.5

    async def test_an_entry_that_was_there_before_it_was_looked_for_arrives(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker) as reader:
            await say(broker, 0, 2)
            assert await take(reader.open(RequestId("r1"), REPLY), 2) == numbered(2)

    async def test_a_lost_ring_costs_a_second_and_no_entry(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            began = time.monotonic()
            await say_unrung(broker, 0, 3)
            assert await take(inbox, 3) == numbered(3)
            assert time.monotonic() - began < 2.5

    async def test_entries_longer_than_one_read_arrive_whole(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            await say(broker, 0, 500)
            assert await take(inbox, 500, within_s=2) == numbered(500)

    async def test_more_replies_than_one_read_takes_all_arrive(self, broker: Broker) -> None:
        requests = [f"r{n}" for n in range(250)]
        async with reading(broker) as reader:
            for request in requests:
                await publish(broker, request)
            inboxes = [reader.open(RequestId(request), a_job(request).reply) for request in requests]
            assert reader.open_count == 250
            for request in requests:
                await say_unrung(broker, 0, 1, request)
            assert await asyncio.gather(*(take(inbox, 1) for inbox in inboxes)) == [numbered(1)] * 250

    async def test_a_newer_attempt_follows_on(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            await say(broker, 0, 2)
            await say(broker, 0, 2, attempt=2)
            assert await take(inbox, 4) == [*numbered(2), EntryId(2, 0), EntryId(2, 1)]

    async def test_a_closed_inbox_hears_no_more(self, broker: Broker) -> None:
        for request in ("r1", "r2"):
            await publish(broker, request)
        async with reading(broker) as reader:
            closed, other = (reader.open(RequestId(one), a_job(one).reply) for one in ("r1", "r2"))
            reader.close(closed)
            await say(broker, 0, 1, "r1")
            await say(broker, 0, 1, "r2")
            assert await take(other, 1) == numbered(1)
            assert closed.take() == []
            assert reader.open_count == 1


@on_real_brokers
class TestSlowClients:
    async def test_a_client_that_is_behind_leaves_the_rest_at_the_broker_and_catches_up(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker, inbox_bytes=1000) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            for n in range(100):
                await say(broker, n, n + 1, size=400)
            await _until(lambda: inbox.is_full and inbox.was_skipped)
            held = inbox.take()
            assert sum(len(entry.data) for _, entry in held) < 40 * 400
            seen = [entry_id for entry_id, _ in held]
            while len(seen) < 100:
                await reader.fetch([inbox])
                entries = inbox.take()
                assert entries, "a resumed reply brings something"
                seen += [entry_id for entry_id, _ in entries]
            assert seen == numbered(100)

    async def test_it_catches_up_by_itself_too(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker, inbox_bytes=1000) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            for n in range(25):
                await say(broker, n, n + 1, size=400)
            await _until(lambda: inbox.is_full)
            assert await take(inbox, 25) == numbered(25)

    async def test_reading_on_and_ringing_at_once_doubles_nothing(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker, inbox_bytes=1000) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            seen: list[EntryId] = []

            async def speak() -> None:
                for n in range(200):
                    await say(broker, n, n + 1, size=100)

            speaking = asyncio.create_task(speak())
            async with asyncio.timeout(20):
                while len(seen) < 200:
                    await asyncio.gather(reader.fetch([inbox]), reader.fetch([inbox]))
                    seen += [entry_id for entry_id, _ in inbox.take()]
            await speaking
            assert seen == numbered(200)

    async def test_one_who_is_behind_does_not_hold_up_the_others(self, broker: Broker) -> None:
        for request in ("r1", "r2"):
            await publish(broker, request)
        async with reading(broker, inbox_bytes=1000) as reader:
            slow, quick = (reader.open(RequestId(one), a_job(one).reply) for one in ("r1", "r2"))
            await say(broker, 0, 50, "r1", size=400)
            await _until(lambda: slow.is_full)
            taking = asyncio.create_task(take(quick, 50))
            for n in range(50):
                await say(broker, n, n + 1, "r2", size=400)
            assert await taking == numbered(50)


@on_real_brokers
class TestLosses:
    async def test_a_reply_that_was_deleted_is_given_back_as_it_was(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reader_module, "KEEP_S", 0.05)
        for request in ("r1", "r2"):
            await publish(broker, request)
        async with reading(broker) as reader:
            lost, other = (reader.open(RequestId(one), a_job(one).reply) for one in ("r1", "r2"))
            await say(broker, 0, 3)
            assert await take(lost, 3) == numbered(3)
            before = await raw(broker).xrange(REPLY)
            await raw(broker).delete(REPLY)
            await _until(lambda: lost.was_shaken)
            assert await raw(broker).xrange(REPLY) == before
            assert 0 < await raw(broker).pttl(REPLY) <= 30_000
            assert not other.was_shaken
            await say(broker, 3, 5)
            assert await take(lost, 2) == numbered(2, begin=3)

    async def test_one_that_lost_its_last_entries_gets_them_back_before_new_ones(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            await say(broker, 0, 5)
            assert await take(inbox, 5) == numbered(5)
            await raw(broker).delete(REPLY)
            assert await ReplyStreams(broker).restore(REPLY, inbox.log.entries[:3], 30_000)
            assert not await ReplyStreams(broker).restore(REPLY, inbox.log.entries, 30_000)
            await say(broker, 5, 6)
            assert [entry_id for entry_id, _ in await raw(broker).xrange(REPLY, "1-0")] == [
                b"1-%d" % n for n in range(6)
            ]

    async def test_what_was_overtaken_is_not_given_back(self, broker: Broker) -> None:
        await publish(broker, "r1")
        late = [(EntryId(1, 0), ReplyEntry(data=b"late"))]
        await say(broker, 0, 1, attempt=2)
        assert not await ReplyStreams(broker).restore(REPLY, late, 30_000)
        assert await ReplyStreams(broker).before(REPLY, 2) == []

    async def test_what_stands_behind_a_hole_counts_neither_here_nor_for_a_later_attempt(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            await say(broker, 0, 2)
            await say(broker, 3, 5)
            await say(broker, 0, 1, attempt=2)
            counted = [*numbered(2), EntryId(2, 0)]
            assert await take(inbox, 3) == counted
            assert [entry_id for entry_id, _ in await ReplyStreams(broker).before(REPLY, 3)] == counted

    async def test_a_reply_too_long_to_be_kept_is_opened_again_empty(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reader_module, "KEEP_S", 0.05)
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY, log_bytes=5)
            await say(broker, 0, 3)
            assert await take(inbox, 3) == numbered(3)
            await raw(broker).delete(REPLY)
            await _until(lambda: inbox.was_shaken)
            assert [entry_id for entry_id, _ in await raw(broker).xrange(REPLY)] == [b"0-1"]

    async def test_what_another_hub_looks_after_is_read_and_not_kept(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reader_module, "KEEP_S", 0.05)
        await publish(broker, "r1")
        async with reading(broker) as reader:
            own = reader.open(RequestId("r1"), REPLY)
            followed = reader.follow(RequestId("r1"), REPLY, log_bytes=1000)
            await say(broker, 0, 3)
            assert await take(own, 3) == await take(followed, 3) == numbered(3)
            reader.close(own)
            await raw(broker).delete(REPLY)
            await publish(broker, "r2")
            other = reader.open(RequestId("r2"), a_job("r2").reply)
            await raw(broker).delete(other.reply)
            await _until(lambda: other.was_shaken)  # a whole round of keeping has passed
            assert not followed.was_shaken
            assert not await raw(broker).exists(REPLY)

    async def test_open_replies_are_kept_alive(self, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader_module, "KEEP_S", 0.05)
        await publish(broker, "r1")
        await raw(broker).pexpire(REPLY, 5000)
        async with reading(broker) as reader:
            reader.open(RequestId("r1"), REPLY)
            give_up_at = time.monotonic() + 10
            while await raw(broker).pttl(REPLY) < 10_000:
                assert time.monotonic() < give_up_at
                await asyncio.sleep(0.005)

    async def test_a_flush_is_noticed_and_what_comes_after_it_is_heard(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reader_module, "KEEP_S", 0.05)
        await publish(broker, "r1")
        async with reading(broker) as reader:
            before = reader.open(RequestId("r1"), REPLY)
            await flush(broker)
            await _until(lambda: before.was_shaken)
            await publish(broker, "r2")
            after = reader.open(RequestId("r2"), a_job("r2").reply)
            await say(broker, 0, 3, "r2")
            assert await take(after, 3) == numbered(3)

    async def test_an_unreadable_reply_is_lost_and_the_others_are_not(self, broker: Broker) -> None:
        for request in ("r1", "r2"):
            await publish(broker, request)
        async with reading(broker) as reader:
            garbled, other = (reader.open(RequestId(one), a_job(one).reply) for one in ("r1", "r2"))
            await raw(broker).xadd(REPLY, {"start": "rubbish"}, id="1-0")
            await raw(broker).xadd(BELL, {"ids": "r1 r2 unknown"})
            await say(broker, 0, 3, "r2")
            assert await take(other, 3) == numbered(3)
            await _until(lambda: garbled.is_lost)
            assert not other.is_lost

    async def test_rubbish_on_the_bell_does_not_stop_the_reader(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with reading(broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            for fields in ({"ids": b"\xff\xfe"}, {"other": "x"}, {"ids": "  "}):
                await raw(broker).xadd(BELL, fields)
            await say(broker, 0, 3)
            assert await take(inbox, 3) == numbered(3)

    async def test_one_that_says_without_end_does_not_hold_up_the_others(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its provider is faster than this hub: whenever that has read on, there is more."""
        await publish(broker, "r1")
        await publish(broker, "r2")
        read, said = ReplyStreams.read, 0

        async def read_endless(
            streams: ReplyStreams, after: Mapping[str, EntryId], count: int
        ) -> dict[str, Sequence[tuple[EntryId, Fields]]]:
            nonlocal said
            for n in range(count) if REPLY in after else ():
                await raw(broker).xadd(REPLY, {"unknown": "x"}, id=f"1-{said + n}")
            said += count
            return await read(streams, after, count)

        monkeypatch.setattr(ReplyStreams, "read", read_endless)
        async with reading(broker) as reader:
            endless, other = (reader.open(RequestId(one), a_job(one).reply) for one in ("r1", "r2"))
            await raw(broker).xadd(BELL, {"ids": "r1"})
            await take(endless, 16)
            await say(broker, 0, 3, "r2")
            assert await take(other, 3) == numbered(3)
            assert endless.was_skipped


class TestBrokerAway:
    async def test_a_reader_goes_on_where_it_was_when_the_broker_returns(
        self, own_server: BrokerProcess, own_broker: Broker
    ) -> None:
        await publish(own_broker, "r1")
        async with reading(own_broker) as reader:
            inbox = reader.open(RequestId("r1"), REPLY)
            await say(own_broker, 0, 5)
            assert await take(inbox, 5) == numbered(5)
            own_server.kill()
            await asyncio.to_thread(own_server.start)
            await say(own_broker, 5, 8)
            assert await take(inbox, 3, within_s=20) == numbered(3, begin=5)


async def _until(condition: Callable[[], bool], within_s: float = 10) -> None:
    give_up_at = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < give_up_at
        await asyncio.sleep(0.005)
