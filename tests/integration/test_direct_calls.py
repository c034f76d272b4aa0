"""A caller, a provider and its hubs together: a call signed as documented is let through to the engine once."""

import json
from collections.abc import Mapping

import pytest

from tests.doubles.reading import numbered
from tests.integration.test_provider_api import ENV, TOKEN, documented_hmac
from tests.support.call import CHAT, Answer, get, post
from tests.support.grid import Chain, Grid, chat
from tests.support.processes import until

QUICK = {"GHUB_HEARTBEAT_S": "0.3", "GHUB_PROVIDER_REPORT__MIN_GAP_S": "0.2"}
BODY = json.dumps(chat(tokens=5)).encode()


@pytest.fixture(scope="module")
def _chain(module_grid: Grid) -> Chain:
    hub, engine = module_grid.hub(**ENV), module_grid.engine()
    node = module_grid.provider(engine.url, GHUB_PROVIDER_HUB_URL=hub, GHUB_PROVIDER_TOKEN=TOKEN, **QUICK)
    return Chain(hub, node, engine)


@pytest.fixture
def chain(_chain: Chain) -> Chain:
    """A hub, and a provider that asks it."""
    _chain.engine.reset()
    return _chain


def call(grid: Grid, chain: Chain, hmac: str | None, body: bytes = BODY) -> Answer:
    headers: Mapping[str, str] = {} if hmac is None else {"x-inferoute-hmac": hmac}
    return post(grid.provider_urls[chain.node], body, headers=headers)


def test_a_call_signed_as_documented_reaches_the_engine_once(module_grid: Grid, chain: Chain) -> None:
    hmac = documented_hmac(chain.node, CHAT, BODY)
    assert call(module_grid, chain, hmac).said == numbered(0, 5)
    assert call(module_grid, chain, hmac).status == 401
    assert chain.engine.state()["started"] == 1


def test_a_call_that_is_not_signed_for_this_very_body_reaches_no_engine(module_grid: Grid, chain: Chain) -> None:
    hmac = documented_hmac(chain.node, CHAT, BODY)
    other = json.dumps(chat("something else")).encode()
    assert [call(module_grid, chain, given, other).status for given in (None, "nonsense", hmac)] == [401, 401, 401]
    assert chain.engine.state()["started"] == 0


def test_a_provider_s_own_reports_show_at_the_hub(chain: Chain) -> None:
    def reported() -> list[tuple[str, str, list[str]]]:
        reports = [node["report"] for node in get(chain.hub, "/api/registry").json["nodes"] if node["report"]]
        return [(one["node"], one["state"], [model["id"] for model in one["models"]]) for one in reports]

    until(lambda: reported() == [(chain.node, "idle", ["tiny:1b"])], 15, reported)
