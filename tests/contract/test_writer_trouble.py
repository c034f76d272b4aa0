"""The ReplyWriter and a line or broker that fails it: nothing lost within the grace, nothing doubled, each end told."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from common.broker.broker import Broker, connect
from common.streams.replies import ReplyStreams, ReplyWrite
from common.types import RequestId
from common.wire import EntryId, ReplyEntry, Usage
from provider.replies.reply import Reply, ReplyState
from tests.contract.line import Line, line_to
from tests.contract.story import NODE, eventually, publish, raw
from tests.contract.writers import BELL, REPLY, Attempt, assert_ids_count_up, events, said, writing
from tests.support.brokers import BrokerProcess


class TestBadLine:
    @pytest.fixture
    async def line(self, own_server: BrokerProcess) -> AsyncIterator[Line]:
        async with line_to(own_server.port) as line:
            yield line

    @pytest.fixture
    async def over_line(self, line: Line) -> AsyncIterator[Broker]:
        broker = connect(line.url, prefix="ghub:", client_name="contract")
        yield broker
        await broker.aclose()

    @pytest.mark.parametrize("losses", [1, 3])
    async def test_a_write_whose_answer_was_lost_is_there_once(
        self, line: Line, own_broker: Broker, over_line: Broker, losses: int
    ) -> None:
        for request in ("r1", "r2"):
            await publish(own_broker, request)
        async with writing(over_line) as writer:
            attempts = [Attempt(writer, request) for request in ("r1", "r2")]
            for attempt in attempts:
                attempt.reply.put(ReplyEntry(claim=NODE))
                assert await attempt.reply.flushed() is ReplyState.OPEN
            line.lose_answers(losses)
            for event in events(50):
                for attempt in attempts:
                    attempt.reply.put_data(event)
                await asyncio.sleep(0)
            for attempt in attempts:
                attempt.reply.put(ReplyEntry(end=Usage()))
                assert await attempt.reply.flushed() is ReplyState.OPEN
                assert attempt.over == []
        assert line.answers_lost == losses
        for request in ("r1", "r2"):
            assert await said(own_broker, request) == b"".join(events(50))
            await assert_ids_count_up(own_broker, request)

    async def test_a_newer_attempt_that_came_while_the_answer_was_lost_is_noticed(
        self, line: Line, own_broker: Broker, over_line: Broker
    ) -> None:
        await publish(own_broker, "r1")
        async with writing(over_line) as writer:
            attempt = Attempt(writer)
            attempt.reply.put(ReplyEntry(claim=NODE))
            await attempt.reply.flushed()
            newer = ReplyWrite(REPLY, BELL, RequestId("r1"), EntryId(2, 0), ReplyEntry(claim=NODE))
            await ReplyStreams(own_broker).write([newer])
            line.lose_answers(1)
            attempt.reply.put_data(b"late")
            assert await attempt.reply.flushed() is ReplyState.FENCED
            assert attempt.over == [ReplyState.FENCED]
        assert await said(own_broker) == b""

    async def test_a_line_that_keeps_breaking_loses_nothing(
        self, line: Line, own_broker: Broker, over_line: Broker
    ) -> None:
        await publish(own_broker, "r1")
        async with writing(over_line) as writer:
            attempt = Attempt(writer)
            for n, event in enumerate(events(400)):
                attempt.reply.put_data(event)
                await asyncio.sleep(0.001)
                if n % 100 == 50:
                    line.cut()
            assert await attempt.reply.flushed() is ReplyState.OPEN
            assert attempt.over == []
        assert await said(own_broker) == b"".join(events(400))
        await assert_ids_count_up(own_broker)

    async def test_an_engine_waits_for_room_while_the_broker_is_slow(
        self, line: Line, own_broker: Broker, over_line: Broker
    ) -> None:
        await publish(own_broker, "r1")
        async with writing(over_line) as writer:
            reply = Attempt(writer).reply
            reply.put(ReplyEntry(claim=NODE))
            await reply.flushed()
            line.hold()
            reply.put_data(b"x" * 10)
            await asyncio.wait_for(reply.room(1000), 1)
            waiting = asyncio.create_task(_fill(reply))
            done, _ = await asyncio.wait([waiting], timeout=0.1)
            assert not done
            line.release()
            await asyncio.wait_for(waiting, 5)
        assert await said(own_broker) == b"x" * 10 + b"y" * 10_000


class TestBrokerAway:
    async def test_a_broker_that_returns_within_the_grace_has_everything_once(
        self, own_server: BrokerProcess, own_broker: Broker
    ) -> None:
        """It keeps what it was told on disk, so what was written before its death comes a second time."""
        await publish(own_broker, "r1")
        async with writing(own_broker) as writer:
            attempt = Attempt(writer)
            for n, event in enumerate(events(300)):
                attempt.reply.put_data(event)
                await asyncio.sleep(0.001)
                if n == 100:
                    own_server.kill()
            await asyncio.to_thread(own_server.start)
            assert await attempt.reply.flushed() is ReplyState.OPEN
            attempt.reply.put(ReplyEntry(end=Usage()))
            assert await attempt.reply.flushed() is ReplyState.OPEN
            assert attempt.over == []
        assert await said(own_broker) == b"".join(events(300))
        await assert_ids_count_up(own_broker)

    async def test_past_the_grace_every_reply_is_lost_once_and_the_writer_lives_on(
        self, own_server: BrokerProcess, own_broker: Broker
    ) -> None:
        await publish(own_broker, "r1")
        await publish(own_broker, "r2")
        async with writing(own_broker, grace_s=0.3) as writer:
            attempts = [Attempt(writer, request) for request in ("r1", "r2")]
            own_server.kill()
            for event in events(10):
                for attempt in attempts:
                    attempt.reply.put_data(event)
                await asyncio.sleep(0)
            began = time.monotonic()
            states = await asyncio.gather(*(attempt.reply.flushed() for attempt in attempts))
            assert states == [ReplyState.LOST] * 2
            assert time.monotonic() - began < 5
            for attempt in attempts:
                attempt.reply.put_data(b"more")
                await asyncio.wait_for(attempt.reply.room(1), 1)
                assert attempt.over == [ReplyState.LOST]
            await asyncio.to_thread(own_server.start)
            await publish(own_broker, "r3")
            later = Attempt(writer, "r3")
            later.reply.put_data(b"hello")
            assert await later.reply.flushed() is ReplyState.OPEN
        assert await said(own_broker, "r3") == b"hello"
        assert await said(own_broker, "r1") == b"", "an answer with a hole in it"

    async def test_a_broker_that_returns_empty_ends_the_attempts(
        self, own_server: BrokerProcess, own_broker: Broker
    ) -> None:
        await publish(own_broker, "r1")
        async with writing(own_broker) as writer:
            attempt = Attempt(writer)
            attempt.reply.put_data(b"before")
            await attempt.reply.flushed()
            with own_server.client() as client:
                client.flushall()
            attempt.reply.put_data(b"after")
            assert await attempt.reply.flushed() is ReplyState.GONE
            assert attempt.over == [ReplyState.GONE]
        assert not await raw(own_broker).exists(REPLY)

    async def test_a_broker_that_is_full_for_a_moment_costs_nothing(
        self, own_server: BrokerProcess, own_broker: Broker
    ) -> None:
        await publish(own_broker, "r1")
        async with writing(own_broker) as writer:
            attempt = Attempt(writer)
            with own_server.client() as client:
                client.config_set("maxmemory", "1")
                attempt.reply.put_data(b"x")

                async def was_refused() -> bool:
                    return "errorstat_OOM" in client.info("errorstats")

                await eventually(was_refused, "no write was refused")
                client.config_set("maxmemory", "0")
            assert await asyncio.wait_for(attempt.reply.flushed(), 5) is ReplyState.OPEN
            assert attempt.over == []


async def _fill(reply: Reply) -> None:
    for _ in range(10):
        reply.put_data(b"y" * 1000)
        await reply.room(1000)
