"""A grid whose broker fails over under it: what is under way ends with its own tokens, and all goes on by itself.

Both where sentinels choose another master, and in a cluster, where it is the master of the jobs that is lost.
"""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from ghub.errors import StartRefused
from ghub.up.broker import running_broker
from tests.doubles.reading import numbered
from tests.integration.registering import ADMIN_TOKEN, FIXED_TOKEN, joined
from tests.support.call import Call, post
from tests.support.cluster import ClusterBroker
from tests.support.grid import Grid, chat
from tests.support.processes import until
from tests.support.sentinel import SentinelBroker

QUICK = {"GHUB_HEARTBEAT_S": "0.5"}
STREAMS = 12
TOKENS, GAP_MS = 400, 25
"""10 s of an answer: longer than a failover takes."""
BACK_WITHIN_S = 10.0
READY_WITHIN_S = 2.0
"""After the sentinels name the new master."""

pytestmark = pytest.mark.slow


Replicated = SentinelBroker | ClusterBroker


@pytest.fixture(params=[SentinelBroker, ClusterBroker])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replicated]:
    broker: Replicated = request.param(tmp_path)
    yield broker
    broker.kill()


@pytest.fixture
def sentinel(tmp_path: Path) -> Iterator[SentinelBroker]:
    sentinel = SentinelBroker(tmp_path)
    yield sentinel
    sentinel.kill()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ClusterBroker]:
    cluster = ClusterBroker(tmp_path)
    yield cluster
    cluster.kill()


@pytest.fixture
def grid(broker: Replicated, tmp_path: Path) -> Iterator[Grid]:
    """An empty grid on a broker of several servers."""
    grid = Grid(broker, tmp_path)
    yield grid
    grid.close()


def _streams(hub: str) -> list[Call]:
    """Streams that have begun."""
    body = chat(tokens=TOKENS, stream=True, double={"delay_ms": GAP_MS})
    calls = [Call(hub, body, within_s=60) for _ in range(STREAMS)]
    for call in calls:
        call.wait_for("t3 ")
    return calls


def _all_end_with_their_own_tokens(calls: list[Call]) -> None:
    for call in calls:
        answer = call.finish()
        assert answer.said == numbered(0, TOKENS), answer.text[-500:]
        assert answer.is_ended_once


def _ready_soon(grid: Grid, hub: str) -> None:
    took_s = until(lambda: grid.status(hub, "/health/ready") == 200, BACK_WITHIN_S, grid.hubs[hub].tail)
    print(f"figure: ready {took_s:.2f} s after the failover")
    assert took_s < READY_WITHIN_S


def test_streams_under_way_outlive_a_master_that_hangs_and_wakes_as_a_replica(grid: Grid, broker: Replicated) -> None:
    hub, _, _ = grid.chain(slots=STREAMS, **QUICK)
    calls = _streams(hub)
    old = broker.hang_master()
    try:
        broker.wait_for_failover(old)
        until(lambda: grid.status(hub, "/health/ready") == 200, BACK_WITHIN_S, grid.hubs[hub].tail)
    finally:
        broker.wake(old)
    _all_end_with_their_own_tokens(calls)
    assert post(hub, chat(tokens=5)).said == numbered(0, 5)


def test_while_no_master_is_there_requests_are_refused_at_once(grid: Grid, broker: Replicated) -> None:
    hub, _, _ = grid.chain(**QUICK)
    broker.kill_voters()
    broker.kill_master()
    until(lambda: grid.status(hub, "/health/ready") == 503, BACK_WITHIN_S, grid.hubs[hub].tail)
    assert grid.status(hub, "/health/live") == 200
    began = time.monotonic()
    answer = post(hub, chat(stream=True))
    assert (answer.status, answer.error["code"]) == (503, "broker_unavailable")
    assert "retry-after" in answer.headers
    assert time.monotonic() - began < 3


async def test_a_stack_of_its_own_is_told_where_the_master_is_and_what_can_be_lost(sentinel: SentinelBroker) -> None:
    choice = await running_broker(sentinel.url)
    assert choice.shown == sentinel.url
    assert choice.redis_cli == f"redis-cli -u redis://127.0.0.1:{sentinel.master_port()}/0"
    assert "keeps nothing on disk" in [concern.text for concern in choice.concerns]
    for one in sentinel.sentinels:
        one.kill()
    with pytest.raises(StartRefused, match="no sentinel tells"):
        await running_broker(sentinel.url)


async def test_a_stack_of_its_own_is_told_how_to_look_into_a_cluster_and_what_can_be_lost(
    cluster: ClusterBroker,
) -> None:
    choice = await running_broker(cluster.url)
    assert choice.redis_cli == f"redis-cli -c -u redis://127.0.0.1:{cluster.port}"
    assert [concern.text for concern in choice.concerns] == ["keeps nothing on disk"]
    lone = cluster.kill_replica()
    await asyncio.to_thread(until, lambda: not cluster.replicas_of(lone), 10, "the replica counts as gone")
    texts = [concern.text for concern in (await running_broker(cluster.url)).concerns]
    assert texts == ["keeps nothing on disk", "has a master without a replica"]


class TestRegistered:
    """Providers that joined by the hub have users at the broker, which a new master does not know."""

    def test_they_are_let_in_again_at_the_new_master(self, grid: Grid, broker: Replicated) -> None:
        hub, node = self._grid_of(grid)
        old = broker.kill_master()
        broker.wait_for_failover(old)
        _works_again(hub, BACK_WITHIN_S)
        with redis.Redis(port=broker.master_port(), decode_responses=True) as client:
            assert [user for user in client.acl_users() if user.endswith(node)], client.acl_users()

    def test_their_streams_outlive_it_too(self, grid: Grid, broker: Replicated) -> None:
        hub, _ = self._grid_of(grid)
        calls = _streams(hub)
        broker.wait_for_failover(broker.kill_master())
        _all_end_with_their_own_tokens(calls)

    def _grid_of(self, grid: Grid) -> tuple[str, str]:
        engine = grid.engine(slots=STREAMS)
        secrets = {"GHUB_HUB_PROVIDER_TOKENS": FIXED_TOKEN, "GHUB_HUB_ADMIN_TOKEN": ADMIN_TOKEN}
        hub = grid.hub(GHUB_HUB_AUTH="off", **secrets, **QUICK)
        node = joined(grid, hub, FIXED_TOKEN, engine.url, "anna")
        grid.wait_for_model(hub, "tiny:1b")
        return hub, node


def _works_again(hub: str, within_s: float) -> None:
    def works() -> bool:
        answer = post(hub, chat(tokens=5))
        return answer.status == 200 and answer.said == numbered(0, 5)

    print(f"figure: a request was served {until(works, within_s, hub):.1f} s after the failover")
