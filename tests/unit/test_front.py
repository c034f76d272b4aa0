"""The way in for what becomes a job, before FastAPI's own stack."""

from collections.abc import MutableMapping
from typing import Any

import orjson
from fastapi import APIRouter, FastAPI, Request, Response

from hub.api.errors import install_error_handlers
from hub.api.front import Front


def a_hub() -> tuple[FastAPI, Front, list[str]]:
    calls: list[str] = []
    router = APIRouter()

    @router.post("/v1/chat/completions", response_model=None)
    async def chat(request: Request) -> Response:
        calls.append(request.headers["x"])
        return Response(await request.body(), 201)

    @router.post("/v1/breaks", response_model=None)
    async def breaks(_: Request) -> Response:
        raise ZeroDivisionError("a secret")

    @router.post("/v1/kept/{name}", response_model=None)
    async def kept(name: str) -> Response:
        return Response(name)

    app = FastAPI()
    install_error_handlers(app)
    app.include_router(router)
    return app, Front(app, [router]), calls


async def asked(app: Any, method: str, path: str, body: bytes = b"") -> tuple[int, bytes]:
    sent: list[MutableMapping[str, Any]] = []
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [(b"x", b"y")],
        "server": ("h", 1),
        "client": ("c", 2),
    }

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(one.get("body", b"") for one in sent)


async def test_what_becomes_a_job_is_called_directly() -> None:
    app, front, calls = a_hub()
    app.router.routes.clear()
    assert await asked(front, "POST", "/v1/chat/completions", b"hello") == (201, b"hello")
    assert calls == ["y"]


async def test_all_else_goes_to_the_application() -> None:
    _, front, calls = a_hub()
    assert await asked(front, "POST", "/v1/kept/it") == (200, b"it")
    assert (await asked(front, "GET", "/v1/chat/completions"))[0] == 405
    assert (await asked(front, "POST", "/v1/chat/completions/"))[0] in (307, 404)
    assert (await asked(front, "POST", "/nowhere"))[0] == 404
    assert calls == []


async def test_what_breaks_is_told_in_the_api_s_own_shape() -> None:
    _, front, _ = a_hub()
    status, body = await asked(front, "POST", "/v1/breaks")
    assert status == 500
    assert b"secret" not in body
    assert orjson.loads(body)["error"]["type"] == "server_error"
