"""One client and its one request: as careful as a well-made client is, and no more."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

import aiohttp
import orjson

from bench.chaos.judge import Verdict, judge
from bench.chaos.reading import EventReader, Heard, code_of

MODEL = "tiny:1b"
SLOW_READ_BYTES = 8192
SLOW_PAUSE_S = 0.1
PADDED_EVENT_BYTES = 4000
"""What a slow client is sent for each token, so that it falls behind at all."""
RETRY_S = 0.3
"""Between two tries to reach a hub."""
SILENCE_S = 60
"""A client gives up when nothing at all came for so long: the hub's comments come every few seconds."""
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"


class Manner(StrEnum):
    """How a client asks, and what it does when its connection is lost."""

    PLAIN = "plain"
    RESUMING = "resuming"
    """Goes on at the other hub after the last event that it read."""
    ATTACHING = "attaching"
    """Asks again with the same Idempotency-Key, and hears the whole answer again."""
    WHOLE = "whole"
    """Wants the answer in one piece."""
    SLOW = "slow"
    LEAVING = "leaving"
    """Goes away in the middle."""


class End(StrEnum):
    """How a request ended for its client."""

    FINISHED = "finished"
    CLEAN_ERROR = "clean error"
    LEFT = "left"
    """It was the client that went."""
    HUB_LOST = "hub lost"
    """A client that cannot resume lost its connection because its hub was killed."""
    UNCLEAN = "unclean"
    """Cut off without a word by a hub that lives, an error without a code, an answer that does not end as it should."""
    STUCK = "stuck"
    """Silence until the client gave up."""


@dataclass(frozen=True, slots=True)
class Ask:
    """What one client wants."""

    number: int
    manner: Manner
    tokens: int
    gap_ms: float
    """Between two tokens of the engine."""
    hub: int = 0
    """Which hub it asks first."""
    path: str = CHAT
    leaves_after: int = 0
    double: Mapping[str, Any] = field(default_factory=dict)
    """Further wishes to the test engine."""

    def body(self) -> dict[str, Any]:
        """The request's body."""
        double = {"delay_ms": self.gap_ms, **self.double}
        if self.manner is Manner.SLOW:
            double["event_bytes"] = PADDED_EVENT_BYTES
        prompt = f"request {self.number}"
        asked = {"messages": [{"role": "user", "content": prompt}]} if self.path == CHAT else {"prompt": prompt}
        fields = {"model": MODEL, "max_tokens": self.tokens, "stream": self.is_stream, "double": double, **asked}
        return fields | ({"stream_options": {"include_usage": True}} if self.is_stream else {})

    @property
    def is_stream(self) -> bool:
        """Whether it wants the answer token by token."""
        return self.manner is not Manner.WHOLE


@dataclass(slots=True)
class Course:
    """What became of one request."""

    ask: Ask
    heard: Heard = field(default_factory=Heard)
    end: End | None = None
    why: str = ""
    """Of an end that is no good one."""
    request_id: str = ""
    hub: str = ""
    """The URL that it was connected to last."""
    began_s: float = field(default_factory=time.monotonic)
    resumed: int = 0
    """How often it went on after a lost connection."""

    verdict: Verdict = field(default_factory=Verdict)
    """The client's text against the engine's, once it is over."""

    def close(self) -> None:
        """Judge it, and forget the words where nothing is wrong with them: a long run hears millions."""
        self.verdict = judge(self.heard.text, self.ask.tokens, is_finished=self.end is End.FINISHED)
        if self.verdict.is_clean:
            self.heard.words.clear()

    @property
    def is_miscounted(self) -> bool:
        """Whether a finished answer counts its tokens, and counts them wrong."""
        counted = self.heard.completion_tokens
        return self.end is End.FINISHED and counted is not None and counted != self.ask.tokens


class Hubs(Protocol):
    """What clients need to know of the hubs."""

    urls: list[str]
    headers: dict[str, str]
    """What every client sends."""

    def was_killed(self, url: str, since_s: float) -> bool:
        """Whether this hub was killed since then."""
        ...


class Lost(Exception):
    """The connection is gone before the answer's end."""


