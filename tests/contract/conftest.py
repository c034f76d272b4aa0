"""The brokers that every contract holds on: fakeredis, Valkey and Redis, each empty when a test begins."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from common.broker.broker import Broker, connect
from common.broker.clock import BrokerClock
from tests.support.brokers import KINDS, BrokerProcess
from tests.support.cluster import ClusterBroker
from tests.support.fake_broker import fake_broker

FAKE, CLUSTER = "fakeredis", "cluster"

NOT_ON_FAKEREDIS = {
    name: reason
    for reason, names in {
        "its XREADGROUP says another thing than NOGROUP where the key is missing": (
            "test_after_a_flush_lanes_are_missed_until_they_are_made_anew",
            "test_lanes_that_nobody_made_are_missed",
            "test_lanes_that_nobody_made_hold_nothing_and_hide_none",
            "test_a_lane_without_its_group_costs_no_job_of_the_other_lanes",
        ),
        "its XREADGROUP does not block": (
            "test_a_wait_ends_with_the_job_that_comes",
            "test_a_wait_in_vain_ends_when_its_time_is_up",
            "test_one_job_wakes_one_of_the_nodes_that_wait",
        ),
    }.items()
    for name in names
}
"""Single tests that fakeredis cannot run, and what it lacks."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what fakeredis cannot run: a skip would look like something that is missing here."""
    left_out = [item for item in items if isinstance(item, pytest.Function) and _is_beyond_fakeredis(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _is_beyond_fakeredis(item: pytest.Function) -> bool:
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("broker") == FAKE and item.originalname in NOT_ON_FAKEREDIS


class Servers:
    """Shared servers, each started when it is first asked for."""

    def __init__(self, folder: Callable[[str], Path]) -> None:
        self._folder = folder
        self._running: dict[str, BrokerProcess] = {}
        self._clients: dict[str, Any] = {}

    def of(self, kind: str) -> BrokerProcess:
        """The server of a kind, emptied of keys and scripts."""
        if kind not in self._running:
            folder = self._folder(f"contract-{kind}")
            server = ClusterBroker(folder, replicas=0) if kind == CLUSTER else BrokerProcess(kind, folder)
            self._running[kind], self._clients[kind] = server, server.client()
        self._clients[kind].flushall()
        self._clients[kind].script_flush()
        return self._running[kind]

    def stop(self) -> None:
        for kind, server in self._running.items():
            self._clients[kind].close()
            server.stop()


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    servers = Servers(tmp_path_factory.mktemp)
    yield servers
    servers.stop()


@pytest.fixture(params=[FAKE, *KINDS, CLUSTER])
async def broker(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Broker]:
    """Each kind of broker in turn; `on_real_brokers` leaves fakeredis out."""
    if request.param == FAKE:
        broker = fake_broker()
    else:
        broker = connect(servers.of(request.param).url, prefix="ghub:", client_name="contract")
    yield broker
    await broker.aclose()


@pytest.fixture(params=KINDS)
def own_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BrokerProcess]:
    """Each real broker in turn, one that the test may harm; it keeps what it is told over a restart."""
    server = BrokerProcess(request.param, tmp_path, "--appendonly", "yes", "--appendfsync", "always")
    yield server
    server.kill()


@pytest.fixture
async def own_broker(own_server: BrokerProcess) -> AsyncIterator[Broker]:
    """The clients for `own_server`."""
    broker = connect(own_server.url, prefix="ghub:", client_name="contract")
    yield broker
    await broker.aclose()


@pytest.fixture
async def now_ms(broker: Broker) -> Callable[[], int]:
    clock = BrokerClock(broker)
    await clock.sync()
    return clock.now_ms
