"""Looks after the hubs in the background: whether each takes requests, and which others there are."""

import asyncio

from pydantic import SecretStr

from ghub.connect.client import HubClient
from ghub.connect.errors import HubFailed
from ghub.connect.headers import Headers, with_key
from ghub.connect.hubs import Hub, Hubs
from ghub.connect.settings import ConnectSettings, checked_url

SOONEST_S = 0.2
"""After a failure the next look comes so soon, and no sooner."""
MOST_HUBS = 1000
"""Of those that a hub names."""


class Lookout:
    """Keeps `Hubs` true."""

    def __init__(self, hubs: Hubs, client: HubClient, settings: ConnectSettings) -> None:
        self._hubs = hubs
        self._client = client
        self._settings = settings
        self._api_key: SecretStr | None = settings.api_key
        self._discover_at = 0.0

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(SOONEST_S)
            try:
                async with asyncio.timeout(max(0, self._settings.check_interval_s - SOONEST_S)):
                    await self._hubs.news.wait()
            except TimeoutError:
                pass
            self._hubs.news.clear()

    async def look(self) -> None:
        """Look at every hub, and now and then for further ones."""
        await asyncio.gather(*map(self._check, self._hubs.all))
        now = asyncio.get_running_loop().time()
        teller = self._hubs.choose()
        if self._settings.discover and now >= self._discover_at and teller is not None and teller.is_ready:
            self._discover_at = now + self._settings.discover_interval_s
            await self._discover(teller)

    async def _check(self, hub: Hub) -> None:
        try:
            status, said = await self._get(hub, "/health/ready")
        except HubFailed as exc:
            self._hubs.failed(hub, str(exc))
            return
        hub.answered_at = asyncio.get_running_loop().time()
        if status == 200:
            self._hubs.recovered(hub)
        else:
            self._hubs.failed(hub, str(said.get("status", status)))

    async def _discover(self, teller: Hub) -> None:
        """Ask a hub for all hubs. What it does not tell (an older one, a key that it does not know) changes nothing."""
        try:
            status, said = await self._get(teller, "/api/hubs")
        except HubFailed:
            return
        listed = said.get("hubs")
        if status == 200 and isinstance(listed, list):
            self._hubs.learn(filter(None, map(_url_of, listed[:MOST_HUBS])), teller)

    async def _get(self, hub: Hub, path: str) -> tuple[int, dict[str, object]]:
        headers = with_key(Headers(), self._api_key)
        status, said = await self._client.get_json(hub, path, headers, self._settings.check_timeout_s)
        return status, dict(said)


def _url_of(listed: object) -> str:
    """Where one of the hubs is, empty if nobody says so in a way that can be used."""
    url = listed.get("url") if isinstance(listed, dict) else None
    try:
        return checked_url(url) if isinstance(url, str) else ""
    except ValueError:
        return ""
