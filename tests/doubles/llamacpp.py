"""The test engine as llama.cpp's server: one model under any name, slots that can be looked at.

Written after the README of llama.cpp's server. Like it, it answers Ollama's /api/tags, and is not Ollama.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.counting import CountRequest
from tests.doubles.embedding import EmbeddingRequest
from tests.doubles.engine import Engine, json_response
from tests.doubles.events import EventApi, EventRequest
from tests.doubles.faults import Faults
from tests.doubles.models import Options
from tests.doubles.scripted import (
    Answer,
    Api,
    GenerationRequest,
    MalformedRequestError,
    last_message,
    llama_error,
)

DEFAULT_SLOTS = 4


@dataclass(frozen=True, slots=True)
class LlamaCppRequest(GenerationRequest):
    """What a body asks for in OpenAI's API; a chat's last message is gone on with to the letter."""

    @classmethod
    def begun(cls, api: Api, fields: dict[str, Any]) -> str:
        """The text that is gone on with."""
        if api is Api.COMPLETION:
            return super(LlamaCppRequest, cls).begun(api, fields)
        if [message.get("role") for message in fields["messages"][-2:]] == ["assistant"] * 2:
            raise MalformedRequestError("Cannot have 2 or more assistant messages at the end of the list.")
        return last_message(fields)

    def answer(self, faults: Faults, *, fingerprint: str) -> Answer:
        """What the engine says to it."""
        return LlamaCppAnswer(self, faults, fingerprint=fingerprint)


class LlamaCppAnswer(Answer):
    """The last piece tells how long all took, and with it how many tokens, whether asked to or not."""

    def ending(self, *, has_done: bool) -> list[bytes]:
        """Return the events after the last token."""
        events = super().ending(has_done=has_done)
        at = 1 if self._request.has_usage_event else 0
        events[at] = self._timed(events[at].rstrip()) + self._end
        return events

    def document(self) -> bytes:
        """Return the whole answer of a non-streamed request."""
        return self._timed(super().document())

    def _timed(self, told: bytes) -> bytes:
        timings = {"cache_n": 0, "prompt_n": self._request.prompt_tokens, "predicted_n": self._request.count}
        return told[:-1] + b',"timings":' + orjson.dumps(timings) + b"}"


class LlamaCpp(Engine):
    """Takes whatever model a request names for its own."""

    version = "b6970-0123abcd"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self._shown_slots = options.slots or DEFAULT_SLOTS

    def routes(self) -> list[web.RouteDef]:
        """OpenAI's API, its own health, properties and slots."""
        return [
            web.get("/health", self.probe(lambda: {"status": "ok"})),
            web.get("/v1/models", self.probe(self.list_models)),
            web.post("/v1/chat/completions", self.generation(partial(LlamaCppRequest.read, Api.CHAT))),
            web.post("/v1/completions", self.generation(partial(LlamaCppRequest.read, Api.COMPLETION))),
            web.get("/props", self.probe(self._props)),
            web.get("/slots", self._slots),
            web.get("/api/tags", self.probe(lambda: {"models": self._named()})),
            web.post("/v1/embeddings", self.generation(EmbeddingRequest.read)),
            web.post("/v1/responses", self.generation(partial(EventRequest.read, EventApi.RESPONSES))),
            web.post("/v1/messages", self.generation(partial(EventRequest.read, EventApi.MESSAGES))),
            web.post("/v1/messages/count_tokens", self.generation(CountRequest.read)),
        ]

    def list_models(self) -> dict[str, Any]:
        """The answer of /v1/models: Ollama's list and OpenAI's in one."""
        model = {"object": "model", "created": 0, "owned_by": "llamacpp"}
        meta = {"vocab_type": 2, "n_vocab": 49152, "n_ctx_train": 8192, "n_embd": 576, "n_params": 134_515_008}
        data = [{"id": name, **model, "meta": {**meta, "size": of.size_bytes}} for name, of in self.models.items()]
        return {"models": self._named(), "object": "list", "data": data}

    def error(self, status: int, message: str, path: str = "") -> web.Response:  # noqa: ARG002
        """The code is the status, a number, and stands first."""
        return json_response(llama_error(status, message), status=status)

    async def unknown_path(self, request: web.Request) -> web.StreamResponse:
        """404 in its own form; what was left out on its command line is named."""
        if request.path == "/v1/embeddings":
            return self.error(501, "This server does not support embeddings. Start it with `--embeddings`")
        return self.error(404, "File Not Found")

    def _named(self) -> list[dict[str, Any]]:
        return [{"name": name, "model": name, "modified_at": "", "size": "", "digest": ""} for name in self.models]

    def _props(self) -> dict[str, Any]:
        return {
            "default_generation_settings": {"n_ctx": 4096, "params": {"temperature": 0.8}},
            "total_slots": self._shown_slots,
            "model_path": f"/models/{next(iter(self.models))}.gguf",
            "chat_template": "{% for message in messages %}{{ message.content }}{% endfor %}",
            "build_info": self.version,
        }

    async def _slots(self, _request: web.Request) -> web.Response:
        busy = self.ledger.running
        slots = [{"id": nth, "n_ctx": 4096, "is_processing": nth < busy} for nth in range(self._shown_slots)]
        return json_response(orjson.dumps(slots))
