"""A provider while its broker forgets, is taken over, wakes late: what it said is whole or dropped, and it works on.

The hub is played by the test, so that it is known what it gives back and when.
"""

import signal
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from common.broker.broker import Broker, connect
from common.keys import Keys
from common.orders import ControlEntry, Order
from common.signing import SigningKeys
from common.streams.control import ControlStreams
from common.streams.jobs import JobLanes, Ticket, lanes_of
from common.streams.replies import ReplyStreams, ReplyWrite
from common.streams.requests import Published, Requests, RequestTtls
from common.types import HubId, Lane, ModelId, NodeId, RequestId
from common.wire import EntryId, Failure, Job, ReplyEntry, Start, Usage
from tests.contract.story import eventually
from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered, said_in
from tests.support import leftovers
from tests.support.call import get
from tests.support.entries import is_last
from tests.support.grid import SIGNING_KEY, Grid, chat
from tests.support.processes import until

HUB = HubId("hub-1")
MODEL = ModelId("tiny:1b")
R1 = RequestId("r1")
OTHER = NodeId("other")
TTLS = RequestTtls(request_ms=600_000, reply_ms=600_000)
QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S": "0.3"}
PACED = {"delay_ms": 10}

Entries = list[tuple[EntryId, ReplyEntry]]


