"""What an operator does by the dashboard, at a real grid."""

import re
import shlex
from uuid import uuid4

from playwright.sync_api import Browser, Locator, expect

from tests.browser.conftest import MODEL, Stack
from tests.browser.tab import Tab
from tests.support.call import Call, post
from tests.support.grid import chat
from tests.support.operator import ADMIN_TOKEN, told
from tests.support.processes import until


def toast(tab: Tab) -> Locator:
    return tab.page.locator(".toast").last


def test_a_node_that_drains_shows_it_and_resumes(tab: Tab, stack: Stack) -> None:
    tab.open("nodes")
    state = tab.cell(stack.node, "State")
    expect(state).to_have_text("Idle")
    tab.page.get_by_role("button", name=f"Drain {stack.node}").click()
    expect(toast(tab)).to_contain_text("was told to drain")
    expect(state).to_contain_text("Draining")
    expect(state).to_contain_text("finishes what it runs and takes nothing new")
    tab.go("overview")
    expect(tab.page.locator(".attention")).to_contain_text(f"{stack.node} is draining")
    tab.go("nodes")
    tab.page.get_by_role("button", name=f"Resume {stack.node}").click()
    expect(state).to_have_text("Idle")


def test_a_request_is_cancelled_only_when_that_is_confirmed(tab: Tab, stack: Stack) -> None:
    stack.engine.configure(delay_ms=50)
    with Call(stack.hub, chat(tokens=2000, stream=True)) as call:
        page = tab.open("requests")
        cancel = page.get_by_role("button", name=re.compile("^Cancel [0-9a-f]{32}"))
        cancel.click()
        page.get_by_role("button", name="Keep it").click()
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert stack.engine.state()["open"] == 1
        cancel.click()
        page.get_by_role("button", name="Cancel the request").click()
        assert call.finish().error["code"] == "cancelled_by_operator"
        expect(page.get_by_text("Nothing runs now.")).to_be_visible()


def test_a_key_is_shown_once_works_and_is_revoked(tab: Tab, stack: Stack) -> None:
    name = f"k-{uuid4().hex[:8]}"
    page = tab.open("keys")
    page.get_by_role("button", name="Create a key").click()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Models").fill(f"{MODEL}, llama*")
    page.get_by_label("Requests a minute").fill("60")
    page.get_by_label("Expires").fill("30d")
    page.get_by_role("button", name="Create", exact=True).click()
    secret = page.get_by_label("The new API key").inner_text()
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_role("button", name="Copied")).to_be_visible()
    bearer = {"authorization": f"Bearer {secret}"}
    until(lambda: post(stack.guarded, chat(tokens=2), headers=bearer).status == 200, 5, "the key is known")
    page.keyboard.press("Escape")
    row = page.get_by_role("row", name=name)
    expect(row).to_contain_text(f"{MODEL}, llama*")
    expect(row.locator('[data-label="Requests/min"]')).to_have_text("60")
    expect(page.locator("dialog")).to_have_count(0)  # closed is not gone yet
    assert secret not in page.content()
    row.get_by_role("button", name="Why").click()
    expect(page.get_by_role("dialog", name="Why?").locator(".summary")).to_contain_text(name)
    page.keyboard.press("Escape")
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("button", name="Revoke it").click()
    expect(row).to_have_count(0)
    until(lambda: post(stack.guarded, chat(tokens=2), headers=bearer).status == 401, 5, "the key is gone")


def test_a_key_that_is_refused_says_why_and_keeps_what_was_filled_in(tab: Tab) -> None:
    tab.expects_refusals = True
    page = tab.open("keys")
    page.get_by_role("button", name="Create a key").click()
    page.get_by_label("Name").fill("late")
    page.get_by_label("Expires").fill("yesterday")
    page.get_by_role("button", name="Create", exact=True).click()
    expect(toast(tab)).to_contain_text("expires")
    expect(page.get_by_label("Name")).to_have_value("late")


