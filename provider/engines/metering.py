"""Usage of streams: asked of engines that tell it on request only, and hidden from clients that did not ask.

`stream_options: {"include_usage": true}` brings one event more, without choices: the tokens that the answer took.
"""

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import orjson
import structlog

from common.wire import Usage
from provider.engines.http import EngineHttp
from provider.errors import EngineRefused
from provider.protocol.engine import EngineAnswer, Question
from provider.protocol.events import EventSplitter, data_of, split_events
from provider.protocol.usage import read_events_usage

log = structlog.get_logger()

_PATHS = frozenset({"/v1/chat/completions", "/v1/completions"})
"""Where the option is known; other APIs always tell."""
_OPTION = "stream_options"
_WANTED = b'"stream_options":{"include_usage":true}'
_OBJECT_BEGINS = re.compile(rb"\s*\{")
_NO_CHOICES = re.compile(rb'"choices"\s*:\s*\[\s*\]')
_REFUSALS = (400, 422)


class UsageAsker:
    """Asks one engine for its usage beside each stream's answer, until it refuses to be asked so."""

    def __init__(self, http: EngineHttp) -> None:
        self._http = http
        self._is_refused = False

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[EngineAnswer]:
        """Send a question on, asking for usage too where its client didn't; raises what the engine's HTTP raises."""
        asked = None if self._is_refused else with_usage(question)
        async with AsyncExitStack() as stack:
            answer = None
            if asked is not None:
                try:
                    answer = await stack.enter_async_context(self._http.ask(asked))
                except EngineRefused as exc:
                    words = f"{exc.failure.message} {exc.failure.param}"
                    if exc.failure.status not in _REFUSALS or _OPTION not in words:
                        raise
                    log.info("usage_not_told", url=self._http.url, reason=exc.failure.message)
                    self._is_refused = True
            if answer is None:
                yield await stack.enter_async_context(self._http.ask(question))
            elif answer.content_type.startswith("text/event-stream"):
                yield MeteredAnswer(answer, self._http.settings.max_event_bytes)
            else:
                yield answer


def with_usage(question: Question) -> Question | None:
    """The same, asking for usage at the end of its stream; None where that cannot be asked, or is asked for anyway."""
    if not question.stream or question.endpoint not in _PATHS:
        return None
    body = question.body
    if _OPTION.encode() in body:  # as a field, or as a word of the client's
        try:
            fields = orjson.loads(body)
        except ValueError:
            return None  # the engine's to refuse
        if isinstance(fields, dict) and _OPTION in fields:
            options = {} if fields[_OPTION] is None else fields[_OPTION]
            if not isinstance(options, dict) or options.get("include_usage"):
                return None
            return replace(question, body=orjson.dumps(fields | {_OPTION: options | {"include_usage": True}}))
    begins = _OBJECT_BEGINS.match(body)
    if begins is None:
        return None
    rest = body[begins.end() :]  # stays as the client wrote it
    comma = b"" if rest.lstrip().startswith(b"}") else b","
    return replace(question, body=b"".join([begins.group(), _WANTED, comma, rest]))


class MeteredAnswer:
    """An answer without the event that only its provider asked for."""

    def __init__(self, answer: EngineAnswer, max_event_bytes: int) -> None:
        self._answer = answer
        self._max_event_bytes = max_event_bytes
        self.status = answer.status
        self.content_type = answer.content_type
        self.usage: Usage | None = None
        """What the hidden event said, once it came."""

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes, in whole events; EngineBroke if the connection is lost, or an event is too long."""
        splitter = EventSplitter(self._max_event_bytes)
        async for chunk in self._answer.chunks():
            events = splitter.feed(chunk)
            if b'"usage"' in events and _NO_CHOICES.search(events):  # next to never: the tokens pass unread
                events = self._without_hidden(events)
            if events:
                yield events
        if (rest := splitter.finish()) and not self._hides(rest):
            yield rest

    def _without_hidden(self, events: bytes) -> bytes:
        if b"\r" in events:
            return b"".join([event for event in split_events(events) if not self._hides(event)])
        kept, begin = b"", 0
        for match in _NO_CHOICES.finditer(events):  # of a hundred events that came together one is looked at
            before, behind = events.rfind(b"\n\n", begin, match.start()), events.find(b"\n\n", match.end())
            start = begin if before < 0 else before + 2
            end = len(events) if behind < 0 else behind + 2
            if self._hides(events[start:end]):
                kept, begin = kept + events[begin:start], end
        return kept + events[begin:]

    def _hides(self, event: bytes) -> bool:
        try:
            said = orjson.loads(data_of(event))
        except ValueError:
            return False
        if not isinstance(said, dict) or said.get("choices") != [] or not isinstance(said.get("usage"), dict):
            return False
        self.usage = read_events_usage(event)
        return True
