"""How providers come and go, in order and out of it: their jobs are finished, given back, or told to be lost."""

import re
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import COMPLETIONS, Answer, Call, get, post
from tests.support.grid import chat
from tests.support.pair import Pair
from tests.support.processes import until

LEASE_S = 0.9
NODE_GONE_S = 3.0
FOREVER = {"prefill_ms": 600_000}


def _is_free(engine: EngineProcess) -> bool:
    return bool(engine.state()["open"] == 0)


def _is_connected(client: redis.Redis, node: str) -> bool:
    return f"ghub-provider-{node}" in {one["name"] for one in client.client_list()}


def _ask_for_one_node(pair: Pair) -> Call:
    """A stream under way that no other node may go on with."""
    body = chat(model=pair.model, tokens=1000, stream=True, double={"delay_ms": 20})
    call = Call(pair.hub, body, headers={"X-GHub-Failover": "off"})
    call.wait_for("t3 ")
    return call


def test_a_job_that_ends_within_the_limit_is_whole_and_the_provider_leaves_in_order(
    make_pair: Callable[..., Pair],
) -> None:
    pair = make_pair(GHUB_PROVIDER_DRAIN_TIMEOUT_S="20")
    call = pair.ask_first(tokens=40, stream=True, double={"delay_ms": 25})
    call.wait_for("t3 ")
    pair.provider.signal(signal.SIGTERM)
    until(lambda: pair.reasons() == ["draining"], 5, "it shows that it drains")
    answer = call.finish()
    assert answer.said == numbered(0, 40)
    assert answer.is_ended_once
    assert pair.provider.wait(3) == 0
    with pair.grid.redis() as client:
        assert pair.grid.node(client, pair.first_node) == {}, "it took itself out of the registry"
        assert leftovers.is_at_rest(client, pair.model)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
def test_a_job_not_begun_by_the_limit_is_given_back_and_runs_elsewhere(pair: Pair, *, stream: bool) -> None:
    pair.first.configure(**FOREVER)
    call = pair.ask_first(tokens=5, stream=stream)
    pair.start_second()
    pair.provider.signal(signal.SIGTERM)
    answer = call.finish()
    assert (answer.status, answer.said) == (200, numbered(0, 5))
    assert answer.fingerprint == pair.second.fingerprint
    assert pair.provider.wait(3) == 0
    assert _is_free(pair.first)
    pair.is_at_rest()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["limit", "kill"])
def test_a_stream_that_its_provider_cannot_end_goes_on_elsewhere(pair: Pair, how: signal.Signals) -> None:
    body = {"model": pair.model, "prompt": "hi", "max_tokens": 150, "stream": True, "double": {"delay_ms": 20}}
    call = Call(pair.hub, body, path=COMPLETIONS)
    call.wait_for("t3 ")
    pair.start_second()
    pair.provider.signal(how)
    answer = call.finish()
    assert answer.said == numbered(0, 150)
    assert answer.is_ended_once
    until(lambda: _is_free(pair.first), 3, "the engine saw the connection end")
    pair.is_at_rest()


def test_a_stream_whose_client_wants_no_other_node_ends_with_an_error_event_at_the_limit(pair: Pair) -> None:
    call = _ask_for_one_node(pair)
    pair.provider.signal(signal.SIGTERM)
    answer = call.finish()
    assert re.fullmatch(r"(t\d+ )+", answer.said)
    assert answer.said == numbered(0, answer.said.count(" "))
    assert answer.error["code"] == "provider_lost"
    assert answer.is_ended_once
    assert pair.provider.wait(3) == 0
    assert _is_free(pair.first)
    pair.is_at_rest()


def test_no_job_is_lost_when_a_node_drains_under_a_burst(pair: Pair) -> None:
    """Some jobs are delivered to the first node in the moment it stops taking any."""
    pair.start_second()
    body = chat(model=pair.model, tokens=5, double={"delay_ms": 10})
    with ThreadPoolExecutor(12) as pool:
        calls = [pool.submit(post, pair.hub, body) for _ in range(30)]
        until(lambda: pair.first.state()["finished"] >= 1, 5, "the burst is under way")
        pair.provider.signal(signal.SIGTERM)
        calls += [pool.submit(post, pair.hub, body) for _ in range(60)]
        answers = [call.result() for call in calls]
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert {answer.said for answer in answers} == {numbered(0, 5)}
    assert pair.provider.wait(3) == 0
    pair.is_at_rest()


def test_a_job_of_a_killed_provider_runs_elsewhere_when_its_lease_ends(pair: Pair) -> None:
    pair.first.configure(**FOREVER)
    call = pair.ask_first(tokens=5, stream=True)
    pair.start_second()
    pair.provider.kill()
    answers: list[Answer] = []
    with ThreadPoolExecutor(1) as pool:
        finished = pool.submit(lambda: answers.append(call.finish()))
        took_s = until(finished.done, LEASE_S + NODE_GONE_S + 4, "the answer")
    finished.result()
    print(f"figure: another node had it {took_s:.1f} s after the kill")
    assert answers[0].said == numbered(0, 5)
    assert answers[0].fingerprint == pair.second.fingerprint
    pair.is_at_rest()


