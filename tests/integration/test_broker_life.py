"""The broker goes away, comes back empty, freezes, drops its connections: answers are whole or end with a clear
error, nobody hangs, and work goes on by itself.
"""

import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.doubles.reading import numbered
from tests.integration.registering import ENV, FIXED_TOKEN, joined
from tests.support import leftovers
from tests.support.call import Answer, Call, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_BROKER_GRACE_S": "2"}
NOTICED_S = 8.0
"""Within this a hub finds out that the broker has lost a request: it looks every 5 s."""
GONE_ON_S = NOTICED_S + 12
"""And within this what it had lost is whole: an answer of 6 s, begun anew at worst."""


class OpenCalls:
    """A stream under way, a call that waits for its whole answer, and one more in the queue."""

    def __init__(self, chain: Chain) -> None:
        self.stream = Call(chain.hub, chat(tokens=300, stream=True, double={"delay_ms": 20}))
        self.whole = Call(chain.hub, chat(tokens=300, double={"delay_ms": 20}))
        self.stream.wait_for("t3 ")
        until(lambda: chain.engine.state()["open"] == 2, 5, chain.engine.state)
        self.queued = Call(chain.hub, chat(tokens=5, stream=True))
        self.queued.wait_for(": queued, 0 ahead")

    def all_end(self, within_s: float) -> list[Answer]:
        """Their answers, each complete or with an error; AssertionError if one hangs.

        They stand in the order: stream, whole, queued.
        """
        with ThreadPoolExecutor(3) as pool:
            pending = [pool.submit(call.finish) for call in (self.stream, self.whole, self.queued)]
            try:
                took_s = until(lambda: all(one.done() for one in pending), within_s, "all three end")
            except AssertionError:
                for call in (self.stream, self.whole, self.queued):
                    call.hang_up()
                raise
        print(f"figure: the open requests ended within {took_s:.1f} s")
        answers = [one.result() for one in pending]
        for answer, tokens in zip(answers, (300, 300, 5), strict=True):
            if '"error"' in answer.text:
                assert answer.error["code"] == "broker_unavailable"
            else:
                assert answer.said == numbered(0, tokens)
            if answer.headers["content-type"].startswith("text/event-stream"):
                assert answer.is_ended_once
                assert answer.said == numbered(0, answer.said.count(" "))
        return answers


def _free_again(grid: Grid, chain: Chain) -> None:
    until(lambda: chain.engine.state()["open"] == 0, 5, chain.engine.state)
    with grid.redis() as client:
        leftovers.until_at_rest(client, 3)


def test_all_heals_after_flushall_and_no_new_request_is_turned_away(grid: Grid) -> None:
    chain = grid.chain(slots=4, provider_slots=2, kind="llamacpp", **QUICK)
    calls = OpenCalls(chain)
    with grid.redis() as client:
        client.flushall()
        answers = calls.all_end(GONE_ON_S)
        assert ["error" in answer.text for answer in answers] == [False] * 3
        client.flushall()
        for _ in range(20):  # the nodes register anew at their next heartbeat
            assert post(chain.hub, chat(tokens=3)).status == 200
            time.sleep(0.05)  # spreads the calls over the time in which the registry is empty
        until(lambda: client.ttl(f"ghub:node:{chain.node}") >= 0, 5, "the node is registered")
        assert client.smembers("ghub:{jobs}:lanes") >= {"interactive:tiny:1b"}
        assert client.xinfo_groups("ghub:{jobs}:interactive:tiny:1b")[0]["name"] == "providers"
    _free_again(grid, chain)


