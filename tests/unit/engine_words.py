"""Engines for unit tests: the test engines' words without their HTTP, under the adapters as they are."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import orjson

from common.wire import Failure
from provider.engines.http import EngineHttp
from provider.engines.llamacpp import LlamaCppEngine
from provider.engines.lmstudio import LMStudioEngine
from provider.engines.native.speaker import NativeSpeaker
from provider.engines.ollama import OllamaEngine
from provider.engines.openai import OpenAIEngine
from provider.engines.vllm import VllmEngine
from provider.errors import EngineBroke
from provider.protocol.engine import Engine, EngineAnswer, EngineStatus, Question
from provider.protocol.failures import engine_error, read_failure
from provider.protocol.framing import framing_of
from provider.settings import EngineSettings
from tests.doubles.faults import Faults
from tests.doubles.llamacpp import LlamaCppRequest
from tests.doubles.native import NativeApi, NativeRequest, OllamaRequest
from tests.doubles.scripted import Api, GenerationRequest, MalformedRequestError
from tests.doubles.vllm import VLLMRequest

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
NATIVE_CHAT, GENERATE = "/api/chat", "/api/generate"
ENDPOINTS = (CHAT, COMPLETIONS, NATIVE_CHAT, GENERATE)
GO_ON_WITH_CHATS = ("llamacpp", "vllm", "ollama")
"""The kinds that do; the others go on with completions only."""
ALL_KINDS = (*GO_ON_WITH_CHATS, "openai", "lmstudio")
CONTINUED = [
    *((kind, endpoint) for kind in GO_ON_WITH_CHATS for endpoint in ENDPOINTS),
    *((kind, COMPLETIONS) for kind in ("openai", "lmstudio")),
]
"""Who goes on with what."""
MAX_EVENT_BYTES = 1_000_000
_APIS = {CHAT: Api.CHAT, COMPLETIONS: Api.COMPLETION}
_NATIVE_APIS = {NATIVE_CHAT: NativeApi.CHAT, GENERATE: NativeApi.GENERATE}
_READERS: Mapping[str, type[GenerationRequest]] = {
    "openai": GenerationRequest,
    "lmstudio": GenerationRequest,
    "llamacpp": LlamaCppRequest,
    "vllm": VLLMRequest,
    "ollama": OllamaRequest,
}
_ADAPTERS: Mapping[str, Any] = {
    "openai": OpenAIEngine,
    "lmstudio": LMStudioEngine,
    "llamacpp": LlamaCppEngine,
    "vllm": VllmEngine,
    "ollama": OllamaEngine,
}
BROKEN_OFF = EngineBroke(Failure(502, "engine_disconnected", "gone", retryable=True))


@dataclass
class SpokenAnswer:
    """An answer that says an event at a time, and may break off."""

    events: Sequence[bytes]
    content_type: str
    breaks_after: int | None
    status: int = 200
    usage: None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        for event in self.events[: self.breaks_after]:
            yield event
        if self.breaks_after is not None:
            raise BROKEN_OFF


@dataclass
class WordsOf:
    """What stands in for an engine's HTTP: the words of a kind's double."""

    kind: str
    breaks_after: int | None = None
    asked: list[Question] = field(default_factory=list)
    settings: EngineSettings = field(default_factory=EngineSettings)
    url: str = "http://double"

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[SpokenAnswer]:
        self.asked.append(question)
        try:
            answer = self._answer(question)
        except MalformedRequestError as exc:
            raise engine_error(read_failure(400, orjson.dumps({"error": {"message": str(exc)}}))) from exc
        yield answer

    def _answer(self, question: Question) -> SpokenAnswer:
        wanted: GenerationRequest | NativeRequest
        if question.endpoint in _APIS:
            wanted = _READERS[self.kind].read(_APIS[question.endpoint], question.body)
        else:
            wanted = NativeRequest.read(_NATIVE_APIS[question.endpoint], question.body)
        said = wanted.answer(Faults(), fingerprint=f"fp_{self.kind}")
        tokens = [said.tokens(place, place + 1) for place in range(wanted.count)]
        events = [*said.opening(), *tokens, *said.ending(has_done=True)]
        return SpokenAnswer(events, said.content_type, self.breaks_after)


@dataclass
class CutOff:
    """An engine whose answers break off after so many events."""

    engine: Engine
    after: int

    async def status(self) -> EngineStatus:
        return await self.engine.status()

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator["CutOffAnswer"]:
        async with self.engine.ask(question) as answer:
            yield CutOffAnswer(answer, self.after)

    async def aclose(self) -> None:
        await self.engine.aclose()


class CutOffAnswer:
    """The first events or lines of an answer."""

    def __init__(self, answer: EngineAnswer, after: int) -> None:
        self._answer = answer
        self._after = after
        self.status = answer.status
        self.content_type = answer.content_type
        self.usage = None

    async def chunks(self) -> AsyncIterator[bytes]:
        framing = framing_of(self.content_type, MAX_EVENT_BYTES)
        assert framing is not None
        left = self._after
        async for chunk in self._answer.chunks():
            for frame in framing.split(framing.feed(chunk)):
                if left == 0:
                    raise BROKEN_OFF
                if frame.strip():
                    left -= 1
                    yield frame


def engine_of(words: WordsOf) -> Engine:
    """The adapter of its kind, with Ollama's paths where they are translated."""
    engine: Engine = _ADAPTERS[words.kind](cast(EngineHttp, words))
    return engine if words.kind == "ollama" else NativeSpeaker(engine, MAX_EVENT_BYTES)
