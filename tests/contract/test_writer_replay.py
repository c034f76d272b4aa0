"""What a broker has forgotten while it was away is written again: no answer gets a hole, none is said twice."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from redis import RedisError

from common.broker.broker import Broker, connect
from common.errors import BrokerUnavailable
from common.streams.replies import ReplyStreams, ReplyWrite, Written
from common.types import NodeId, RequestId
from common.wire import EntryId, ReplyEntry, Usage
from provider.replies.reply import ReplyState
from tests.contract.line import Line, line_to
from tests.contract.story import NODE, a_job, entries_of, eventually, publish, raw
from tests.contract.writers import BELL, REPLY, Attempt, assert_ids_count_up, events, said, writing
from tests.support.brokers import KINDS, BrokerProcess

OTHER = NodeId("node-2")
HUB_TTL_MS = 30_000
CLAIM = (EntryId(1, 0), ReplyEntry(claim=NODE))


@pytest.fixture(params=KINDS)
def forgetful(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    """Each real broker in turn; it is empty when it starts again."""
    server = BrokerProcess(request.param, tmp_path)
    yield server
    server.kill()


@pytest.fixture
async def hub(forgetful: BrokerProcess) -> AsyncIterator[Broker]:
    """How the hub reaches it."""
    broker = connect(forgetful.url, prefix="ghub:", client_name="hub")
    yield broker
    await broker.aclose()


@pytest.fixture
async def line(forgetful: BrokerProcess) -> AsyncIterator[Line]:
    async with line_to(forgetful.port) as line:
        yield line


@pytest.fixture
async def node(line: Line) -> AsyncIterator[Broker]:
    """How the provider reaches it: over the line."""
    broker = connect(line.url, prefix="ghub:", client_name="node")
    yield broker
    await broker.aclose()


@pytest.fixture
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hubs get half a second to reopen a reply."""
    monkeypatch.setattr("provider.replies.replay.REOPEN_S", 0.5)


async def restart_empty(server: BrokerProcess) -> None:
    server.kill()
    await asyncio.to_thread(server.start)


async def restore(hub: Broker, entries: Sequence[tuple[EntryId, ReplyEntry]] = (), request: str = "r1") -> None:
    """Give the broker back what the hub knows of a reply."""
    assert await ReplyStreams(hub).restore(a_job(request).reply, entries, HUB_TTL_MS)


async def speak(attempt: Attempt, data: Sequence[bytes]) -> None:
    """Have each event written in an entry of its own."""
    for event in data:
        attempt.reply.put_data(event)
        assert await attempt.reply.flushed() is ReplyState.OPEN


async def claimed(attempt: Attempt) -> None:
    attempt.reply.put(ReplyEntry(claim=NODE))
    assert await attempt.reply.flushed() is ReplyState.OPEN


async def known_to(broker: Broker, count: int) -> list[tuple[EntryId, ReplyEntry]]:
    """The first so many entries of the reply."""
    found = await entries_of(broker, REPLY)
    return [(EntryId.parse(one.encode()), entry) for one, entry in found[:count]]


async def notice_return(node: Broker) -> None:
    """Reach the broker again, as a heartbeat does."""

    async def answers() -> bool:
        try:
            return bool(await raw(node).ping())
        except RedisError:
            return False

    await eventually(answers, "the broker answers the node")


