"""Ollama's own API on engines that don't have it: asked in OpenAI's words, answered in Ollama's."""

import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from provider.engines.native.answers import KnownAnswer, NativeAnswer
from provider.engines.native.lines import NativeLines
from provider.engines.native.questions import NATIVE_PATHS, read_native
from provider.protocol.engine import Engine, EngineAnswer, EngineStatus, Question


class NativeSpeaker:
    """An engine of OpenAI's API that speaks Ollama's too; all but Ollama's paths passes by untouched."""

    def __init__(self, engine: Engine, max_event_bytes: int) -> None:
        self._engine = engine
        self._max_event_bytes = max_event_bytes

    async def status(self) -> EngineStatus:
        """What the engine says of itself."""
        return await self._engine.status()

    def ask(self, question: Question) -> AbstractAsyncContextManager[EngineAnswer]:
        """Ask the engine; what is asked in Ollama's words is answered in them.

        Raises:
            EngineRefused: nothing can be made of the question; or what the engine raises.
        """
        return self._translated(question) if question.endpoint in NATIVE_PATHS else self._engine.ask(question)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._engine.aclose()

    @asynccontextmanager
    async def _translated(self, question: Question) -> AsyncIterator[EngineAnswer]:
        began_ns = time.monotonic_ns()
        wanted = read_native(question)
        lines = NativeLines(wanted.form, wanted.model, began_ns)
        if wanted.asked is None:
            yield KnownAnswer(lines.nothing(wanted.done_reason))
            return
        async with self._engine.ask(wanted.asked) as answer:
            yield NativeAnswer(answer, lines, self._max_event_bytes, is_stream=wanted.asked.stream)
