"""A hub that only has what the dashboard asks for, and says what a test wants: for scale and rare states."""

import asyncio
import contextlib
import json
import threading
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse

from hub.api.dashboard import dashboard_router
from tests.doubles.hub_state import now_ms, request_id
from tests.support.ports import free_port
from tests.support.processes import until

SLICE_S = 0.02
HOSTILE = "<img src=x onerror=\"document.title='pwned'\">"


class HubDouble:
    """Serves the dashboard, a state that can be patched, and scripted answers to the rest."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state
        self.news: list[tuple[str, dict[str, Any]]] = []
        self.calls: list[str] = []
        self.answer = ["Hello", " there", "."]
        """What the playground hears, piece by piece."""
        self.port = free_port()
        self.app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        self.app.include_router(dashboard_router())
        self._add_routes()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def tell(self, patch: dict[str, Any]) -> None:
        """Send a merge patch to whoever watches."""
        self.news.append(("patch", {"at": now_ms(), **patch}))

    def complain(self, message: str) -> None:
        """Say why there is nothing new."""
        self.news.append(("trouble", {"code": "broker_unavailable", "message": message}))

    @contextlib.contextmanager
    def served(self) -> Iterator["HubDouble"]:
        """Serve from a thread until left."""
        config = uvicorn.Config(self.app, port=self.port, log_level="critical", ws="none", lifespan="off")
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        until(lambda: server.started, 10, "the double does not serve")
        try:
            yield self
        finally:
            server.should_exit = server.force_exit = True
            thread.join(10)

    async def _events(self) -> AsyncIterator[str]:
        yield _event("snapshot", self.state)
        told = len(self.news)
        while True:
            while told < len(self.news):
                yield _event(*self.news[told])
                told += 1
            await asyncio.sleep(SLICE_S)

    def _add_routes(self) -> None:
        app = self.app

        @app.get("/api/overview/stream")
        async def stream() -> StreamingResponse:
            return StreamingResponse(self._events(), media_type="text/event-stream")

        @app.get("/api/dead")
        async def dead() -> dict[str, Any]:
            return {"dead": [_letter(0), _letter(1)] if self.state["totals"]["dead"] else []}

        @app.get("/api/keys")
        async def keys() -> dict[str, Any]:
            return {"keys": [_key(name) for name in (HOSTILE, "ci", "notebook")]}

        @app.get("/api/tokens")
        async def tokens() -> dict[str, Any]:
            return {"tokens": [_token(HOSTILE, [HOSTILE]), _token("attic", ["atlas", "basil"])]}

        @app.get("/api/usage")
        async def usage() -> dict[str, Any]:
            return {"days": 30, "usage": [_used(day, name) for day in range(30) for name in ("ci", "notebook")]}

        @app.get("/api/why/{name:path}")
        async def why(name: str) -> dict[str, Any]:
            reason = {
                "code": "gpu-busy",
                "text": f"{name} leaves its GPU to its owner.",
                "cure": "Wait until it is idle.",
            }
            return {"name": name, "kind": "node", "summary": f"{name} takes no work now.", "reasons": [reason]}

        @app.post("/v1/chat/completions")
        async def chat() -> StreamingResponse:
            return StreamingResponse(self._chat(), media_type="text/event-stream")

        @app.api_route("/{rest:path}", methods=["GET", "POST", "DELETE"])
        async def other(rest: str, request: Request) -> JSONResponse:
            self.calls.append(f"{request.method} /{rest}")
            return JSONResponse({"error": {"message": f"The double knows no /{rest}.", "code": "unknown_url"}}, 404)

    async def _chat(self) -> AsyncIterator[str]:
        for piece in self.answer:
            yield f"data: {json.dumps({'choices': [{'delta': {'content': piece}, 'finish_reason': None}]})}\n\n"
        yield f"data: {json.dumps({'choices': [{'delta': {}, 'finish_reason': 'stop'}]})}\n\ndata: [DONE]\n\n"


def _event(event: str, data: dict[str, Any]) -> str:
    return f"event: {event}\ndata: {json.dumps(data)}\n\n"


def _letter(number: int) -> dict[str, Any]:
    return {
        "id": f"1795297554814-{number}",
        "at": now_ms() - 3_600_000,
        "request": request_id(700 + number),
        "model": "llama3.3:70b" if number else HOSTILE,
        "endpoint": "/v1/chat/completions",
        "attempt": 3,
        "code": "engine_error",
        "reason": "the engine answered 500: CUDA error: out of memory" if number else HOSTILE,
        "body_bytes": 812,
        "is_retryable": bool(number),
        "retried_as": None,
    }


def _key(name: str) -> dict[str, Any]:
    limits = {"rpm": 60, "tpm": None, "concurrency": 4, "expires_at": None}
    return {
        "id": "5b1f6c0a9d3e2f47"[:-1] + str(len(name) % 10),
        "name": name,
        "created_at": now_ms() - 9**9,
        "models": [],
        "lane": "interactive",
        **limits,
    }


def _token(name: str, nodes: list[str]) -> dict[str, Any]:
    return {"id": f"{len(name):016x}", "name": name, "created_at": now_ms() - 9**9, "nodes": nodes}


def _used(day: int, name: str) -> dict[str, Any]:
    load = 1 + (day * 7 + len(name)) % 5
    return {
        "key": name,
        "name": name,
        "day": (datetime.now(UTC) - timedelta(days=day)).date().isoformat(),
        "model": "llama3.3:70b" if name == "ci" else "qwen3:32b",
        "requests": 40 * load,
        "prompt_tokens": 22_000 * load,
        "completion_tokens": 31_000 * load,
        "estimated": 0,
    }