def test_a_dead_job_is_retried_and_goes(tab: Tab, stack: Stack) -> None:
    page = tab.open("dead")
    expect(page.get_by_text("No dead jobs")).to_be_visible()
    stack.engine.configure(status=500, error_body="broken for now")
    assert post(stack.hub, chat(tokens=3)).status >= 500
    stack.engine.configure()
    row = page.locator("tbody tr")
    expect(row.locator('[data-label="Reason"]')).to_contain_text("engine_error")
    row.get_by_role("button", name="Retry").click()
    expect(toast(tab)).to_contain_text("runs again")
    expect(page.get_by_text("No dead jobs")).to_be_visible()
    assert told(stack.hub, "GET", "/api/dead")["dead"] == []


def test_the_line_for_a_new_machine_brings_one_that_appears_until_its_token_is_revoked(tab: Tab, stack: Stack) -> None:
    name = f"t-{uuid4().hex[:8]}"
    page = tab.open("nodes")
    page.get_by_role("button", name="Add a machine").click()
    page.get_by_label("A name for its token").fill(name)
    page.get_by_role("button", name="Make the line").click()
    line = shlex.split(page.get_by_label("The line to run on the new machine").inner_text())
    assert line[:5] == ["uv", "run", "ghub", "provider", "--hub-url"]
    expect(page.get_by_role("dialog")).to_contain_text("This address only works on this very machine.")
    expect(page.get_by_text("Waiting for the machine")).to_be_visible()
    joining = {"GHUB_PROVIDER_HUB_URL": line[5], "GHUB_PROVIDER_TOKEN": line[line.index("--token") + 1]}
    node = stack.grid.provider(
        stack.engine.url, "annex", wait=False, GHUB_HEARTBEAT_S="0.3", GHUB_REDIS_URL="", GHUB_SIGNING_KEY="", **joining
    )
    try:
        expect(page.locator(".came")).to_contain_text(f"{node} has joined")
        page.keyboard.press("Escape")
        expect(tab.cell(node, "State")).to_have_text("Idle")
        tab.go("keys")
        row = page.get_by_role("row", name=name)
        expect(row.locator('[data-label="Let in"]')).to_have_text(node)
        row.get_by_role("button", name="Revoke").click()
        expect(page.get_by_role("dialog")).to_contain_text(f"1 node that it let in will be cut off: {node}.")
        page.get_by_role("button", name="Revoke it").click()
        expect(toast(tab)).to_contain_text(f"Cut off: {node}")
        expect(row).to_have_count(0)
        tab.go("nodes")
        expect(tab.row(node)).to_have_count(0)
    finally:
        stack.grid.providers[node].kill()


def test_a_hub_that_wants_the_token_asks_for_it_and_the_tab_forgets_it(browser: Browser, stack: Stack) -> None:
    with Tab(browser, stack.guarded) as tab:
        tab.expects_refusals = True
        page = tab.page
        page.goto(stack.guarded)
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        expect(tab.feed).to_have_text("Signed out")
        page.get_by_label("Admin token").fill("not-the-token-of-anybody")
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("alert")).to_have_text("This token was not accepted.")
        page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        page.keyboard.press("Enter")
        expect(tab.feed).to_have_text("Live")
        assert page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href").count(ADMIN_TOKEN) == 0
        page.reload()
        tab.go("nodes")
        expect(tab.row(stack.node)).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        expect(tab.row(stack.node)).to_have_count(0)
        assert page.evaluate("JSON.stringify(sessionStorage)").count(ADMIN_TOKEN) == 0


def test_a_browser_that_keeps_nothing_signs_in_all_the_same(browser: Browser, stack: Stack) -> None:
    with Tab(browser, stack.guarded) as tab:
        tab.expects_refusals = True
        tab.page.add_init_script(
            "Object.defineProperty(window, 'sessionStorage', {get() { throw new DOMException('blocked'); }})"
        )
        tab.page.goto(stack.guarded)
        tab.page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        tab.page.keyboard.press("Enter")
        expect(tab.feed).to_have_text("Live")
        tab.go("keys")
        expect(tab.page.get_by_role("button", name="Create a key")).to_be_visible()
