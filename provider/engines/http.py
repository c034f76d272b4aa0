"""The hop to an engine: each question has a connection to itself, closed to cancel it, else kept for the next one.

Questions go out on connections of our own, for what they cost; looks at the engine by aiohttp (docs/decisions/0005).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from common.wire import Failure
from provider.engines.exchange import Connections, Exchange, ExchangeBroken
from provider.errors import DISCONNECTED, EngineBroke, EngineDown, EngineLate
from provider.protocol.engine import EngineAnswer, Question
from provider.protocol.failures import broke_off, engine_error, read_failure
from provider.settings import EngineSettings, engine_root

MAX_ERROR_BODY_BYTES = 64 * 1024
ERROR_BODY_TIMEOUT_S = 10.0
RESEND_S = 0.01
"""A connection that is lost so soon was closing already when the question went out: no engine has begun anything.

Nor has one, however late, that closed it with the question unread."""


class HttpAnswer:
    """An answer that has begun."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self.usage = None
        self.status = exchange.status
        self.content_type = exchange.headers.get(b"content-type", b"application/octet-stream").decode("latin-1")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive; EngineBroke if the connection is lost before the end."""
        try:
            async for chunk in self._exchange.chunks():
                yield chunk
        except ExchangeBroken as exc:
            raise broke_off() from exc


class EngineHttp:
    """HTTP to one engine: small looks at it, and questions."""

    def __init__(self, settings: EngineSettings, url: str) -> None:
        self.url = engine_root(url)
        self.settings = settings
        headers = {}
        if settings.api_key is not None:
            headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._connections = Connections(self.url, headers, settings.connect_timeout_s)
        self._session = aiohttp.ClientSession(
            headers=headers,
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s),
            trust_env=False,
        )

    async def check(self, path: str) -> None:
        """See that a path answers 200, whatever it says; EngineDown or EngineLate if not."""
        async with self._look("GET", path) as response:
            _expect_ok(response)

    async def get_json(self, path: str) -> object:
        """What a path says; EngineDown or EngineLate if it doesn't answer 200 and JSON."""
        async with self._look("GET", path) as response:
            _expect_ok(response)
            said: object = await response.json(content_type=None)
            return said

    async def find_json(self, path: str) -> object | None:
        """What a path says, or None if there is nothing of the kind.

        Raises:
            EngineDown: nothing listens, or what listens isn't ready (503).
            EngineLate: it gave no answer in time.
        """
        async with self._look("GET", path) as response:
            if response.status == 503:
                _expect_ok(response)
            if response.status != 200:
                return None
            try:
                said: object = await response.json(content_type=None)
            except ValueError:
                return None
            return said

    async def try_post(self, path: str) -> tuple[int, str]:
        """The status and the words with which a path refuses an empty request; EngineDown if nothing listens."""
        async with self._look("POST", path, data=b"{}", headers={"Content-Type": "application/json"}) as response:
            return response.status, (await response.content.read(MAX_ERROR_BODY_BYTES)).decode(errors="replace")

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[EngineAnswer]:
        """Send the question's bytes to its path; leaving the context closes the connection unless all was read.

        Raises:
            EngineDown: it cannot be reached.
            EngineBroke: it closed the connection without an answer.
            EngineRefused: it answered with an error status.
            EngineFull: the same, for want of memory.
        """
        headers = {"X-Request-Id": question.id}
        if question.trace:
            headers["traceparent"] = question.trace
        exchange = await self._begin(self._connections.question(question.endpoint, headers, question.body))
        try:
            if 300 <= exchange.status < 400:
                raise EngineBroke(Failure(502, "engine_moved", "the engine's address leads elsewhere", retryable=True))
            if exchange.status >= 400:
                raise engine_error(read_failure(exchange.status, await _read_some(exchange)))
            yield HttpAnswer(exchange)
        finally:
            exchange.leave()

    async def aclose(self) -> None:
        """Close every connection."""
        self._connections.close()
        await self._session.close()

    async def _begin(self, question: bytes) -> Exchange:
        """The exchange whose answer has begun.

        A question that goes out into a connection which its engine is just closing is asked again, on a new one.
        """
        exchange, loop = self._connections.idle(), asyncio.get_running_loop()
        if exchange is not None:
            began_at = loop.time()
            try:
                await _asked(exchange, question)
            except ExchangeBroken as exc:
                if not exchange.was_unread and loop.time() - began_at > RESEND_S:
                    raise _unanswered() from exc
            else:
                return exchange
        try:
            new = await self._connections.open()
        except (OSError, TimeoutError) as exc:
            if exchange is not None:  # it was there a moment ago: this question may be why it is not
                raise _unanswered() from exc
            raise EngineDown(f"cannot reach {self.url}: {str(exc) or type(exc).__name__}") from exc
        try:
            await _asked(new, question)
        except ExchangeBroken as exc:
            raise _unanswered() from exc
        return new

    @asynccontextmanager
    async def _look(
        self, method: str, path: str, *, data: bytes | None = None, headers: dict[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        url = self.url + path
        try:
            async with (
                asyncio.timeout(self.settings.probe_timeout_s),
                self._session.request(method, url, data=data, headers=headers) as response,
            ):
                yield response
        except aiohttp.ConnectionTimeoutError as exc:
            raise EngineDown(f"{url}: {exc}") from exc
        except TimeoutError as exc:
            raise EngineLate(f"{url} gave no answer within {self.settings.probe_timeout_s:g} s") from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise EngineDown(f"{url}: {str(exc) or type(exc).__name__}") from exc


def _unanswered() -> EngineBroke:
    failure = Failure(502, DISCONNECTED, "the engine closed the connection unanswered", retryable=True)
    return EngineBroke(failure)


def _expect_ok(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise EngineDown(f"{response.url} answered {response.status}")


async def _asked(exchange: Exchange, question: bytes) -> None:
    """Wait for its answer's head; the connection is closed if that fails, by a cancellation too."""
    try:
        await exchange.ask(question)
    except BaseException:
        exchange.close()
        raise


async def _read_some(exchange: Exchange) -> bytes:
    """The first bytes of an error body; what cannot be read is left out."""
    body = b""
    try:
        async with asyncio.timeout(ERROR_BODY_TIMEOUT_S):
            async for chunk in exchange.chunks():
                body += chunk
                if len(body) >= MAX_ERROR_BODY_BYTES:
                    break
    except (ExchangeBroken, TimeoutError):
        pass
    return body[:MAX_ERROR_BODY_BYTES]
