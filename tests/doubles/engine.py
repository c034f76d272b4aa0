"""The test engine: a real HTTP process that imitates an OpenAI-compatible inference server.

It says numbered tokens (`scripted`, `stream`), does wrong what it is told to (`faults`) and keeps books (`ledger`).
`ollama`, `vllm`, `llamacpp` and `lmstudio` are the same engine with the surface of those servers; `serve` starts any.

How a lost client is noticed: aiohttp reads on while a handler runs and cancels the handler when the
connection ends, so every wait ends at once without looking after it.
"""

import asyncio
import hmac
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol

import orjson
from aiohttp import web

from tests.doubles.faults import Break, Faults, FaultsError
from tests.doubles.ledger import Ledger, Outcome, Record
from tests.doubles.models import Model, Options
from tests.doubles.scripted import Api, GenerationRequest, MalformedRequestError, llama_error, openai_error
from tests.doubles.stream import EventStream, Spoken, aborted, exited, forever, pause

_MAX_BODY_BYTES = 64 * 2**20
_UNLIMITED_SLOTS = 10**9


class Wanted(Protocol):
    """What a request asks for, whatever API it came by."""

    model: str
    stream: bool
    count: int
    double: object

    def answer(self, faults: Faults, *, fingerprint: str) -> Spoken: ...


class Refusal(Exception):
    """The engine does not take a request; says so with this answer."""

    def __init__(self, answer: web.Response) -> None:
        super().__init__(answer.status)
        self.answer = answer


