"""A request whose node, job or broker is lost goes on: a hub without its HTTP server, and nodes that the test plays."""

import asyncio
import time
from dataclasses import replace
from typing import Any

import pytest

from common.broker.broker import Broker
from common.keys import Keys
from common.records.registry import Registry
from common.records.usage import UsageBooks, day_of
from common.streams.jobs import Delivery
from common.types import Lane, NodeId
from common.wire import CANNOT_CONTINUE, LAST_WORD, EntryId, Failure, Job, ReplyEntry, Start, Usage
from hub.access.gatekeeper import Caller
from hub.app import Hub
from hub.errors import RequestFailed
from hub.grid.registry_view import RegistryView
from hub.relay import reader as reader_module
from hub.requests.request import OpenRequest
from hub.requests.wishes import Wishes
from hub.settings import HubSettings
from tests.contract.stage import OTHER_NODE, Stage, a_stage, register
from tests.contract.story import LANES, MODEL, NODE, eventually, flush, raw
from tests.contract.test_limits import KEY

# What is tried here is the hub; that every kind of broker keeps its promises to it is tried beside this.
pytestmark = pytest.mark.parametrize("broker", ["valkey"], indirect=True)

EVENTS = "text/event-stream"
CRASH = Failure(502, "engine_error", "it crashed", retryable=True)


def says(text: str) -> ReplyEntry:
    return ReplyEntry(data=text.encode())


def begins(text: str, node: NodeId = NODE, after: str = "") -> ReplyEntry:
    return ReplyEntry(start=Start(200, EVENTS, node, after), data=text.encode())


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that looks after its replies ten times a second: these tests lose them all the time."""
    monkeypatch.setattr(reader_module, "KEEP_S", 0.1)


class Client:
    """Reads a request's answer to its end, as its handler does."""

    def __init__(self, stage: Stage, request: OpenRequest) -> None:
        self.heard = ""
        self.request = request
        self._stage = stage
        self._task = asyncio.create_task(self._read())

    async def has_heard(self, text: str) -> None:
        async def is_heard() -> bool:
            return self.heard == text

        await eventually(is_heard, f"the client to hear {text!r}")

    async def end(self) -> RequestFailed | None:
        """Wait for the end; why it failed, or None."""
        async with asyncio.timeout(20):
            return await self._task

    async def _read(self) -> RequestFailed | None:
        request = self.request
        try:
            while not request.is_finished:
                await request.advance()
                if request.job.stream:
                    self.heard += request.take().decode()
            self.heard += request.take().decode()
        except RequestFailed as exc:
            self.heard += request.take().decode()
            request.failed_with = exc
        self._stage.hub.dispatcher.close(request)
        return request.failed_with


async def a_client(stage: Stage, *, stream: bool = True, **wishes: bool) -> Client:
    return Client(stage, await stage.submit(stream=stream, wishes=Wishes(**wishes)))


async def lose(stage: Stage, node: NodeId = NODE) -> None:
    """The node's entry ends, as when its process was killed a lease ago."""
    await Registry(stage.broker).remove_node(node)


async def begun(stage: Stage, **wishes: bool) -> tuple[Client, Delivery, Job]:
    """A client that has heard `one two ` from its first node."""
    client = await a_client(stage, **wishes)
    delivery, job = await stage.claim()
    await stage.say(job, 1, begins("one "))
    await stage.say(job, 2, says("two "))
    await client.has_heard("one two ")
    return client, delivery, job


async def finish(stage: Stage, after: str, text: str = "three") -> Job:
    """The other node takes the next attempt and ends the answer."""
    delivery, job = await stage.claim(OTHER_NODE)
    await stage.say(job, 1, begins(text, OTHER_NODE, after))
    await stage.say(job, 2, ReplyEntry(end=Usage(3, 3)))
    await stage.lanes.settle(delivery.ticket, job.id)
    return job


