"""One tab of the browser, and everything it complained of."""

from types import TracebackType
from typing import Self

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect

VIEWS = {
    "overview": "Overview",
    "nodes": "Nodes",
    "models": "Models",
    "queues": "Queues",
    "requests": "Requests",
    "dead": "Dead jobs",
    "keys": "Keys & usage",
    "playground": "Playground",
}
"""Every view by its name in the address, and its heading."""
REFUSED = "Failed to load resource"
"""How Chromium begins what it logs of an answer that is no success."""


class Tab:
    """A tab at one hub with a memory of its own; left with a complaint, it fails the test."""

    def __init__(
        self, browser: Browser, hub: str, *, scheme: str = "light", width: int = 1280, height: int = 900
    ) -> None:
        self.hub = hub
        self.complaints: list[str] = []
        self.expects_refusals = False
        """Whether the test has the hub refuse something, which Chromium logs as an error."""
        self._context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
        )
        self._context.set_default_timeout(10_000)
        self.page: Page = self._context.new_page()
        self.page.on("console", self._heard)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._context.close()
        if error is None:
            assert self.complaints == []

    def open(self, view: str = "overview") -> Page:
        """Show a view, and wait until it is live."""
        self.page.goto(f"{self.hub}/#/{view}")
        expect(self.feed).to_have_text("Live")
        expect(self.page.get_by_role("heading", level=1)).to_have_text(VIEWS[view])
        return self.page

    def go(self, view: str) -> Page:
        """Change to another view as a user does."""
        self.page.locator(f'nav a[href="#/{view}"]').click()
        expect(self.page.get_by_role("heading", level=1)).to_have_text(VIEWS[view])
        return self.page

    @property
    def feed(self) -> Locator:
        return self.page.locator("#feed-text")

    def row(self, key: str) -> Locator:
        """A row of the view's tables by its key."""
        return self.page.locator(f'tr[data-key="{key}"]')

    def cell(self, key: str, label: str) -> Locator:
        return self.row(key).locator(f'[data-label="{label}"]')

    def _heard(self, message: ConsoleMessage) -> None:
        is_expected = self.expects_refusals and message.text.startswith(REFUSED)
        if message.type in ("error", "warning") and not is_expected:
            self.complaints.append(f"{message.type}: {message.text} ({message.location})")
