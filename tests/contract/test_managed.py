"""A broker that somebody else runs: it lets nobody ask for its settings, its users or its connections."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from common.broker.broker import Broker, connect
from common.broker.facts import concerns, read_facts
from common.broker.users import BrokerUsers
from common.errors import BrokerRefused
from common.streams.jobs import JobLanes
from common.streams.replies import Doorbell
from common.streams.requests import Requests
from tests.contract.moving import beat
from tests.contract.story import HUB, MODEL, NODE, TTLS, claim_all, publish
from tests.support.brokers import KINDS, BrokerProcess

FORBIDDEN = (
    "ACL",
    "BGREWRITEAOF",
    "BGSAVE",
    "CLIENT",
    "CLUSTER",
    "COMMAND",
    "CONFIG",
    "DEBUG",
    "INFO",
    "MEMORY",
    "MONITOR",
)
"""What Memorystore and its like block, and more."""


@pytest.fixture(params=KINDS)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    options = [word for name in FORBIDDEN for word in ("--rename-command", name, "")]
    server = BrokerProcess(request.param, tmp_path, *options)
    yield server
    server.kill()


@pytest.fixture
async def broker(server: BrokerProcess) -> AsyncIterator[Broker]:
    broker = connect(server.url, prefix="ghub:", client_name="contract")
    yield broker
    await broker.aclose()


async def test_everything_on_a_request_s_way_works(broker: Broker) -> None:
    await beat(broker)
    bell = Doorbell(broker, HUB)
    await bell.keep(60_000)
    ticket = await publish(broker)
    (job,) = await claim_all(broker)
    assert job.ticket == ticket
    waiting = asyncio.create_task(JobLanes(broker).wait(NODE, [ticket.lane]))
    await publish(broker, "r2")
    assert await waiting
    await JobLanes(broker).settle(ticket)
    requests = Requests(broker, TTLS, HUB)
    assert await requests.held_bytes([("ghub:reply:{hub-1}:r1", 100)]) == [100]  # what it does not tell is reckoned


async def test_what_it_does_not_tell_is_no_concern(broker: Broker) -> None:
    facts = await read_facts(broker)
    assert not [*concerns(facts)]
    assert "maxmemory-policy" in facts.untold


async def test_that_it_has_no_users_is_said_with_the_cure(broker: Broker) -> None:
    with pytest.raises(BrokerRefused, match="GHUB_HUB_ACL"):
        await BrokerUsers(broker).set_user(NODE, [MODEL], ["ab" * 32])
