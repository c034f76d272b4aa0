"""This hub's copy of all client keys and provider tokens, so that a wrong one costs no question to the broker.

The broker counts changes; the copy is renewed when that number moved. It is looked at every second, and before a secret
that is not in the copy is refused: at most five times a second, however many wrong ones come. One that was refused is
refused at once until something changes. All wait for the same look, and hear the same if it fails.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from common.errors import BrokerError, BrokerUnavailable
from common.records.credentials import ClientKey, Credentials, ProviderToken, digest_of

log = structlog.get_logger()

Record = TypeVar("Record", ClientKey, ProviderToken)

REFRESH_S = 1.0
MIN_GAP_S = 0.2
"""Least time between two looks that unknown secrets can provoke."""
MOST_REFUSED = 10_000
"""So many refused secrets are remembered."""


class CredentialTable:
    """Keys and tokens by the sha256 of their secrets. What the environment names is always there."""

    def __init__(self, credentials: Credentials, fixed_tokens: tuple[ProviderToken, ...]) -> None:
        self._credentials = credentials
        self._fixed = {token.digest: token for token in fixed_tokens}
        self._version = -1
        self._looked_at = float("-inf")
        self._failed_at = float("-inf")
        self._looking = asyncio.Lock()
        self._refused: set[str] = set()
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
        return await self._find(digest_of(secret), lambda: self.keys)

    async def find_token(self, secret: str) -> ProviderToken | None:
        """The provider token with this secret; as `find_key`."""
        return await self._find(digest_of(secret), lambda: self.tokens)

    def is_fixed(self, token: ProviderToken) -> bool:
        """Whether the environment names it."""
        return token.digest in self._fixed

    async def refresh(self) -> None:
        """Renew the copy if anything changed; BrokerError if nobody can tell, and the old one stays."""
        async with self._looking:
            await self._refresh()

    async def _refresh(self) -> None:
        began_at = asyncio.get_running_loop().time()
        version = await self._credentials.version()
        if version < self._version:  # it only ever rises: the broker has forgotten, though something may be new in it
            await self._credentials.restore([*self.keys.values()], self._moving_tokens(), self._version + 1)
            log.warning("credentials_restored", keys=len(self.keys), tokens=len(self._moving_tokens()))
            version = self._version + 1
        if version != self._version:
            self.keys = {key.digest: key for key in await self._credentials.client_keys()}
            self.tokens = self._fixed | {token.digest: token for token in await self._credentials.provider_tokens()}
            self._refused.clear()
        self._version = version
        self._looked_at = began_at

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            try:
                await self.refresh()
            except BrokerError as exc:
                log.warning("broker_unavailable", doing="credentials", error=str(exc))
            await asyncio.sleep(REFRESH_S)

    def _moving_tokens(self) -> list[ProviderToken]:
        return [token for token in self.tokens.values() if not self.is_fixed(token)]

    async def _find(self, digest: str, copy: Callable[[], Mapping[str, Record]]) -> Record | None:
        found = copy().get(digest)
        if found is not None or digest in self._refused:
            return found
        await self._look_again()
        found = copy().get(digest)  # of another copy: the look changes it
        if found is None:
            if len(self._refused) >= MOST_REFUSED:
                self._refused.clear()
            self._refused.add(digest)
        return found

    async def _look_again(self) -> None:
        """A new secret may have been made at another hub a moment ago."""
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        async with self._looking:
            if self._looked_at >= asked_at:  # somebody looked while this one waited
                return
            if self._failed_at + MIN_GAP_S > loop.time():  # or tried to
                raise BrokerUnavailable("the broker did not answer a moment ago")
            if self.is_known:
                await asyncio.sleep(self._looked_at + MIN_GAP_S - loop.time())
            try:
                await self._refresh()
            except BrokerError:
                self._failed_at = loop.time()
                raise
