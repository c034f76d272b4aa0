"""The engines that every adapter is held against, what each can do, and how it is asked for that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import orjson

from common.endpoints import ENDPOINTS, Capability
from common.types import ModelId
from provider.protocol.engine import Engine, Question
from provider.settings import EngineKind
from tests.doubles.models import Model
from tests.doubles.process import EngineProcess

TINY = Model("tiny:1b", size_bytes=1_234_567, digest="ab" * 32, is_loaded=True)
SMALL = Model("small:3b", size_bytes=3_456_789, digest="cd" * 32)
NEVER_STREAMED = ("/v1/embeddings", "/v1/messages/count_tokens", "/api/embed")

_OPENAI = frozenset({Capability.CHAT, Capability.COMPLETIONS})
_EVENTS = frozenset({Capability.RESPONSES, Capability.MESSAGES})
_OLLAMA = _OPENAI | {Capability.EMBEDDINGS, Capability.NATIVE, Capability.PREFILL}
_ALL_BUT_NATIVE = _OPENAI | _EVENTS | {Capability.EMBEDDINGS, Capability.COUNT_TOKENS, Capability.PREFILL}


@dataclass(frozen=True)
class EngineCase:
    """One engine in one version."""

    kind: EngineKind
    can: frozenset[Capability]
    version: str = ""
    lacks: Sequence[str] = ()
    tells_version: bool = True
    tells_sizes: bool = False
    tells_digests: bool = False
    tells_loaded: bool = False
    knows_its_models: bool = True
    """Whether it refuses a model that it doesn't have."""

    @property
    def trims(self) -> bool:
        """Whether it loses the blanks at the end of what it goes on with, so that it says them itself."""
        return self.kind in (EngineKind.VLLM, EngineKind.OLLAMA)

    @property
    def to_continue(self) -> Mapping[str, bool]:
        """Fields without which it begins a new answer, though the last message is its own."""
        is_vllm = self.kind is EngineKind.VLLM
        return {"continue_final_message": True, "add_generation_prompt": False} if is_vllm else {}

    @property
    def endpoints(self) -> Sequence[str]:
        """What it serves itself; Ollama's paths are translated for the others."""
        own = [endpoint for endpoint, known in ENDPOINTS.items() if known.needs in self.can]
        is_native = Capability.NATIVE in self.can
        return [endpoint for endpoint in own if is_native or not endpoint.startswith("/api/")]

    @property
    def streaming(self) -> Sequence[str]:
        """Those of them whose answers can be streamed."""
        return [endpoint for endpoint in self.endpoints if endpoint not in NEVER_STREAMED]

    def start(self, **options: Any) -> EngineProcess:
        """Its double, to be used in a `with` block."""
        given: dict[str, Any] = {"kind": self.kind, "models": (TINY, SMALL), "slots": 4, **options}
        return EngineProcess(version=self.version, lacks=self.lacks, **given)


_AS_OLLAMA: dict[str, Any] = {
    "kind": EngineKind.OLLAMA,
    "tells_sizes": True,
    "tells_digests": True,
    "tells_loaded": True,
}
_AS_LMSTUDIO: dict[str, Any] = {"kind": EngineKind.LMSTUDIO, "tells_version": False, "tells_loaded": True}

CASES: Mapping[str, EngineCase] = {
    "ollama": EngineCase(can=_OLLAMA | _EVENTS, version="0.14.2", **_AS_OLLAMA),
    "ollama-0.12": EngineCase(can=_OLLAMA, version="0.12.11", **_AS_OLLAMA),
    "vllm": EngineCase(EngineKind.VLLM, _ALL_BUT_NATIVE, "0.11.2"),
    "vllm-that-embeds": EngineCase(
        EngineKind.VLLM,
        frozenset({Capability.EMBEDDINGS}),
        "0.11.2",
        ("/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
    ),
    "llamacpp": EngineCase(EngineKind.LLAMACPP, _ALL_BUT_NATIVE, "b6970-abc", tells_sizes=True, knows_its_models=False),
    "llamacpp-of-old": EngineCase(
        EngineKind.LLAMACPP,
        _OPENAI | {Capability.PREFILL},
        "b5000-abc",
        ("/v1/embeddings", "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"),
        tells_sizes=True,
        knows_its_models=False,
    ),
    "lmstudio": EngineCase(
        can=_OPENAI | _EVENTS | {Capability.EMBEDDINGS}, version="0.4.9", tells_sizes=True, **_AS_LMSTUDIO
    ),
    "lmstudio-0.3": EngineCase(can=_OPENAI | {Capability.EMBEDDINGS}, version="0.3.20", **_AS_LMSTUDIO),
    "openai": EngineCase(EngineKind.OPENAI, _OPENAI, tells_version=False, knows_its_models=False),
}

_TALK = [{"role": "user", "content": "count for me"}]
_BODIES: Mapping[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": _TALK, "max_tokens": 5},
    "/v1/completions": {"prompt": "count for me", "max_tokens": 5},
    "/v1/embeddings": {"input": ["one text", "and another"]},
    "/v1/responses": {"input": "count for me", "max_output_tokens": 5},
    "/v1/messages": {"messages": _TALK, "max_tokens": 5},
    "/v1/messages/count_tokens": {"messages": _TALK},
    "/api/chat": {"messages": _TALK, "options": {"num_predict": 5}},
    "/api/generate": {"prompt": "count for me", "options": {"num_predict": 5}},
    "/api/embed": {"input": "one text"},
}


def question(endpoint: str, *, model: str = TINY.name, stream: bool = False, **fields: object) -> Question:
    """A question for five tokens; fields are added to its body or replace what is there."""
    body = {"model": model, **_BODIES[endpoint], **fields}
    if endpoint not in NEVER_STREAMED:
        body["stream"] = stream
    return Question("0" * 32, endpoint, ModelId(model), stream, orjson.dumps(body))


async def said(engine: Engine, asked: Question) -> bytes:
    """The whole body of an answer."""
    async with engine.ask(asked) as answer:
        return b"".join([chunk async for chunk in answer.chunks()])


async def said_to_anyone(url: str, asked: Question) -> httpx2.Response:
    """What the engine under a URL answers without us."""
    async with httpx2.AsyncClient(trust_env=False, timeout=30) as client:
        headers = {"content-type": "application/json"}
        return await client.post(url + asked.endpoint, content=asked.body, headers=headers)
