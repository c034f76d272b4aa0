"""`/v1/chat/completions` and `/v1/completions` of a provider: the engine's bytes as they come."""

import asyncio
from contextlib import suppress
from dataclasses import replace

import structlog
from fastapi import APIRouter, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from structlog.contextvars import bind_contextvars

from common.errors import ClientGone
from common.serving.bodies import Sender
from provider.answers.stall_clock import StallClock
from provider.api.errors import error_body, refusal
from provider.api.intake import Intake
from provider.direct import Call, DirectCalls
from provider.errors import CallRefused, EngineFailed, EngineFull
from provider.protocol.engine import EngineAnswer, Question, read_whole
from provider.settings import ProviderSettings
from provider.telemetry.trail import DONE, Trails, WorkTrail, log_fields

log = structlog.get_logger()


def direct_router(calls: DirectCalls, settings: ProviderSettings, trails: Trails) -> APIRouter:
    """Routes of direct mode."""
    router = APIRouter(tags=["direct"])
    intake = Intake(settings.server)

    async def forward(request: Request) -> Response:
        """One call past hub and broker, for who shows `X-Inferoute-HMAC`: the engine's answer as it comes."""
        hmac = request.headers.get("x-inferoute-hmac", "")
        trace = request.headers.get("traceparent", "")[:256]
        call = Call(request.url.path, b"", hmac, trace)
        trail = trails.call(call.endpoint, call.id, request.headers)
        bind_contextvars(request=call.id, **log_fields(trail))
        try:
            calls.precheck(hmac)
            async with intake.body_of(request) as body:
                question = await calls.admit(replace(call, body=body))
            return DirectResponse(question, calls, settings, trail)
        except CallRefused as exc:
            calls.outcomes.note(exc.code)
            if trail is not None:
                trail.ended(exc.code, {"http.response.status_code": exc.status})
            return refusal(exc)

    router.post("/v1/chat/completions", response_model=None)(forward)
    router.post("/v1/completions", response_model=None)(forward)
    return router


class DirectResponse(Response):
    """Relays one answer, and closes the engine's connection as soon as the caller leaves."""

    def __init__(
        self, question: Question, calls: DirectCalls, settings: ProviderSettings, trail: WorkTrail | None = None
    ) -> None:
        # Response's own set-up is for a body that is known; this one says everything itself.
        self.background = None
        self._trail = trail
        self._asked = None if trail is None else trail.ask(question)
        self._question = question if self._asked is None else self._asked.question
        self._calls = calls
        self._settings = settings
        self._clock: StallClock | None = None
        """Since the engine was asked."""

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
        self._calls.outcomes.note(ended)
        self._end_trail(ended)
        log.info("direct_call_ended", request=self._question.id, model=self._question.model, outcome=ended)
        if isinstance(outcome, Exception):
            raise outcome

    def _end_trail(self, outcome: str) -> None:
        if self._trail is not None and self._asked is not None:
            if self._clock is not None:
                self._asked.heard(self._clock.begun_at)
            self._asked.end(None if outcome == DONE else outcome)
            self._trail.ended(outcome)

    async def _relay(self, scope: Scope, receive: Receive, send: Send) -> str:
        """Ask and pass the answer on; how it ended."""
        with Sender(send, self._settings.server.send_timeout_s) as sender:
            return await self._relay_by(sender, scope, receive, send)

    async def _relay_by(self, sender: Sender, scope: Scope, receive: Receive, send: Send) -> str:
        clock = StallClock(
            self._settings.first_token_timeout_s if self._question.stream else self._settings.answer_timeout_s,
            self._settings.token_timeout_s,
        )
        self._clock = clock
        whole: bytes | None = None
        try:
            async with clock.timer, self._calls.ask(self._question) as answer:
                heard = answer if self._asked is None else self._asked.overhear(answer)
                if answer.content_type.startswith("text/event-stream"):
                    await self._pass_on(heard, sender, clock)
                else:
                    whole = await read_whole(heard, self._settings.max_answer_bytes)
            if whole is not None:  # the slot is free by now, however slowly the caller reads
                await sender.begin(answer.status, self._head(answer, (b"content-length", b"%d" % len(whole))))
                await sender.body(whole, more=False)
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
        except ClientGone:
            return "caller_gone"
        else:
            return DONE
        if not sender.has_begun:
            await refusal(failed)(scope, receive, send)
            return failed.code
        with suppress(ClientGone):  # the blank line ends whatever the engine left half said
            await sender.body(b"\n\ndata: %b\n\ndata: [DONE]\n\n" % error_body(failed), more=False)
        return failed.code

    async def _pass_on(self, answer: EngineAnswer, sender: Sender, clock: StallClock) -> None:
        """Bytes as they come; the head with the first of them, so that an early failure keeps its status."""
        async for chunk in answer.chunks():
            clock.tick()
            if not sender.has_begun:
                await sender.begin(answer.status, self._head(answer, (b"x-accel-buffering", b"no")))
            await sender.body(chunk, more=True)
        if not sender.has_begun:
            raise CallRefused(502, "engine_empty_answer", "the engine ended its answer unsaid")
        await sender.body(b"", more=False)

    def _head(self, answer: EngineAnswer, extra: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
        told = answer.content_type
        kind = told if told.isascii() and told.isprintable() else "application/octet-stream"
        return [
            (b"content-type", kind.encode()),
            (b"cache-control", b"no-store"),
            (b"x-request-id", self._question.id.encode()),
            extra,
        ]


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
