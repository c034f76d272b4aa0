"""Direct mode: a provider called straight over HTTP, for the same engine and the same slots as the grid's jobs."""

import hashlib
import os
import re
import signal
import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from common.direct import DirectCall, sign_direct
from common.signing import SigningKeys
from tests.doubles.reading import numbered
from tests.support.call import CHAT, COMPLETIONS, Answer, Call, get, post
from tests.support.grid import Grid, chat
from tests.support.nvml import StubGpu, StubNvml
from tests.support.pair import Pair
from tests.support.processes import until

TOKEN = "provider-token-of-the-tests"
DIRECT_KEYS = "caller:0123456789abcdef"
KEYS = SigningKeys.parse(SecretStr(DIRECT_KEYS))
SLOW = {"delay_ms": 20}


@pytest.fixture(scope="module")
def hub(module_grid: Grid) -> str:
    return module_grid.hub(GHUB_HUB_PROVIDER_TOKENS=TOKEN, GHUB_HUB_DIRECT_KEYS=DIRECT_KEYS)


class Direct:
    """A node and how to call it past the hub."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.url = pair.grid.provider_urls[pair.first_node]

    def body(self, tokens: int = 5, **fields: Any) -> bytes:
        """As bytes, because they are what is signed."""
        return orjson.dumps(chat(model=self.pair.model, tokens=tokens, **fields))

    def signed(self, body: bytes, *, endpoint: str = CHAT, made_at_s: float | None = None, node: str = "") -> str:
        call = DirectCall(node or self.pair.first_node, endpoint, hashlib.sha256(body).hexdigest())
        return sign_direct(KEYS, call, int(made_at_s or time.time()))

    def call(self, body: bytes, hmac: str | None = None, *, path: str = CHAT) -> Call:
        given = self.signed(body, endpoint=path) if hmac is None else hmac
        headers = {"x-inferoute-hmac": given} if given else {}
        return Call(self.url, [body], path=path, headers={**headers, "content-length": str(len(body))})

    def ask(self, body: bytes, hmac: str | None = None, *, path: str = CHAT) -> Answer:
        return self.call(body, hmac, path=path).finish()


@pytest.fixture
def direct(make_pair: Callable[..., Pair], hub: str) -> Direct:
    return Direct(make_pair(GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_HUB_URL=hub))


def without_ids(answer: Answer) -> str:
    """What two answers to one question have in common."""
    return re.sub(r'"(id|created)":("[^"]*"|\d+)', r'"\1":0', answer.text)


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_signed_call_gets_the_engine_s_own_bytes(direct: Direct, path: str, *, stream: bool) -> None:
    body = direct.body(stream=stream)
    if path == COMPLETIONS:
        body = orjson.dumps({"model": direct.pair.model, "prompt": "hi", "max_tokens": 5, "stream": stream})
    answer = direct.ask(body, path=path)
    own = post(direct.pair.first.url, body, path=path, headers={"content-length": str(len(body))})
    assert (answer.status, answer.said) == (200, numbered(0, 5))
    assert without_ids(answer) == without_ids(own)
    assert answer.headers["content-type"] == own.headers["content-type"]


def test_tokens_arrive_as_they_are_made(direct: Direct) -> None:
    with direct.call(direct.body(tokens=1000, stream=True, double=SLOW)) as call:
        call.wait_for("t3 ")
        assert direct.pair.first.state()["open"] == 1


def test_a_caller_that_leaves_frees_engine_and_slot(direct: Direct) -> None:
    call = direct.call(direct.body(tokens=1000, stream=True, double=SLOW))
    call.wait_for("t3 ")
    assert get(direct.url, "/health").json["running"] == 1
    call.drop()
    until(lambda: direct.pair.first.state()["open"] == 0, 3, direct.pair.first.state)
    until(lambda: get(direct.url, "/health").json["running"] == 0, 3, "the slot is free")


def test_a_caller_that_leaves_before_the_first_word_frees_the_engine(direct: Direct) -> None:
    call = direct.call(direct.body(double={"prefill_ms": 600_000}))
    until(lambda: direct.pair.first.state()["open"] == 1, 5, direct.pair.first.state)
    call.drop()
    until(lambda: direct.pair.first.state()["open"] == 0, 3, direct.pair.first.state)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(lambda _d, _b: "", "hmac_missing", id="missing"),
        pytest.param(lambda _d, _b: "nonsense", "hmac_malformed", id="nonsense"),
        pytest.param(lambda d, b: d.signed(b)[:-1] + "x", "hmac_malformed", id="no hex"),
        pytest.param(lambda d, b: d.signed(b)[:-4] + "0000", "hmac_wrong", id="a wrong signature"),
        pytest.param(lambda d, b: d.signed(b + b" "), "hmac_wrong", id="of another body"),
        pytest.param(lambda d, b: d.signed(b, node="another"), "hmac_wrong", id="for another node"),
        pytest.param(lambda d, b: d.signed(b, endpoint=COMPLETIONS), "hmac_wrong", id="for another path"),
        pytest.param(lambda d, b: d.signed(b, made_at_s=time.time() - 900), "hmac_expired", id="expired"),
    ],
)
def test_a_call_without_a_good_hmac_is_refused(
    direct: Direct, spoil: Callable[[Direct, bytes], str], code: str
) -> None:
    body = direct.body()
    answer = direct.ask(body, spoil(direct, body))
    assert (answer.status, answer.error["code"]) == (401, code)
    assert direct.pair.first.state()["requests"] == []


def test_an_hmac_is_good_for_one_call(direct: Direct) -> None:
    body = direct.body()
    hmac = direct.signed(body)
    assert direct.ask(body, hmac).status == 200
    answer = direct.ask(body, hmac)
    assert (answer.status, answer.error["code"]) == (401, "hmac_replayed")


def test_a_hub_that_cannot_be_reached_is_no_fault_of_the_caller(
    make_pair: Callable[..., Pair], module_grid: Grid
) -> None:
    away = module_grid.hub(GHUB_HUB_PROVIDER_TOKENS=TOKEN, GHUB_HUB_DIRECT_KEYS=DIRECT_KEYS)
    module_grid.hubs[away].kill()
    direct = Direct(make_pair(GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_HUB_URL=away))
    answer = direct.ask(direct.body())
    assert (answer.status, answer.error["code"]) == (503, "hub_unreachable")
    assert int(answer.headers["retry-after"]) >= 1
    assert direct.pair.first.state()["requests"] == []


def test_a_wrong_token_of_the_provider_is_no_fault_of_the_caller(make_pair: Callable[..., Pair], hub: str) -> None:
    direct = Direct(make_pair(GHUB_PROVIDER_TOKEN="not-a-token-of-this-hub", GHUB_PROVIDER_HUB_URL=hub))
    answer = direct.ask(direct.body())
    assert (answer.status, answer.error["code"]) == (503, "hub_refused")


def test_where_no_hmac_is_required_a_given_one_still_counts(make_pair: Callable[..., Pair], hub: str) -> None:
    direct = Direct(
        make_pair(GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_HUB_URL=hub, GHUB_PROVIDER_SERVER__REQUIRE_HMAC="false")
    )
    assert direct.ask(direct.body(), "").said == numbered(0, 5)
    assert direct.ask(direct.body(), "nonsense").status == 401


def test_a_busy_gpu_is_503_at_once_and_costs_no_hmac(make_pair: Callable[..., Pair], hub: str, gpu: StubNvml) -> None:
    direct = Direct(make_pair(GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_HUB_URL=hub, **gpu.env))
    gpu.set(StubGpu(utilization_pct=85, processes={os.getpid(): 85}))
    until(lambda: get(direct.url, "/busy").json["busy"], 5, lambda: get(direct.url, "/busy").text)
    body = direct.body()
    hmac = direct.signed(body)
    answer = direct.ask(body, hmac)
    assert (answer.status, answer.error["code"]) == (503, "provider_busy")
    assert "gpu-busy" in answer.error["message"]
    assert int(answer.headers["retry-after"]) >= 1
    gpu.set(StubGpu())
    until(lambda: not get(direct.url, "/busy").json["busy"], 5, lambda: get(direct.url, "/busy").text)
    assert direct.ask(body, hmac).status == 200


def test_jobs_and_direct_calls_share_the_slots(make_pair: Callable[..., Pair], hub: str) -> None:
    direct = Direct(make_pair(GHUB_PROVIDER_SLOTS="1", GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_HUB_URL=hub))
    engine = direct.pair.first
    with direct.call(direct.body(tokens=1000, stream=True, double=SLOW)) as running:
        running.wait_for("t3 ")
        with direct.pair.call(stream=True) as job:
            job.wait_for(": queued, 0 ahead")
            assert engine.state()["started"] == 1
            running.drop()
            assert job.finish().said == numbered(0, 5)
    with direct.pair.ask_first(tokens=1000, stream=True, double=SLOW) as job:
        job.wait_for("t3 ")
        answer = direct.ask(direct.body())
        assert (answer.status, answer.error["code"]) == (503, "provider_busy")
        assert "no-free-slot" in answer.error["message"]


def test_a_caller_that_does_not_read_a_whole_answer_holds_no_slot(direct: Direct) -> None:
    body = direct.body(tokens=1_000_000)
    headers = {"x-inferoute-hmac": direct.signed(body), "content-length": str(len(body))}
    with Call(direct.url, [body], headers=headers, receive_buffer_bytes=4096) as call:
        assert call.status == 200
        until(lambda: get(direct.url, "/health").json["running"] == 0, 5, "the slot is free")
        assert call.finish().said == numbered(0, 1_000_000)


def test_an_owner_who_comes_in_mid_answer_ends_it_with_an_error_event(
    make_pair: Callable[..., Pair], hub: str, gpu: StubNvml
) -> None:
    direct = Direct(make_pair(GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_HUB_URL=hub, **gpu.env))
    call = direct.call(direct.body(tokens=10_000, stream=True, double=SLOW))
    call.wait_for("t3 ")
    gpu.set(StubGpu(utilization_pct=90, processes={os.getpid(): 90}))
    until(lambda: direct.pair.first.state()["open"] == 0, 5, direct.pair.first.state)
    answer = call.finish()
    assert answer.error["code"] == "provider_busy"
    assert answer.is_ended_once
    assert answer.said == numbered(0, answer.said.count(" "))


def test_a_provider_that_stops_lets_a_call_finish(make_pair: Callable[..., Pair], hub: str) -> None:
    direct = Direct(make_pair(GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_HUB_URL=hub, GHUB_PROVIDER_DRAIN_TIMEOUT_S="10"))
    call = direct.call(direct.body(tokens=60, stream=True, double=SLOW))
    call.wait_for("t3 ")
    direct.pair.provider.signal(signal.SIGTERM)
    assert call.finish().said == numbered(0, 60)
    assert direct.pair.provider.wait(5) == 0


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "missing_required_parameter"),
        (b'{"messages": []}', 400, "missing_required_parameter"),
    ],
)
def test_a_body_that_is_no_request_is_refused(direct: Direct, body: bytes, status: int, code: str) -> None:
    answer = direct.ask(body)
    assert (answer.status, answer.error["code"]) == (status, code)


def test_a_body_of_a_stranger_is_not_even_read(direct: Direct) -> None:
    answer = direct.ask(b"{", direct.signed(b"another body"))
    assert (answer.status, answer.error["code"]) == (401, "hmac_wrong")


def test_a_call_that_leads_to_nothing_is_refused_by_its_head(direct: Direct) -> None:
    with Call(direct.url, [], headers={"content-length": str(2**20)}, within_s=5) as call:
        assert call.status == 401
        assert call.finish().error["code"] == "hmac_missing"


def test_what_the_engine_refuses_keeps_its_status(direct: Direct) -> None:
    answer = direct.ask(direct.body(double={"status": 422, "error_body": "cannot do that"}))
    assert answer.status == 422
    assert answer.error["message"] == "cannot do that"


def test_an_engine_that_is_gone_is_503(direct: Direct) -> None:
    direct.pair.first.kill()
    answer = direct.ask(direct.body())
    assert (answer.status, answer.error["code"]) == (503, "provider_busy")
    assert "engine-down" in answer.error["message"]