class Client:
    """Asks once and stays with it until the end."""

    def __init__(self, session: aiohttp.ClientSession, hubs: Hubs, limit_s: float) -> None:
        self._session = session
        self._hubs = hubs
        self._limit_s = limit_s
        """Of one request, all its connections together."""

    async def ask(self, course: Course) -> None:
        """The whole course of a request; never raises but when it is cancelled."""
        try:
            async with asyncio.timeout(self._limit_s):
                await self._run(course)
        except TimeoutError:
            course.end, course.why = End.STUCK, f"{len(course.heard.words)} tokens after {self._limit_s:.0f} s"
        course.close()

    async def _run(self, course: Course) -> None:
        turn = course.ask.hub
        while course.end is None:
            course.hub = self._hubs.urls[turn % len(self._hubs.urls)]
            turn += 1
            try:
                await self._connect(course)
            except aiohttp.ClientConnectorError:
                await asyncio.sleep(RETRY_S)  # nobody took the request: any client asks the next one
            except aiohttp.SocketTimeoutError:
                course.end, course.why = End.STUCK, f"nothing for {SILENCE_S} s"
            except (aiohttp.ClientError, ConnectionError, Lost) as exc:
                await self._after_loss(course, exc)

    async def _after_loss(self, course: Course, exc: Exception) -> None:
        was_killed = self._hubs.was_killed(course.hub, course.began_s)
        if course.ask.manner in (Manner.RESUMING, Manner.ATTACHING) and was_killed:
            course.resumed += 1
            await asyncio.sleep(RETRY_S)
        elif was_killed:
            course.end = End.HUB_LOST
        else:
            course.end, course.why = End.UNCLEAN, f"{type(exc).__name__}: {exc}"

    async def _connect(self, course: Course) -> None:
        ask = course.ask
        headers = {"content-type": "application/json", **self._hubs.headers}
        if ask.manner is Manner.ATTACHING:
            headers["idempotency-key"] = f"request-{ask.number}"
            course.heard = Heard()  # what comes now is the whole answer
        if ask.manner is Manner.RESUMING and course.request_id:
            headers |= {"last-event-id": course.heard.last_id} if course.heard.last_id else {}
            path = f"/v1/requests/{course.request_id}/stream"
            async with self._session.get(course.hub + path, headers=headers) as response:
                await self._read(course, response)
            return
        if ask.manner is Manner.RESUMING:
            headers["x-ghub-resumable"] = "1"
        body = orjson.dumps(ask.body())
        async with self._session.post(course.hub + ask.path, data=body, headers=headers) as response:
            await self._read(course, response)

    async def _read(self, course: Course, response: aiohttp.ClientResponse) -> None:
        if response.status != 200:
            await self._refused(course, response)
            return
        course.request_id = response.headers["x-request-id"]
        if not course.ask.is_stream:
            self._take_whole(course, orjson.loads(await response.read()))
            return
        reader = EventReader(course.heard)
        while data := await self._piece(course.ask, response):
            reader.feed(data, time.monotonic())
            if course.ask.manner is Manner.LEAVING and len(course.heard.words) >= course.ask.leaves_after:
                response.close()
                course.end = End.LEFT
                return
        self._judge_end(course)

    async def _piece(self, ask: Ask, response: aiohttp.ClientResponse) -> bytes:
        if ask.manner is Manner.SLOW:
            await asyncio.sleep(SLOW_PAUSE_S)
            return await response.content.read(SLOW_READ_BYTES)
        return await response.content.readany()

    async def _refused(self, course: Course, response: aiohttp.ClientResponse) -> None:
        code = code_of(_fields(await response.read()).get("error"))
        if course.resumed and response.status == 503:
            await asyncio.sleep(RETRY_S)  # the broker is away: what runs, runs on
            return
        course.end = End.CLEAN_ERROR if code else End.UNCLEAN
        course.why = f"{response.status} {code}"

    def _take_whole(self, course: Course, answer: dict[str, Any]) -> None:
        choice = answer["choices"][0]
        course.heard.words = [choice["text"] if "text" in choice else choice["message"]["content"]]
        course.heard.completion_tokens = answer["usage"]["completion_tokens"]
        course.end = End.FINISHED

    def _judge_end(self, course: Course) -> None:
        heard = course.heard
        if heard.error_code:
            course.end, course.why = End.CLEAN_ERROR, heard.error_code
        elif heard.is_finished:
            course.end = End.FINISHED
        elif heard.is_done or heard.has_reason:
            course.end = End.UNCLEAN
            course.why = f"reason {heard.has_reason}, done {heard.is_done}, {heard.after_done} events after it"
        else:
            raise Lost("the answer ended without an end")


def _fields(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}
