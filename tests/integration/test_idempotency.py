"""The same Idempotency-Key asks an engine once, at whichever hub and however often."""

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Answer, Call, get, post
from tests.support.grid import Grid, chat
from tests.support.processes import until

QUICK = {"GHUB_HEARTBEAT_S": "0.3"}
SLOW = {"delay_ms": 20}


@dataclass(frozen=True)
class Parts:
    """Two hubs before one engine."""

    grid: Grid
    engine: EngineProcess
    hubs: tuple[str, str]

    def ask(self, hub: int, key: str, **body: Any) -> Answer:
        return post(self.hubs[hub], chat(**body), headers={"idempotency-key": key})


@pytest.fixture(scope="module")
def _parts(module_grid: Grid) -> Parts:
    engine = module_grid.engine(slots=8)
    hubs = (module_grid.hub(**QUICK), module_grid.hub(**QUICK))
    module_grid.provider(engine.url, GHUB_PROVIDER_SLOTS="8", **QUICK)
    for hub in hubs:
        module_grid.wait_for_model(hub, "tiny:1b")
    return Parts(module_grid, engine, hubs)


@pytest.fixture
def parts(_parts: Parts) -> Iterator[Parts]:
    """After each test the engine is free, and its job is off its lane."""
    _parts.engine.reset()
    yield _parts
    until(lambda: _parts.engine.state()["open"] == 0, 5, _parts.engine.state)
    with _parts.grid.redis() as client:
        leftovers.until_at_rest(client, 3)


@pytest.mark.parametrize("stream", [True, False])
def test_of_many_at_once_at_two_hubs_one_asks_the_engine(stream: bool, parts: Parts) -> None:
    with ThreadPoolExecutor(8) as pool:
        asked = [
            pool.submit(parts.ask, n % 2, f"at-once-{stream}", tokens=20, stream=stream, double=SLOW) for n in range(8)
        ]
        answers = [one.result() for one in asked]
    assert [answer.said for answer in answers] == [numbered(0, 20)] * 8
    assert len({answer.headers["x-request-id"] for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert parts.engine.state()["started"] == 1


@pytest.mark.parametrize("stream", [True, False])
def test_after_its_end_the_answer_is_told_again(stream: bool, parts: Parts) -> None:
    key = f"again-{stream}"
    first = parts.ask(0, key, tokens=7, stream=stream)
    assert first.said == numbered(0, 7)
    for hub in (0, 1):
        again = parts.ask(hub, key, tokens=7, stream=stream)
        assert again.text == first.text
        assert again.headers["x-request-id"] == first.headers["x-request-id"]
        assert again.headers["idempotent-replayed"] == "true"
    assert parts.engine.state()["started"] == 1


def test_another_body_under_the_same_key_is_refused(parts: Parts) -> None:
    parts.ask(0, "other-body", tokens=2)
    for hub in (0, 1):
        refused = parts.ask(hub, "other-body", tokens=3)
        assert (refused.status, refused.error["code"]) == (422, "idempotency_key_reused")
    elsewhere = post(
        parts.hubs[0],
        {"model": "tiny:1b", "prompt": "hi", "max_tokens": 2},
        path="/v1/completions",
        headers={"idempotency-key": "other-body"},
    )
    assert elsewhere.status == 422
    assert parts.engine.state()["started"] == 1


@pytest.mark.parametrize("fault", [{"status": 400}, {"error_event_after": 2}])
def test_after_a_failure_the_same_key_asks_anew(fault: dict[str, Any], parts: Parts) -> None:
    key = f"failed-{next(iter(fault))}"
    for n in range(6):
        parts.engine.configure(**fault)
        failed = parts.ask(n % 2, f"{key}-{n}", tokens=5, stream=True)
        assert failed.error["code"]
        parts.engine.configure()
        again = parts.ask(n // 2 % 2, f"{key}-{n}", tokens=5, stream=True)
        assert again.said == numbered(0, 5)
        assert again.headers["x-request-id"] != failed.headers["x-request-id"]
        assert "idempotent-replayed" not in again.headers


def test_what_is_not_admitted_leaves_the_key_free(parts: Parts) -> None:
    for _ in range(2):
        refused = parts.ask(0, "unknown", model="nobody-has-this:1b")
        assert (refused.status, refused.error["code"]) == (404, "model_not_found")
    with parts.grid.redis() as client:
        assert not client.exists(_record("unknown"))


def test_a_key_whose_request_never_appeared_is_taken_over_by_one(parts: Parts) -> None:
    """As if a hub had died between the two."""
    body = chat(tokens=4)
    call = Call(parts.hubs[0], body, headers={"idempotency-key": "probe"})
    assert call.finish().status == 200
    with parts.grid.redis() as client:
        record = client.hgetall(_record("probe"))
        assert record["request"]
        client.hset(_record("orphan"), mapping={**record, "request": "f" * 32})
        client.pexpire(_record("orphan"), 60_000)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(parts.ask, n % 2, "orphan", tokens=4) for n in range(4)]
        answers = [one.result() for one in asked]
    assert [answer.said for answer in answers] == [numbered(0, 4)] * 4
    assert parts.engine.state()["started"] == 2


def test_a_client_that_left_finds_its_answer_by_its_key(parts: Parts) -> None:
    body = chat(tokens=30, double=SLOW)
    key = {"idempotency-key": "left"}
    call = Call(parts.hubs[0], body, headers=key)
    until(lambda: parts.engine.state()["open"] == 1, 5, parts.engine.state)
    call.drop()
    assert post(parts.hubs[0], body, headers=key).said == numbered(0, 30)
    assert parts.engine.state()["started"] == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "with\ttab", "na\u00efve"])
def test_a_key_that_is_none_is_refused(key: str, parts: Parts) -> None:
    refused = post(parts.hubs[0], chat(), headers={"idempotency-key": key})
    assert (refused.status, refused.error["code"]) == (400, "invalid_header")
    assert refused.error["param"] == "idempotency-key"


@pytest.mark.parametrize("header", ["x-ghub-resumable", "x-ghub-failover"])
def test_wishes_that_are_none_are_refused_in_the_api_s_shape(header: str, parts: Parts) -> None:
    refused = post(parts.hubs[0], chat(), headers={header: "maybe"})
    assert (refused.status, refused.error["code"], refused.error["param"]) == (400, "invalid_header", header)
    body = {"model": "tiny:1b", "messages": [{"role": "user", "content": "hi"}]}
    native = post(parts.hubs[0], body, path="/api/chat", headers={header: "maybe"})
    assert native.status == 400
    assert set(native.json) == {"error"}


def test_lines_of_json_can_be_read_again_from_the_beginning(parts: Parts) -> None:
    body = {"model": "tiny:1b", "messages": [{"role": "user", "content": "hi"}], "options": {"num_predict": 6}}
    first = post(parts.hubs[0], body, path="/api/chat", headers={"idempotency-key": "native"})
    assert first.headers["content-type"] == "application/x-ndjson"
    assert "id: " not in first.text
    again = post(parts.hubs[1], body, path="/api/chat", headers={"idempotency-key": "native"})
    assert again.text == first.text
    request = first.headers["x-request-id"]
    followed = get(parts.hubs[1], f"/v1/requests/{request}/stream")
    assert followed.text == first.text
    refused = get(parts.hubs[1], f"/v1/requests/{request}/stream?after=1-1.1")
    assert refused.status == 400
    assert parts.engine.state()["started"] == 1


def _record(key: str) -> str:
    return "ghub:idempotency:" + hashlib.sha256(f"\n{key}".encode()).hexdigest()
