"""A key that sends much does not hold up one that sends little."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, post
from tests.support.client_keys import TestKey, keyed_chain
from tests.support.grid import Grid, chat
from tests.support.processes import until

MANY = 300
SHARE = 16
SLOTS = 2


@pytest.mark.timeout(120)
def test_one_request_beside_three_hundred_waits_behind_a_share_of_them_only(grid: Grid) -> None:
    chain = keyed_chain(grid, provider_slots=SLOTS)
    with grid.redis() as client, ThreadPoolExecutor(MANY + 1) as pool:
        greedy, modest = TestKey(client), TestKey(client)
        holders = [Call(chain.hub, chat(double={"hang": True}), headers=greedy.headers) for _ in range(SLOTS)]
        until(lambda: chain.engine.state()["open"] == SLOTS, 5, chain.engine.state)
        body = chat(tokens=2, double={"delay_ms": 20})
        crowd = [pool.submit(post, chain.hub, body, headers=greedy.headers, within_s=100) for _ in range(MANY)]
        until(lambda: greedy.held(client).get("waiting") == MANY - SHARE, 40, lambda: greedy.held(client))
        assert leftovers.waiting(client) == SHARE
        little = pool.submit(post, chain.hub, body, headers=modest.headers, within_s=100)
        until(lambda: leftovers.waiting(client) == SHARE + 1, 10, "its turn comes at once, behind a share of the crowd")
        for holder in holders:
            holder.drop()
        assert little.result().said == numbered(0, 2)
        assert chain.engine.state()["finished"] < MANY // 2, "it did not wait for the crowd"
        assert {call.result().status for call in crowd} == {200}
        greedy.until_at_rest(client, 5)


def test_a_key_s_own_urgent_request_does_not_wait_behind_its_batch(grid: Grid) -> None:
    chain = keyed_chain(grid, GHUB_HUB_LANE_SHARE="2")
    with grid.redis() as client, ThreadPoolExecutor(8) as pool:
        key = TestKey(client)
        holder = Call(chain.hub, chat(double={"hang": True}), headers=key.headers)
        until(lambda: chain.engine.state()["open"] == 1, 5, chain.engine.state)
        batch = {**key.headers, "x-ghub-lane": "batch"}
        crowd = [pool.submit(post, chain.hub, chat(tokens=2), headers=batch) for _ in range(6)]
        until(lambda: key.held(client).get("waiting") == 4, 5, lambda: key.held(client))
        urgent = Call(chain.hub, chat("urgent", tokens=3), headers=key.headers)
        until(lambda: leftovers.waiting(client) == 3, 5, lambda: leftovers.told(client))
        holder.drop()
        assert urgent.finish().said == numbered(0, 3)
        assert {call.result().status for call in crowd} == {200}
