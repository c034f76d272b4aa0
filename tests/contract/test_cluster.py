"""A broker that is a cluster: its clients follow each key wherever it goes, and lose nothing on the way."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from common.broker.broker import COMMAND_TIMEOUT_S, Broker, connect
from common.broker.users import BrokerUsers
from common.errors import BrokerError, BrokerRefused, BrokerUnavailable
from common.streams.jobs import JobLanes
from common.streams.replies import ReplyStreams, ReplyWrite, Written
from common.types import HubId, RequestId
from common.wire import EntryId, ReplyEntry
from tests.contract.moving import BACK_WITHIN_S, beat, in_time, until_it_comes
from tests.contract.story import KEYS, LANES, MODEL, NODE, a_job, claim_all, entries_of, eventually, publish, raw
from tests.support.brokers import BrokerProcess
from tests.support.cluster import NODE_TIMEOUT_MS, ClusterBroker
from tests.support.processes import until

LANE = KEYS.lane(*LANES[0])
HUBS = [HubId(f"hub-{number}") for number in range(12)]
"""So many that each master keeps the replies of some."""

pytestmark = pytest.mark.slow


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterBroker]:
    """Three masters, a replica of each."""
    cluster = ClusterBroker(tmp_path)
    yield cluster
    cluster.kill()


@pytest.fixture
async def broker(cluster: ClusterBroker) -> AsyncIterator[Broker]:
    broker = connect(cluster.url, prefix="ghub:", client_name="contract")
    yield broker
    await broker.aclose()


async def _open(broker: Broker) -> list[str]:
    """A reply of each hub."""
    replies = [a_job("r", hub=hub).reply for hub in HUBS]
    await broker.line.ask([command for reply in replies for command in ReplyStreams(broker).opening(reply, 60_000)])
    return replies


def _writes(replies: list[str], number: int) -> list[ReplyWrite]:
    entry = ReplyEntry(data=b"%d" % number)
    return [ReplyWrite(reply, KEYS.doorbell_of(reply), RequestId("r"), EntryId(1, number), entry) for reply in replies]


class TestKilled:
    async def test_commands_and_blocking_reads_go_on_at_the_new_master(
        self, cluster: ClusterBroker, broker: Broker
    ) -> None:
        await publish(broker, "before")
        (before,) = await claim_all(broker)
        waiting = asyncio.create_task(until_it_comes(broker, "after"))
        await asyncio.to_thread(until, lambda: _blocked(cluster), 10, "a reader blocks")
        await asyncio.to_thread(cluster.kill_master, LANE)
        took_s = await in_time(lambda: publish(broker, "after"))
        print(f"figure: written to the new master {took_s:.1f} s after the death of the old")
        await asyncio.wait_for(waiting, BACK_WITHIN_S)
        assert broker.reconnections.count > 0
        await JobLanes(broker).settle(before.ticket)  # what was claimed at the old master is known at the new one

    async def test_who_had_to_write_there_hears_at_once_that_it_is_down(
        self, cluster: ClusterBroker, broker: Broker
    ) -> None:
        await publish(broker, "before")
        await asyncio.to_thread(cluster.kill_master, LANE)
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await JobLanes(broker).ensure(LANES)
        assert time.monotonic() - began < NODE_TIMEOUT_MS / 1000

    async def test_what_was_said_yes_to_counts_as_doubtful_for_every_line(
        self, cluster: ClusterBroker, broker: Broker
    ) -> None:
        replies = ReplyStreams(broker)
        opened = await _open(broker)
        assert set(await replies.write(_writes(opened, 1))) == {Written.YES}
        sure = replies.renewals
        assert set(await replies.write(_writes(opened, 2), since=sure)) == {Written.YES}
        await asyncio.to_thread(cluster.wait_for_failover, cluster.kill_master(opened[0]))

        async def is_unsent() -> bool:
            with suppress(BrokerUnavailable):
                return set(await replies.write(_writes(opened, 3), since=sure)) == {Written.UNSENT}
            return False

        await eventually(is_unsent, "nothing is said to a master that may have forgotten")
        told = await replies.write(_writes(opened, 3), since=replies.renewals)
        assert set(told) <= {Written.YES, Written.FENCED}
        for reply in opened:
            assert [entry for entry, _ in await entries_of(broker, reply)] == ["1-1", "1-2", "1-3"]

    async def test_a_second_failover_is_followed_like_the_first(self, cluster: ClusterBroker, broker: Broker) -> None:
        await JobLanes(broker).ensure(LANES)
        first = await asyncio.to_thread(cluster.kill_master, LANE)
        await in_time(lambda: publish(broker, "first"))
        await asyncio.to_thread(cluster.revive, first)
        count = broker.reconnections.count
        await asyncio.to_thread(cluster.kill_master, LANE)
        await in_time(lambda: publish(broker, "second"))
        assert cluster.master_of(LANE) == first
        assert broker.reconnections.count > count


class TestHung:
    async def test_a_master_that_hangs_and_wakes_as_a_replica_is_left_for_the_new_one(
        self, cluster: ClusterBroker, broker: Broker
    ) -> None:
        await JobLanes(broker).ensure(LANES)
        waiting = asyncio.create_task(until_it_comes(broker, "after"))
        await asyncio.to_thread(until, lambda: _blocked(cluster), 10, "a reader blocks")
        old = await asyncio.to_thread(cluster.hang_master, LANE)
        try:
            took_s = await in_time(lambda: publish(broker, "after"))
            assert took_s < COMMAND_TIMEOUT_S + NODE_TIMEOUT_MS / 1000 + 3
            await asyncio.wait_for(waiting, BACK_WITHIN_S)
        finally:
            cluster.wake(old)
        await asyncio.to_thread(until, cluster.is_well, BACK_WITHIN_S, "well")
        await JobLanes(broker).ensure(LANES)
        assert cluster.master_of(LANE) != old


class TestSwitched:
    async def test_a_switch_by_hand_costs_nobody_an_error(self, cluster: ClusterBroker, broker: Broker) -> None:
        await publish(broker, "before")
        waiting = asyncio.create_task(until_it_comes(broker, "after"))
        await asyncio.to_thread(until, lambda: _blocked(cluster), 10, "a reader blocks")
        await asyncio.to_thread(cluster.hand_over, LANE)
        await publish(broker, "after")
        await asyncio.wait_for(waiting, BACK_WITHIN_S)
        assert broker.reconnections.count > 0


class TestMoved:
    async def test_a_slot_that_moves_takes_its_jobs_along_and_costs_nobody_an_error(
        self, cluster: ClusterBroker, broker: Broker
    ) -> None:
        for number in range(30):
            await publish(broker, f"r{number}")
        source, target = await asyncio.to_thread(cluster.move_slot, LANE)
        await publish(broker, "after")
        assert cluster.master_of(LANE) == target != source
        found = await JobLanes(broker).claim(NODE, LANES, 100)
        assert len(found) == 31

    async def test_half_moved_it_is_written_and_read_all_the_same(self, cluster: ClusterBroker, broker: Broker) -> None:
        replies = ReplyStreams(broker)
        opened = [KEYS.reply(HUBS[0], RequestId(f"r{number}")) for number in range(40)]
        await broker.line.ask([command for reply in opened for command in replies.opening(reply, 60_000)])
        loop = asyncio.get_running_loop()
        written: list[Written] = []

        async def write(number: int) -> None:
            written.extend(await replies.write(_writes(opened, number)))

        def while_half_moved() -> None:
            asyncio.run_coroutine_threadsafe(write(1), loop).result(10)

        await asyncio.to_thread(cluster.move_slot, opened[0], while_half_moved=while_half_moved)
        await write(2)
        assert set(written) == {Written.YES}
        for reply in opened:
            assert [entry for entry, _ in await entries_of(broker, reply)] == ["1-1", "1-2"]

    async def test_a_read_of_many_replies_waits_until_they_are_together_again(
        self, cluster: ClusterBroker, broker: Broker
    ) -> None:
        replies = ReplyStreams(broker)
        opened = [KEYS.reply(HUBS[0], RequestId(f"r{number}")) for number in range(40)]
        await broker.line.ask([command for reply in opened for command in replies.opening(reply, 60_000)])
        loop = asyncio.get_running_loop()
        reading: list[asyncio.Task[object]] = []

        async def begin() -> None:
            reading.append(asyncio.create_task(replies.read(dict.fromkeys(opened, EntryId(0, 0)), 10)))
            await asyncio.sleep(0.2)
            assert not reading[0].done()

        def while_half_moved() -> None:
            asyncio.run_coroutine_threadsafe(begin(), loop).result(10)

        await asyncio.to_thread(cluster.move_slot, opened[0], while_half_moved=while_half_moved)
        assert len(await reading[0]) == len(opened)  # type: ignore[arg-type]


class TestFound:
    async def test_one_server_that_answers_is_enough_to_find_all(self, cluster: ClusterBroker) -> None:
        last = cluster.url.rpartition(",")[2]
        broker = connect(f"redis+cluster://127.0.0.1:1,{last}", prefix="ghub:", client_name="contract")
        await beat(broker)
        await broker.aclose()

    async def test_a_server_that_is_no_cluster_is_refused_with_its_own_words(self, valkey: BrokerProcess) -> None:
        broker = connect(f"redis+cluster://127.0.0.1:{valkey.port}", prefix="ghub:", client_name="contract")
        with pytest.raises(BrokerRefused, match="cluster support disabled"):
            await beat(broker)
        await broker.aclose()

    async def test_one_that_is_taken_for_a_single_server_says_how_to_name_it(self, cluster: ClusterBroker) -> None:
        urls = [f"redis://127.0.0.1:{port}" for port in cluster.masters()]
        told: list[str] = []
        for url in urls:
            broker = connect(url, prefix="ghub:", client_name="contract")
            try:
                await beat(broker)
            except BrokerRefused as exc:
                told.append(str(exc))
            await broker.aclose()
        assert told
        assert set(told) == {"the broker is a cluster: its URL is redis+cluster://host:port,host:port"}

    async def test_without_any_the_broker_is_away(self) -> None:
        broker = connect("redis+cluster://127.0.0.1:1,127.0.0.1:2", prefix="ghub:", client_name="contract")
        with pytest.raises(BrokerUnavailable, match="no server of the cluster"):
            await beat(broker)
        await broker.aclose()


class TestUsers:
    async def test_a_node_s_user_is_known_to_every_server_and_to_one_that_takes_over(
        self, cluster: ClusterBroker, broker: Broker
    ) -> None:
        users = BrokerUsers(broker)
        await users.load_scripts()
        digest = "ab" * 32
        await users.set_user(NODE, [MODEL], [digest])
        assert await users.users() == [NODE]
        await asyncio.to_thread(cluster.wait_for_failover, cluster.kill_master(LANE))

        async def is_known() -> bool:
            with suppress(BrokerError):
                return await users.users() == [NODE]
            return False

        await eventually(is_known, "the user is at the new master", BACK_WITHIN_S)
        claim = ("XREADGROUP", "GROUP", "providers", NODE, "STREAMS", LANE, ">")
        assert {*await broker.everywhere("ACL", "DRYRUN", users.name(NODE), *claim)} == {b"OK"}


async def test_a_refusal_is_raised_as_from_one_server(broker: Broker) -> None:
    await raw(broker).set("k", "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await broker.line.say("HGET", "k", "f")


def _blocked(cluster: ClusterBroker) -> bool:
    with cluster.client() as client:
        found = client.info("clients", target_nodes=client.PRIMARIES)
    return any(one["blocked_clients"] for one in found.values())
