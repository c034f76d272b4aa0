"""A hub that does wrong on purpose: the chaos run must find out."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from bench.chaos.client import Ask, Course, Manner
from bench.chaos.load import Load

TOKENS = 12


@dataclass
class FalseHub:
    """Says these tokens, ends in this way, and goes on after an id that it is shown."""

    numbers: Sequence[int] = tuple(range(TOKENS))
    reason: bool = True
    done: int = 1
    error: dict[str, object] | None = None
    aborts_after: int | None = None
    """The connection is reset after so many tokens; once only."""
    is_shown_as_killed: bool = False
    counted: int = TOKENS
    repeats_on_resume: int = 0
    """So many tokens before the id that was shown come again."""
    resumed_after: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def was_killed(self, url: str, since_s: float) -> bool:  # noqa: ARG002 - there is only one
        return self.is_shown_as_killed

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        app.router.add_get("/v1/requests/{id}/stream", self._resume)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.urls.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
            yield
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        return await self._say(request, 0)

    async def _resume(self, request: web.Request) -> web.StreamResponse:
        after = request.headers.get("last-event-id", "")
        self.resumed_after.append(after)
        return await self._say(request, int(after.rpartition("-")[2]) + 1 - self.repeats_on_resume)

    async def _say(self, request: web.Request, start: int) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-request-id": "r1"})
        await response.prepare(request)
        for place, number in list(enumerate(self.numbers))[start:]:
            if place == self.aborts_after:
                self.aborts_after = None
                assert request.transport is not None
                request.transport.close()
                return response
            await response.write(b"id: 1-%d\n" % place)
            await response.write(_event({"choices": [{"delta": {"content": f"t{number} "}, "finish_reason": None}]}))
        if self.error is not None:
            await response.write(_event({"error": self.error}))
        if self.reason:
            await response.write(_event({"choices": [{"delta": {}, "finish_reason": "length"}]}))
            await response.write(_event({"choices": [], "usage": {"completion_tokens": self.counted}}))
        for _ in range(self.done):
            await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


async def course_at(hub: FalseHub, manner: Manner = Manner.PLAIN, limit_s: float = 10) -> Course:
    """What becomes of one request to it."""
    async with hub.serving():
        load = Load(hub, limit_s)
        await load.once([Ask(0, manner, TOKENS, gap_ms=0)], ramp_s=0)
    (course,) = load.courses
    return course


def _event(said: dict[str, object]) -> bytes:
    return b"data: " + json.dumps(said).encode() + b"\n\n"
