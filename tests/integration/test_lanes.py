"""Which lane a request waits in: its client's wish, as far as its key allows."""

from collections.abc import Iterator

import pytest
import redis

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, post
from tests.support.client_keys import TestKey, keyed_chain
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

LANE = "x-ghub-lane"


@pytest.fixture(scope="module")
def chain(module_grid: Grid) -> Chain:
    return keyed_chain(module_grid)


@pytest.fixture
def client(module_grid: Grid, chain: Chain) -> Iterator[redis.Redis]:
    """The broker to look at; whatever a test left open is ended after it."""
    chain.engine.reset()
    with module_grid.redis() as client:
        yield client
        for call in [*Call.open]:
            call.drop()
        leftovers.until_at_rest(client, 5)


def _holding(chain: Chain, key: TestKey) -> Call:
    holder = Call(chain.hub, chat(double={"hang": True}), headers=key.headers)
    until(lambda: chain.engine.state()["open"] == 1, 5, chain.engine.state)
    return holder


def _waiting_in(client: redis.Redis, lane: str) -> int:
    return int(client.zcard(f"ghub:{{jobs}}:waiting:{lane}:tiny:1b"))


def test_an_interactive_request_overtakes_those_in_batch(chain: Chain, client: redis.Redis) -> None:
    key = TestKey(client)
    holder = _holding(chain, key)
    late = Call(chain.hub, chat(tokens=3), headers={**key.headers, LANE: "batch"})
    until(lambda: _waiting_in(client, "batch") == 1, 5, lambda: leftovers.told(client))
    urgent = Call(chain.hub, chat(tokens=2, double={"prefill_ms": 300}), headers=key.headers)
    until(lambda: _waiting_in(client, "interactive") == 1, 5, lambda: leftovers.told(client))
    holder.drop()
    answers = urgent.finish(), late.finish()
    assert [answer.said for answer in answers] == [numbered(0, 2), numbered(0, 3)]
    ids = [answer.headers["x-request-id"] for answer in answers]

    def claimed_at() -> list[int]:
        return [int(client.hget(f"ghub:request:{one}", "claimed_at") or 0) for one in ids]

    until(lambda: all(claimed_at()), 5, claimed_at)
    first, second = claimed_at()
    assert first < second


def test_a_key_for_batch_waits_there_by_itself(chain: Chain, client: redis.Redis) -> None:
    key = TestKey(client, lane="batch")
    _holding(chain, TestKey(client))
    Call(chain.hub, chat(tokens=2), headers=key.headers)
    until(lambda: _waiting_in(client, "batch") == 1, 5, lambda: leftovers.told(client))


def test_a_key_for_batch_may_not_ask_for_more(chain: Chain, client: redis.Redis) -> None:
    key = TestKey(client, lane="batch")
    refused = post(chain.hub, chat(), headers={**key.headers, LANE: "interactive"})
    assert (refused.status, refused.error["code"]) == (403, "lane_not_allowed")
    assert not key.held(client)


@pytest.mark.parametrize("lane", ["retry", "express", ""])
def test_only_two_lanes_can_be_asked_for(chain: Chain, client: redis.Redis, lane: str) -> None:
    refused = post(chain.hub, chat(), headers={**TestKey(client).headers, LANE: lane})
    assert (refused.status, refused.error["code"]) == (400, "invalid_header")


def test_an_api_that_no_node_of_the_model_serves_is_refused_at_once(chain: Chain, client: redis.Redis) -> None:
    key = TestKey(client)
    body = {"model": "tiny:1b", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
    refused = post(chain.hub, body, path="/v1/messages", headers=key.headers)
    assert refused.status == 404
    assert "tiny:1b" in refused.text
    assert "/v1/messages" in refused.text
    assert chain.engine.state()["started"] == 0
    assert not key.held(client)
