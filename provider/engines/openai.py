"""Any server that speaks OpenAI's API: vLLM, LM Studio, llama.cpp and many more.

aiohttp carries this hop: reading small events cost it a fifth of the CPU of httpx (see docs/decisions/0005).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from common.types import ModelId
from common.wire import Failure
from provider.engines.base import Capability, EngineAnswer, EngineStatus, ModelInfo, Question
from provider.engines.failures import read_failure
from provider.errors import EngineBroke, EngineDown, EngineRefused
from provider.settings import EngineSettings

MAX_ERROR_BODY_BYTES = 64 * 1024
READ_BUFFER_BYTES = 256 * 1024
DEFAULT_URL = "http://127.0.0.1:8000"


class OpenAIAnswer:
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


class OpenAIEngine:
    """A server under one URL; connections are kept between jobs and closed to cancel one."""

    kind = "openai"
    capabilities = frozenset({Capability.CHAT, Capability.COMPLETIONS})

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._url = (settings.url or DEFAULT_URL).rstrip("/")
        headers = {}
        if settings.api_key is not None:
            headers["Authorization"] = f"Bearer {settings.api_key.get_secret_value()}"
        self._session = aiohttp.ClientSession(
            headers=headers,
            # Slots are the limit. Idle connections go before uvicorn and llama.cpp close them, after 5 s: a job must
            # not be sent into a closing one.
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=settings.connect_timeout_s),
            read_bufsize=READ_BUFFER_BYTES,
            trust_env=False,
            auto_decompress=True,
            skip_auto_headers=("Accept-Encoding",),
        )

    async def status(self) -> EngineStatus:
        """Its models, all of them taken for loaded; EngineDown if it cannot be reached or isn't ready."""
        listed = await self._get_json("/v1/models")
        models = tuple(ModelInfo(model, is_loaded=True) for model in _model_ids(listed))
        return EngineStatus(self.kind, self._url, models=models, capabilities=self.capabilities)

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[EngineAnswer]:
        """Send the job's bytes to its path; leaving the context closes the connection unless all was read."""
        headers = {"Content-Type": "application/json", "X-Request-Id": question.id}
        if question.trace:
            headers["traceparent"] = question.trace
        try:
            response = await self._session.post(self._url + question.endpoint, data=question.body, headers=headers)
        except (aiohttp.ClientConnectorError, aiohttp.ServerTimeoutError) as exc:
            raise EngineDown(f"cannot reach {self._url}: {exc}") from exc
        except (aiohttp.ClientError, OSError) as exc:
            failure = Failure(502, "engine_disconnected", "the engine closed the connection unanswered", retryable=True)
            raise EngineBroke(failure) from exc
        try:
            if response.status >= 400:
                body = await _read_some(response)
                raise EngineRefused(read_failure(response.status, body))
            yield OpenAIAnswer(response)
        finally:
            response.close() if not response.content.at_eof() else response.release()

    async def aclose(self) -> None:
        """Close every connection."""
        await self._session.close()

    async def _get_json(self, path: str) -> Any:  # noqa: ANN401 - JSON is anything
        try:
            async with asyncio.timeout(self._settings.probe_timeout_s), self._session.get(self._url + path) as response:
                if response.status != 200:
                    raise EngineDown(f"{self._url}{path} answered {response.status}")
                return await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as exc:
            raise EngineDown(f"{self._url}{path}: {str(exc) or type(exc).__name__}") from exc


async def _read_some(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes of an error body; what cannot be read is left out."""
    try:
        async with asyncio.timeout(10):
            return await response.content.read(MAX_ERROR_BODY_BYTES)
    except (aiohttp.ClientError, TimeoutError, OSError):
        return b""


def _model_ids(listed: object) -> list[ModelId]:
    data = listed.get("data") if isinstance(listed, dict) else None
    if not isinstance(data, list):
        raise EngineDown("its list of models is not in OpenAI's form")
    return [ModelId(item["id"]) for item in data if isinstance(item, dict) and isinstance(item.get("id"), str)]
