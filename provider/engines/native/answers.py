"""Answers of OpenAI's form, relayed in Ollama's: events as lines as they come, or one object at the end."""

from collections.abc import AsyncIterator

import orjson

from common.wire import Failure, Usage
from provider.engines.native.lines import NativeLines
from provider.errors import EngineBroke, EngineError, EngineFailed
from provider.protocol.engine import MAX_WHOLE_BYTES, EngineAnswer, read_whole
from provider.protocol.events import EventSplitter, data_of, split_events
from provider.protocol.failures import bad_answer, broke_off, engine_error, read_error_event, read_error_object

LINES = "application/x-ndjson"
OBJECT = "application/json; charset=utf-8"


class KnownAnswer:
    """An answer for which no engine is needed."""

    status = 200
    content_type = OBJECT
    usage = None

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body."""
        yield self._body


class NativeAnswer:
    """An engine's answer in Ollama's form, the tokens that it took among its words."""

    usage = None

    def __init__(self, answer: EngineAnswer, lines: NativeLines, max_event_bytes: int, *, is_stream: bool) -> None:
        self._answer = answer
        self._lines = lines
        self._max_event_bytes = max_event_bytes
        self._is_stream = is_stream
        self.status = answer.status
        self.content_type = LINES if is_stream else OBJECT

    def chunks(self) -> AsyncIterator[bytes]:
        """Whole lines, or the object.

        Raises:
            EngineRefused: the engine said instead of an answer that it cannot give one.
            EngineFull: it said so for want of memory.
            EngineFailed: it said so in mid-stream.
            EngineBroke: the answer ended too early, or made no sense.
        """
        is_events = self._answer.content_type.startswith("text/event-stream")
        return self._stream() if self._is_stream and is_events else self._whole()

    async def _stream(self) -> AsyncIterator[bytes]:
        splitter = EventSplitter(self._max_event_bytes)
        has_spoken = False
        is_over = False
        async for chunk in self._answer.chunks():
            told: list[bytes] = []
            failed: EngineError | None = None
            for event in split_events(splitter.feed(chunk)):
                if is_over:
                    break
                try:
                    line, is_over = self._told(event)
                    told.append(line)
                except EngineError as exc:
                    failed = exc  # what stands before it goes first
                    break
            if block := b"".join(told):
                has_spoken = True
                yield block
            if failed is not None:
                raise _said_late(failed) if has_spoken else failed
        if not is_over:
            rest, is_over = self._told(splitter.finish())
            if not is_over and not self._lines.is_finished:
                raise broke_off()
            yield rest if is_over else rest + self._ending()

    def _told(self, event: bytes) -> tuple[bytes, bool]:
        """The lines for an event, and whether they are the last."""
        if (failure := read_error_event(event)) is not None:
            raise engine_error(failure)
        data = data_of(event).strip()
        if data == b"[DONE]":
            return self._ending(), True
        if not data:
            return b"", False
        try:
            chunk = orjson.loads(data)
            # llama.cpp says `data: null` where a result has nothing to say
            return b"" if chunk is None else self._lines.piece(chunk), False
        except (ValueError, TypeError, AttributeError, LookupError) as exc:
            raise _senseless(exc) from exc

    def _ending(self) -> bytes:
        try:
            return self._lines.ending(self._answer.usage or Usage()) + b"\n"
        except (ValueError, TypeError, AttributeError, LookupError) as exc:
            raise _senseless(exc) from exc

    async def _whole(self) -> AsyncIterator[bytes]:
        body = await read_whole(self._answer, MAX_WHOLE_BYTES)
        try:
            said = orjson.loads(body)
            if (failure := read_error_object(said)) is not None:
                raise engine_error(failure)
            whole = self._lines.whole(said)
        except (ValueError, TypeError, AttributeError, LookupError) as exc:
            raise _senseless(exc) from exc
        yield whole + b"\n" if self._is_stream else whole


def _said_late(error: EngineError) -> EngineError:
    """The same for an answer of which something was said: want of memory is a failure then."""
    if isinstance(error, EngineFailed):
        return EngineFailed(error.failure)
    return EngineFailed(Failure(503, "engine_full", str(error), retryable=True))


def _senseless(error: Exception) -> EngineBroke:
    return bad_answer(f"the engine's answer is not in OpenAI's form: {error}"[:300])
