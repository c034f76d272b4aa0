"""A broker that sentinels look after: its clients follow the master wherever it goes, and lose nothing on the way."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from common.broker.broker import COMMAND_CONNECTIONS, Broker, connect
from common.broker.facts import concerns, read_facts
from common.broker.sentinel import LOOK_S, SENTINEL_TIMEOUT_S
from common.errors import BrokerUnavailable
from common.streams.jobs import JobLanes
from tests.contract.moving import BACK_WITHIN_S, beat, in_time, until_it_comes
from tests.contract.story import LANES, claim_all, eventually, publish, raw
from tests.support.brokers import KINDS
from tests.support.processes import until
from tests.support.sentinel import DOWN_AFTER_MS, SERVICE, SentinelBroker

pytestmark = pytest.mark.slow


@pytest.fixture
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SentinelBroker]:
    """A master, a replica and three sentinels: Valkey's unless the test asks for another kind."""
    service = SentinelBroker(tmp_path, 1, getattr(request, "param", "valkey"))
    yield service
    service.kill()


@pytest.fixture
async def broker(service: SentinelBroker) -> AsyncIterator[Broker]:
    broker = connect(service.url, prefix="ghub:", client_name="contract")
    yield broker
    await broker.aclose()


async def _master_of(broker: Broker) -> int:
    """Who answers now; one sentinel learns of a promotion after another, and may call the master down meanwhile."""
    ports: list[int] = []

    async def ask() -> None:
        try:
            ports.append(int((await raw(broker).config_get("port"))["port"]))
        except RedisConnectionError as exc:
            raise BrokerUnavailable(str(exc)) from exc

    await in_time(ask)
    return ports[0]


class TestKilled:
    @pytest.mark.parametrize("service", KINDS, indirect=True)
    async def test_commands_and_blocking_reads_go_on_at_the_new_master(
        self, service: SentinelBroker, broker: Broker
    ) -> None:
        await publish(broker, "before")
        (before,) = await claim_all(broker)
        waiting = asyncio.create_task(until_it_comes(broker, "after"))
        await asyncio.to_thread(until, lambda: _blocked(service), 10, "a reader blocks")
        lost = await asyncio.to_thread(service.kill_master)
        took_s = await in_time(lambda: publish(broker, "after"))
        print(f"figure: written to the new master {took_s:.1f} s after the death of the old")
        await asyncio.wait_for(waiting, BACK_WITHIN_S)
        assert broker.reconnections.count > 0
        assert await _master_of(broker) != lost
        await JobLanes(broker).settle(before.ticket)  # what was claimed at the old master is known at the new one

    async def test_who_had_to_write_hears_at_once_that_the_master_is_down(
        self, service: SentinelBroker, broker: Broker
    ) -> None:
        await beat(broker)
        await asyncio.to_thread(service.kill_master)
        began = time.monotonic()
        with pytest.raises(BrokerUnavailable):
            await beat(broker)
        assert time.monotonic() - began < DOWN_AFTER_MS / 1000

    async def test_a_second_failover_is_followed_like_the_first(self, service: SentinelBroker, broker: Broker) -> None:
        first = await asyncio.to_thread(service.kill_master)
        await in_time(lambda: beat(broker))
        await asyncio.to_thread(service.wait_for_failover, first)
        service.revive(first)
        await asyncio.to_thread(service.wait_for_replica)
        count = broker.reconnections.count
        second = await asyncio.to_thread(service.kill_master)
        await in_time(lambda: beat(broker))
        assert await _master_of(broker) != second
        assert broker.reconnections.count > count


class TestHung:
    async def test_a_master_that_hangs_and_wakes_as_a_replica_is_left_for_the_new_one(
        self, service: SentinelBroker, broker: Broker
    ) -> None:
        await JobLanes(broker).ensure(LANES)
        waiting = asyncio.create_task(until_it_comes(broker, "after"))
        await asyncio.to_thread(until, lambda: _blocked(service), 10, "a reader blocks")
        old = await asyncio.to_thread(service.hang_master)
        try:
            await in_time(lambda: publish(broker, "after"))
            await asyncio.wait_for(waiting, BACK_WITHIN_S)
        finally:
            service.wake(old)
        await asyncio.to_thread(service.wait_for_replica)
        await asyncio.gather(*(beat(broker) for _ in range(COMMAND_CONNECTIONS * 4)))
        assert await _master_of(broker) != old