async def is_clean(stage: Stage) -> None:
    """Nothing is left of any request but what ends by itself."""
    await stage.hub.dispatcher.finish_closing(5)
    await eventually(lambda: _nothing_open(stage), "the hub to look after nothing")
    lanes = [Keys().lane(*lane) for lane in LANES]
    assert [await raw(stage.broker).xlen(lane) for lane in lanes] == [0] * len(lanes)
    assert [await raw(stage.broker).zcard(Keys().waiting(*lane)) for lane in LANES] == [0] * len(lanes)


async def _nothing_open(stage: Stage) -> bool:
    return not await raw(stage.broker).exists(Keys().open_requests(stage.hub.id))


async def _has_come(request: OpenRequest, last: EntryId) -> bool:
    return request.inbox.last == last


class TestALostNode:
    async def test_another_one_goes_on_where_it_ended(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, _ = await begun(stage)
            await lose(stage)
            job = await finish(stage, after="1-2")
            assert await client.end() is None
            assert client.heard == "one two three"
            assert job.attempt == 2
            await is_clean(stage)

    async def test_what_it_says_until_it_is_fenced_is_part_of_the_answer(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, first = await begun(stage)
            await lose(stage)
            delivery, second = await stage.take(OTHER_NODE)
            await stage.say(first, 3, says("late "))
            await stage.say(second, 0, ReplyEntry(claim=OTHER_NODE))
            await stage.say(first, 4, says("too late "))
            await stage.say(second, 1, begins("three", OTHER_NODE, "1-3"))
            await stage.say(second, 2, ReplyEntry(end=Usage()))
            await stage.lanes.settle(delivery.ticket, second.id)
            assert await client.end() is None
            assert client.heard == "one two late three"
            await is_clean(stage)

    async def test_if_it_comes_to_the_end_after_all_nobody_else_begins(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, first = await begun(stage)
            await lose(stage)
            await eventually(lambda: _waits(stage, Lane.RETRY), "the next attempt")
            await stage.say(first, 3, ReplyEntry(data=b"three", end=Usage(1, 3)))
            assert await client.end() is None
            assert client.heard == "one two three"
            await is_clean(stage)

    @pytest.mark.parametrize("stream", [False, True])
    async def test_a_claim_that_comes_behind_the_end_takes_nothing_back(self, broker: Broker, *, stream: bool) -> None:
        async with a_stage(broker) as stage:
            request = await stage.submit(stream=stream)
            delivery, job = await stage.claim()
            whole = begins("all of it")._replace(end=Usage(1, 3))
            await stage.say(job, 1, whole)
            await stage.say(replace(job, attempt=2), 0, ReplyEntry(claim=OTHER_NODE))
            await stage.lanes.settle(delivery.ticket, job.id)
            await eventually(lambda: _has_come(request, EntryId(2, 0)), "all of it to come at once")
            client = Client(stage, request)
            assert await client.end() is None
            assert (client.heard, request.usage, request.node) == ("all of it", Usage(1, 3), NODE)
            await is_clean(stage)

    async def test_an_attempt_that_goes_on_with_something_else_is_not_heard(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, _ = await begun(stage)
            await lose(stage)
            await finish(stage, after="1-1", text="two three")
            error = await client.end()
            assert error is not None
            assert (error.code, client.heard) == ("provider_lost", "one two ")
            await is_clean(stage)

    async def test_a_client_can_refuse_another_node(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, delivery, job = await begun(stage, may_continue=False)
            await lose(stage)
            error = await client.end()
            assert error is not None
            assert error.code == "provider_lost"
            await stage.lanes.settle(delivery.ticket, job.id)
            await is_clean(stage)

    async def test_before_the_first_word_it_cannot_mind(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client = await a_client(stage, may_continue=False)
            await stage.claim()
            await lose(stage)
            await finish(stage, after="")
            assert await client.end() is None
            assert client.heard == "three"

    async def test_an_answer_that_is_not_streamed_begins_anew(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client = await a_client(stage, stream=False)
            _, job = await stage.claim()
            await stage.say(job, 1, ReplyEntry(start=Start(200, "application/json", NODE), data=b'{"half": '))
            await lose(stage)
            await finish(stage, after="", text='{"whole": 1}')
            assert await client.end() is None
            assert client.heard == '{"whole": 1}'

    async def test_one_that_lives_and_does_not_run_it_has_lost_it(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, delivery, job = await begun(stage)
            await register(broker, int(time.time() * 1000) + 1500)
            await finish(stage, after="1-2")
            assert await client.end() is None
            assert client.heard == "one two three"
            await stage.lanes.settle(delivery.ticket, job.id)
            await is_clean(stage)

    async def test_nodes_that_claim_it_and_never_run_it_are_not_asked_for_ever(self, broker: Broker) -> None:
        async with a_stage(broker, max_releases=2) as stage:
            client = await a_client(stage)
            for attempt in (1, 2):
                await stage.claim(NODE if attempt == 1 else OTHER_NODE)
                await eventually(lambda: _has_claimed(client), "the hub to hear of the claim")
                await register(broker, int(time.time() * 1000) + 1500 * attempt)
            error = await client.end()
            assert error is not None
            assert error.code == "provider_lost"
            await stage.hub.dispatcher.finish_closing(5)
            await eventually(lambda: _nothing_open(stage), "the hub to look after nothing")


class TestAnAttemptThatEnds:
    @pytest.mark.parametrize("last", [ReplyEntry(release="gpu-busy"), ReplyEntry(error=CRASH)])
    async def test_in_mid_stream_is_gone_on_with(self, broker: Broker, last: ReplyEntry) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            await stage.say(job, 3, last)
            await finish(stage, after="1-2")
            assert await client.end() is None
            assert client.heard == "one two three"
            await is_clean(stage)

    async def test_too_often_is_the_clients_error_and_a_dead_letter(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            await stage.say(job, 3, ReplyEntry(error=CRASH))
            await stage.fail(CRASH, OTHER_NODE)
            _, again = await stage.claim(OTHER_NODE)
            await stage.say(again, 1, begins("three ", OTHER_NODE, "1-2"))
            await stage.say(again, 2, ReplyEntry(error=CRASH))
            error = await client.end()
            assert error is not None
            assert (error.code, client.heard) == ("engine_error", "one two three ")
            assert await raw(broker).xlen(Keys().dead) == 1
            await is_clean(stage)

    async def test_who_had_brought_something_is_blamed_half(self, broker: Broker) -> None:
        """Two failures are allowed: with something brought in each, four. Others ran beside it on what died."""
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            await stage.say(job, 3, ReplyEntry(error=CRASH))
            after = "1-2"
            for _ in range(2):
                _, again = await stage.claim(OTHER_NODE)
                await stage.say(again, 1, begins("more ", OTHER_NODE, after))
                await stage.say(again, 2, ReplyEntry(error=CRASH))
                after = f"{again.attempt}-1"
            await finish(stage, after)
            assert await client.end() is None
            assert client.heard == "one two more more three"

    async def test_if_no_node_can_go_on_the_client_hears_what_ended_it(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            await stage.say(job, 3, ReplyEntry(release="gpu-busy"))
            await stage.fail(Failure(502, CANNOT_CONTINUE, "it has begun to call a tool"), OTHER_NODE)
            error = await client.end()
            assert error is not None
            assert error.code == "provider_lost"
            assert "gpu-busy" in error.message
            assert "call a tool" in error.message

    async def test_where_every_engine_lacks_prefill_it_is_told_at_once(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            await register(broker, 1, {"kind": "openai", "capabilities": ["chat"]})
            await eventually(lambda: _is_told(stage), "the hub to see what the nodes can do")
            await stage.say(job, 3, ReplyEntry(release="gpu-busy"))
            error = await client.end()
            assert error is not None
            assert error.code == "provider_lost"
            assert not await _waits(stage, Lane.RETRY)

    async def test_an_attempt_that_never_was_is_not_believed(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            await stage.say(replace(job, attempt=5000), 0, says("made up"))
            error = await client.end()
            assert error is not None
            assert (error.code, client.heard) == ("provider_lost", "one two ")

    async def test_one_that_another_hub_added_is(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            later = replace(job, attempt=3)
            await stage.say(later, 0, ReplyEntry(claim=OTHER_NODE))
            await stage.say(later, 1, begins("three", OTHER_NODE, "1-2"))
            await stage.say(later, 2, ReplyEntry(end=Usage()))
            assert await client.end() is None
            assert client.heard == "one two three"


class TestALostBroker:
    async def test_what_stands_behind_a_hole_is_not_heard(self, broker: Broker) -> None:
        """A reply vanished with an entry that its hub had not read; the provider does not know that."""
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            await stage.say(job, 4, says("four "))
            await stage.say(job, 5, ReplyEntry(data=b"five", end=Usage()))
            await finish(stage, after="1-2")
            assert await client.end() is None
            assert client.heard == "one two three"
            await is_clean(stage)

    async def test_what_it_forgot_of_an_answer_is_given_back(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage)
            await flush(broker)
            await eventually(lambda: _entries(stage, job, 4), "the reply as it was")
            await stage.say(job, 3, ReplyEntry(data=b"three", end=Usage(1, 3)))
            assert await client.end() is None
            assert client.heard == "one two three"

    async def test_a_job_that_waited_waits_again(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client = await a_client(stage)
            await flush(broker)
            await register(broker, 1)
            job = await finish(stage, after="")
            assert await client.end() is None
            assert (client.heard, job.attempt) == ("three", 2)

    async def test_nobody_is_blamed_for_it(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:  # two failures would end it
            client, _, job = await begun(stage)
            for attempt in (2, 3):
                await flush(broker)
                await register(broker, 1)
                await eventually(lambda: _exists(stage, job), "the reply as it was")
                await lose(stage)
                await eventually(lambda: _waits(stage, Lane.RETRY), "the next attempt")
                if attempt < 3:
                    await stage.claim()
            await finish(stage, after="1-2")
            assert await client.end() is None


class TestHandingOn:
    async def test_a_hub_that_stops_leaves_what_can_be_resumed_to_others(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage, is_resumable=True)
            await stage.hub.dispatcher.drain(0)
            error = await client.end()
            assert error is not None
            assert error.code == "handed_on"
            await stage.hub.dispatcher.finish_closing(5)
            assert await raw(broker).smembers(Keys().open_requests(stage.hub.id)) == {job.id.encode()}
            await eventually(lambda: _status(stage, job, b"streaming"), "the hash to say that it goes on")
            facts = await raw(broker).hgetall(Keys().request(job.id))
            assert (facts[b"resumable"], facts[b"reply"]) == (b"1", job.reply.encode())
            assert len(await raw(broker).xrange(job.reply)) == 4

    async def test_another_hub_hears_all_of_it_and_looks_after_it(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, delivery, job = await begun(stage, is_resumable=True)
            await stage.hub.dispatcher.drain(0)
            await client.end()
            other = Hub(HubSettings(max_attempts=2, name="other"), broker)
            other.start()
            try:
                adopted = other.dispatcher.adopt(
                    job, delivery.ticket, wishes=Wishes(is_resumable=True), key=None, gives_up_at_ms=None
                )
                heir = Client(Stage(broker, other), adopted)
                await heir.has_heard("one two ")
                assert adopted.node == NODE
                await lose(stage)
                await finish(stage, after="1-2")
                assert await heir.end() is None
                assert heir.heard == "one two three"
                await other.dispatcher.finish_closing(5)
                assert await raw(broker).pttl(job.reply) > 60_000
            finally:
                await other.stop()

    async def test_one_that_is_taken_over_before_the_first_look_at_the_grid_goes_on(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with a_stage(broker) as stage:
            client, delivery, job = await begun(stage, is_resumable=True)
            await stage.hub.dispatcher.drain(0)
            await client.end()
            monkeypatch.setattr(RegistryView, "run", lambda _: asyncio.Event().wait())
            other = Hub(HubSettings(max_attempts=2, name="other"), broker)
            other.start()
            try:
                adopted = other.dispatcher.adopt(
                    job, delivery.ticket, wishes=Wishes(is_resumable=True), key=None, gives_up_at_ms=None
                )
                adopted.inbox.poke()
                heir = Client(Stage(broker, other), adopted)
                await heir.has_heard("one two ")
                await stage.say(job, 3, ReplyEntry(data=b"three", end=Usage(1, 3)))
                assert await heir.end() is None
            finally:
                await other.stop()

    async def test_one_that_runs_for_longer_than_it_might_have_waited_is_looked_after_too(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, delivery, job = await begun(stage, is_resumable=True)
            await stage.hub.dispatcher.drain(0)
            await client.end()
            other = Hub(HubSettings(max_attempts=2, name="other"), broker)
            other.start()
            try:
                await eventually(lambda: _knows_nodes(other), "the other hub's picture of the grid")
                adopted = other.dispatcher.adopt(
                    replace(job, deadline_ms=1),
                    delivery.ticket,
                    wishes=Wishes(is_resumable=True),
                    key=None,
                    gives_up_at_ms=None,
                )
                adopted.inbox.poke()
                heir = Client(Stage(broker, other), adopted)
                await heir.has_heard("one two ")
                assert adopted.node == NODE
                await stage.say(job, 3, ReplyEntry(data=b"three", end=Usage(1, 3)))
                assert await heir.end() is None
            finally:
                await other.stop()

    async def test_if_the_first_hub_was_only_stopped_its_key_pays_once(
        self, broker: Broker, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with a_stage(broker) as stage:
            monkeypatch.setattr(stage.hub._rounds, "_good_keys", lambda: {KEY.digest})
            request = await stage.submit(Caller(KEY), stream=True, wishes=Wishes(is_resumable=True))
            delivery, job = await stage.claim()
            other = Hub(HubSettings(max_attempts=2, name="other"), broker)
            other.start()
            try:
                adopted = other.dispatcher.adopt(
                    job, delivery.ticket, wishes=Wishes(is_resumable=True), key=KEY.id, gives_up_at_ms=None
                )
                await stage.say(job, 1, begins("one"))
                await stage.say(job, 2, ReplyEntry(end=Usage(3, 1)))
                for one in (Client(stage, request), Client(Stage(broker, other), adopted)):
                    assert await one.end() is None
                await other.dispatcher.finish_closing(5)
            finally:
                await other.stop()
        now_ms = stage.hub.dispatcher._stage.clock.now_ms()
        used = await UsageBooks(broker).read(KEY.id, [day_of(now_ms)])
        assert used[day_of(now_ms)][MODEL].requests == 1

    async def test_one_that_fails_says_so_in_its_reply(self, broker: Broker) -> None:
        async with a_stage(broker) as stage:
            client, _, job = await begun(stage, is_resumable=True)
            client.request.end(RequestFailed("enough", code="enough"))
            await client.end()
            await stage.hub.dispatcher.finish_closing(5)
            (last,) = await raw(broker).xrevrange(job.reply, count=1)
            assert EntryId.parse(last[0]) == LAST_WORD
            told = ReplyEntry.from_fields(last[1]).error
            assert told is not None
            assert (told.code, told.message) == ("enough", "enough")


async def _waits(stage: Stage, lane: Lane) -> bool:
    return bool(await raw(stage.broker).xlen(Keys().lane(lane, MODEL)))


async def _entries(stage: Stage, job: Job, count: int) -> bool:
    found: Any = await raw(stage.broker).xlen(job.reply)
    return bool(found == count)


async def _status(stage: Stage, job: Job, status: bytes) -> bool:
    return bool(await raw(stage.broker).hget(Keys().request(job.id), "status") == status)


async def _is_told(stage: Stage) -> bool:
    nodes = stage.hub.dispatcher._stage.view.models[MODEL]
    return all("capabilities" in node.engine for node in nodes)


async def _exists(stage: Stage, job: Job) -> bool:
    return bool(await raw(stage.broker).exists(job.reply))


async def _knows_nodes(hub: Hub) -> bool:
    return bool(hub.dispatcher._stage.view.nodes)


async def _has_claimed(client: Client) -> bool:
    return client.request.node is not None
