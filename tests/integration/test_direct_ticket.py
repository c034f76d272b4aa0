"""Tickets: a client that asks a hub is sent to a node, and let through there once."""

import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.doubles.reading import numbered
from tests.support.call import CHAT, COMPLETIONS, Answer, Call, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.operator import ADMIN, ask, told
from tests.support.ports import free_port
from tests.support.processes import until

TOKEN = "token-0123456789abcdef"
QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_PROVIDER_REPORT__MIN_GAP_S": "0.2"}
HUB = {
    **ADMIN,
    "GHUB_HUB_AUTH": "required",
    "GHUB_HUB_PROVIDER_TOKENS": TOKEN,
    "GHUB_HUB_DIRECT_KEYS": "hubs:direct-0123456789,old:another-secret-of-it",
}
BODY = json.dumps(chat(tokens=5)).encode()
SLOW = {"delay_ms": 20}


def start_node(grid: Grid, hub: str, engine_url: str, name: str) -> str:
    """Start a provider that others reach."""
    port = str(free_port())
    env = {"GHUB_PROVIDER_SERVER__PORT": port, "GHUB_PROVIDER_TUNNEL__URL": f"http://127.0.0.1:{port}", **QUICK}
    return grid.provider(
        engine_url, name, GHUB_PROVIDER_HUB_URL=hub, GHUB_PROVIDER_TOKEN=TOKEN, GHUB_PROVIDER_SLOTS="2", **env
    )


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    hub, engine = module_grid.hub(**HUB), module_grid.engine()
    node = start_node(module_grid, hub, engine.url, "near")
    until(lambda: "tiny:1b" in ask(hub, "GET", "/api/registry").text, 10, "the model is known")
    return Chain(hub, node, engine)


@pytest.fixture
def chain(_chain: Chain) -> Iterator[Chain]:
    """A hub that signs tickets, and an idle node with a public URL."""
    _chain.engine.reset()
    yield _chain
    until(lambda: told(_chain.hub, "GET", "/api/nodes/near")["state"] == "idle", 5, "the node is idle")


@pytest.fixture(scope="module")
def key(_chain: Chain) -> str:
    """A client's key."""
    return str(told(_chain.hub, "POST", "/api/keys", {"name": "me", "models": ["tiny*"]}, status=201)["key"])


def wish(body: bytes = BODY, endpoint: str = CHAT, model: str = "tiny:1b") -> dict[str, Any]:
    return {"model": model, "endpoint": endpoint, "body_sha256": hashlib.sha256(body).hexdigest()}


def ticket(hub: str, key: str, wanted: dict[str, Any]) -> Answer:
    return post(hub, wanted, path="/v1/direct", headers={"authorization": f"Bearer {key}"})


def use(told_ticket: dict[str, Any], body: bytes = BODY) -> Answer:
    """Send the call to where the ticket says."""
    address, slash, path = told_ticket["url"].removeprefix("http://").partition("/")
    return post(f"http://{address}", body, path=slash + path, headers=told_ticket["headers"])


class TestAGoodTicket:
    def test_it_leads_to_the_node_and_is_good_once(self, chain: Chain, key: str, module_grid: Grid) -> None:
        before_s = int(time.time())
        given = ticket(chain.hub, key, wish())
        assert given.status == 200
        assert given.json["node"] == "near"
        assert given.json["url"] == module_grid.provider_urls["near"] + CHAT
        assert before_s <= given.json["expires_at"] - 300 <= time.time()
        assert use(given.json).said == numbered(0, 5)
        again = use(given.json)
        assert (again.status, again.error["code"]) == (401, "hmac_replayed")
        assert chain.engine.state()["started"] == 1

    def test_it_is_good_for_its_very_body(self, chain: Chain, key: str) -> None:
        answer = use(ticket(chain.hub, key, wish()).json, json.dumps(chat("something else")).encode())
        assert (answer.status, answer.error["code"]) == (401, "hmac_wrong")
        assert chain.engine.state()["started"] == 0

    def test_it_is_good_at_its_very_node_and_path(self, chain: Chain, key: str, module_grid: Grid) -> None:
        given = ticket(chain.hub, key, wish()).json
        other = start_node(module_grid, chain.hub, chain.engine.url, "far")
        try:
            elsewhere = {**given, "url": module_grid.provider_urls[other] + CHAT}
            assert use(elsewhere).error["code"] == "hmac_wrong"
        finally:
            module_grid.providers[other].stop()
        assert use({**given, "url": given["url"].replace(CHAT, COMPLETIONS)}).error["code"] == "hmac_wrong"
        assert use(given).status == 200