class PlayedHub:
    """What a hub does at the broker, one step at a time."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker
        self._signing = SigningKeys.parse(SecretStr(SIGNING_KEY))
        self.lanes = JobLanes(broker)
        self.replies = ReplyStreams(broker)
        self.reply = Keys().reply(HUB, R1)

    def job(self, attempt: int = 1, **body: Any) -> Job:
        fields = orjson.dumps(chat(stream=True, **body))
        job = Job(R1, attempt, MODEL, "/v1/chat/completions", True, fields, self.reply, 2**53)
        return job.signed(self._signing)

    async def publish(self, **body: Any) -> Ticket:
        facts = {"model": MODEL, "hub": HUB}
        published = await Requests(self._broker, TTLS, HUB).publish(
            self.job(**body), Lane.INTERACTIVE, facts, max_waiting=10
        )
        assert isinstance(published, Published)
        return published.ticket

    async def second_attempt_after(self, said: Sequence[ReplyEntry], **body: Any) -> Ticket:
        """Publish a job, have another node claim it and say this, and requeue it."""
        await self.publish(**body)
        await self.lanes.ensure(lanes_of([MODEL]))
        (delivery,) = await self.lanes.claim(OTHER, lanes_of([MODEL]), 1)
        entries = [ReplyEntry(claim=OTHER), *said]
        await self.write([(EntryId(1, n), entry) for n, entry in enumerate(entries)])
        return await self.lanes.requeue(delivery.ticket, self.job(attempt=2, **body))

    async def write(self, entries: Iterable[tuple[EntryId, ReplyEntry]]) -> None:
        """Say something as a node does."""
        await self.replies.write([ReplyWrite(self.reply, Keys().doorbell(HUB), R1, *one) for one in entries])

    async def entries(self) -> Entries:
        return await self.replies.before(self.reply, 100)

    async def restore(self, entries: Entries) -> None:
        assert await self.replies.restore(self.reply, entries, TTLS.reply_ms)

    async def reconnect(self) -> None:
        """Leave the connections to a broker that has died."""
        await self._broker.commands.connection_pool.disconnect()
        await self._broker.line.aclose()

    async def order(self, node: str, order: ControlEntry) -> None:
        await ControlStreams(self._broker).send(NodeId(node), order)


@pytest.fixture
def engine(mortal_grid: Grid) -> EngineProcess:
    """An engine that goes on with what was said."""
    return mortal_grid.engine(kind="llamacpp", slots=2)


@pytest.fixture
async def hub(mortal_grid: Grid) -> AsyncIterator[PlayedHub]:
    broker = connect(mortal_grid.broker.url, prefix="ghub:", client_name="hub")
    yield PlayedHub(broker)
    await broker.aclose()


@pytest.fixture
def node(mortal_grid: Grid, engine: EngineProcess) -> str:
    return mortal_grid.provider(engine.url, GHUB_PROVIDER_SLOTS="2", **QUICK)


def text_of(entries: Entries) -> str:
    return said_in(b"".join(entry.data for _, entry in entries).decode())


async def heard(hub: PlayedHub, word: str) -> Entries:
    """The reply, once this word stands in it."""
    found: Entries = []

    async def is_there() -> bool:
        nonlocal found
        found = await hub.entries()
        return word in text_of(found)

    await eventually(is_there, word, 15)
    return found


async def ended(hub: PlayedHub, within_s: float = 15) -> Entries:
    """The reply, once its newest attempt is over."""
    found: Entries = []

    async def is_over() -> bool:
        nonlocal found
        found = await hub.entries()
        return bool(found) and is_last(found[-1][1])

    await eventually(is_over, "the attempt is over", within_s)
    return found


def assert_whole(entries: Entries, tokens: int, attempt: int = 1) -> None:
    """All tokens once, in entries without a gap, and the end."""
    assert text_of(entries) == numbered(0, tokens)
    assert entries[-1][1].end is not None
    assert [entry_id.n for entry_id, _ in entries if entry_id.attempt == attempt] == [*range(entries[-1][0].n + 1)]


def is_idle(grid: Grid, node: str, engine: EngineProcess) -> None:
    """Wait until engine and slots are free, and no job is left."""
    until(lambda: engine.state()["open"] == 0, 5, engine.state)
    until(lambda: get(grid.provider_urls[node], "/health").json["running"] == 0, 5, grid.providers[node].tail)
    with grid.redis() as client:
        leftovers.until_at_rest(client, 3)


async def restart_empty(grid: Grid, hub: PlayedHub) -> None:
    grid.broker.kill()
    grid.broker.start()
    await hub.reconnect()


async def works(hub: PlayedHub, grid: Grid, node: str, engine: EngineProcess) -> None:
    """A new job is taken and answered."""
    with grid.redis() as client:
        client.delete(hub.reply)
    await hub.publish(tokens=3)
    assert_whole(await ended(hub), 3)
    is_idle(grid, node, engine)


@pytest.mark.parametrize("known", ["nothing", "half", "all"])
async def test_a_stream_is_whole_though_its_broker_came_back_empty(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub, node: str, known: str
) -> None:
    await hub.publish(tokens=200, double=PACED)
    before = await heard(hub, "t30 ")
    await restart_empty(mortal_grid, hub)
    await hub.restore(before[: {"nothing": 0, "half": len(before) // 2, "all": len(before)}[known]])
    assert_whole(await ended(hub), 200)
    assert engine.state()["started"] == 1
    is_idle(mortal_grid, node, engine)


async def test_a_job_that_says_nothing_yet_is_not_dropped_while_its_reply_is_missing(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub, node: str
) -> None:
    await hub.publish(tokens=5, double={"prefill_ms": 6000})
    until(lambda: engine.state()["open"] == 1, 5, engine.state)
    await restart_empty(mortal_grid, hub)
    log = mortal_grid.providers[node].tail
    until(lambda: "reply_missing" in log(), 5, log)
    until(lambda: engine.state()["open"] == 0, 10, engine.state)  # it has answered, and nobody heard it yet
    assert "reply_over" not in log()
    await hub.restore([])
    assert_whole(await ended(hub), 5)
    is_idle(mortal_grid, node, engine)


async def test_a_cancelled_job_does_not_wait_for_its_reply(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub, node: str
) -> None:
    await hub.publish(tokens=100_000, double=PACED)
    await heard(hub, "t3 ")
    await restart_empty(mortal_grid, hub)
    log = mortal_grid.providers[node].tail
    until(lambda: "reply_missing" in log(), 5, log)
    assert engine.state()["open"] == 1
    await hub.order(node, ControlEntry(Order.CANCEL, R1))
    is_idle(mortal_grid, node, engine)


async def test_a_stream_whose_broker_stays_away_is_dropped_and_the_node_works_on(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub
) -> None:
    node = mortal_grid.provider(engine.url, GHUB_PROVIDER_BROKER_GRACE_S="1", **QUICK)
    await hub.publish(tokens=100_000, double=PACED)
    await heard(hub, "t3 ")
    mortal_grid.broker.kill()
    until(lambda: engine.state()["open"] == 0, 8, engine.state)
    mortal_grid.broker.start()
    mortal_grid.wait_for_node(node)
    await hub.reconnect()
    await works(hub, mortal_grid, node, engine)


async def test_a_node_that_wakes_late_says_no_more_and_takes_work_again(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub, node: str
) -> None:
    ticket = await hub.publish(tokens=100_000, double=PACED)
    await heard(hub, "t3 ")
    process = mortal_grid.providers[node]
    process.signal(signal.SIGSTOP)
    try:
        with mortal_grid.redis() as client:
            until(lambda: mortal_grid.node(client, node) == {}, 5, "its lease ends")
            until(lambda: client.info("clients")["blocked_clients"] == 0, 5, "it waits for jobs no more")
        second = await hub.lanes.requeue(ticket, hub.job(attempt=2))
        (delivery,) = await hub.lanes.claim(OTHER, lanes_of([MODEL]), 1)
        assert delivery.ticket == second
        await hub.write([(EntryId(2, 0), ReplyEntry(claim=OTHER))])
        before = await hub.entries()
    finally:
        process.signal(signal.SIGCONT)
    until(lambda: engine.state()["open"] == 0, 5, engine.state)
    mortal_grid.wait_for_node(node, 3)
    assert await hub.entries() == before
    with mortal_grid.redis() as client:
        assert leftovers.jobs(client) == 1, "the new attempt's job is left alone"
    await hub.lanes.settle(second, R1)
    await works(hub, mortal_grid, node, engine)


async def test_a_job_that_a_forgetful_broker_gave_to_another_node_too_is_left_to_that(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub, node: str
) -> None:
    await hub.publish(tokens=100_000, double=PACED)
    await heard(hub, "t3 ")
    await restart_empty(mortal_grid, hub)
    theirs = [(EntryId(1, 0), ReplyEntry(claim=OTHER)), (EntryId(1, 1), ReplyEntry(data=b"data: {}\n\n"))]
    await hub.restore(theirs)
    until(lambda: engine.state()["open"] == 0, 8, engine.state)
    assert await hub.entries() == theirs
    is_idle(mortal_grid, node, engine)


@pytest.mark.parametrize(
    "last", [ReplyEntry(end=Usage(1, 2)), ReplyEntry(error=Failure(400, "bad", "a bad request"))], ids=["end", "error"]
)
async def test_a_request_that_an_earlier_attempt_has_ended_is_not_asked_again(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub, last: ReplyEntry
) -> None:
    await hub.second_attempt_after([ReplyEntry(start=Start(200, "text/event-stream", OTHER), data=b"x"), last])
    node = mortal_grid.provider(engine.url, **QUICK)
    is_idle(mortal_grid, node, engine)
    until(lambda: "outcome=over" in mortal_grid.providers[node].tail(), 5, mortal_grid.providers[node].tail)
    assert [str(entry_id) for entry_id, _ in await hub.entries()] == ["1-0", "1-1", "1-2", "2-0"]
    assert engine.state()["started"] == 0


async def test_a_second_attempt_goes_on_where_the_first_one_was_lost(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub
) -> None:
    """And restores what that one had said, where the broker forgets it."""
    first = mortal_grid.provider(engine.url, "first", **QUICK)
    ticket = await hub.publish(tokens=150, double=PACED)
    before = await heard(hub, "t20 ")
    mortal_grid.providers[first].kill()
    await hub.lanes.requeue(ticket, hub.job(attempt=2, tokens=150, double=PACED))
    second = mortal_grid.provider(engine.url, "second", **QUICK)
    await heard(hub, "t60 ")
    await restart_empty(mortal_grid, hub)
    await hub.restore([])
    entries = await ended(hub)
    assert_whole(entries, 150, attempt=2)
    assert entries[: len(before)] == before
    is_idle(mortal_grid, second, engine)


async def test_a_job_given_back_mid_stream_has_said_all_that_its_engine_had(
    mortal_grid: Grid, engine: EngineProcess, hub: PlayedHub
) -> None:
    node = mortal_grid.provider(engine.url, GHUB_PROVIDER_DRAIN_TIMEOUT_S="0.2", **QUICK)
    await hub.publish(tokens=100_000, double=PACED)
    await heard(hub, "t10 ")
    mortal_grid.providers[node].signal(signal.SIGTERM)
    entries = await ended(hub)
    assert entries[-1][1].release == "draining"
    said = text_of(entries)
    assert said == numbered(0, said.count(" "))
    assert mortal_grid.providers[node].wait(3) == 0
    until(lambda: engine.state()["open"] == 0, 5, engine.state)


@pytest.mark.parametrize("fault", [{"cut_after": 20}, {"exit_after": 20}], ids=["cut", "dead"])
async def test_a_stream_that_its_engine_broke_off_ends_with_an_error_to_try_again(
    mortal_grid: Grid, hub: PlayedHub, node: str, fault: dict[str, int]
) -> None:
    await hub.publish(tokens=100, double={**PACED, **fault})
    entries = await ended(hub)
    error = entries[-1][1].error
    assert error is not None
    assert error.retryable
    assert text_of(entries) == numbered(0, 20)
    until(lambda: get(mortal_grid.provider_urls[node], "/health").json["running"] == 0, 5, "its slot is free")


async def test_a_job_of_a_model_that_the_engine_lost_with_the_process_is_given_back(
    mortal_grid: Grid, hub: PlayedHub, node: str
) -> None:
    await hub.publish(tokens=100_000, double=PACED)
    await heard(hub, "t3 ")
    mortal_grid.providers[node].kill()
    other = mortal_grid.engine("other:1b")
    mortal_grid.provider(other.url, node, **QUICK)
    assert (await ended(hub))[-1][1].release == "restarted"
