"""The load balancer as deploy/haproxy sets it up: streams go through as they come, and a hub that ends is left out."""

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.broker import connect
from common.credentials import ClientKey, Credentials, digest_of
from tests.support.call import CHAT, Answer, Call, get, is_ok, post
from tests.support.grid import Grid, chat
from tests.support.ports import free_port
from tests.support.processes import PROJECT, Process, until
from tests.support.tools import ended_well, tool

CONFIG = PROJECT / "deploy/haproxy/haproxy.cfg"
KEY = "ghub-a-key-of-the-clients"
TOKEN = "a-token-of-a-provider"
ADMIN = "the-token-of-the-operator"
SHOWN = {"authorization": f"Bearer {KEY}"}
HUBS = {"GHUB_HUB_AUTH": "required", "GHUB_HUB_PROVIDER_TOKENS": TOKEN, "GHUB_HUB_ADMIN_TOKEN": ADMIN}
"""As compose.yaml sets them up."""


class Balancer:
    """HAProxy with our configuration, in front of two hubs."""

    def __init__(self, hubs: list[str], folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        first, second = (hub.removeprefix("http://") for hub in hubs)
        env = {"LISTEN": self.url.removeprefix("http://"), "HUB_1": first, "HUB_2": second}
        program = tool("haproxy", "apt-get install haproxy")
        assert "valid" in ended_well([program, "-c", "-f", str(CONFIG)], **env)
        self.process = Process("haproxy", [program, "-db", "-f", str(CONFIG)], folder / "haproxy.log", env)
        try:
            until(lambda: is_ok(self.url, "/health/live"), 10, self.process.tail)
        except AssertionError:
            self.process.kill()
            raise


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
def balancer(module_grid: Grid) -> Iterator[Balancer]:
    """In front of hubs that all tests share."""
    started = Balancer(two_hubs(module_grid), module_grid.folder)
    yield started
    started.process.stop()


@pytest.fixture
def hubs(mortal_grid: Grid) -> list[str]:
    """Two hubs that the test may end."""
    return two_hubs(mortal_grid)


@pytest.fixture
def mortal_balancer(hubs: list[str], tmp_path: Path) -> Iterator[Balancer]:
    """In front of hubs that the test may end."""
    started = Balancer(hubs, tmp_path)
    yield started
    started.process.stop()


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
    mortal_grid.hubs[hubs[0]].kill()
    answers = [post(mortal_balancer.url, chat(tokens=2), headers=SHOWN) for _ in range(6)]
    assert [answer.status for answer in answers] == [200] * 6
    mortal_grid.hubs[hubs[1]].kill()
    refused = post(mortal_balancer.url, chat(tokens=2), headers=SHOWN)
    assert refused.status == 503
    assert refused.error["code"] == "no_hub"
    assert refused.headers["retry-after"] == "5"


def test_a_hub_that_drains_finishes_its_streams_and_gets_no_more(
    mortal_balancer: Balancer, hubs: list[str], mortal_grid: Grid
) -> None:
    def open_requests(hub: str) -> int:
        return int(json.loads(get(hub, "/health").text)["open_requests"])

    with Call(mortal_balancer.url, chat(tokens=150, stream=True, double={"delay_ms": 20}), headers=SHOWN) as stream:
        stream.wait_for('"content"')
        (busy,) = [hub for hub in hubs if open_requests(hub)]
        mortal_grid.hubs[busy].signal(signal.SIGTERM)
        until(lambda: mortal_grid.status(busy, "/health/ready") != 200, 5, "the hub says that it stops")
        until(
            lambda: "hub-" in mortal_balancer.process.tail() and "DOWN" in mortal_balancer.process.tail(),
            10,
            mortal_balancer.process.tail,
        )
        assert post(mortal_balancer.url, chat(tokens=2), headers=SHOWN).status == 200
        assert stream.finish().is_ended_once


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
    engine = module_grid.engine("joined:1b")
    env = {"GHUB_PROVIDER_HUB_URL": balancer.url, "GHUB_PROVIDER_TOKEN": TOKEN}
    module_grid.provider(engine.url, "joined", GHUB_REDIS_URL="", GHUB_SIGNING_KEY="", **env)
    for hub in module_grid.hubs:
        until(lambda: "joined:1b" in _models(hub), 20, module_grid.providers["joined"].tail)  # noqa: B023 - called at once
    assert post(balancer.url, chat(model="joined:1b", tokens=2), headers=SHOWN).status == 200