class TestNoTicket:
    def test_who_shows_no_key_gets_none(self, chain: Chain) -> None:
        assert post(chain.hub, wish(), path="/v1/direct").error["code"] == "missing_api_key"
        assert ticket(chain.hub, "ghub-wrong", wish()).error["code"] == "invalid_api_key"

    def test_a_key_gets_none_for_a_model_it_may_not_use(self, chain: Chain) -> None:
        other = told(chain.hub, "POST", "/api/keys", {"name": "other", "models": ["big"]}, status=201)["key"]
        answer = ticket(chain.hub, other, wish())
        assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")

    def test_a_key_gets_none_to_a_node_that_would_serve_it_what_it_may_not_use(
        self, chain: Chain, key: str, module_grid: Grid
    ) -> None:
        """No hub sees the body that a ticket is for, so it could name any of the node's models."""
        node = start_node(module_grid, chain.hub, module_grid.engine("tiny:mixed", "big:70b").url, "mixed")
        until(lambda: "big:70b" in ask(chain.hub, "GET", "/api/registry").text, 10, "the models are known")
        mixed = chat(model="tiny:mixed")
        answer = ticket(chain.hub, key, wish(json.dumps(mixed).encode(), model="tiny:mixed"))
        assert (answer.status, answer.error["code"]) == (403, "model_not_allowed")
        assert post(chain.hub, mixed, headers={"authorization": f"Bearer {key}"}).status == 200
        module_grid.providers[node].stop()

    def test_tickets_count_as_requests_of_the_key(self, chain: Chain) -> None:
        limited = told(chain.hub, "POST", "/api/keys", {"name": "limited", "rpm": 2}, status=201)["key"]
        answers = [ticket(chain.hub, limited, wish()) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 429]
        assert int(answers[-1].headers["retry-after"]) >= 1

    @pytest.mark.parametrize(
        ("change", "status", "code"),
        [
            ({"model": "unknown"}, 404, "model_not_found"),
            ({"endpoint": "/api/delete"}, 400, "endpoint_not_supported"),
            ({"endpoint": "/v1/embeddings"}, 400, "endpoint_not_supported"),
            ({"body_sha256": "nonsense"}, 400, "invalid_value"),
            ({"body_sha256": "A" * 64}, 400, "invalid_value"),
            ({"model": 5}, 400, "invalid_type"),
            ({"model": None}, 400, "invalid_type"),
        ],
    )
    def test_a_wish_that_cannot_be_met_says_why(
        self, chain: Chain, key: str, change: dict[str, Any], status: int, code: str
    ) -> None:
        answer = ticket(chain.hub, key, wish() | change)
        assert (answer.status, answer.error["code"]) == (status, code)

    def test_a_node_that_is_busy_is_named_to_nobody(self, chain: Chain, key: str) -> None:
        headers = {"authorization": f"Bearer {key}"}
        calls = [Call(chain.hub, chat(tokens=10_000, stream=True, double=SLOW), headers=headers) for _ in range(2)]
        try:
            for call in calls:
                call.wait_for("t3 ")
            until(lambda: ticket(chain.hub, key, wish()).status == 503, 5, "the hub knows that the node is busy")
            answer = ticket(chain.hub, key, wish())
            assert answer.error["code"] == "no_direct_node"
            assert int(answer.headers["retry-after"]) >= 1
        finally:
            for call in calls:
                call.drop()

    def test_a_hub_without_direct_keys_says_so(self, chain: Chain, module_grid: Grid) -> None:
        hub = module_grid.hub()
        until(lambda: "tiny:1b" in get(hub, "/v1/models").text, 5, "the model is known")
        answer = post(hub, wish(), path="/v1/direct")
        assert (answer.status, answer.error["code"]) == (409, "direct_keys_not_set")
        assert chain.engine.state()["started"] == 0
