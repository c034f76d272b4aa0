"""A client's own deadline: past it the request ends, wherever it is, and leaves nothing behind."""

import time
from collections.abc import Iterator

import pytest
import redis

from tests.support import leftovers
from tests.support.call import Call, post
from tests.support.client_keys import TestKey, keyed_chain
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

DEADLINE = {"x-ghub-deadline-s": "0.8"}


@pytest.fixture(scope="module")
def chain(module_grid: Grid) -> Chain:
    return keyed_chain(module_grid, GHUB_HUB_FIRST_COMMENT_S="0.2")


@pytest.fixture
def key(module_grid: Grid, chain: Chain) -> Iterator[TestKey]:
    """A key with one turn; whatever a test left open is ended after it, and nothing of it stays."""
    chain.engine.reset()
    with module_grid.redis() as client:
        key = TestKey(client, concurrency=1)
        yield key
        for call in [*Call.open]:
            call.drop()
        key.until_at_rest(client, 5)
        leftovers.until_at_rest(client, 5)
        until(lambda: chain.engine.state()["open"] == 0, 5, chain.engine.state)


@pytest.fixture
def client(module_grid: Grid) -> Iterator[redis.Redis]:
    with module_grid.redis() as client:
        yield client


def _held_up(chain: Chain, key: TestKey) -> None:
    Call(chain.hub, chat(double={"hang": True}), headers=key.headers)
    until(lambda: chain.engine.state()["open"] == 1, 5, chain.engine.state)


def test_one_that_runs_ends_with_504_and_its_engine_is_freed(chain: Chain, key: TestKey) -> None:
    began = time.monotonic()
    late = post(chain.hub, chat(double={"hang": True}), headers={**key.headers, **DEADLINE})
    assert (late.status, late.error["code"], late.error["type"]) == (504, "deadline_exceeded", "timeout_error")
    assert 0.8 <= time.monotonic() - began < 4
    until(lambda: chain.engine.state()["open"] == 0, 5, chain.engine.state)


def test_a_stream_that_never_pauses_ends_at_its_deadline_too(chain: Chain, key: TestKey) -> None:
    began = time.monotonic()
    body = chat(tokens=5000, stream=True, double={"delay_ms": 5})
    late = post(chain.hub, body, headers={**key.headers, **DEADLINE})
    assert time.monotonic() - began < 5
    assert late.status == 200
    assert late.error["code"] == "deadline_exceeded"
    assert late.is_ended_once


def test_one_that_waits_in_its_lane_is_withdrawn(chain: Chain, key: TestKey, client: redis.Redis) -> None:
    _held_up(chain, TestKey(client))
    late = post(chain.hub, chat(), headers={**key.headers, **DEADLINE})
    assert (late.status, late.error["code"]) == (504, "deadline_exceeded")
    until(lambda: leftovers.waiting(client) == 0, 5, lambda: leftovers.told(client))


def test_one_that_waits_for_its_turn_leaves_the_line(chain: Chain, key: TestKey, client: redis.Redis) -> None:
    _held_up(chain, key)
    until(lambda: "unclaimed" not in key.held(client), 5, lambda: key.held(client))  # told a moment after the claim
    late = post(chain.hub, chat(stream=True), headers={**key.headers, **DEADLINE})
    assert late.text.startswith(": queued, 0 ahead\n")
    assert late.error["code"] == "deadline_exceeded"
    until(lambda: "waiting" not in key.held(client), 5, lambda: key.held(client))


def test_one_that_is_in_time_hears_nothing_of_it(chain: Chain, key: TestKey) -> None:
    assert post(chain.hub, chat(tokens=2), headers={**key.headers, **DEADLINE}).status == 200


@pytest.mark.parametrize("said", ["0", "-1", "nan", "soon", "inf", "1e9"])
def test_a_deadline_that_is_none_is_refused(chain: Chain, key: TestKey, said: str) -> None:
    refused = post(chain.hub, chat(), headers={**key.headers, "x-ghub-deadline-s": said})
    assert (refused.status, refused.error["code"]) == (400, "invalid_header")
