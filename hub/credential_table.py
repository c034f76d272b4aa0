"""This hub's copy of all client keys and provider tokens, so that a wrong one costs no question to the broker.

The broker counts changes; the copy is renewed when that number moved. It is looked at every second, and before a secret
that is not in the copy is refused: at most five times a second, however many wrong ones come.
"""

import asyncio

import structlog

from common.credentials import ClientKey, Credentials, ProviderToken, digest_of
from common.errors import BrokerError

log = structlog.get_logger()

REFRESH_S = 1.0
MIN_GAP_S = 0.2
"""Least time between two looks that unknown secrets can provoke."""


class CredentialTable:
    """Keys and tokens by the sha256 of their secrets. What the environment names is always there."""

    def __init__(self, credentials: Credentials, fixed_tokens: tuple[ProviderToken, ...]) -> None:
        self._credentials = credentials
        self._fixed = {token.digest: token for token in fixed_tokens}
        self._version = -1
        self._looked_at = float("-inf")
        self._looking = asyncio.Lock()
        self.keys: dict[str, ClientKey] = {}
        self.tokens: dict[str, ProviderToken] = dict(self._fixed)

    @property
    def is_known(self) -> bool:
        """Whether the broker has ever told; before that nobody can be refused for good."""
        return self._version >= 0

    async def find_key(self, secret: str) -> ClientKey | None:
        """The client key with this secret; looks again before it says None.

        Raises:
            BrokerError: it is in no copy, and there is no fresh one to be had.
        """
        digest = digest_of(secret)
        if digest not in self.keys:
            await self._look_again()
        return self.keys.get(digest)

    async def find_token(self, secret: str) -> ProviderToken | None:
        """The provider token with this secret; as `find_key`."""
        digest = digest_of(secret)
        if digest not in self.tokens:
            await self._look_again()
        return self.tokens.get(digest)

    async def refresh(self) -> None:
        """Renew the copy if anything changed; BrokerError if nobody can tell, and the old one stays."""
        began_at = asyncio.get_running_loop().time()
        version = await self._credentials.version()
        if version == 0 and self._version > 0:
            await self._credentials.restore([*self.keys.values()], self._moving_tokens(), self._version + 1)
            log.warning("credentials_restored", keys=len(self.keys), tokens=len(self._moving_tokens()))
            version = self._version + 1
        elif version != self._version:
            self.keys = {key.digest: key for key in await self._credentials.client_keys()}
            self.tokens = self._fixed | {token.digest: token for token in await self._credentials.provider_tokens()}
        self._version = version
        self._looked_at = began_at

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                async with self._looking:
                    await self.refresh()
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="credentials", error=str(exc))
            await asyncio.sleep(REFRESH_S)

    def _moving_tokens(self) -> list[ProviderToken]:
        return [token for digest, token in self.tokens.items() if digest not in self._fixed]

    async def _look_again(self) -> None:
        """A new secret may have been made at another hub a moment ago."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        if asked_at - self._looked_at < MIN_GAP_S and self.is_known and not self._looking.locked():
            await asyncio.sleep(self._looked_at + MIN_GAP_S - asked_at)
        async with self._looking:
            if self._looked_at < asked_at:  # else somebody looked while this one waited
                await self.refresh()
