"""Hubs and providers that hold different signing keys, or change them."""

import time
from collections.abc import Iterator

import pytest

from tests.doubles.process import EngineProcess
from tests.doubles.reading import numbered
from tests.support import leftovers
from tests.support.call import Answer, post
from tests.support.grid import SIGNING_KEY, Grid, chat

OLD, NEW = SIGNING_KEY, "new:fedcba9876543210"
QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_HUB_QUEUE_TIMEOUT_S": "20", "GHUB_HUB_FIRST_COMMENT_S": "1"}
TOLD_WITHIN_S = 10.0


@pytest.fixture(scope="module")
def engine(module_grid: Grid) -> EngineProcess:
    """An engine whose provider accepts the old key and the new one."""
    engine = module_grid.engine()
    module_grid.provider(engine.url, GHUB_SIGNING_KEY=f"{NEW},{OLD}", **QUICK)
    return engine


@pytest.fixture(autouse=True)
def _nothing_left(engine: EngineProcess, module_grid: Grid) -> Iterator[None]:
    engine.reset()
    yield
    with module_grid.redis() as client:
        leftovers.until_at_rest(client, 3)


def _hub(grid: Grid, key: str) -> str:
    hub = grid.hub(GHUB_SIGNING_KEY=key, **QUICK)
    grid.wait_for_model(hub, "tiny:1b")
    return hub


@pytest.mark.parametrize("key", [OLD, NEW, f"{OLD},{NEW}"], ids=["old", "new", "both"])
def test_hubs_may_sign_with_any_key_that_providers_accept(module_grid: Grid, engine: EngineProcess, key: str) -> None:
    assert post(_hub(module_grid, key), chat(tokens=5)).said == numbered(0, 5)
    assert engine.state()["started"] == 1


@pytest.mark.parametrize(
    ("key", "stream"),
    [("", True), ("test:another-secret-of-it", False), ("third:0123456789abcdef", True)],
    ids=["none", "same id", "other id"],
)
def test_a_client_of_a_hub_whose_key_no_provider_accepts_is_told(
    module_grid: Grid, engine: EngineProcess, key: str, *, stream: bool
) -> None:
    """The refused job is gone from its lane, so waiting on can help nobody."""
    hub = _hub(module_grid, key)
    began = time.monotonic()
    answer: Answer = post(hub, chat(stream=stream))
    took_s = time.monotonic() - began
    print(f"figure: told {answer.error['code']} after {took_s:.1f} s")
    assert answer.error["code"] == "job_lost"
    assert took_s < TOLD_WITHIN_S
    assert engine.state()["requests"] == []
