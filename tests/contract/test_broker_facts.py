"""Settings with which a broker can lose what it is given are told: once, plainly, and again where it is another one."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import structlog

from common.broker.broker import Broker, connect
from common.broker.clock import BrokerClock
from common.broker.facts import read_facts
from common.broker.watch import BrokerWatch
from common.errors import BrokerUnavailable
from common.streams.replies import ReplyStreams
from tests.contract.story import publish
from tests.contract.test_broker_trouble import WRITE
from tests.support.brokers import BrokerProcess


async def _told(watch: BrokerWatch) -> list[Any]:
    """What a look makes it tell."""
    with structlog.testing.capture_logs() as logs:
        await watch.look()
    return [(one["log_level"], one["event"], one.get("concern", one.get("settings"))) for one in logs]


@asynccontextmanager
async def _as_user(server: BrokerProcess, *rules: str) -> AsyncIterator[Broker]:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "bob", "reset", "on", ">secret", "~*", *rules)
    broker = connect(server.url.replace("//", "//bob:secret@"), prefix="ghub:", client_name="contract")
    try:
        yield broker
    finally:
        await broker.aclose()


async def test_a_broker_that_keeps_everything_is_no_concern(own_broker: Broker) -> None:
    assert await _told(BrokerWatch(own_broker)) == []
    facts = await read_facts(own_broker)
    assert facts.version
    assert (facts.eviction, facts.has_log, facts.save_points) == ("noeviction", True, "")
    assert facts.untold == ()


async def test_each_concern_is_told_once_for_a_run_of_a_server(own_server: BrokerProcess, own_broker: Broker) -> None:
    watch = BrokerWatch(own_broker)
    with own_server.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "volatile-lru")
    warned = [
        ("warning", "broker_may_lose", "evicts keys when its memory is full (volatile-lru)"),
        ("warning", "broker_may_lose", "keeps nothing on disk"),
    ]
    assert await _told(watch) == warned
    assert await _told(watch) == []
    own_server.kill()
    with pytest.raises(BrokerUnavailable):
        await watch.look()
    own_server.start()
    with own_server.client() as client:
        client.config_set("maxmemory-policy", "allkeys-lfu")
    assert await _told(watch) == [("warning", "broker_may_lose", "evicts keys when its memory is full (allkeys-lfu)")]


async def test_a_broker_that_saves_now_and_then_keeps_something(own_server: BrokerProcess, own_broker: Broker) -> None:
    with own_server.client() as client:
        client.config_set("appendonly", "no")
        client.config_set("save", "3600 1")
    assert await _told(BrokerWatch(own_broker)) == []


async def test_what_a_broker_does_not_tell_is_named_and_no_warning(own_server: BrokerProcess) -> None:
    async with _as_user(own_server, "-@all", "+ping", "+info", "+client") as broker:
        assert (await read_facts(broker)).untold == ()  # its log says enough
    async with _as_user(own_server, "-@all", "+ping", "+client") as broker:
        watch = BrokerWatch(broker)
        told = [("info", "broker_settings_untold", ("maxmemory-policy", "appendonly", "save"))]
        assert await _told(watch) == told
        assert await _told(watch) == []


async def test_a_broker_that_lacks_its_replicas_counts_as_away(own_server: BrokerProcess, own_broker: Broker) -> None:
    await publish(own_broker, "r1")
    with own_server.client() as client:
        client.config_set("min-replicas-to-write", "1")
        with pytest.raises(BrokerUnavailable, match="NOREPLICAS"):
            await publish(own_broker, "r2")
        with pytest.raises(BrokerUnavailable, match="NOREPLICAS"):
            await ReplyStreams(own_broker).write([WRITE])
        client.config_set("min-replicas-to-write", "0")
    await publish(own_broker, "r3")


async def test_a_clock_is_set_once_and_anew_after_a_reconnection(own_server: BrokerProcess, own_broker: Broker) -> None:
    clock = BrokerClock(own_broker)

    async def asked() -> int:
        await clock.keep()
        with own_server.client() as client:
            return int(client.info("commandstats").get("cmdstat_time", {}).get("calls", 0))

    await publish(own_broker, "r0")
    assert [await asked(), await asked()] == [1, 1]
    own_server.kill()
    await clock.keep()  # nobody has noticed
    with pytest.raises(BrokerUnavailable):
        await clock.sync()
    own_server.start()
    await publish(own_broker, "r1")
    first, *later = [await asked() for _ in range(3)]
    assert first == 1, "counts of the new run"
    assert later[0] == later[1] <= 2, "it was asked once more where another connection was made anew meanwhile"
