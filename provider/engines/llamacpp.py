"""llama.cpp's server, the built-in one included: OpenAI's API, and it tells its slots."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

from provider.engines.base import EngineAnswer, EngineStatus, Question
from provider.engines.openai import OpenAIEngine
from provider.engines.pieces import PiecedAnswer, in_pieces
from provider.errors import EngineDown


class LlamaCppEngine(OpenAIEngine):
    """`/health` answers 503 while the model loads; `/props` tells how many slots there are."""

    kind = "llamacpp"

    async def status(self) -> EngineStatus:
        """Its model and slots; EngineDown while it loads."""
        await self._get_json("/health")
        status = await super().status()
        props = await self._get_json("/props")
        slots = props.get("total_slots")
        build = props.get("build_info")
        return replace(
            status,
            slots=slots if isinstance(slots, int) and slots > 0 else None,
            version=build if isinstance(build, str) else "",
        )

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[EngineAnswer]:
        """Send the bytes to their path; a whole answer is asked for in pieces where that makes no difference."""
        pieces = in_pieces(question)
        async with super().ask(pieces or question) as answer:
            is_pieced = pieces is not None and answer.content_type.startswith("text/event-stream")
            yield PiecedAnswer(answer, self._settings.max_event_bytes) if is_pieced else answer

    async def is_here(self) -> bool:
        """Whether what listens under the URL is llama.cpp; EngineDown if nothing does."""
        await super().status()
        try:
            return "total_slots" in await self._get_json("/props")
        except EngineDown:
            return False
