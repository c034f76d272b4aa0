"""`/api/why`: the true reason, in each of the situations in which people ask."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from provider.gate.processes import is_pid_namespaced
from tests.support.call import Call, get, post
from tests.support.grid import chat
from tests.support.nvml import StubGpu, StubNvml
from tests.support.pair import Pair
from tests.support.processes import until

FOREVER = {"prefill_ms": 600_000}


def why(pair: Pair, name: str) -> dict[str, Any]:
    answer = get(pair.hub, f"/api/why/{name}")
    assert answer.status == 200, answer.text
    told: dict[str, Any] = answer.json
    assert told["name"] == name
    assert all(reason["code"] and reason["text"].endswith((".", "?")) for reason in told["reasons"]), told
    return told


def codes(pair: Pair, name: str) -> list[str]:
    return [reason["code"] for reason in why(pair, name)["reasons"]]


def text(pair: Pair, name: str) -> str:
    told = why(pair, name)
    return " ".join([told["summary"], *(reason["text"] for reason in told["reasons"])])


def waiting_request(pair: Pair, **headers: str) -> tuple[Call, str]:
    """A call that waits for a node, and its request."""
    call = Call(pair.hub, chat(model=pair.model, stream=True), headers=headers)
    call.wait_for(": queued")
    return call, call.request


def test_there_is_no_such_model(pair: Pair) -> None:
    assert codes(pair, "modl-99") == ["no-such-model"]
    close = why(pair, pair.model.replace("model", "modle"))
    assert close["kind"] == "model"
    assert pair.model in close["reasons"][0]["cure"]


def test_all_that_serve_it_are_busy(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair(GHUB_PROVIDER_SLOTS="1")
    assert codes(pair, pair.model) == ["ready"]
    assert codes(pair, pair.first_node) == ["nothing-waits"]
    with pair.ask_first(stream=True, double=FOREVER):
        until(lambda: codes(pair, pair.model) == ["all-busy"], 5, lambda: codes(pair, pair.model))
        assert codes(pair, pair.first_node) == ["no-free-slot"]
        first, request = waiting_request(pair)
        second, later = waiting_request(pair)
        with first, second:
            assert codes(pair, request) == ["all-busy"]
            assert "next in line" in text(pair, request)
            assert codes(pair, later) == ["in-queue", "all-busy"]
            assert "1 job of its model go" in text(pair, later).replace("goes", "go")
    until(lambda: "was cancelled" in text(pair, request), 5, lambda: why(pair, request))
    assert codes(pair, request) == ["took"]


@pytest.mark.skipif(is_pid_namespaced(), reason="in a container with its own pids")
def test_its_owner_uses_the_gpu(make_pair: Callable[..., Pair], gpu: StubNvml) -> None:
    gpu.set(StubGpu(utilization_pct=85, processes={os.getpid(): 85}))
    pair = make_pair(wait=False, **gpu.env)
    pair.grid.wait_for_model(pair.hub, pair.model, 20)
    until(lambda: codes(pair, pair.first_node) == ["gpu-busy"], 5, lambda: why(pair, pair.first_node))
    assert codes(pair, pair.model) == ["gpu-busy"]
    call, request = waiting_request(pair)
    with call:
        assert codes(pair, request) == ["gpu-busy"]
        assert "to its owner, who uses it" in text(pair, request)
        gpu.set(StubGpu())
        call.finish()
    until(lambda: "was answered" in text(pair, request), 5, lambda: why(pair, request))
    assert pair.first_node in text(pair, request)
    assert codes(pair, request) == ["took", "used"]


def test_it_is_outside_its_hours(make_pair: Callable[..., Pair]) -> None:
    now = datetime.now(UTC)
    later, even_later = now + timedelta(hours=2), now + timedelta(hours=3)
    pair = make_pair(
        wait=False,
        GHUB_PROVIDER_SCHEDULE__WINDOWS=f'["{later:%H:%M}-{even_later:%H:%M}"]',
        GHUB_PROVIDER_SCHEDULE__TIMEZONE="UTC",
    )
    pair.grid.wait_for_model(pair.hub, pair.model, 20)
    until(lambda: codes(pair, pair.first_node) == ["outside-schedule"], 5, lambda: why(pair, pair.first_node))
    call, request = waiting_request(pair)
    with call:
        assert codes(pair, request) == ["outside-schedule"]


def test_it_drains(pair: Pair) -> None:
    assert post(pair.hub, {}, path=f"/api/nodes/{pair.first_node}/drain").status == 202
    until(lambda: codes(pair, pair.first_node) == ["draining"], 5, lambda: why(pair, pair.first_node))
    call, request = waiting_request(pair)
    with call:
        told = why(pair, request)
        assert told["reasons"][0]["code"] == "draining"  # it may have been taken once and given back
        assert f"ghub nodes resume {pair.first_node}" in told["reasons"][0]["cure"]


def test_its_key_is_at_its_limit(pair: Pair) -> None:
    name = f"one-{pair.first_node}"
    made = post(pair.hub, {"name": name, "concurrency": 1}, path="/api/keys").json
    headers = {"authorization": f"Bearer {made['key']}"}
    with Call(pair.hub, chat(model=pair.model, stream=True, double=FOREVER), headers=headers):
        until(lambda: pair.first.state()["open"] == 1, 5, pair.first.state)
        call, request = waiting_request(pair, **headers)
        with call:
            assert codes(pair, request) == ["key-limit"]
            assert name in text(pair, request)
            assert codes(pair, name) == ["key-limit"]
            assert why(pair, name)["kind"] == "key"


def test_a_key_that_used_up_its_minute_is_at_its_limit(pair: Pair) -> None:
    name = f"rpm-{pair.first_node}"
    made = post(pair.hub, {"name": name, "rpm": 1}, path="/api/keys").json
    headers = {"authorization": f"Bearer {made['key']}"}
    assert codes(pair, name) == []
    assert Call(pair.hub, chat(model=pair.model), headers=headers).finish().status == 200
    assert Call(pair.hub, chat(model=pair.model), headers=headers).finish().status == 429
    assert codes(pair, name) == ["key-limit"]


def test_a_request_that_runs_and_one_that_failed_say_so(pair: Pair) -> None:
    with pair.ask_first(tokens=10_000, stream=True, double={"delay_ms": 20}) as call:
        call.wait_for("t3 ")
        request = call.request
        until(lambda: codes(pair, request) == ["streaming"], 5, lambda: why(pair, request))
    refused = pair.call(double={"status": 400, "error_body": "broken"}).finish()
    request = refused.headers["x-request-id"]
    until(lambda: "failed" in text(pair, request), 5, lambda: why(pair, request))
    assert codes(pair, request) == ["invalid_request", "took"]


def test_a_model_without_a_node_and_a_node_that_left_say_so(make_pair: Callable[..., Pair]) -> None:
    pair = make_pair()
    pair.provider.stop()
    until(lambda: codes(pair, pair.model) == ["no-node"], 8, lambda: why(pair, pair.model))


def test_a_request_that_nobody_knows_is_not_found(pair: Pair) -> None:
    answer = get(pair.hub, f"/api/why/{'0' * 32}")
    assert (answer.status, answer.error["code"]) == (404, "request_not_found")
