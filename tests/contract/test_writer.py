"""The ReplyWriter on real brokers: quick when alone, frugal under load, and told once when a reply is over."""

import asyncio
import time

from common.broker.broker import Broker
from common.streams.replies import Doorbell
from common.wire import EntryId, ReplyEntry, Start, Usage
from provider.replies.reply import ReplyState
from tests.contract.story import HUB, NODE, entries_of, eventually, on_real_brokers, publish, raw
from tests.contract.writers import BELL, REPLY, Attempt, assert_ids_count_up, events, said, writing


@on_real_brokers
class TestFlow:
    async def test_a_lone_event_goes_out_at_once(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with writing(broker) as writer:
            reply, listener = Attempt(writer).reply, broker.blocking_line()
            for n in range(5):
                after = f"1-{n - 1}" if n else "0-1"
                heard = asyncio.create_task(listener.say("XREAD", "BLOCK", 5000, "STREAMS", REPLY, after))
                await eventually(lambda: _is_blocked(broker), "a listener")
                began = time.perf_counter()
                reply.put_data(b"data: %d\n\n" % n)
                assert await heard
                assert time.perf_counter() - began < 2

    async def test_what_comes_while_a_write_is_under_way_becomes_one_entry(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with writing(broker) as writer:
            reply = Attempt(writer).reply
            for n, event in enumerate(events(5000)):
                reply.put_data(event)
                if n % 20 == 0:
                    await asyncio.sleep(0)
            assert await reply.flushed() is ReplyState.OPEN
        assert await said(broker) == b"".join(events(5000))
        assert await raw(broker).xlen(REPLY) < 5000 / 5
        await assert_ids_count_up(broker)

    async def test_under_load_the_writes_keep_their_distance(self, broker: Broker) -> None:
        """A few go out at once; then one that is small keeps a part of the gap, and what comes meanwhile is one."""
        await publish(broker, "r1")
        async with writing(broker, flush_gap_ms=400) as writer:
            reply = Attempt(writer).reply
            began = time.monotonic()
            for event in events(4):
                reply.put_data(event)
                await reply.flushed()
            assert time.monotonic() - began < 0.4
            for event in events(20):
                reply.put_data(event)
                await reply.flushed()
            assert time.monotonic() - began >= 0.9, "24 eighths of a second and more, less 4 gaps at once"
            for event in events(50):
                reply.put_data(event)
                await asyncio.sleep(0)
            await reply.flushed()
        told = [entry.data for _, entry in await entries_of(broker, REPLY)]
        assert told == [*events(4), *events(20), b"".join(events(50))]

    async def test_writes_of_many_replies_keep_the_whole_gap(self, broker: Broker) -> None:
        requests = [f"r{n}" for n in range(20)]
        for request in requests:
            await publish(broker, request)
        async with writing(broker, flush_gap_ms=200) as writer:
            replies = [Attempt(writer, request).reply for request in requests]
            began = time.monotonic()
            for event in events(8):
                for reply in replies:
                    reply.put_data(event)
                await asyncio.gather(*(reply.flushed() for reply in replies))
            assert time.monotonic() - began >= 0.5, "8 gaps, less 4 at once"
        assert [entry.data for _, entry in await entries_of(broker, REPLY)] == events(8)

    async def test_many_replies_share_each_write_and_each_stays_in_order(self, broker: Broker) -> None:
        requests = [f"r{n}" for n in range(40)]
        for request in requests:
            await publish(broker, request)
        await Doorbell(broker, HUB).keep(60_000)
        async with writing(broker) as writer:
            replies = [Attempt(writer, request).reply for request in requests]
            for event in events(100):
                for reply in replies:
                    reply.put_data(event)
                await asyncio.sleep(0)
            states = await asyncio.gather(*(reply.flushed() for reply in replies))
        assert {*states} == {ReplyState.OPEN}
        for request in requests:
            assert await said(broker, request) == b"".join(events(100))
        assert await raw(broker).xlen(BELL) < 100

    async def test_a_short_answer_is_one_entry(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with writing(broker) as writer:
            reply = Attempt(writer).reply
            reply.put(ReplyEntry(start=Start(200, "a/b", NODE), data=b"1"))
            reply.put_data(b"2")
            reply.put(ReplyEntry(end=Usage(1, 2)))
            await reply.flushed()
        whole = ReplyEntry(start=Start(200, "a/b", NODE), data=b"12", end=Usage(1, 2))
        assert await entries_of(broker, REPLY) == [("1-0", whole)]

    async def test_an_attempt_goes_on_after_what_its_former_process_said(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with writing(broker) as writer:
            reply = Attempt(writer).reply
            reply.continue_after(EntryId(1, 6))
            reply.put(ReplyEntry(release="restarted"))
            await reply.flushed()
        assert await entries_of(broker, REPLY) == [("1-7", ReplyEntry(release="restarted"))]


@on_real_brokers
class TestEnds:
    async def test_a_request_that_is_over_is_told_once_and_the_others_go_on(self, broker: Broker) -> None:
        await publish(broker, "r1")
        await publish(broker, "r2")
        async with writing(broker) as writer:
            gone, other = Attempt(writer, "r1"), Attempt(writer, "r2")
            await raw(broker).delete(REPLY)
            for event in events(20):
                gone.reply.put_data(event)
                other.reply.put_data(event)
                await asyncio.sleep(0.001)
            assert await gone.reply.flushed() is ReplyState.GONE
            assert await other.reply.flushed() is ReplyState.OPEN
            assert (gone.over, other.over) == ([ReplyState.GONE], [])
        assert await said(broker, "r2") == b"".join(events(20))
        assert not await raw(broker).exists(REPLY)

    async def test_an_overtaken_attempt_is_told_once(self, broker: Broker) -> None:
        await publish(broker, "r1")
        async with writing(broker) as writer:
            old, new = Attempt(writer), Attempt(writer, attempt=2)
            old.reply.put(ReplyEntry(claim=NODE))
            await old.reply.flushed()
            new.reply.put(ReplyEntry(claim=NODE))
            await new.reply.flushed()
            for event in events(20):
                old.reply.put_data(event)
                await asyncio.sleep(0.001)
            assert await old.reply.flushed() is ReplyState.FENCED
            assert (old.over, new.over) == ([ReplyState.FENCED], [])
        assert [entry_id for entry_id, _ in await entries_of(broker, REPLY)] == ["1-0", "2-0"]

    async def test_nobody_waits_for_room_in_a_reply_that_is_over(self, broker: Broker) -> None:
        async with writing(broker) as writer:
            gone = Attempt(writer)
            gone.reply.put_data(b"x" * 5000)
            async with asyncio.timeout(5):
                await gone.reply.room(1000)
            assert gone.over == [ReplyState.GONE]


async def _is_blocked(broker: Broker) -> bool:
    return int((await raw(broker).info("clients"))["blocked_clients"]) > 0