def test_a_model_stays_known_while_the_registry_is_empty(grid: Grid) -> None:
    """A busy node is not heard of before its next heartbeat; to say 404 until then would turn clients away for good."""
    chain = grid.chain(provider_slots=1, GHUB_HEARTBEAT_S="6", GHUB_PROVIDER_FIRST_TOKEN_TIMEOUT_S="4")
    holder = Call(chain.hub, chat(stream=True, double={"hang": True}))
    until(lambda: chain.engine.state()["open"] == 1, 5, chain.engine.state)
    with grid.redis() as client:
        client.flushall()
    until(lambda: get(chain.hub, "/api/registry").json["nodes"] == [], 5, "the hub has seen the empty registry")
    assert get(chain.hub, "/v1/models").json["data"] == []
    call = Call(chain.hub, chat(tokens=3, stream=True))
    holder.close()
    answer = call.finish()
    assert (answer.status, answer.said) == (200, numbered(0, 3))


@pytest.mark.slow
def test_a_broker_that_comes_back_empty_is_worked_with_again(mortal_grid: Grid) -> None:
    chain = mortal_grid.chain(slots=4, provider_slots=2, kind="llamacpp", **QUICK)
    calls = OpenCalls(chain)
    mortal_grid.broker.kill()
    began = time.monotonic()
    refused = post(chain.hub, chat())
    assert (refused.status, refused.error["code"]) == (503, "broker_unavailable")
    assert "retry-after" in refused.headers
    assert time.monotonic() - began < 1.5
    mortal_grid.broker.start()
    answers = calls.all_end(GONE_ON_S)
    assert ["error" in answer.text for answer in answers] == [False] * 3
    assert chain.engine.state()["started"] == 3, "nothing ran twice"
    took_s = until(lambda: post(chain.hub, chat(tokens=3)).status == 200, 5, "a new request is served")
    print(f"figure: new requests served {took_s:.1f} s after that")
    _free_again(mortal_grid, chain)


def test_a_hub_without_its_broker_says_so_and_recovers_by_itself(mortal_grid: Grid) -> None:
    chain = mortal_grid.chain(**QUICK)
    mortal_grid.broker.kill()
    took_s = until(lambda: mortal_grid.status(chain.hub, "/health") == 503, 5, "/health says so")
    print(f"figure: /health said so after {took_s:.1f} s")
    health = get(chain.hub, "/health").json
    assert (health["status"], health["broker"]) == ("degraded", "unreachable")
    assert mortal_grid.status(chain.hub, "/health/ready") == 503
    assert mortal_grid.status(chain.hub, "/health/live") == 200
    for stream in (True, False):
        refused = post(chain.hub, chat(stream=stream), within_s=3)
        assert (refused.status, refused.error["code"]) == (503, "broker_unavailable")
    mortal_grid.broker.start()
    until(lambda: mortal_grid.status(chain.hub, "/health/ready") == 200, 8, "it is ready again")
    until(lambda: post(chain.hub, chat(tokens=3)).status == 200, 5, "a new request is served")


def test_a_provider_without_its_broker_says_so_once_and_not_at_each_heartbeat(mortal_grid: Grid) -> None:
    node = mortal_grid.provider(mortal_grid.engine().url, **QUICK)
    url, log = mortal_grid.provider_urls[node], mortal_grid.providers[node].tail
    assert get(url, "/health").json["in_grid"] is True
    mortal_grid.broker.kill()
    until(lambda: get(url, "/health").json["in_grid"] is False, 5, lambda: get(url, "/health").text)
    assert get(url, "/busy").json["busy"] is False, "direct calls are taken all the same"
    until(lambda: log().count("doing=claim") >= 3, 10, log)
    assert log().count("doing=heartbeat") == 1
    mortal_grid.broker.start()
    until(lambda: get(url, "/health").json["in_grid"] is True, 5, log)
    assert "broker_back" in log()


@pytest.mark.slow
def test_open_requests_end_when_the_broker_stays_away(mortal_grid: Grid) -> None:
    chain = mortal_grid.chain(slots=4, provider_slots=2, GHUB_PROVIDER_BROKER_GRACE_S="2", **QUICK)
    calls = OpenCalls(chain)
    mortal_grid.broker.kill()
    calls.all_end(NOTICED_S)
    until(lambda: chain.engine.state()["open"] == 0, 8, chain.engine.state)


