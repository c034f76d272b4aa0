"""The load balancers as deploy/ sets them up: streams go through as they come, and a hub that ends is left out."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from common.broker.broker import connect
from common.records.credentials import ClientKey, Credentials, digest_of
from hub.settings import HubSettings
from tests.support.balancers import KINDS, Balancer
from tests.support.call import CHAT, Answer, Call, get, post
from tests.support.grid import Grid, chat
from tests.support.processes import until

KEY = "ghub-a-key-of-the-clients"
TOKEN = "a-token-of-a-provider"
ADMIN = "the-token-of-the-operator"
SHOWN = {"authorization": f"Bearer {KEY}"}
HUBS = {
    "GHUB_HUB_AUTH": "required",
    "GHUB_HUB_PROVIDER_TOKENS": TOKEN,
    "GHUB_HUB_ADMIN_TOKEN": ADMIN,
    "GHUB_HUB_SHUTDOWN_DELAY_S": "2",
}
"""As compose.yaml sets them up."""


def two_hubs(grid: Grid) -> list[str]:
    """Two hubs with a node."""
    asyncio.run(_make_key(grid))
    hubs = [grid.hub(wait=False, **HUBS) for _ in range(2)]
    grid.provider(grid.engine().url)
    for hub in hubs:
        grid.wait_for_hub(hub)
        until(lambda: "tiny:1b" in _models(hub), 20, grid.hubs[hub].tail)  # noqa: B023 - called at once
    return hubs


async def _make_key(grid: Grid) -> None:
    broker = connect(grid.broker.url, prefix="ghub:", client_name="test")
    await Credentials(broker).add_key(ClientKey(digest_of(KEY), "clients", created_at=0))
    await broker.aclose()


def _models(hub: str) -> str:
    return Call(hub, path="/v1/models", method="GET", headers=SHOWN).finish().text


@pytest.fixture(scope="module")
def shared_hubs(module_grid: Grid) -> list[str]:
    """Two hubs that all tests share."""
    return two_hubs(module_grid)


@pytest.fixture(scope="module", params=KINDS)
def balancer(request: pytest.FixtureRequest, shared_hubs: list[str], module_grid: Grid) -> Iterator[Balancer]:
    """Each kind in turn, in front of hubs that all tests share."""
    started = Balancer(request.param, shared_hubs, module_grid.folder)
    yield started
    started.stop()


@pytest.fixture
def hubs(mortal_grid: Grid) -> list[str]:
    """Two hubs that the test may end."""
    return two_hubs(mortal_grid)


@pytest.fixture(params=KINDS)
def mortal_balancer(request: pytest.FixtureRequest, hubs: list[str], tmp_path: Path) -> Iterator[Balancer]:
    """Each kind in turn, in front of hubs that the test may end."""
    started = Balancer(request.param, hubs, tmp_path)
    yield started
    started.stop()


def test_events_come_one_by_one(balancer: Balancer) -> None:
    # Five minutes for the whole answer: whoever waited for its end, or for a full buffer, would see the time limit.
    body = chat(tokens=300, stream=True, double={"delay_ms": 1000})
    with Call(balancer.url, body, headers=SHOWN, within_s=15) as call:
        call.wait_for('"content"')
        assert call.status == 200


def test_a_whole_answer_and_a_stream_arrive_unchanged(balancer: Balancer, module_grid: Grid) -> None:
    whole = post(balancer.url, chat("a", tokens=8), headers=SHOWN)
    assert whole.said == post(next(iter(module_grid.hubs)), chat("a", tokens=8), headers=SHOWN).said
    assert post(balancer.url, chat("a", tokens=8, stream=True), headers=SHOWN).is_ended_once


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_frees_the_engine(balancer: Balancer, module_grid: Grid, stream: bool) -> None:
    engine = module_grid.engines[0]
    with Call(balancer.url, chat(stream=stream, double={"hang": True}), headers=SHOWN) as call:
        until(lambda: engine.state()["running"] == 1, 10, "the engine works")
        call.drop()
    until(lambda: engine.state()["running"] == 0, 10, "the engine is free")


def test_a_hub_that_is_killed_costs_its_own_streams_only(
    mortal_balancer: Balancer, hubs: list[str], mortal_grid: Grid
) -> None:
    def tried(path: str = CHAT) -> Answer:
        return post(mortal_balancer.url, chat(tokens=2), path=path, headers=SHOWN)

    mortal_grid.hubs[hubs[0]].kill()
    if mortal_balancer.kind == "caddy":
        # As Debian has it (2.6), it doesn't repeat a body: its next check leaves the hub out. Until then it draws lots.
        until(lambda: all(tried().status == 200 for _ in range(30)), 10, mortal_balancer.process.tail)
    assert [tried().status for _ in range(6)] == [200] * 6
    mortal_grid.hubs[hubs[1]].kill()
    refused = tried()
    assert refused.status == 503
    assert refused.error["code"] == "no_hub"
    assert refused.headers["retry-after"] == "5"
    assert refused.headers["content-type"] == "application/json"
    assert tried("/v1/messages").json["error"] == {"type": "overloaded_error", "message": "no hub takes requests"}
    assert tried("/api/chat").json == {"error": "no hub takes requests"}


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/api/chat"])
def test_what_a_hub_refuses_is_told_in_its_own_words(balancer: Balancer, shared_hubs: list[str], path: str) -> None:
    """Of what is too long, too: whoever refuses it says the same."""
    most = HubSettings.model_fields["max_body_bytes"].default
    refused: list[tuple[dict[str, str], bytes | dict[str, Any]]] = [
        ({}, chat()),
        (SHOWN, chat(model="unknown")),
        (SHOWN, b"{"),
    ]
    if path == CHAT:  # the hub's own 504, which is none of the balancer's
        refused.append(({**SHOWN, "x-ghub-deadline-s": "0.2"}, chat(double={"hang": True})))
    if balancer.kind != "caddy":  # which passes nothing on before the body has come
        refused.append(({**SHOWN, "content-length": str(most + 1)}, b""))
    for headers, sent in refused:
        there, through = (post(url, sent, path=path, headers=headers) for url in (shared_hubs[0], balancer.url))
        assert through.status == there.status
        assert _kind_of(through) == _kind_of(there)


def _kind_of(answer: Answer) -> object:
    """What clients look at in an error."""
    error = answer.json["error"]
    return "a sentence" if isinstance(error, str) else {**error, "message": ""}


def test_as_much_as_a_hub_takes_comes_through(balancer: Balancer) -> None:
    most = HubSettings.model_fields["max_body_bytes"].default
    body = json.dumps(chat(tokens=2)).encode()
    assert post(balancer.url, body + b" " * (8 * 2**20 - len(body)), headers=SHOWN).status == 200
    if balancer.kind == "nginx":
        assert f"client_max_body_size {most // 2**20}m;" in (balancer.folder / "ghubai.conf").read_text()


def test_a_hub_that_drains_finishes_its_streams_and_gets_no_more(
    mortal_balancer: Balancer, hubs: list[str], mortal_grid: Grid
) -> None:
    def open_requests(hub: str) -> int:
        return int(json.loads(get(hub, "/health").text)["open_requests"])

    with Call(mortal_balancer.url, chat(tokens=200, stream=True, double={"delay_ms": 20}), headers=SHOWN) as stream:
        stream.wait_for('"content"')
        (busy,) = [hub for hub in hubs if open_requests(hub)]
        mortal_grid.hubs[busy].signal(signal.SIGTERM)
        until(lambda: mortal_grid.status(busy, "/health/ready") == 503, 5, "the hub says that it stops")
        until(lambda: mortal_grid.status(busy, "/health/ready") == 0, 5, "the hub takes no more")
        for _ in range(6):
            assert post(mortal_balancer.url, chat(tokens=2), headers=SHOWN).status == 200
        assert stream.finish().is_ended_once
    assert mortal_grid.hubs[busy].wait(5) == 0


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"authorization": f"Bearer {KEY}x"}, 401),
        ({"x-api-key": ""}, 401),
        (SHOWN, 200),
        ({"x-api-key": KEY}, 200),
    ],
)
def test_clients_show_their_key(balancer: Balancer, headers: dict[str, str], status: int) -> None:
    answer = Call(balancer.url, path="/v1/models", method="GET", headers=headers).finish()
    assert answer.status == status
    if status == 401:
        assert answer.error["code"] in ("invalid_api_key", "missing_api_key")


def test_probes_providers_and_the_operator_come_through_as_they_are(balancer: Balancer) -> None:
    def told(secret: str, path: str, method: str = "GET", body: bytes | None = None) -> Answer:
        return Call(
            balancer.url, body, path=path, method=method, headers={"authorization": f"Bearer {secret}"}
        ).finish()

    assert get(balancer.url, "/health/ready").status == 200
    assert told(TOKEN, "/api/provider/health", "POST", b"{}").status == 400
    assert told(KEY, "/api/provider/health", "POST", b"{}").status == 401
    assert told(ADMIN, "/api/registry").status == 200
    assert told(KEY, "/api/registry").status == 401
    assert Call(balancer.url, b"{}", path="/api/provider/../../v1/chat/completions").finish().status == 404
    assert Call(balancer.url, b"{}", path=CHAT).finish().status == 401


def test_a_provider_joins_through_it(balancer: Balancer, module_grid: Grid) -> None:
    model, name = f"{balancer.kind}:1b", f"joined-{balancer.kind}"
    engine = module_grid.engine(model)
    env = {"GHUB_PROVIDER_HUB_URL": balancer.url, "GHUB_PROVIDER_TOKEN": TOKEN}
    module_grid.provider(engine.url, name, GHUB_REDIS_URL="", GHUB_SIGNING_KEY="", **env)
    for hub in module_grid.hubs:
        until(lambda: model in _models(hub), 20, module_grid.providers[name].tail)  # noqa: B023 - called at once
    assert post(balancer.url, chat(model=model, tokens=2), headers=SHOWN).status == 200


@pytest.fixture(scope="module")
def own_hub(module_grid: Grid) -> str:
    """One that lets the operator of its own machine in without a token."""
    return module_grid.hub()


@pytest.mark.parametrize("kind", KINDS)
def test_what_it_hands_on_never_passes_for_the_operator_of_the_hubs_machine(
    kind: str, own_hub: str, module_grid: Grid
) -> None:
    def asked(url: str, **headers: str) -> int:
        return Call(url, path="/api/keys", method="GET", headers=headers).finish().status

    assert asked(own_hub) == 200
    balancer = Balancer(kind, [own_hub, own_hub], module_grid.folder)
    try:
        assert asked(balancer.url) == 401
        assert asked(balancer.url, **{"X-Forwarded-For": "127.0.0.1", "Connection": "x-forwarded-for"}) == 401
    finally:
        balancer.stop()
