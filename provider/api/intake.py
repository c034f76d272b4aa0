"""Takes in bodies of direct calls: whoever reaches the port may send one, so their sum and their time are limited."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.requests import Request

from common.errors import BodyTooLong, ClientGone
from common.serving.bodies import collect_body
from provider.errors import CallRefused
from provider.settings import ServerSettings

BODIES = 4
"""So many of the largest bodies fit into memory together, before their callers have shown that they may call."""


class Intake:
    """Reads bodies, and counts the bytes of those whose callers are not admitted yet."""

    def __init__(self, settings: ServerSettings) -> None:
        self._max_body_bytes = settings.max_body_bytes
        self._retry_after_s = settings.retry_after_s
        self._timeout_s = settings.body_timeout_s
        self.held_bytes = 0
        """What of all bodies is in memory now."""

    @asynccontextmanager
    async def body_of(self, request: Request) -> AsyncIterator[bytes]:
        """A call's body, which counts until the context is left.

        Raises:
            CallRefused: 413 too long, 408 too slow, 400 broken off, 503 too much at once.
        """
        mine_bytes = 0

        def count(size_bytes: int) -> None:
            nonlocal mine_bytes
            if self.held_bytes + size_bytes > BODIES * self._max_body_bytes:
                message = "this provider is taking in too many calls at once"
                raise CallRefused(503, "provider_busy", message, retry_after_s=self._retry_after_s)
            self.held_bytes += size_bytes
            mine_bytes += size_bytes

        try:
            yield await self._read(request, count)
        finally:
            self.held_bytes -= mine_bytes

    async def _read(self, request: Request, count: Callable[[int], None]) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                return await collect_body(request, self._max_body_bytes, count)
        except BodyTooLong as exc:
            raise CallRefused(413, "request_too_large", str(exc)) from exc
        except ClientGone as exc:
            raise CallRefused(400, "invalid_request", str(exc)) from exc
        except TimeoutError as exc:
            raise CallRefused(408, "request_timeout", f"the body did not come within {self._timeout_s:g} s") from exc
