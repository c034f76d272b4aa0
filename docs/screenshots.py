"""Takes the pictures of the dashboard in docs/screenshots/, of a grid that isn't there.

Run it as `uv run python -m docs.screenshots`; it needs chromium on PATH.
"""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.doubles.hub import HubDouble
from tests.doubles.hub_state import grid

FOLDER = Path(__file__).with_name("screenshots")
DESKTOP, PHONE = (1280, 720), (390, 844)
PICTURES = {
    "desktop-light": (DESKTOP, "light", "overview"),
    "desktop-dark": (DESKTOP, "dark", "nodes"),
    "phone-light": (PHONE, "light", "overview"),
    "phone-dark": (PHONE, "dark", "nodes"),
}
"""By name: the window, the theme and the view."""
WITHIN_MS = 10_000


def main() -> str | None:
    """Take all of them; what is missing, if something is."""
    if (chromium := shutil.which("chromium")) is None:
        return "no chromium on PATH"
    FOLDER.mkdir(exist_ok=True)
    with HubDouble(grid()).served() as hub, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        for name, ((width, height), scheme, view) in PICTURES.items():
            page = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme="dark" if scheme == "dark" else "light"
            )
            page.goto(f"{hub.url}/#/{view}")
            page.wait_for_selector("main .stack", timeout=WITHIN_MS)
            page.evaluate("new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))")
            page.screenshot(path=FOLDER / f"{name}.png")
            page.close()
        browser.close()
    return None


if __name__ == "__main__":
    sys.exit(main())
