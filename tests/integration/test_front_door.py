"""What a hub's port does with those whom it does not serve, before any of them gets as far as to a route."""

from contextlib import ExitStack

import pytest

from tests.support.call import CHAT, Call, get, post
from tests.support.grid import Grid, chat
from tests.support.processes import until

PAGE = "https://chat.example.org"
EVIL = {"origin": "https://evil.example", "content-type": "text/plain"}


@pytest.fixture(scope="module")
def open_hub(module_grid: Grid) -> str:
    """On loopback, so it asks for no key."""
    url = module_grid.hub(GHUB_HUB_ALLOWED_ORIGINS=PAGE, GHUB_HUB_MAX_CONNECTIONS="4")
    module_grid.provider(module_grid.engine().url)
    module_grid.wait_for_model(url, "tiny:1b")
    return url


def test_a_foreign_page_starts_no_job(open_hub: str, module_grid: Grid) -> None:
    refused = post(open_hub, chat(), headers=EVIL)
    assert (refused.status, refused.error["code"]) == (403, "foreign_origin")
    rebound = post(open_hub, chat(), headers={"host": "evil.example"})
    assert (rebound.status, rebound.error["code"]) == (403, "unknown_host")
    assert module_grid.engines[0].state()["running"] == 0


def test_programs_and_allowed_pages_are_served(open_hub: str) -> None:
    assert post(open_hub, chat(tokens=2)).status == 200
    answer = post(open_hub, chat(tokens=2), headers={"origin": PAGE})
    assert answer.status == 200
    assert answer.headers["access-control-allow-origin"] == PAGE


def test_a_hub_with_too_many_connections_says_so_and_keeps_those_it_has(open_hub: str) -> None:
    slow = chat(tokens=1000, stream=True, double={"delay_ms": 20})
    with ExitStack() as lines:
        streams = [lines.enter_context(Call(open_hub, slow)) for _ in range(4)]
        for stream in streams:
            stream.wait_for("t0 ")
        refused = post(open_hub, chat(tokens=2))
        assert (refused.status, refused.error["code"]) == (503, "too_many_connections")
        assert int(refused.headers["retry-after"]) > 0
        told = Call(open_hub, b"{}", path="/api/chat").finish()
        assert (told.status, set(told.json)) == (503, {"error"})
        streams[0].wait_for("t9 ")
    until(lambda: get(open_hub, "/health/live").status == 200, 10, "there is room again")
    assert post(open_hub, chat(tokens=2), path=CHAT).status == 200
