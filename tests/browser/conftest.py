"""One Chromium for the whole folder, one real grid, and a hub that isn't there."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.browser.tab import Tab
from tests.doubles.hub import HubDouble
from tests.doubles.hub_state import grid as grid_state
from tests.doubles.process import EngineProcess
from tests.support.brokers import BrokerProcess
from tests.support.client_keys import wait_for_model
from tests.support.grid import Grid
from tests.support.operator import ADMIN
from tests.support.processes import until
from tests.support.tools import tool

MODEL = "tiny:1b"
EXPECT_MS = 10_000
ENV = {"GHUB_HEARTBEAT_S": "1", "GHUB_HUB_MAX_ATTEMPTS": "1", **ADMIN}
"""Beside Chromium a hub may be kept waiting for a second: no other must take it for dead."""
LOCAL = {"GHUB_HUB_ADMIN_LOOPBACK": "on"}
"""A hub whose own machine needs no token, as a user's."""


# A package's, not the session's: while Playwright lives its loop runs in this thread, and no other test may have one.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Debian's Chromium; what Playwright would download is not needed."""
    executable = tool("chromium", "chromium")
    expect.set_options(timeout=EXPECT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


@dataclass(frozen=True)
class Stack:
    """A real grid: a hub that lets its own machine in, one that asks for keys and the admin token, and a node."""

    grid: Grid
    hub: str
    guarded: str
    node: str
    engine: EngineProcess


@pytest.fixture(scope="package")
def _stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("browser")
    broker = BrokerProcess("valkey", folder)
    grid = Grid(broker, folder)
    try:
        engine = grid.engine(MODEL, slots=2)
        hub = grid.hub(wait=False, **{**ENV, **LOCAL})
        guarded = grid.hub(wait=False, GHUB_HUB_AUTH="required", **ENV)
        node = grid.provider(engine.url, "desk", GHUB_PROVIDER_SLOTS="2", GHUB_HEARTBEAT_S="0.5")
        grid.wait_for_hub(hub)
        grid.wait_for_hub(guarded)
        grid.wait_for_model(hub, MODEL)
        wait_for_model(grid, guarded)
        yield Stack(grid, hub, guarded, node, engine)
    finally:
        grid.close()
        broker.stop()


@pytest.fixture
def stack(_stack: Stack) -> Iterator[Stack]:
    """The grid; each test leaves its engine well and free."""
    yield _stack
    _stack.engine.configure()
    until(lambda: _stack.engine.state()["open"] == 0, 10, _stack.engine.state)


@pytest.fixture
def tab(browser: Browser, stack: Stack) -> Iterator[Tab]:
    """A tab at the hub that lets its own machine in."""
    with Tab(browser, stack.hub) as tab:
        yield tab


@pytest.fixture
def doubled() -> Iterator[Callable[..., HubDouble]]:
    """Makes hubs that aren't there, with so many nodes and waiting requests."""
    with ExitStack() as open_ones:
        yield lambda nodes=8, waiting=3: open_ones.enter_context(HubDouble(grid_state(nodes, waiting)).served())


@pytest.fixture
def npm_cache(pytestconfig: pytest.Config) -> Path:
    """A folder outside the project, kept from run to run."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("axe-core")
