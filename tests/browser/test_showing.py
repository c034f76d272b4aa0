"""What the dashboard shows of a real grid, and that it follows as things change."""

import re

from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.conftest import MODEL, Stack
from tests.browser.tab import VIEWS, Tab
from tests.support.call import Call
from tests.support.grid import chat
from tests.support.operator import told
from tests.support.processes import until


def tile(page: Page, label: str) -> Locator:
    """The figure under a word of the overview."""
    return page.locator(".tile", has=page.get_by_text(label, exact=True)).locator(".value")


def test_every_view_loads_without_a_word_of_complaint(tab: Tab) -> None:
    tab.open()
    for view, title in VIEWS.items():
        page = tab.go(view)
        expect(page).to_have_title(f"{title} · GhubAi")
        expect(page.locator(f'nav a[href="#/{view}"]')).to_have_attribute("aria-current", "page")
        expect(page.locator(".notice.error:visible")).to_have_count(0)


def test_an_address_leads_to_its_view_and_one_that_is_none_to_the_first(tab: Tab) -> None:
    tab.open("queues")
    tab.page.goto(f"{tab.hub}/#/nothing-of-the-kind")
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Overview")
    tab.page.go_back()
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Queues")


def test_a_job_that_runs_moves_the_numbers(tab: Tab, stack: Stack) -> None:
    page = tab.open("requests")
    stack.engine.configure(delay_ms=40)
    with Call(stack.hub, chat(tokens=400, stream=True)) as call:
        until(lambda: stack.engine.state()["open"] == 1, 5, stack.engine.state)
        row = page.locator("section", has=page.get_by_role("heading", name="Running")).locator("tbody tr")
        expect(row).to_have_count(1)
        expect(row.locator('[data-label="Model"]')).to_have_text(MODEL)
        expect(row.locator('[data-label="Node"]')).to_have_text(stack.node)
        expect(row.locator('[data-label="Status"]')).to_have_text("Streaming")
        tokens = row.locator('[data-label="Tokens"]')
        expect(tokens).not_to_have_text("0")
        before = tokens.inner_text()
        expect(tokens).not_to_have_text(before)
        tab.go("nodes")
        expect(tab.cell(stack.node, "Runs")).to_contain_text("1 of 2")
        expect(tab.cell(stack.node, "Runs")).to_contain_text(MODEL)
        tab.go("overview")
        expect(tile(page, "Running")).to_have_text("1")
        call.close()
    expect(tile(page, "Running")).to_have_text("0")


def test_requests_that_wait_show_their_places_and_their_lane_how_long(tab: Tab, stack: Stack) -> None:
    stack.engine.configure(delay_ms=50)
    calls = [Call(stack.hub, chat(tokens=400, stream=True)) for _ in range(4)]
    try:
        page = tab.open("requests")
        waiting = page.locator("section", has=page.get_by_role("heading", name="Waiting")).locator("tbody tr")
        expect(waiting.locator('[data-label="Place"]')).to_have_text(["1", "2"])
        tab.go("queues")
        lane = tab.row(f"interactive:{MODEL}")
        expect(lane.locator('[data-label="Waiting"]')).to_have_text("2")
        expect(lane.locator('[data-label="Oldest waits"]')).to_have_text(re.compile("^[1-9] s$"))
        tab.go("models")
        expect(tab.cell(MODEL, "State")).to_have_text("All taken")
        expect(tab.cell(MODEL, "Waiting")).to_have_text("2")
    finally:
        for call in calls:
            call.close()


def test_why_is_answered_in_words(tab: Tab, stack: Stack) -> None:
    tab.open("nodes")
    tab.row(stack.node).get_by_role("button", name=f"Why: {stack.node}").click()
    dialog = tab.page.get_by_role("dialog", name="Why?")
    expect(dialog.locator(".summary")).to_contain_text(stack.node)
    tab.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(tab.row(stack.node).get_by_role("button", name="Why")).to_be_focused()
    tab.go("models")
    tab.row(MODEL).get_by_role("button", name="Why").click()
    expect(tab.page.get_by_role("dialog").locator(".summary")).to_contain_text(MODEL)


def test_a_hub_that_goes_and_comes_is_followed(browser: Browser, stack: Stack) -> None:
    hub = stack.grid.hub(GHUB_HEARTBEAT_S="0.3")
    with Tab(browser, hub) as tab:
        tab.expects_refusals = True
        page = tab.open("nodes")
        expect(tab.row(stack.node)).to_be_visible()
        stack.grid.hubs[hub].kill()
        expect(tab.feed).to_have_text("Reconnecting")
        expect(page.locator(".notice.warn")).to_contain_text("What is shown is from")
        expect(tab.row(stack.node)).to_be_visible()
        stack.grid.hub(url=hub, GHUB_HEARTBEAT_S="0.3")
        expect(tab.feed).to_have_text("Live")
        expect(page.locator(".notice.warn")).to_be_hidden()
    stack.grid.hubs[hub].kill()


def test_what_ended_is_in_the_last_hours_table(tab: Tab, stack: Stack) -> None:
    with Call(stack.hub, chat(tokens=7)) as call:
        assert call.finish().status == 200
    page = tab.open()
    until(lambda: told(stack.hub, "GET", "/api/overview")["history"]["points"], 10, "the minute is counted")
    chart = page.locator("figure", has_text="Requests per minute")
    chart.get_by_text("As a table").click()
    expect(chart.locator("tbody tr").first.locator("td").first).not_to_have_text("\u2013")
    assert (
        page.locator("figure", has_text="Requests per minute").get_by_role("img").locator("desc").text_content() != ""
    )
