"""Nonsense in the broker, whoever wrote it, stops neither hub nor provider."""

import time
from collections.abc import Iterator

import pytest
import redis

from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Call, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

LANE = "ghub:{jobs}:interactive:tiny:1b"


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    return module_grid.chain(slots=8, provider_slots=2)


@pytest.fixture
def chain(_chain: Chain, module_grid: Grid) -> Iterator[Chain]:
    """A chain that still works after each test, with empty lanes."""
    with module_grid.redis() as client:
        client.delete("ghub:dead")
    _chain.engine.reset()
    yield _chain
    assert post(_chain.hub, chat(tokens=3)).said == numbered(0, 3)
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 3)


def _newest_entry(client: redis.Redis, reply: str) -> str | None:
    """Its id; None if the reply has just run out."""
    newest = client.xrevrange(reply, count=1)
    return newest[0][0] if newest else None


def _gone(client: redis.Redis) -> float:
    return until(lambda: leftovers.jobs(client) == 0, 5, lambda: leftovers.told(client))


def test_nonsense_in_the_broker_stops_neither_hub_nor_provider(chain: Chain, module_grid: Grid) -> None:
    """Whatever a process with a scoped account may write; each entry is passed over, and said so in the log."""
    with module_grid.redis() as client:
        node = client.hgetall(f"ghub:node:{chain.node}")
        (hub,) = [key for key in leftovers.keys(client) if key.startswith("ghub:hub:")]
        doorbell = f"ghub:doorbell:{{{hub.removeprefix('ghub:hub:')}}}"
        client.xadd(LANE, {"foo": "bar"})
        client.xadd(LANE, {b"v": b"1", b"id": b"\xff\xfe", b"attempt": b"x"})
        client.xadd(doorbell, {b"ids": b"\xff\xfe nobody"})
        client.xadd(doorbell, {"other": "field"})
        client.xadd(f"ghub:control:{chain.node}", {b"op": b"cancel", b"id": b"\xff"})
        client.xadd(f"ghub:control:{chain.node}", {b"op": b"\xff"})
        client.sadd("ghub:{jobs}:lanes", "nonsense", b"\xff\xfe", "interactive:")
        for number, fields in enumerate(
            [{"reasons": "5"}, {"engine": "["}, {"models": '[{"a": 1}]'}, {"slots": "many"}]
        ):
            client.hset(f"ghub:node:odd-{number}", mapping={**node, "node": f"odd-{number}", **fields})
            client.expire(f"ghub:node:odd-{number}", 3)
            client.zadd("ghub:nodes", {f"odd-{number}": time.time() * 1000})
        client.zadd("ghub:nodes", {b"\xff": time.time() * 1000})
        _gone(client)
        shown = until(lambda: get(chain.hub, "/health").status == 200, 5, "the hub has its picture of the grid")
        for _ in range(3):
            assert post(chain.hub, chat(tokens=3, stream=True)).said == numbered(0, 3)
        assert shown < 3
        # The odd nodes live for 3 s: by then the hub has looked at everything again and again.
        until(lambda: not any(key.startswith("ghub:node:odd-") for key in leftovers.keys(client)), 5, "odd nodes stay")
        assert post(chain.hub, chat(tokens=3)).said == numbered(0, 3)
        client.srem("ghub:{jobs}:lanes", "nonsense", b"\xff\xfe", "interactive:")
        client.zrem("ghub:nodes", b"\xff")
    assert module_grid.hubs[chain.hub].is_running
    assert module_grid.providers[chain.node].is_running
    assert chain.node in [one["node"] for one in get(chain.hub, "/api/registry").json["nodes"]]


@pytest.mark.parametrize(
    "fields",
    [
        {"start": "[]"},
        {"start": '{"status": "x", "content_type": 5, "node": []}', "data": "data: x\n\n"},
        {"start": '{"status": 99, "content_type": "text/event-stream", "node": "n"}', "data": "data: x\n\n"},
        {"start": '{"status": 200, "content_type": "a\\r\\nb: c", "node": "n"}', "data": "data: x\n\n"},
        {"claim": "line\r\nbreak"},
        {"end": '{"prompt_tokens": [1], "completion_tokens": {"a": 2}}'},
        {"error": '{"status": "x", "code": 5, "message": [], "retryable": 1}'},
        {"end": '{"prompt_tokens": 9223372036854775808}'},
        {"start": '{"status": 100, "content_type": "text/event-stream", "node": "n"}', "data": "HTTP/1.1 200 OK"},
        {"start": '{"status": 204, "content_type": "text/event-stream", "node": "n"}', "data": "HTTP/1.1 200 OK"},
        {"error": "no json"},
        {"error": '{"status": 7, "code": "odd", "message": "m"}'},
    ],
    ids=str,
)
def test_a_nonsensical_reply_ends_its_request_and_no_other(
    chain: Chain, module_grid: Grid, fields: dict[str, str]
) -> None:
    """The provider hangs; someone else writes to the reply of its job."""
    with module_grid.redis() as client, Call(chain.hub, chat(stream=True, double={"hang": True})) as call:
        until(lambda: chain.engine.state()["open"] == 1, 5, chain.engine.state)
        (reply,) = [key for key in leftovers.replies(client) if _newest_entry(client, key) == "1-0"]
        client.xadd(reply, {**fields}, id="1-7")
        if "claim" not in fields:
            call.socket.settimeout(5)
            assert call.status in {200, 500, 502, 503, 504}
        assert post(chain.hub, chat(tokens=3)).said == numbered(0, 3)
        call.drop()
    until(lambda: chain.engine.state()["open"] == 0, 5, chain.engine.state)
    with module_grid.redis() as client:
        key = f"ghub:request:{reply.rpartition(':')[2]}"
        final = {"done", "failed", "cancelled"}
        until(lambda: client.hget(key, "status") in final, 5, lambda: client.hgetall(key))
