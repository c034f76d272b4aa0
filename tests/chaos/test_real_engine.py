"""The real llama.cpp at temperature 0: what a killed provider's stream goes on with is what it would have said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.brokers import BrokerProcess
from tests.support.call import CHAT, COMPLETIONS, Call, post
from tests.support.grid import Grid
from tests.support.llamacpp import MODEL, real_llamacpp
from tests.support.processes import until

SLOTS = 2
QUICK = {"GHUB_HEARTBEAT_S": "0.5", "GHUB_PROVIDER_ENGINE__PROBE_INTERVAL_S": "0.5", "GHUB_PROVIDER_SLOTS": "1"}
NODES = ("first", "second")
PROMPT = "Count from one to forty in words."
HEARD_EVENTS = 12
"""After which the provider is killed."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]


@pytest.fixture(scope="module")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a llama.cpp, which both providers share and which outlives them."""
    with real_llamacpp(tmp_path_factory.mktemp("llamacpp"), SLOTS) as url:
        yield url


@pytest.fixture
def hub(llamacpp: str, tmp_path: Path) -> Iterator[tuple[Grid, str]]:
    """A grid of two providers, and its hub."""
    broker = BrokerProcess("valkey", tmp_path)
    grid = Grid(broker, tmp_path)
    try:
        url = grid.hub(wait=False, **QUICK)
        for name in NODES:
            grid.provider(llamacpp, name, wait=False, **QUICK)
        for name in NODES:
            grid.wait_for_node(name)
        grid.wait_for_hub(url)
        grid.wait_for_model(url, MODEL)
        yield grid, url
    finally:
        grid.close()
        broker.kill()


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_killed_provider_s_answer_goes_on_as_the_model_would_have(path: str, hub: tuple[Grid, str]) -> None:
    grid, url = hub
    undisturbed = post(url, body(path), path=path)
    with Call(url, body(path), path=path) as call:
        for _ in range(HEARD_EVENTS):
            call.read_some()
        grid.providers[serving(grid)].kill()
        disturbed = call.finish()
    assert disturbed.is_ended_once
    assert disturbed.said == undisturbed.said
    assert sorted(facts["attempt"] for facts in requests(grid)) == ["1", "2"]


def body(path: str) -> dict[str, Any]:
    asked = {"messages": [{"role": "user", "content": PROMPT}]} if path == CHAT else {"prompt": PROMPT}
    sure = {"temperature": 0, "seed": 1, "cache_prompt": False, "ignore_eos": True}
    return {"model": MODEL, "max_tokens": 90, "stream": True, **asked, **sure}


def serving(grid: Grid) -> str:
    """The node that runs the only request there is."""
    found: list[dict[str, str]] = []

    def look() -> bool:
        found[:] = [facts for facts in requests(grid) if facts["status"] == "streaming"]
        return len(found) == 1

    until(look, 10, lambda: found)
    return found[0]["node"]


def requests(grid: Grid) -> list[dict[str, str]]:
    """What the hub's book says of each request."""
    with grid.redis() as client:
        return [dict(client.hgetall(name)) for name in client.scan_iter("ghub:request:*")]
