"""An HTTP server that says what it is told to, path by path, and remembers what it was asked."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from common.types import ModelId
from provider.protocol.engine import Question
from provider.settings import EngineSettings

FOR_EVER_S = 3600


@dataclass(frozen=True)
class Said:
    """An answer that is more than JSON under 200."""

    body: bytes | dict[str, Any] = b""
    status: int = 200
    content_type: str = "application/json"
    is_late: bool = False
    """Whether it never comes."""
    is_cut: bool = False
    """Whether the connection is closed instead."""


@dataclass(frozen=True)
class Asked:
    """A request that arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int = 0
    """Tells connections apart."""


@dataclass
class Server:
    """What it answers, path by path (404 elsewhere), and what it was asked. May be changed while it runs.

    An answer may be a function of the body.
    """

    answers: dict[str, Any]
    url: str = ""
    asked: list[Asked] = field(default_factory=list)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    _connections: list[Any] = field(default_factory=list)

    @property
    def paths(self) -> list[str]:
        return [one.path for one in self.asked]

    async def asked_again(self, path: str, times: int = 1) -> None:
        """Wait until a path was asked so many times more."""
        wanted = self.paths.count(path) + times
        async with asyncio.timeout(10):
            while self.paths.count(path) < wanted:
                self.arrived.clear()
                await self.arrived.wait()

    def _number(self, request: web.Request) -> int:
        if request.protocol not in self._connections:
            self._connections.append(request.protocol)
        return self._connections.index(request.protocol)

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append(Asked(request.method, request.path, request.headers.copy(), body, self._number(request)))
        self.arrived.set()
        answer = self.answers.get(request.path)
        answer = answer(body) if callable(answer) else answer
        said = Said({"error": "404 page not found"}, 404) if answer is None else answer
        if not isinstance(said, Said):
            said = Said(orjson.dumps(said))
        if said.is_late:
            await asyncio.sleep(FOR_EVER_S)
        if said.is_cut and request.transport is not None:
            request.transport.abort()
        text = orjson.dumps(said.body) if isinstance(said.body, dict) else said.body
        return web.Response(body=text, status=said.status, content_type=said.content_type)


@asynccontextmanager
async def serving(answers: dict[str, Any], port: int = 0) -> AsyncIterator[Server]:
    """A server on loopback; leaving the context closes its port."""
    server = Server(dict(answers))
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server._answer)
    runner = web.AppRunner(app, shutdown_timeout=0.01)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", port)
        await site.start()
        server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield server
    finally:
        await runner.cleanup()


def looking_at(url: str | None, **fields: Any) -> EngineSettings:
    """Settings that find out quickly."""
    return EngineSettings(**{"url": url, "probe_timeout_s": 5, "probe_interval_s": 0.1, **fields})


def question(endpoint: str = "/v1/chat/completions", body: bytes = b"{}", *, stream: bool = False) -> Question:
    return Question("r", endpoint, ModelId("m"), stream, body)


OPENAI = {"/v1/models": {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "someone"}]}}

OLLAMA = {
    "/api/version": {"version": "0.13.3"},
    "/api/tags": {
        "models": [
            {"name": "llama3:latest", "model": "llama3:latest", "size": 4_000_000, "digest": "365c0bd3c000"},
            {"name": "qwen3:8b", "model": "qwen3:8b", "size": 5_000_000, "digest": "500a1f067a9f"},
        ]
    },
    "/api/ps": {"models": [{"name": "llama3:latest", "size": 6_000_000, "digest": "365c", "size_vram": 5_500_000}]},
    "/v1/models": {"object": "list", "data": [{"id": "llama3:latest", "object": "model", "owned_by": "library"}]},
}

VLLM = {
    "/health": Said(b""),
    "/version": {"version": "0.11.2"},
    "/v1/models": {
        "object": "list",
        "data": [
            {"id": "org/model", "object": "model", "owned_by": "vllm", "root": "org/model", "max_model_len": 4096}
        ],
    },
    "/openapi.json": {"paths": {"/health": {}, "/v1/chat/completions": {}, "/v1/completions": {}, "/v1/messages": {}}},
}

LLAMACPP = {
    "/health": {"status": "ok"},
    "/props": {"total_slots": 4, "build_info": "b7777-abcdef", "model_path": "/models/m.gguf", "is_sleeping": False},
    "/slots": [{"id": 0, "is_processing": True}, {"id": 1, "is_processing": False}, {"id": 2, "is_processing": True}],
    "/v1/models": {
        "models": [{"name": "m"}],
        "object": "list",
        "data": [{"id": "m", "object": "model", "owned_by": "llamacpp", "meta": {"size": 96_576_768}}],
    },
    "/v1/embeddings": Said({"error": {"code": 501, "message": "This server does not support embeddings"}}, 501),
    "/v1/responses": Said({"error": {"code": 400, "message": "'input' is required"}}, 400),
}

LM_STUDIO = {
    "/api/v0/models": {
        "object": "list",
        "data": [
            {"id": "qwen2-vl-7b", "object": "model", "type": "vlm", "state": "not-loaded", "max_context_length": 32768},
            {"id": "llama-3.1-8b", "object": "model", "type": "llm", "state": "loaded", "max_context_length": 131072},
        ],
    },
    "/v1/models": {"object": "list", "data": [{"id": "llama-3.1-8b", "object": "model", "owned_by": "organization"}]},
}
LM_STUDIO_NEWER = LM_STUDIO | {
    "/api/v1/models": {
        "models": [
            {"key": "qwen2-vl-7b", "type": "llm", "size_bytes": 4_000, "loaded_instances": []},
            {"key": "llama-3.1-8b", "type": "llm", "size_bytes": 5_000, "loaded_instances": [{"id": "llama-3.1-8b"}]},
        ]
    }
}

HUB = {
    "/api/registry": {"nodes": [], "models": []},
    "/v1/models": {"object": "list", "data": [{"id": "m", "object": "model", "owned_by": "ghub"}]},
}
