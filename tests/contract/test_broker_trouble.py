"""What goes wrong with a broker is one of two things: it is away (try again), or it says no. Never anything else."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from common.broker.broker import Broker, connect
from common.broker.clock import BrokerClock
from common.errors import BrokerRefused, BrokerUnavailable, SettingsError
from common.orders import ControlEntry, Order
from common.records.grid import HubRecord
from common.records.registry import Registry
from common.streams.changes import Changes
from common.streams.control import ControlStreams
from common.streams.jobs import JobLanes
from common.streams.queues import Queues
from common.streams.replies import Doorbell, ReplyStreams, ReplyWrite, Written
from common.streams.requests import Requests
from common.types import RequestId
from common.wire import EntryId, ReplyEntry
from tests.contract.line import line_to
from tests.contract.story import (
    HUB,
    KEYS,
    LANES,
    NODE,
    TTLS,
    a_job,
    claim_all,
    held_by,
    on_real_brokers,
    publish,
    raw,
    requests_of,
    try_publish,
)
from tests.contract.test_registry import RECORD
from tests.support.brokers import BrokerProcess
from tests.support.ports import free_port

Verb = Callable[[Broker], Awaitable[object]]
R1 = RequestId("r1")
REPLY = a_job("r1").reply
WRITE = ReplyWrite(REPLY, KEYS.doorbell(HUB), R1, EntryId(1, 0), ReplyEntry(data=b"x"))

WRITES: dict[str, Verb] = {
    "publish": try_publish,
    "update": lambda broker: Requests(broker, TTLS, HUB).update({R1: {"status": "done"}}, {}),
    "ensure": lambda broker: JobLanes(broker).ensure(LANES),
    "bury": lambda broker: JobLanes(broker).bury({b"id": b"r1"}, "x"),
    "write": lambda broker: ReplyStreams(broker).write([WRITE]),
    "doorbell.keep": lambda broker: Doorbell(broker, HUB).keep(1000),
    "order": lambda broker: ControlStreams(broker).send(NODE, ControlEntry(Order.DRAIN)),
    "write_node": lambda broker: Registry(broker).write_node(RECORD, 1000),
    "tell": lambda broker: Changes(broker).tell(NODE),
    "write_hub": lambda broker: Registry(broker).write_hub(HubRecord(HUB, "", "", 0, 0), 1000),
}
OTHERS: dict[str, Verb] = {
    "call_off": lambda broker: Requests(broker, TTLS, HUB).call_off(R1, REPLY, None, None),
    "close": lambda broker: Requests(broker, TTLS, HUB).close(REPLY, 1000),
    "known": lambda broker: JobLanes(broker).known(),
    "claim": lambda broker: JobLanes(broker).claim(NODE, LANES, 1),
    "wait": lambda broker: JobLanes(broker).wait(NODE, LANES, 10),
    "delivered": lambda broker: held_by(broker, NODE),
    "places": lambda broker: Queues(broker).places([(R1, LANES[0])]),
    "loads": lambda broker: Queues(broker).loads(LANES),
    "last_id": lambda broker: ReplyStreams(broker).last_id(REPLY),
    "keep": lambda broker: ReplyStreams(broker).keep([REPLY], 1000),
    "doorbell.wait": lambda broker: Doorbell(broker, HUB).wait(10),
    "read": lambda broker: ReplyStreams(broker).read({REPLY: EntryId(0, 1)}, 100),
    "newest": lambda broker: ControlStreams(broker).newest(NODE),
    "orders": lambda broker: ControlStreams(broker).wait(NODE, b"0-0"),
    "node": lambda broker: Registry(broker).node(NODE),
    "renew_node": lambda broker: Registry(broker).renew_node(NODE, {"heartbeat_at": 1}, 1000),
    "indexed": lambda broker: Registry(broker).indexed(0),
    "indexed_since": lambda broker: Registry(broker).indexed_since(0),
    "entries": lambda broker: Registry(broker).entries([NODE]),
    "changes": lambda broker: Changes(broker).news(0),
    "remove_node": lambda broker: Registry(broker).remove_node(NODE),
    "remove_hub": lambda broker: Registry(broker).remove_hub(HUB),
    "clock": lambda broker: BrokerClock(broker).sync(),
}
every_verb = pytest.mark.parametrize("verb", {**WRITES, **OTHERS}.values(), ids={**WRITES, **OTHERS}.keys())
every_write = pytest.mark.parametrize("verb", WRITES.values(), ids=WRITES.keys())


@asynccontextmanager
async def clients(url: str) -> AsyncIterator[Broker]:
    broker = connect(url, prefix="ghub:", client_name="contract")
    try:
        yield broker
    finally:
        await broker.aclose()


class TestAway:
    @every_verb
    async def test_a_broker_that_is_not_there_is_told_at_once(self, verb: Verb) -> None:
        began = time.monotonic()
        async with clients(f"redis://127.0.0.1:{free_port()}/0") as broker:
            with pytest.raises(BrokerUnavailable):
                await verb(broker)
        assert time.monotonic() - began < 2

    async def test_a_broker_that_accepts_and_is_silent_is_told_in_time(
        self, own_server: BrokerProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("common.broker.broker.COMMAND_TIMEOUT_S", 0.3)
        async with clients(own_server.url) as broker:
            await JobLanes(broker).known()
            own_server.process.signal(signal.SIGSTOP)
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable):
                await JobLanes(broker).known()
            assert time.monotonic() - began < 3
            own_server.process.signal(signal.SIGCONT)
            assert await JobLanes(broker).known() == set()

    async def test_a_job_whose_answer_was_lost_is_published_once(
        self, own_server: BrokerProcess, own_broker: Broker
    ) -> None:
        """The client library's own retries would publish it again."""
        async with line_to(own_server.port) as line, clients(line.url) as over_line:
            await publish(over_line, "before")
            line.lose_answers(1)
            with pytest.raises(BrokerUnavailable):
                await publish(over_line, "r1")
            assert line.answers_lost == 1
            assert requests_of(await claim_all(own_broker)) == ["before", "r1"]

    async def test_after_a_restart_all_goes_on(self, own_server: BrokerProcess, own_broker: Broker) -> None:
        await publish(own_broker, "r1")
        own_server.kill()
        with pytest.raises(BrokerUnavailable):
            await publish(own_broker, "r2")
        own_server.start()
        await publish(own_broker, "r3")
        assert requests_of(await claim_all(own_broker)) == ["r1", "r3"]

    async def test_a_broker_that_dies_under_a_blocked_read_is_told(
        self, own_server: BrokerProcess, own_broker: Broker
    ) -> None:
        await JobLanes(own_broker).ensure(LANES)
        waiting = asyncio.create_task(JobLanes(own_broker).wait(NODE, LANES, 20_000))
        await asyncio.to_thread(_until_blocked, own_server)
        own_server.kill()
        with pytest.raises(BrokerUnavailable):
            await asyncio.wait_for(waiting, 5)

    async def test_a_broker_that_became_a_replica_counts_as_away(
        self, own_server: BrokerProcess, own_broker: Broker
    ) -> None:
        """A failover: the master comes back under the same name soon."""
        await publish(own_broker, "r1")
        with own_server.client() as client:
            client.replicaof("127.0.0.1", str(free_port()))
            with pytest.raises(BrokerUnavailable):
                await publish(own_broker, "r2")
            with pytest.raises(BrokerUnavailable):
                await ReplyStreams(own_broker).write([WRITE])
            client.replicaof("NO", "ONE")
        await publish(own_broker, "r3")

    async def test_the_clock_keeps_its_last_estimate(self, own_server: BrokerProcess, own_broker: Broker) -> None:
        clock = BrokerClock(own_broker)
        await clock.sync()
        own_server.kill()
        with pytest.raises(BrokerUnavailable):
            await clock.sync()
        assert clock.now_ms() == pytest.approx(time.time() * 1000, abs=1000)


