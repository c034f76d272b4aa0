"""The hubs that a front knows, how each stands, and which one is asked next."""

import asyncio
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import structlog

log = structlog.get_logger()


class Hub:
    """One hub, as it is seen from here."""

    def __init__(self, url: str, *, is_named: bool) -> None:
        self.url = url
        self.is_named = is_named
        """Whether it was named at the start; else it was learned of, and may be forgotten."""
        self.is_ready = True
        """Whether it took requests when it was last seen; a new one is believed to."""
        self.open_requests = 0
        """Of this front."""
        self.answered_at = 0.0
        """When it last answered a look, whatever it said, on the loop's clock."""

    @contextmanager
    def carrying(self) -> Iterator[None]:
        """It has one more request."""
        self.open_requests += 1
        try:
            yield
        finally:
            self.open_requests -= 1


class Hubs:
    """All of them. The named ones stay, whatever becomes of them."""

    def __init__(self, named: Iterable[str]) -> None:
        self._hubs = {url: Hub(url, is_named=True) for url in named}
        self.news = asyncio.Event()
        """Set when one that was well failed: it is worth a look before its time."""
        self.ready = asyncio.Event()
        """Set and cleared when one came back: whoever waits for a hub looks again."""

    @property
    def all(self) -> tuple[Hub, ...]:
        """In the order in which they became known."""
        return tuple(self._hubs.values())

    def choose(self, tried: Iterable[Hub] = ()) -> Hub | None:
        """The hub to ask: a ready one before others, and of those the one with the least requests of this front.

        Args:
            tried: hubs that have just failed; None is returned if there are no others.
        """
        left = [hub for hub in self._hubs.values() if hub not in tried]
        return min(left, key=lambda hub: (not hub.is_ready, hub.open_requests, random.random()), default=None)  # noqa: S311

    def failed(self, hub: Hub, why: str) -> None:
        """It could not be reached, broke off, or sends its clients elsewhere."""
        if hub.is_ready:
            hub.is_ready = False
            log.warning("hub_left", hub=hub.url, reason=why)
            self.news.set()

    def recovered(self, hub: Hub) -> None:
        """It takes requests."""
        if not hub.is_ready:
            hub.is_ready = True
            log.info("hub_ready", hub=hub.url)
            self.ready.set()
            self.ready.clear()

    def learn(self, urls: Iterable[str], teller: Hub) -> None:
        """What a hub says of where hubs are; those that were learned of and are named no longer are forgotten.

        One that is reached by https names no plain addresses: a key that goes out encrypted must not go out in the
        open because a registry says so.
        """
        told = {url for url in urls if teller.url.startswith("http://") or urlsplit(url).scheme == "https"}
        for url in sorted(told - self._hubs.keys()):
            self._hubs[url] = Hub(url, is_named=False)
            log.info("hub_learned", hub=url)
        for hub in self.all:
            if not hub.is_named and hub.url not in told:
                del self._hubs[hub.url]
                log.info("hub_forgotten", hub=hub.url)