def test_hub_and_provider_may_start_before_their_broker(mortal_grid: Grid) -> None:
    mortal_grid.broker.kill()
    hub = mortal_grid.hub(wait=False, **QUICK)
    node = mortal_grid.provider(mortal_grid.engine().url, wait=False, **QUICK)
    until(lambda: mortal_grid.status(hub, "/health/live") == 200, 10, mortal_grid.hubs[hub].tail)
    assert mortal_grid.status(hub, "/health/ready") == 503
    refused = post(hub, chat(), within_s=3)
    assert (refused.status, refused.error["code"]) == (503, "broker_unavailable")
    until(lambda: "broker_unavailable" in mortal_grid.providers[node].tail(), 5, "the provider has tried")
    mortal_grid.broker.start()
    mortal_grid.wait_for_hub(hub)
    mortal_grid.wait_for_node(node)
    mortal_grid.wait_for_model(hub, "tiny:1b", 3)
    assert post(hub, chat(tokens=5)).said == numbered(0, 5)


@pytest.mark.parametrize("freeze_s", [1.0, pytest.param(6.0, marks=pytest.mark.slow)])
def test_a_broker_that_freezes_delays_a_stream_and_loses_nothing(mortal_grid: Grid, freeze_s: float) -> None:
    """Six seconds are longer than any command waits: what was sent is sent again, and refused where it arrived."""
    chain = mortal_grid.chain(GHUB_HEARTBEAT_S="4")
    call = Call(chain.hub, chat(tokens=200, stream=True, double={"delay_ms": 10}))
    call.wait_for("t10 ")
    mortal_grid.broker.process.signal(signal.SIGSTOP)
    try:
        time.sleep(freeze_s)  # the freeze itself
    finally:
        mortal_grid.broker.process.signal(signal.SIGCONT)
    answer = call.finish()
    assert answer.said == numbered(0, 200)
    assert answer.is_ended_once
    assert "error" not in answer.text


def test_dropped_broker_connections_cost_nothing(mortal_grid: Grid) -> None:
    chain = mortal_grid.chain(GHUB_HEARTBEAT_S="1")
    call = Call(chain.hub, chat(tokens=200, stream=True, double={"delay_ms": 10}))
    with mortal_grid.redis() as client:
        for token in (10, 60, 110):
            call.wait_for(f"t{token} ")
            client.client_kill_filter(_type="normal", skipme=True)
        answer = call.finish()
        assert answer.said == numbered(0, 200)
        assert answer.is_ended_once
        for _ in range(5):
            client.client_kill_filter(_type="normal", skipme=True)
            served = post(chain.hub, chat(tokens=3))
            assert (served.status, served.said) == (200, numbered(0, 3))
    _free_again(mortal_grid, chain)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_node_whose_user_the_broker_has_forgotten_goes_on_with_what_it_was_saying(
    mortal_grid: Grid, *, stream: bool
) -> None:
    """It is told apart by a user of its own, which only its hub can make again."""
    hub = mortal_grid.hub(**ENV)
    engine = mortal_grid.engine(slots=2)
    node = joined(mortal_grid, hub, FIXED_TOKEN, engine.url, "registered")
    mortal_grid.wait_for_model(hub, "tiny:1b")
    call = Call(hub, chat(tokens=400, stream=stream, double={"delay_ms": 10}))
    until(lambda: engine.state()["open"] == 1, 5, engine.state)
    if stream:
        call.wait_for("t30 ")
    mortal_grid.broker.kill()
    mortal_grid.broker.start()
    answer = call.finish()
    assert answer.said == numbered(0, 400)
    assert not stream or answer.is_ended_once
    assert engine.state()["started"] == 1
    until(lambda: engine.state()["open"] == 0, 5, engine.state)
    with mortal_grid.redis() as client:
        until(lambda: mortal_grid.node(client, node) != {}, 5, mortal_grid.providers[node].tail)
        leftovers.until_at_rest(client, 3)
