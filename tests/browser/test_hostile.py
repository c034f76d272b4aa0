"""Names come from other people's machines, and texts from models: whatever they say, it is text."""

from collections.abc import Callable

from playwright.sync_api import Browser, expect

from tests.browser.tab import VIEWS, Tab
from tests.doubles.hub import HOSTILE, HubDouble
from tests.doubles.hub_state import request_id

PLAYED = ["<img src=x onerror=\"document.title='pwned'\">", "<script>document.title='pwned'</script>", "<b>bold</b>"]
TRACES = "document.querySelectorAll('img, b, main script, iframe').length"


def spoilt(hub: HubDouble) -> None:
    """Put a hostile text wherever somebody else may choose one."""
    state, now = hub.state, hub.state["at"]
    first = next(iter(state["nodes"].values()))
    gpu = {**first["gpus"][0], "name": HOSTILE}
    evil = {
        **first,
        "hostname": HOSTILE,
        "state": "paused",
        "reasons": [HOSTILE],
        "models": [HOSTILE],
        "loaded": [HOSTILE],
    }
    state["nodes"] = {
        HOSTILE: {**evil, "gpus": [gpu], "engine": {"kind": HOSTILE}, "public_url": HOSTILE},
        "__proto__": first,
    }
    state["models"] = {HOSTILE: {"nodes": 0, "idle": 0, "loaded": [HOSTILE], "waiting": 3, "running": 1}}
    state["queues"] = {
        HOSTILE: {"model": HOSTILE, "lane": HOSTILE, "waiting": 3, "running": 0, "oldest_at": now - 60_000}
    }
    state["running"] = {
        request_id(1): {"model": HOSTILE, "node": HOSTILE, "lane": HOSTILE, "key": HOSTILE, "attempt": 2}
    }
    state["waiting"] = {
        request_id(2): {"model": HOSTILE, "lane": HOSTILE, "key": HOSTILE, "queued_at": now, "place": 1}
    }
    state["hubs"] = {HOSTILE: {"address": HOSTILE, "version": HOSTILE}}
    state["hub"] = {"id": HOSTILE, "version": HOSTILE, "needs_keys": False}
    state["words"] = {}


def test_hostile_names_are_shown_and_never_run(browser: Browser, doubled: Callable[..., HubDouble]) -> None:
    hub = doubled(1)
    spoilt(hub)
    with Tab(browser, hub.url) as tab:
        page = tab.open()
        for view, title in VIEWS.items():
            tab.go(view)
            if view != "playground":
                expect(page.get_by_role("main")).to_contain_text(HOSTILE)
            else:
                expect(page.get_by_label("Model")).to_have_value(HOSTILE)
            assert page.evaluate(TRACES) == 0
            expect(page).to_have_title(f"{title} · GhubAi")
        tab.go("nodes")
        expect(page.locator(".nodes tbody tr")).to_have_count(2)
        page.get_by_role("button", name=f"Why: {HOSTILE}").click()
        expect(page.get_by_role("dialog").locator(".summary")).to_contain_text(HOSTILE)
        assert page.evaluate(TRACES) == 0


def test_what_a_model_says_is_text(browser: Browser, doubled: Callable[..., HubDouble]) -> None:
    hub = doubled(1)
    hub.answer = PLAYED
    with Tab(browser, hub.url) as tab:
        page = tab.open("playground")
        page.get_by_label("Your message").fill(HOSTILE)
        page.get_by_role("button", name="Send").click()
        expect(page.locator(".message.model .said")).to_have_text("".join(PLAYED))
        expect(page.locator(".message.user .said")).to_have_text(HOSTILE)
        assert page.evaluate(TRACES) == 0
        expect(page).to_have_title("Playground · GhubAi")


def test_scripts_in_the_page_would_not_run_even_if_markup_got_in(
    browser: Browser, doubled: Callable[..., HubDouble]
) -> None:
    with Tab(browser, doubled(1).url) as tab:
        page = tab.open()
        page.evaluate(
            """text => new Promise((heard) => {
              document.addEventListener('error', heard, { capture: true });
              document.getElementById('main').insertAdjacentHTML('beforeend', text);
            })""",
            HOSTILE,
        )
        expect(page).to_have_title("Overview · GhubAi")
        assert any("Content Security Policy" in one for one in tab.complaints)
        tab.complaints.clear()