class TestSwitched:
    async def test_a_switch_by_hand_is_followed_and_counts_as_one(
        self, service: SentinelBroker, broker: Broker
    ) -> None:
        await asyncio.gather(*(beat(broker) for _ in range(COMMAND_CONNECTIONS * 4)))
        old = service.master_port()
        service.hand_over()
        await asyncio.to_thread(service.wait_for_failover, old)

        async def has_followed() -> bool:
            await in_time(lambda: beat(broker))
            return await _master_of(broker) != old

        # The old master takes writes for some seconds still, which are lost.
        await eventually(has_followed, "the old master is left", LOOK_S + 1)
        assert broker.reconnections.count > 0

    async def test_more_commands_than_connections_wait_for_their_turn(
        self, service: SentinelBroker, broker: Broker
    ) -> None:
        await asyncio.gather(*(beat(broker) for _ in range(COMMAND_CONNECTIONS * 10)))
        with service.client() as client:
            names = [one["name"] for one in client.client_list()]
        assert names.count("contract") <= COMMAND_CONNECTIONS


class TestFacts:
    async def test_what_a_failover_may_cost_is_told(self, service: SentinelBroker, broker: Broker) -> None:
        facts = await read_facts(broker)
        assert (facts.has_sentinels, facts.replicas, facts.needed_replicas) == (True, 1, 0)
        assert [one.advice for one in concerns(facts) if "min-replicas-to-write 1" in one.advice]
        with service.client() as client:
            client.config_set("min-replicas-to-write", "1")
            client.config_set("save", "3600 1")
        assert not [*concerns(await read_facts(broker))]


class TestSentinelsAway:
    async def test_the_others_answer_for_one_that_hangs(self, service: SentinelBroker) -> None:
        service.sentinels[0].signal(signal.SIGSTOP)
        began = time.monotonic()
        async with _clients(service) as broker:
            await beat(broker)
        assert time.monotonic() - began < SENTINEL_TIMEOUT_S

    async def test_one_that_slept_through_a_failover_is_not_believed(self, service: SentinelBroker) -> None:
        late, *others = service.sentinels
        late.signal(signal.SIGSTOP)
        old = await asyncio.to_thread(service.kill_master)
        async with _clients(service) as broker:
            await in_time(lambda: beat(broker))
        late.signal(signal.SIGCONT)
        async with _clients(service) as broker:
            await beat(broker)
            assert await _master_of(broker) != old
        assert all(other.is_running for other in others)

    async def test_the_last_one_is_believed(self, service: SentinelBroker) -> None:
        for sentinel in service.sentinels[1:]:
            sentinel.kill()
        async with _clients(service) as broker:
            await beat(broker)

    async def test_without_any_the_broker_is_away_and_open_connections_go_on(
        self, service: SentinelBroker, broker: Broker
    ) -> None:
        await beat(broker)
        for sentinel in service.sentinels:
            sentinel.kill()
        await beat(broker)
        async with _clients(service) as late:
            with pytest.raises(BrokerUnavailable, match="no sentinel tells"):
                await beat(late)

    async def test_a_service_that_they_do_not_know_is_told(self, service: SentinelBroker) -> None:
        stranger = connect(service.url.replace(SERVICE, "other"), prefix="ghub:", client_name="contract")
        with pytest.raises(BrokerUnavailable, match="other"):
            await beat(stranger)
        await stranger.aclose()


@asynccontextmanager
async def _clients(service: SentinelBroker) -> AsyncIterator[Broker]:
    broker = connect(service.url, prefix="ghub:", client_name="contract")
    try:
        yield broker
    finally:
        await broker.aclose()


def _blocked(service: SentinelBroker) -> bool:
    with service.client() as client:
        return bool(client.info("clients")["blocked_clients"])
