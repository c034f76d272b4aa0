"""Every view by axe-core, in light and dark, and by keys alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.tab import VIEWS, Tab
from tests.doubles.hub import HubDouble
from tests.support.tools import npm_package

PACKAGE = "axe-core@4.14.1"
GRAVE = ("serious", "critical")
RUN = "() => axe.run(document, { resultTypes: ['violations'] }).then((told) => told.violations)"


@pytest.fixture
def axe(npm_cache: Path) -> str:
    """The script that looks for what keeps people out."""
    return (npm_package(PACKAGE, npm_cache) / "axe.min.js").read_text()


def grave(page: Page) -> list[str]:
    """What keeps people out of what is shown now."""
    found: list[dict[str, Any]] = page.evaluate(RUN)
    return [f"{one['id']}: {node['html'][:200]}" for one in found if one["impact"] in GRAVE for node in one["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_grave_keeps_anybody_out_of_any_view(
    browser: Browser, doubled: Callable[..., HubDouble], axe: str, scheme: str
) -> None:
    with Tab(browser, doubled().url, scheme=scheme) as tab:
        page = tab.open()
        page.evaluate(axe)
        found = {}
        for view in VIEWS:
            tab.go(view)
            expect(page.locator("main tbody tr, main .transcript").first).to_be_visible()
            found[view] = grave(page)
        for button, view in (("Why: atlas", "nodes"), ("Add a machine", "nodes"), ("Create a key", "keys")):
            tab.go(view)
            page.get_by_role("button", name=button).click()
            expect(page.get_by_role("dialog")).to_be_visible()
            found[button] = grave(page)
            page.keyboard.press("Escape")
        assert {view: told for view, told in found.items() if told} == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_grave_keeps_anybody_out_of_an_empty_grid_on_a_phone(
    browser: Browser, doubled: Callable[..., HubDouble], axe: str, scheme: str
) -> None:
    with Tab(browser, doubled(0, 0).url, scheme=scheme, width=390, height=844) as tab:
        page = tab.open()
        page.evaluate(axe)
        found = {}
        for view in ("overview", "nodes", "requests", "queues"):
            page.goto(f"{tab.hub}/#/{view}")
            expect(page.get_by_role("heading", level=1)).to_have_text(VIEWS[view])
            found[view] = grave(page)
        assert {view: told for view, told in found.items() if told} == {}


def test_keys_alone_are_enough(browser: Browser, doubled: Callable[..., HubDouble]) -> None:
    with Tab(browser, doubled().url) as tab:
        page = tab.open()
        page.keyboard.press("Tab")
        expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
        page.keyboard.press("Enter")
        expect(page.get_by_role("main")).to_be_focused()
        expect(page.get_by_role("heading", level=1)).to_have_text("Overview")
        page.locator('nav a[href="#/nodes"]').focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_be_focused()
        page.keyboard.press("Tab")
        expect(page.get_by_label("Filter nodes")).to_be_focused()


def test_the_theme_is_chosen_and_kept(browser: Browser, doubled: Callable[..., HubDouble]) -> None:
    with Tab(browser, doubled(1).url, scheme="light") as tab:
        page = tab.open()
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        page.get_by_role("button", name="Theme: auto").click()
        page.get_by_role("button", name="Theme: light").click()
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
        assert page.evaluate(ground) == dark
        page.get_by_role("button", name="Theme: dark").click()
        assert page.evaluate(ground) == light
