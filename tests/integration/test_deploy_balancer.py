"""The load balancer as deploy/haproxy sets it up: streams go through as they come, and a hub that ends is left out."""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.call import CHAT, Call, get, post
from tests.support.grid import Grid, chat
from tests.support.ports import free_port
from tests.support.processes import PROJECT, Process, until
from tests.support.tools import ended_well, tool

CONFIG = PROJECT / "deploy/haproxy/haproxy.cfg"
KEY = "a-key-of-the-clients"
SHOWN = {"authorization": f"Bearer {KEY}"}


class Balancer:
    """HAProxy with our configuration, in front of two hubs."""

    def __init__(self, hubs: list[str], folder: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        first, second = (hub.removeprefix("http://") for hub in hubs)
        env = {"LISTEN": self.url.removeprefix("http://"), "HUB_1": first, "HUB_2": second, "API_KEY": KEY}
        program = tool("haproxy", "apt-get install haproxy")
        assert "valid" in ended_well([program, "-c", "-f", str(CONFIG)], **env)
        self.process = Process("haproxy", [program, "-db", "-f", str(CONFIG)], folder / "haproxy.log", env)
        try:
            until(self._answers, 10, self.process.tail)
        except AssertionError:
            self.process.kill()
            raise

    def _answers(self) -> bool:
        try:
            return get(self.url, "/health/live").status == 200
        except OSError:
            return False


def two_hubs(grid: Grid) -> list[str]:
    """Two hubs with a node."""
    hubs = [grid.hub(wait=False) for _ in range(2)]
    grid.provider(grid.engine().url)
    for hub in hubs:
        grid.wait_for_hub(hub)
        grid.wait_for_model(hub, "tiny:1b")
    return hubs


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
    assert whole.said == post(next(iter(module_grid.hubs)), chat("a", tokens=8)).said
    assert post(balancer.url, chat("a", tokens=8, stream=True), headers=SHOWN).is_ended_once


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_frees_the_engine(balancer: Balancer, module_grid: Grid, stream: bool) -> None:
    (engine,) = module_grid.engines
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
        assert answer.error["code"] == "invalid_api_key"


def test_probes_and_providers_need_no_key_of_the_clients(balancer: Balancer) -> None:
    assert get(balancer.url, "/health/ready").status == 200
    told = Call(balancer.url, b"{}", path="/api/provider/health", headers={"authorization": "Bearer a-token"}).finish()
    assert "invalid_api_key" not in told.text
    assert Call(balancer.url, b"{}", path="/api/provider/../../v1/chat/completions").finish().status == 404
    assert Call(balancer.url, b"{}", path=CHAT).finish().status == 401