class TestRefused:
    @on_real_brokers
    async def test_a_wrong_password_is_told_as_such(self, broker: Broker) -> None:
        await raw(broker).execute_command("ACL", "SETUSER", "alice", "reset", "on", ">secret", "~*", "+@all")
        try:
            port = raw(broker).connection_pool.connection_kwargs["port"]
            async with clients(f"redis://alice:wrong@127.0.0.1:{port}/0") as stranger:
                for verb in (*WRITES.values(), *OTHERS.values()):
                    with pytest.raises(BrokerRefused, match="not allowed"):
                        await verb(stranger)
            async with clients(f"redis://alice:secret@127.0.0.1:{port}/0") as alice:
                assert await JobLanes(alice).known() == set()
        finally:
            await raw(broker).execute_command("ACL", "DELUSER", "alice")

    async def test_a_missing_password_is_told_as_such(self, own_server: BrokerProcess) -> None:
        with own_server.client() as client:
            client.config_set("requirepass", "secret")
        async with clients(own_server.url) as stranger:
            with pytest.raises(BrokerRefused):
                await JobLanes(stranger).known()

    @on_real_brokers
    async def test_a_user_who_may_not_is_refused(self, broker: Broker) -> None:
        rules = ("reset", "on", ">secret", "~*", "-@all", "+ping", "+client")
        await raw(broker).execute_command("ACL", "SETUSER", "bob", *rules)
        try:
            port = raw(broker).connection_pool.connection_kwargs["port"]
            async with clients(f"redis://bob:secret@127.0.0.1:{port}/0") as bob:
                for verb in (WRITES | OTHERS).values():
                    if verb is not WRITES["write"]:
                        with pytest.raises(BrokerRefused):
                            await verb(bob)
                assert await ReplyStreams(bob).write([WRITE]) == [Written.REFUSED]
        finally:
            await raw(broker).execute_command("ACL", "DELUSER", "bob")

    @on_real_brokers
    async def test_a_reply_that_is_something_else_costs_no_other_reply(self, broker: Broker) -> None:
        await raw(broker).set(REPLY, "no stream")
        other = replace(WRITE, reply=f"{REPLY}-other")
        await raw(broker).xadd(other.reply, {"open": "1"}, id="0-1")
        assert await ReplyStreams(broker).write([WRITE, other]) == [Written.REFUSED, Written.YES]


