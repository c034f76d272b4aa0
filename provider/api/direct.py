"""`/v1/chat/completions` and `/v1/completions` of a provider: the engine's bytes as they come."""

import asyncio

import structlog
from fastapi import APIRouter, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from provider.answer import StallClock
from provider.api.errors import error_body, refusal
from provider.direct import Call, DirectCalls
from provider.engines.base import EngineAnswer, Question
from provider.errors import CallRefused, EngineFailed, EngineFull
from provider.settings import ProviderSettings

log = structlog.get_logger()

PIECE_BYTES = 64 * 1024
"""Sent at once: the clock on a caller that reads nothing must not catch one that reads a large answer slowly."""


def direct_router(calls: DirectCalls, settings: ProviderSettings) -> APIRouter:
    """Routes of direct mode."""
    router = APIRouter(tags=["direct"])

    async def forward(request: Request) -> Response:
        try:
            call = Call(
                endpoint=request.url.path,
                body=await _read_body(request, settings.server.max_body_bytes),
                hmac=request.headers.get("x-inferoute-hmac", ""),
                trace=request.headers.get("traceparent", "")[:256],
            )
            return DirectResponse(await calls.admit(call), calls, settings)
        except CallRefused as exc:
            calls.outcomes[exc.code] += 1
            return refusal(exc)

    router.post("/v1/chat/completions", response_model=None)(forward)
    router.post("/v1/completions", response_model=None)(forward)
    return router


class DirectResponse(Response):
    """Relays one answer, and closes the engine's connection as soon as the caller leaves."""

    def __init__(self, question: Question, calls: DirectCalls, settings: ProviderSettings) -> None:
        # Response's own set-up is for a body that is known; this one says everything itself.
        self.background = None
        self._question = question
        self._calls = calls
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Relay until the answer ends or the caller leaves."""
        relay = asyncio.create_task(self._relay(scope, receive, send), name=f"direct-{self._question.id}")
        watch = asyncio.create_task(_until_gone(receive), name="direct-caller")
        try:
            await asyncio.wait([relay, watch], return_when=asyncio.FIRST_COMPLETED)
        finally:
            watch.cancel()
            relay.cancel()
            (outcome,) = await asyncio.gather(relay, return_exceptions=True)
        ended = outcome if isinstance(outcome, str) else "cancelled"
        self._calls.outcomes[ended] += 1
        log.info("direct_call_ended", request=self._question.id, model=self._question.model, outcome=ended)
        if isinstance(outcome, Exception):
            raise outcome

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> str:
        """Ask and pass the answer on; how it ended."""
        sender = Sender(send, self._settings.server.send_timeout_s)
        clock = StallClock(
            self._settings.first_token_timeout_s if self._question.stream else self._settings.answer_timeout_s,
            self._settings.token_timeout_s,
        )
        try:
            async with clock.timer, self._calls.ask(self._question) as answer:
                if answer.content_type.startswith("text/event-stream"):
                    await self._pass_on(answer, sender, clock)
                else:
                    await self._pass_whole(answer, sender)
        except CallRefused as exc:
            failed = exc
        except EngineFull:
            message = "the engine has no memory for this model now"
            failed = CallRefused(503, "gpu_memory", message, retry_after_s=self._settings.server.retry_after_s)
        except EngineFailed as exc:
            failure = exc.failure
            failed = CallRefused(failure.status, failure.code, failure.message)
        except TimeoutError:
            failed = CallRefused(504, "engine_timeout", "the engine took too long")
        except CallerGone as exc:
            return str(exc)
        else:
            return "done"
        if sender.has_begun:
            event = error_body(failed.status, failed.code, failed.message)
            await sender.body(b"data: " + event + b"\n\ndata: [DONE]\n\n", more=False)
        else:
            await refusal(failed)(scope, receive, send)
        return failed.code

    async def _pass_on(self, answer: EngineAnswer, sender: "Sender", clock: StallClock) -> None:
        """Bytes as they come; the head with the first of them, so that an early failure keeps its status."""
        async for chunk in answer.chunks():
            clock.tick()
            if not sender.has_begun:
                await sender.begin(answer, self._question.id, [(b"x-accel-buffering", b"no")])
            await sender.body(chunk, more=True)
        if not sender.has_begun:
            raise CallRefused(502, "engine_empty_answer", "the engine ended its answer unsaid")
        await sender.body(b"", more=False)

    async def _pass_whole(self, answer: EngineAnswer, sender: "Sender") -> None:
        parts: list[bytes] = []
        size = 0
        async for chunk in answer.chunks():
            parts.append(chunk)
            size += len(chunk)
            if size > self._settings.max_answer_bytes:
                limit = self._settings.max_answer_bytes
                raise CallRefused(502, "answer_too_large", f"the answer is longer than {limit} bytes")
        await sender.begin(answer, self._question.id, [(b"content-length", b"%d" % size)])
        await sender.body(b"".join(parts), more=False)


class CallerGone(Exception):
    """The caller left, or reads nothing."""


class Sender:
    """Writes to the caller, each write with a limit."""

    def __init__(self, send: Send, timeout_s: float) -> None:
        self._send = send
        self._timeout_s = timeout_s
        self.has_begun = False

    async def begin(self, answer: EngineAnswer, request: str, extra: list[tuple[bytes, bytes]]) -> None:
        """Send the head."""
        told = answer.content_type
        kind = told if told.isascii() and told.isprintable() else "application/octet-stream"
        headers = [
            (b"content-type", kind.encode()),
            (b"cache-control", b"no-store"),
            (b"x-request-id", request.encode()),
            *extra,
        ]
        self.has_begun = True
        await self._put({"type": "http.response.start", "status": answer.status, "headers": headers})

    async def body(self, data: bytes, *, more: bool) -> None:
        """Send a part of the body, in pieces that even a slow reader takes within the limit."""
        for at in range(0, len(data) or 1, PIECE_BYTES):
            end = at + PIECE_BYTES
            is_last = not more and end >= len(data)
            await self._put({"type": "http.response.body", "body": data[at:end], "more_body": not is_last})

    async def _put(self, message: Message) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._send(message)
        except TimeoutError as exc:
            raise CallerGone("caller_reads_nothing") from exc
        except OSError as exc:
            raise CallerGone("caller_gone") from exc


async def _read_body(request: Request, limit_bytes: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > limit_bytes:
                raise CallRefused(413, "request_too_large", f"the body has more than {limit_bytes} bytes")
            parts.append(part)
    except ClientDisconnect as exc:
        raise CallRefused(400, "invalid_request", "the caller closed the connection within its body") from exc
    return b"".join(parts)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
