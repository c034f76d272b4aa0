"""Chats by the dashboard, over the same way as every other request."""

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import MODEL, Stack
from tests.browser.tab import Tab
from tests.support.client_keys import TestKey
from tests.support.operator import ADMIN_TOKEN
from tests.support.processes import until


def ask(page: Page, said: str) -> None:
    page.get_by_label("Your message").fill(said)
    page.keyboard.press("Enter")


def test_an_answer_streams_in_and_its_speed_is_told(tab: Tab, stack: Stack) -> None:
    stack.engine.configure(delay_ms=15)
    page = tab.open("playground")
    expect(page.get_by_label("Model")).to_have_value(MODEL)
    expect(page.get_by_label("Most tokens")).to_have_value("300")
    page.get_by_label("Most tokens").fill("40")
    ask(page, "Tell me a story.")
    said = page.locator(".message.model .said")
    expect(said).to_contain_text("t0 t1")
    assert "t39" not in said.inner_text()
    expect(said).to_contain_text("t39")
    expect(page.locator(".figures")).to_contain_text("tokens/s")
    expect(page.locator(".figures")).to_contain_text("first token after")
    expect(page.locator(".figures")).to_contain_text(f"by {stack.node}")
    ask(page, "Another one.")
    expect(page.locator(".message.model .said").last).to_contain_text("t39")
    (_, second) = stack.engine.state()["requests"][-2:]
    assert second["path"] == "/v1/chat/completions"


def test_stop_frees_the_engine(tab: Tab, stack: Stack) -> None:
    stack.engine.configure(delay_ms=50)
    page = tab.open("playground")
    ask(page, "Never end.")
    expect(page.locator(".message.model .said")).to_contain_text("t1")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator(".figures")).to_have_text("Stopped.")
    until(lambda: stack.engine.state()["open"] == 0, 5, stack.engine.state)
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_an_error_of_the_engine_is_told_in_words(tab: Tab, stack: Stack) -> None:
    tab.expects_refusals = True
    stack.engine.configure(status=400)
    page = tab.open("playground")
    ask(page, "hi")
    expect(page.locator(".message .notice.error")).not_to_be_empty()
    expect(page.get_by_role("button", name="Send")).to_be_enabled()


def test_a_hub_that_asks_clients_for_keys_is_given_one(browser: Browser, stack: Stack) -> None:
    with stack.grid.redis() as client:
        key = TestKey(client)
    with Tab(browser, stack.guarded) as tab:
        tab.expects_refusals = True
        page = tab.page
        page.goto(f"{stack.guarded}/#/playground")
        page.get_by_label("Admin token").fill(ADMIN_TOKEN)
        page.keyboard.press("Enter")
        ask(page, "hi")
        expect(page.locator(".message .notice.error")).to_contain_text("An API key is needed.")
        page.get_by_label("API key").fill(key.secret)
        ask(page, "hi again")
        expect(page.locator(".message.model .said").last).to_contain_text("t0")
        assert page.evaluate("JSON.stringify(localStorage)").count(key.secret) == 0