class Engine:
    """The HTTP surface. Holds the default faults, the books and the slots of one engine process."""

    version = ""

    def __init__(self, options: Options) -> None:
        self.models: dict[str, Model] = {model.name: model for model in options.models}
        self.version = options.version or self.version
        self.ledger = Ledger()
        self._api_key = options.api_key
        self._lacks = options.lacks
        self.slots = options.slots or _UNLIMITED_SLOTS
        self._free = asyncio.Semaphore(self.slots)
        self._faults = Faults()
        # Tells apart the engines of one test: each is a process of its own.
        self._fingerprint = f"fp_double_{os.getpid()}"

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/control/state", self._state)
        app.router.add_post("/control/faults", self._set_faults)
        app.router.add_post("/control/reset", self._reset)
        app.router.add_routes([route for route in self.routes() if route.path not in self._lacks])
        app.router.add_route("*", "/{path:.*}", self.unknown_path)
        return app

    # What makes one kind differ from another

    def routes(self) -> list[web.RouteDef]:
        """What it serves."""
        return [
            web.get("/health", self.probe(lambda: {"status": "ok"})),
            web.get("/v1/models", self.probe(self.list_models)),
            web.post("/v1/chat/completions", self.generation(partial(GenerationRequest.read, Api.CHAT))),
            web.post("/v1/completions", self.generation(partial(GenerationRequest.read, Api.COMPLETION))),
        ]

    def list_models(self) -> dict[str, Any]:
        """The answer of /v1/models."""
        model = {"object": "model", "created": 0, "owned_by": "double"}
        return {"object": "list", "data": [{"id": name, **model} for name in self.models]}

    def error(self, status: int, message: str, path: str = "") -> web.Response:  # noqa: ARG002 - some look at the path
        """An error answer in its own shape."""
        kind = "invalid_request_error" if status < 500 else "server_error"
        return json_response(openai_error(message, kind=kind, code=status), status=status)

    def failure(self, status: int, path: str) -> web.Response:  # noqa: ARG002
        """The answer to a scripted failure without a body of its own."""
        return json_response(llama_error(status), status=status)

    async def unknown_path(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """The answer where nothing is served."""
        return web.Response(status=404, text="404: Not Found")

    def admit(self, wanted: Wanted, path: str) -> None:
        """Look at a well-formed request before it runs; raises Refusal. This kind knows every model."""

    # Probes

    def probe(self, document: Callable[[], dict[str, Any]]) -> Callable[[web.Request], Any]:
        """A handler of a GET that tells something."""

        async def handle(request: web.Request) -> web.Response:
            if request.path.startswith("/v1/") and not self._is_authorized(request):
                return _unauthorized()
            faults = self._faults if self._faults.probes else Faults()
            await pause(faults.first_byte_ms)
            if faults.hang:
                await forever()
            if faults.is_refusing:
                return self._refusal(faults, request.path)
            body = orjson.dumps(document())
            return json_response(body[:-2] if faults.bad_json else body)

        return handle

    # Generations

    def generation(self, read: Callable[[bytes], Wanted]) -> Callable[[web.Request], Any]:
        """A handler of a POST that generates what a body asks for."""

        async def handle(request: web.Request) -> web.StreamResponse:
            body = await request.read()
            record = self.ledger.note(request.path, request.headers, body)
            try:
                if not self._is_authorized(request):
                    raise Refusal(_unauthorized())
                wanted = read(body)
                faults = self._faults.overlaid(wanted.double)
                self.admit(wanted, request.path)
            except (MalformedRequestError, FaultsError) as error:
                record.outcome = Outcome.REFUSED
                return self.error(400, str(error), request.path)
            except Refusal as refusal:
                record.outcome = Outcome.REFUSED
                return refusal.answer
            record.model = wanted.model
            record.begun_tokens = getattr(wanted, "first", 0)  # what isn't text has no such thing
            with self.ledger.generation(record):
                return await self._generate(request, wanted, faults, record)

        return handle

    async def _generate(
        self, request: web.Request, wanted: Wanted, faults: Faults, record: Record
    ) -> web.StreamResponse:
        if faults.is_refusing:
            await pause(faults.first_byte_ms)
            record.outcome = Outcome.FAILED
            return self._refusal(faults, request.path)
        async with self._slot():
            await pause(faults.first_byte_ms)
            if faults.hang:
                await forever()
            answer = wanted.answer(faults, fingerprint=self._fingerprint)
            if wanted.stream:
                return await EventStream(request, answer, faults, record).send(wanted.count)
            return await self._whole(request, answer, faults, record, wanted.count)

    async def _whole(
        self, request: web.Request, answer: Spoken, faults: Faults, record: Record, count: int
    ) -> web.Response:
        """Answer without streaming: it takes as long as the stream would, and all is sent at the end."""
        reached, broken_by = faults.first_break(count)
        await pause(faults.prefill_ms + faults.delay_ms * reached)
        if broken_by is Break.STALL:
            await forever()
        if broken_by is not None:
            record.outcome = Outcome.FAILED
        if broken_by is Break.CUT:
            await aborted(request)
        if broken_by is Break.EXIT:
            await exited(request)
        if broken_by is Break.ERROR_EVENT:
            return self.failure(500, request.path)
        document = answer.document()
        return json_response(document[: len(document) // 2] if faults.bad_json else document)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait in line for a slot (first come, first served) and hold it."""
        async with self._free:
            self.ledger.running += 1
            try:
                yield
            finally:
                self.ledger.running -= 1

    def _refusal(self, faults: Faults, path: str) -> web.Response:
        status = 500 if faults.status is None else faults.status
        if faults.error_body is None:
            return self.failure(status, path)
        kind = "text/html" if faults.error_body.startswith("<") else "text/plain"
        return web.Response(body=faults.error_body.encode(), status=status, content_type=kind)

    def _is_authorized(self, request: web.Request) -> bool:
        if self._api_key is None:
            return True
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._api_key}".encode())

    # Control

    async def _state(self, _request: web.Request) -> web.Response:
        return json_response(orjson.dumps(self.ledger.state()))

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults = Faults().overlaid(orjson.loads(await request.read()))
        except ValueError as error:
            return json_response(openai_error(str(error), kind="invalid_request_error", code=400), status=400)
        return json_response(b"{}")

    async def _reset(self, _request: web.Request) -> web.Response:
        self.ledger.reset()
        return json_response(b"{}")


def json_response(body: bytes, *, status: int = 200) -> web.Response:
    """A JSON answer."""
    return web.Response(body=body, status=status, content_type="application/json")


def _unauthorized() -> web.Response:
    error = openai_error("Incorrect API key provided.", kind="invalid_request_error", code="invalid_api_key")
    return json_response(error, status=401)
