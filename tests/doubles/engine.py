"""The test engine: a real HTTP process that imitates an OpenAI-compatible inference server.

`python -m tests.doubles.engine --port 0` prints `listening <url>` and serves until SIGTERM. It says numbered
tokens (`scripted`, `stream`), does wrong what it is told to (`faults`) and keeps books (`ledger`).

How a lost client is noticed: aiohttp reads on while a handler runs and cancels the handler when the
connection ends, so every wait ends at once without looking after it.
"""

import argparse
import asyncio
import hmac
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.faults import Break, Faults, FaultsError
from tests.doubles.ledger import Ledger, Outcome, Record
from tests.doubles.scripted import (
    Answer,
    Api,
    GenerationRequest,
    MalformedRequestError,
    llama_error,
    openai_error,
)
from tests.doubles.stream import EventStream, aborted, exited, forever, pause

_MAX_BODY_BYTES = 64 * 2**20
_UNLIMITED_SLOTS = 10**9


class Engine:
    """The HTTP surface. Holds the default faults, the books and the slots of one engine process."""

    def __init__(self, *, models: Sequence[str], slots: int | None, api_key: str | None) -> None:
        self._models = models
        self._api_key = api_key
        self._slots = asyncio.Semaphore(slots or _UNLIMITED_SLOTS)
        self._ledger = Ledger()
        self._faults = Faults()
        # Tells apart the engines of one test: each is a process of its own.
        self._fingerprint = f"fp_double_{os.getpid()}"

    def app(self) -> web.Application:
        """Return the application with all routes."""
        app = web.Application(client_max_size=_MAX_BODY_BYTES)
        app.router.add_get("/health", self._health)
        app.router.add_get("/v1/models", self._list_models)
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/completions", self._complete)
        app.router.add_get("/control/state", self._state)
        app.router.add_post("/control/faults", self._set_faults)
        app.router.add_post("/control/reset", self._reset)
        return app

    # Probes

    async def _health(self, _request: web.Request) -> web.Response:
        return await self._answer_probe({"status": "ok"})

    async def _list_models(self, request: web.Request) -> web.Response:
        if not self._is_authorized(request):
            return _unauthorized()
        model = {"object": "model", "created": 0, "owned_by": "double"}
        return await self._answer_probe({"object": "list", "data": [{"id": name, **model} for name in self._models]})

    async def _answer_probe(self, document: dict[str, Any]) -> web.Response:
        faults = self._faults if self._faults.probes else Faults()
        await pause(faults.first_byte_ms)
        if faults.hang:
            await forever()
        if faults.is_refusing:
            return _refusal(faults)
        body = orjson.dumps(document)
        return _json(body[:-2] if faults.bad_json else body)

    # Generations

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(Api.CHAT, request)

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        return await self._generate(Api.COMPLETION, request)

    async def _generate(self, api: Api, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        record = self._ledger.note(request.path, request.headers, body)
        if not self._is_authorized(request):
            record.outcome = Outcome.REFUSED
            return _unauthorized()
        try:
            wanted = GenerationRequest.read(api, body)
            faults = self._faults.overlaid(wanted.double)
        except (MalformedRequestError, FaultsError) as error:
            record.outcome = Outcome.REFUSED
            return _json(openai_error(str(error), kind="invalid_request_error", code=400), status=400)
        record.model = wanted.model
        with self._ledger.generation(record):
            if faults.is_refusing:
                await pause(faults.first_byte_ms)
                record.outcome = Outcome.FAILED
                return _refusal(faults)
            async with self._slot():
                await pause(faults.first_byte_ms)
                if faults.hang:
                    await forever()
                answer = Answer(wanted, faults, fingerprint=self._fingerprint)
                if wanted.stream:
                    return await EventStream(request, answer, faults, record).send(wanted.count)
                return await self._whole(request, answer, faults, record, wanted.count)

    async def _whole(
        self, request: web.Request, answer: Answer, faults: Faults, record: Record, count: int
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
            return _json(llama_error(500), status=500)
        document = answer.document()
        return _json(document[: len(document) // 2] if faults.bad_json else document)

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Wait in line for a slot (first come, first served) and hold it."""
        async with self._slots:
            self._ledger.running += 1
            try:
                yield
            finally:
                self._ledger.running -= 1

    def _is_authorized(self, request: web.Request) -> bool:
        if self._api_key is None:
            return True
        given = request.headers.get("authorization", "")
        return hmac.compare_digest(given.encode(), f"Bearer {self._api_key}".encode())

    # Control

    async def _state(self, _request: web.Request) -> web.Response:
        return _json(orjson.dumps(self._ledger.state()))

    async def _set_faults(self, request: web.Request) -> web.Response:
        try:
            self._faults = Faults().overlaid(orjson.loads(await request.read()))
        except ValueError as error:
            return _json(openai_error(str(error), kind="invalid_request_error", code=400), status=400)
        return _json(b"{}")

    async def _reset(self, _request: web.Request) -> web.Response:
        self._ledger.reset()
        return _json(b"{}")


def _json(body: bytes, *, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _unauthorized() -> web.Response:
    error = openai_error("Incorrect API key provided.", kind="invalid_request_error", code="invalid_api_key")
    return _json(error, status=401)


def _refusal(faults: Faults) -> web.Response:
    status = 500 if faults.status is None else faults.status
    if faults.error_body is None:
        return _json(llama_error(status), status=status)
    kind = "text/html" if faults.error_body.startswith("<") else "text/plain"
    return web.Response(body=faults.error_body.encode(), status=status, content_type=kind)


async def _serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    if options.until_stdin_closes:
        # Nothing is ever sent on it: it becomes readable when the parent, however it ends, is gone.
        loop.add_reader(sys.stdin.fileno(), stop.set)
    engine = Engine(models=options.model or ["tiny:1b"], slots=options.slots, api_key=options.api_key)
    runner = web.AppRunner(engine.app(), access_log=None, handler_cancellation=True, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", options.port, backlog=1024).start()
        print(f"listening http://127.0.0.1:{runner.addresses[0][1]}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.doubles.engine", description="The test engine.")
    parser.add_argument("--port", type=int, default=0, help="0: any free one")
    parser.add_argument("--model", action="extend", nargs="+", help="ids that /v1/models lists")
    parser.add_argument("--slots", type=int, help="generations that run at once; more wait in line")
    parser.add_argument("--api-key", help="refuse requests to /v1 without this Bearer key")
    parser.add_argument("--until-stdin-closes", action="store_true", help="end with the parent process")
    asyncio.run(_serve(parser.parse_args(arguments)))


if __name__ == "__main__":
    main()