class TestForgotten:
    @pytest.mark.parametrize("known", [0, 1, 4, 11])
    async def test_an_answer_is_whole_however_much_of_it_the_hub_could_give_back(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker, known: int
    ) -> None:
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await speak(attempt, events(10))
            heard = await known_to(hub, known)
            await restart_empty(forgetful)
            for event in events(5, 10):
                attempt.reply.put_data(event)
            await notice_return(node)
            await restore(hub, heard)
            attempt.reply.put(ReplyEntry(end=Usage()))
            assert await asyncio.wait_for(attempt.reply.flushed(), 5) is ReplyState.OPEN
            assert attempt.over == []
        assert await said(hub) == b"".join(events(15))
        await assert_ids_count_up(hub)

    @pytest.mark.parametrize("known", [1, 5, 11])
    async def test_a_broker_that_has_lost_the_last_entries_gets_them_before_anything_new(
        self, forgetful: BrokerProcess, line: Line, hub: Broker, node: Broker, known: int
    ) -> None:
        """It would take the next entry as it is, and what it lost could never be put in its place again."""
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await speak(attempt, events(10))
            heard = await known_to(hub, known)
            line.hold()
            await restart_empty(forgetful)
            await restore(hub, heard)
            line.cut()
            line.release()
            attempt.reply.put_data(b"new")
            assert await asyncio.wait_for(attempt.reply.flushed(), 5) is ReplyState.OPEN
        assert await said(hub) == b"".join(events(10)) + b"new"
        await assert_ids_count_up(hub)

    async def test_a_reply_that_says_nothing_just_now_is_restored_too(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await speak(attempt, events(3))
            await restart_empty(forgetful)
            await restore(hub)
            await notice_return(node)

            async def is_whole() -> bool:
                return await said(hub) == b"".join(events(3))

            await eventually(is_whole, "what was said is there again")
            assert attempt.over == []

    async def test_what_earlier_attempts_said_is_restored_with_it(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        earlier = [CLAIM, (EntryId(1, 1), ReplyEntry(data=b"first")), (EntryId(1, 2), ReplyEntry(release="gone"))]
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer, attempt=2)
            await claimed(attempt)
            attempt.reply.remember(earlier)
            await speak(attempt, [b"second"])
            await restart_empty(forgetful)
            await restore(hub)
            await notice_return(node)
            await speak(attempt, [b"third"])
        assert [one for one, _ in await entries_of(hub, REPLY)] == ["1-0", "1-1", "1-2", "2-0", "2-1", "2-2"]
        assert await said(hub) == b"firstsecondthird"

    async def test_the_hub_hears_of_what_was_written_again(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await restart_empty(forgetful)
            await raw(hub).xadd(BELL, {"ids": ""})
            await restore(hub)
            await notice_return(node)

            async def has_rung() -> bool:
                return any(fields.get(b"ids") == b"r1" for _, fields in await raw(hub).xrange(BELL))

            await eventually(has_rung, "the bell")


class TestWaiting:
    async def test_the_others_go_on_while_one_is_waited_for(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        for request in ("r1", "r2"):
            await publish(hub, request)
        async with writing(node) as writer:
            missing, other = Attempt(writer, "r1"), Attempt(writer, "r2")
            for attempt in (missing, other):
                await claimed(attempt)
            await restart_empty(forgetful)
            await restore(hub, request="r2")
            await notice_return(node)
            missing.reply.put_data(b"1")
            await speak(other, events(20))
            assert writer.owes(missing.reply)
            await restore(hub, [CLAIM])
            assert await asyncio.wait_for(missing.reply.flushed(), 5) is ReplyState.OPEN
        assert (missing.over, other.over) == ([], [])
        assert await said(hub, "r1") == b"1"
        assert await said(hub, "r2") == b"".join(events(20))

    @pytest.mark.usefixtures("short_wait")
    async def test_a_reply_that_nobody_reopens_is_over_in_the_end(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await restart_empty(forgetful)
            attempt.reply.put_data(b"x")
            assert await asyncio.wait_for(attempt.reply.flushed(), 5) is ReplyState.GONE
            assert attempt.over == [ReplyState.GONE]
        assert not await raw(hub).exists(REPLY)

    async def test_one_that_is_dropped_is_waited_for_no_more(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await restart_empty(forgetful)
            attempt.reply.put_data(b"x")
            waiting = asyncio.create_task(attempt.reply.flushed())
            await notice_return(node)
            attempt.reply.drop()
            assert await asyncio.wait_for(waiting, 1) is ReplyState.GONE

    async def test_its_engine_may_go_on_up_to_the_limit(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await restart_empty(forgetful)
            await notice_return(node)

            async def is_waited_for() -> bool:
                return writer.owes(attempt.reply)

            await eventually(is_waited_for, "the reply is missed")
            await asyncio.wait_for(_say_much(attempt), 1)
            waiting = asyncio.create_task(attempt.reply.room(500))
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done
            await restore(hub)
            await asyncio.wait_for(waiting, 5)
            assert await attempt.reply.flushed() is ReplyState.OPEN
        assert await said(hub) == b"".join(events(100))

    async def test_a_job_that_comes_just_after_the_return_waits_for_its_reply_too(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        """Jobs may outlast their replies: these have a time to live, and the broker was away for longer."""
        async with writing(node) as writer:
            await notice_return(node)
            await restart_empty(forgetful)
            await notice_return(node)
            attempt = Attempt(writer)
            attempt.reply.put(ReplyEntry(claim=NODE))
            waiting = asyncio.create_task(attempt.reply.flushed())
            done, _ = await asyncio.wait([waiting], timeout=0.3)
            assert not done
            await restore(hub)
            assert await asyncio.wait_for(waiting, 5) is ReplyState.OPEN
        assert await entries_of(hub, REPLY) == [("1-0", CLAIM[1])]

    async def test_one_that_was_back_and_then_goes_is_over_at_once(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await restart_empty(forgetful)
            await restore(hub)
            await notice_return(node)
            await speak(attempt, events(1))
            await raw(hub).delete(REPLY)
            attempt.reply.put_data(b"x")
            assert await asyncio.wait_for(attempt.reply.flushed(), 1) is ReplyState.GONE

    async def test_a_node_whom_the_broker_has_forgotten_goes_on_when_it_is_known_again(
        self, forgetful: BrokerProcess, hub: Broker
    ) -> None:
        url = forgetful.url.replace("//", "//node:secret@")
        rules = ("reset", "on", ">secret", "~*", "+@all")
        await raw(hub).execute_command("ACL", "SETUSER", "node", *rules)
        broker = connect(url, prefix="ghub:", client_name="node")
        await publish(hub, "r1")
        try:
            async with writing(broker) as writer:
                attempt = Attempt(writer)
                await claimed(attempt)
                await restart_empty(forgetful)
                await restore(hub)
                attempt.reply.put_data(b"1")

                async def was_refused() -> bool:
                    return bool(await raw(hub).execute_command("ACL", "LOG"))

                await eventually(was_refused, "the node is refused")
                await raw(hub).execute_command("ACL", "SETUSER", "node", *rules)
                assert await asyncio.wait_for(attempt.reply.flushed(), 8) is ReplyState.OPEN
        finally:
            await broker.aclose()
        assert await said(hub) == b"1"
        await assert_ids_count_up(hub)


class TestTakenOver:
    async def test_a_newer_attempt_is_noticed_though_nothing_is_said(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await restart_empty(forgetful)
            await restore(hub, [(EntryId(2, 0), ReplyEntry(claim=OTHER))])
            await notice_return(node)

            async def is_over() -> bool:
                return attempt.over == [ReplyState.FENCED]

            await eventually(is_over, "the attempt is over")
        assert await said(hub) == b""

    async def test_of_two_nodes_with_the_same_attempt_the_one_whose_claim_stands_has_it(
        self, forgetful: BrokerProcess, hub: Broker, node: Broker
    ) -> None:
        """A broker that has forgotten whom it gave a job gives it to another node."""
        await publish(hub, "r1")
        async with writing(node) as writer:
            attempt = Attempt(writer)
            await claimed(attempt)
            await speak(attempt, events(5))
            await restart_empty(forgetful)
            await restore(hub, [(EntryId(1, 0), ReplyEntry(claim=OTHER)), (EntryId(1, 1), ReplyEntry(data=b"other"))])
            await notice_return(node)
            attempt.reply.put_data(b"late")
            assert await asyncio.wait_for(attempt.reply.flushed(), 5) is ReplyState.FENCED
        assert await said(hub) == b"other"

    async def test_a_claim_whose_refusal_was_lost_is_not_taken_for_ours(
        self, line: Line, hub: Broker, node: Broker
    ) -> None:
        await publish(hub, "r1")
        write = ReplyWrite(REPLY, BELL, RequestId("r1"), EntryId(1, 0), ReplyEntry(claim=OTHER))
        await ReplyStreams(hub).write([write])
        async with writing(node) as writer:
            await notice_return(node)
            warm = Attempt(writer, "warm")
            warm.reply.put_data(b"x")
            await warm.reply.flushed()
            line.lose_answers(1)
            attempt = Attempt(writer)
            attempt.reply.put(ReplyEntry(claim=NODE))
            assert await asyncio.wait_for(attempt.reply.flushed(), 5) is ReplyState.FENCED
        assert line.answers_lost == 1
        assert await entries_of(hub, REPLY) == [("1-0", ReplyEntry(claim=OTHER))]


async def test_nothing_is_written_over_a_connection_that_was_made_anew(hub: Broker, node: Broker, line: Line) -> None:
    await publish(hub, "r1")
    streams = ReplyStreams(node)
    writes = [ReplyWrite(REPLY, BELL, RequestId("r1"), EntryId(1, n), ReplyEntry(data=b"x")) for n in range(4)]
    assert await streams.write(writes[:1], since=streams.renewals) == [Written.UNSENT], "it was never used before"
    assert await streams.write(writes[:1], since=streams.renewals) == [Written.YES]
    before = streams.renewals
    line.cut()
    await notice_return(node)
    assert await streams.write(writes[1:3], since=before) == [Written.UNSENT] * 2
    assert await streams.write(writes[1:3], since=streams.renewals) == [Written.YES] * 2
    before = streams.renewals
    line.cut()
    with suppress(BrokerUnavailable):  # the cut may be noticed only by what is sent
        assert await streams.write(writes[3:], since=before) == [Written.UNSENT]
    assert await streams.write(writes[3:], since=before) == [Written.UNSENT]
    assert [entry_id for entry_id, _ in await entries_of(hub, REPLY)] == ["1-0", "1-1", "1-2"]


async def _say_much(attempt: Attempt) -> None:
    for event in events(100):
        await attempt.reply.room(1_000_000)
        attempt.reply.put_data(event)