class TestOutOfMemory:
    @every_write
    async def test_a_full_broker_refuses_what_would_grow_it(self, full_broker: Broker, verb: Verb) -> None:
        with pytest.raises(BrokerRefused):
            await verb(full_broker)

    async def test_and_still_lets_work_end(self, own_server: BrokerProcess, own_broker: Broker) -> None:
        ticket, waiting = await publish(own_broker, "r1"), await publish(own_broker, "r2")
        lanes = JobLanes(own_broker)
        (delivery, _) = await claim_all(own_broker)
        with own_server.client() as client:
            client.config_set("maxmemory", "1")
            assert delivery.ticket == ticket
            await lanes.settle(ticket)
            await Requests(own_broker, TTLS, HUB).call_off(RequestId("r2"), a_job("r2").reply, None, None)
            await lanes.settle(waiting)
            assert await held_by(own_broker, NODE) == []
            client.config_set("maxmemory", "0")
        assert await claim_all(own_broker) == []
        await publish(own_broker, "r3")

    async def test_a_refused_job_is_in_no_lane(self, own_server: BrokerProcess, own_broker: Broker) -> None:
        await JobLanes(own_broker).ensure(LANES)
        with own_server.client() as client:
            client.config_set("maxmemory", "1")
            with pytest.raises(BrokerRefused):
                await try_publish(own_broker, "r1")
            client.config_set("maxmemory", "0")
        assert await claim_all(own_broker) == []

    @pytest.fixture
    async def full_broker(self, own_server: BrokerProcess, own_broker: Broker) -> Broker:
        """One with a job and an open reply, which takes no more."""
        await publish(own_broker, "before")
        await publish(own_broker, "r1")
        with own_server.client() as client:
            client.config_set("maxmemory", "1")
        return own_broker


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        ["", "localhost:6379", "http://localhost", "redis://h:port/0", "redis+cluster://h:1/2", "://", "redis://[::1"],
    )
    def test_a_url_that_cannot_work_is_a_setting_that_cannot(self, url: str) -> None:
        with pytest.raises(SettingsError):
            connect(url, prefix="ghub:", client_name="contract")


def _until_blocked(server: BrokerProcess) -> None:
    with server.client() as client:
        give_up_at = time.monotonic() + 10
        while not client.info("clients")["blocked_clients"]:
            assert time.monotonic() < give_up_at
            time.sleep(0.005)
