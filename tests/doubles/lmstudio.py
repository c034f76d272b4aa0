"""The test engine as LM Studio: OpenAI's API, its own list that tells which models are in memory, and 200 for nonsense.

Written after LM Studio's published REST documentation. A path that it doesn't serve is answered with status 200 and an
error in the body, as it does: whoever looks at statuses alone finds every API there is.
"""

from dataclasses import replace
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.embedding import EmbeddingRequest
from tests.doubles.engine import Engine, Refusal, Wanted, json_response
from tests.doubles.events import EventApi, EventRequest
from tests.doubles.scripted import openai_error

_SINCE = {"/v1/responses": (0, 3, 29), "/api/v1/models": (0, 4, 0), "/v1/messages": (0, 4, 1)}


class LMStudio(Engine):
    """Loads the models that are asked for, just in time."""

    version = "0.4.9"

    def routes(self) -> list[web.RouteDef]:
        """OpenAI's API, its own lists of models, and what later versions added."""
        routes = [
            *(route for route in super().routes() if route.path != "/health"),
            web.get("/api/v0/models", self.probe(self._list_with_states)),
            web.get("/api/v1/models", self.probe(self._list_with_instances)),
            web.post("/v1/embeddings", self.generation(EmbeddingRequest.read)),
            web.post("/v1/responses", self.generation(partial(EventRequest.read, EventApi.RESPONSES))),
            web.post("/v1/messages", self.generation(partial(EventRequest.read, EventApi.MESSAGES))),
        ]
        number = tuple(int(part) for part in self.version.split("."))
        return [route for route in routes if number >= _SINCE.get(route.path, ())]

    def list_models(self) -> dict[str, Any]:
        """The answer of /v1/models: all that are on the disk."""
        model = {"object": "model", "owned_by": "organization_owner"}
        return {"object": "list", "data": [{"id": name, **model} for name in self.models]}

    def error(self, status: int, message: str, path: str = "") -> web.Response:  # noqa: ARG002
        """OpenAI's object, without a code."""
        return json_response(openai_error(message, kind="invalid_request_error"), status=status)

    def failure(self, status: int, path: str) -> web.Response:
        """A scripted failure."""
        return self.error(status, f"scripted failure {status}", path)

    async def unknown_path(self, request: web.Request) -> web.StreamResponse:
        """Status 200, whatever it was."""
        message = f"Unexpected endpoint or method. ({request.method} {request.path})"
        return json_response(orjson.dumps({"error": message}))

    def admit(self, wanted: Wanted, path: str) -> None:
        """Load the model; 404 if it isn't there."""
        if wanted.model not in self.models:
            raise Refusal(self.error(404, f'Model "{wanted.model}" not found', path))
        self.models[wanted.model] = replace(self.models[wanted.model], is_loaded=True)

    def _list_with_states(self) -> dict[str, Any]:
        return {"object": "list", "data": [self._described(name) for name in self.models]}

    def _list_with_instances(self) -> dict[str, Any]:
        return {"models": [self._described_with_instances(name) for name in self.models]}

    def _described_with_instances(self, name: str) -> dict[str, Any]:
        model = self.models[name]
        instance = {"id": name, "config": {"context_length": 4096, "flash_attention": True}}
        return {
            "type": "embedding" if "embed" in name else "llm",
            "publisher": "lmstudio-community",
            "key": name,
            "display_name": name,
            "architecture": "llama",
            "quantization": {"name": "Q4_K_M", "bits_per_weight": 4},
            "size_bytes": model.size_bytes,
            "params_string": "1.2B",
            "loaded_instances": [instance] if model.is_loaded else [],
            "max_context_length": 131072,
            "format": "gguf",
        }

    def _described(self, name: str) -> dict[str, Any]:
        is_loaded = self.models[name].is_loaded
        return {
            "id": name,
            "object": "model",
            "type": "embeddings" if "embed" in name else "llm",
            "publisher": "lmstudio-community",
            "arch": "llama",
            "compatibility_type": "gguf",
            "quantization": "Q4_K_M",
            "state": "loaded" if is_loaded else "not-loaded",
            "max_context_length": 131072,
            **({"loaded_context_length": 4096} if is_loaded else {}),
        }
