"""The hop to an engine: a connection for each question, closed to cancel it.

aiohttp carries it: reading small events costs it half or less of the CPU of httpx2 (see docs/decisions/0005).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from common.wire import Failure
from provider.engines.base import EngineAnswer, Question
from provider.engines.failures import engine_error, read_failure
from provider.errors import EngineBroke, EngineDown, EngineLate
from provider.settings import EngineSettings, engine_root

MAX_ERROR_BODY_BYTES = 64 * 1024
READ_BUFFER_BYTES = 256 * 1024
ERROR_BODY_TIMEOUT_S = 10.0


class HttpAnswer:
    """An answer that has begun."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.headers.get("Content-Type", "application/octet-stream")

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive; EngineBroke if the connection is lost before the end."""
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as exc:
            raise EngineBroke(
                Failure(502, "engine_disconnected", "the engine broke off its answer", retryable=True)
            ) from exc


class EngineHttp:
    """HTTP to one engine: small looks at it, and questions."""

    def __init__(self, settings: EngineSettings, url: str) -> None:
        self.url = engine_root(url)
        self.settings = settings
        headers = {}
        if settings.api_key is not None:
            headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            # Slots are the limit. No connection serves twice: llama.cpp closes each after a streamed answer without
            # saying so, and of jobs that followed at once about half were sent into a closing one (15 of 30 chats).
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s),
            read_bufsize=READ_BUFFER_BYTES,
            trust_env=False,
            auto_decompress=True,
            skip_auto_headers=("Accept-Encoding",),
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
        headers = {"Content-Type": "application/json", "X-Request-Id": question.id}
        if question.trace:
            headers["traceparent"] = question.trace
        try:
            response = await self._session.post(self.url + question.endpoint, data=question.body, headers=headers)
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as exc:
            raise EngineDown(f"cannot reach {self.url}: {exc}") from exc
        except (aiohttp.ClientError, OSError) as exc:
            failure = Failure(502, "engine_disconnected", "the engine closed the connection unanswered", retryable=True)
            raise EngineBroke(failure) from exc
        try:
            if response.status >= 400:
                raise engine_error(read_failure(response.status, await _read_some(response)))
            yield HttpAnswer(response)
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

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


def _expect_ok(response: aiohttp.ClientResponse) -> None:
    if response.status != 200:
        raise EngineDown(f"{response.url} answered {response.status}")


async def _read_some(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of an error body; what cannot be read is left out."""
    try:
        async with asyncio.timeout(ERROR_BODY_TIMEOUT_S):
            return await response.content.read(MAX_ERROR_BODY_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return b""