def test_a_stream_of_a_killed_provider_ends_with_an_error_event_for_a_client_that_wants_no_other_node(
    pair: Pair,
) -> None:
    call = _ask_for_one_node(pair)
    pair.provider.kill()
    answer = call.finish()
    assert answer.error["code"] == "provider_lost"
    assert answer.said == numbered(0, answer.said.count(" "))
    assert answer.is_ended_once
    until(lambda: _is_free(pair.first), 3, "the engine saw the connection end")
    pair.is_at_rest()


def test_a_provider_that_starts_again_under_its_name_costs_its_jobs_an_attempt_and_no_more(pair: Pair) -> None:
    """It gives them back, or its hub sees first that it does not name them."""
    pair.first.configure(**FOREVER)
    call = pair.ask_first(tokens=5, stream=True)
    pair.provider.kill()
    pair.first.configure()
    with pair.grid.redis() as client:
        client.persist(f"ghub:node:{pair.first_node}")  # or a slow start is overtaken by the hub, which finds it gone
        pair.start_first()
        until(lambda: _is_connected(client, pair.first_node), 15, pair.provider.tail)
        client.delete(f"ghub:node:{pair.first_node}")  # as if the lease had just ended
    answers: list[Answer] = []
    with ThreadPoolExecutor(1) as pool:
        finished = pool.submit(lambda: answers.append(call.finish()))
        took_s = until(finished.done, 10, "the answer")
    finished.result()
    print(f"figure: the same node had it {took_s:.1f} s after its restart")
    assert answers[0].said == numbered(0, 5)
    pair.is_at_rest()


def test_a_second_provider_of_a_name_is_refused_in_one_line(pair: Pair) -> None:
    first = pair.provider
    pair.grid.provider(pair.second.url, pair.first_node, wait=False, **pair.env)
    second = pair.provider
    assert second.wait(LEASE_S + 15) == 1, "no mistake in a setting: systemd may try again"
    lines = [line for line in second.tail().splitlines() if not re.search(r"\[(info|warning) ", line)]
    assert len(lines) == 1, second.tail()
    assert re.match(rf"ghub provider: .*'{pair.first_node}'.*", lines[0])
    assert first.is_running
    assert pair.call(3).finish().said == numbered(0, 3)
    first.kill()


def test_a_provider_that_waits_for_its_name_stops_when_told_to(pair: Pair) -> None:
    grid = pair.grid
    with grid.redis() as client:
        client.hset("ghub:node:held", mapping={**grid.node(client, pair.first_node), "node": "held"})
        client.expire("ghub:node:held", 60)
        grid.provider(pair.second.url, "held", wait=False)
        held = grid.providers["held"]
        until(lambda: _is_connected(client, "held"), 15, held.tail)
        held.signal(signal.SIGTERM)
        assert held.wait(1) == 0


@pytest.mark.parametrize(("order", "reason"), [("pause", "paused"), ("drain", "draining")])
def test_an_order_by_hand_stops_a_node_from_taking_work_until_resumed(pair: Pair, order: str, reason: str) -> None:
    control = f"ghub:control:{pair.first_node}"
    with pair.grid.redis() as client:
        client.xadd(control, {"op": "dance"})
        client.xadd(control, {"op": order})
        until(lambda: pair.reasons() == [reason], 5, pair.reasons)

        def shown() -> list[str]:
            nodes = get(pair.hub, "/api/registry").json["nodes"]
            found: list[str] = next(node["reasons"] for node in nodes if node["node"] == pair.first_node)
            return found

        until(lambda: shown() == [reason], 5, shown)
        with pair.call(stream=True) as call:
            call.wait_for(": queued, 0 ahead")
            assert pair.first.state()["started"] == 0
            client.xadd(control, {"op": "resume"})
            assert call.finish().said == numbered(0, 5)
        until(lambda: pair.reasons() == [], 3, pair.reasons)


def test_no_order_takes_back_what_the_owner_said(pair: Pair) -> None:
    url = pair.grid.provider_urls[pair.first_node]
    assert post(url, b"", path="/pause", headers={"x-ghub-control": "1"}).status == 200
    with pair.grid.redis() as client:
        for order in ("pause", "resume", "drain", "resume"):
            client.xadd(f"ghub:control:{pair.first_node}", {"op": order})
            is_drained = order == "drain"
            until(lambda: (pair.reasons() == ["draining", "paused"]) is is_drained, 5, pair.reasons)  # noqa: B023
    assert pair.reasons() == ["paused"]


def test_no_order_opens_the_gate_of_a_provider_that_stops(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(GHUB_PROVIDER_DRAIN_TIMEOUT_S="20")
    log = pair.provider.tail
    with pair.ask_first(tokens=100, stream=True, double={"delay_ms": 25}) as call:
        call.wait_for("t3 ")
        pair.provider.signal(signal.SIGTERM)
        until(lambda: pair.reasons() == ["draining"], 5, pair.reasons)
        with pair.grid.redis() as client:
            client.xadd(f"ghub:control:{pair.first_node}", {"op": "resume"})
        until(lambda: "op=resume" in log(), 5, log)
        assert get(pair.grid.provider_urls[pair.first_node], "/busy").json["reasons"] == ["draining"]
        assert call.finish().said == numbered(0, 100)
