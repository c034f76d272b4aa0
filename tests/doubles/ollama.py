"""The test engine as Ollama: its own API beside OpenAI's, models that come and go in memory, `:latest`.

Written after Ollama's published API documentation (docs/api.md, docs/openai.md, docs/api/errors.mdx).
"""

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.embedding import EmbeddingRequest
from tests.doubles.engine import Engine, Refusal, Wanted, json_response
from tests.doubles.events import EventApi, EventRequest
from tests.doubles.ledger import Outcome
from tests.doubles.models import Model, Options
from tests.doubles.native import NativeApi, NativeRequest, OllamaRequest
from tests.doubles.scripted import Api, openai_error

MAX_LOADED = 2
"""Models in memory at once; one more puts out the one that was used longest ago."""
_RESPONSES_SINCE, _MESSAGES_SINCE = (0, 13, 3), (0, 14, 0)
_ADMINISTRATION = ("pull", "push", "create", "copy")
_ERROR_KINDS = {400: "invalid_request_error", 404: "not_found_error"}


class Ollama(Engine):
    """Everything on its disk is listed; asking for a model loads it."""

    version = "0.14.2"

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.models = {_tagged(name): model for name, model in self.models.items()}
        self._loaded: OrderedDict[str, Model] = OrderedDict()
        for name, model in self.models.items():
            if model.is_loaded:
                self._load(name)

    def routes(self) -> list[web.RouteDef]:
        """Its own API, OpenAI's, and in the versions that have them Responses and Messages."""
        chat, completion = (self.generation(partial(OllamaRequest.read, api)) for api in Api)
        native = {api: self.generation(partial(NativeRequest.read, api)) for api in NativeApi}
        number = tuple(int(part) for part in self.version.split("."))
        newer = [("/v1/responses", EventApi.RESPONSES)] if number >= _RESPONSES_SINCE else []
        newer += [("/v1/messages", EventApi.MESSAGES)] if number >= _MESSAGES_SINCE else []
        return [
            web.get("/", self._greet),  # aiohttp answers HEAD with it, too
            web.get("/api/version", self.probe(lambda: {"version": self.version})),
            web.get("/api/tags", self.probe(lambda: {"models": [*map(self._described, self.models)]})),
            web.get("/api/ps", self.probe(lambda: {"models": [*map(self._running, self._loaded)]})),
            web.post("/api/show", self._show),
            web.post("/api/chat", native[NativeApi.CHAT]),
            web.post("/api/generate", native[NativeApi.GENERATE]),
            web.post("/api/embed", self.generation(partial(EmbeddingRequest.read, is_native=True))),
            web.delete("/api/delete", self._delete),
            *(web.post(f"/api/{what}", self._administer) for what in _ADMINISTRATION),
            web.get("/v1/models", self.probe(self.list_models)),
            web.post("/v1/chat/completions", chat),
            web.post("/v1/completions", completion),
            web.post("/v1/embeddings", self.generation(EmbeddingRequest.read)),
            *(web.post(path, self.generation(partial(EventRequest.read, api))) for path, api in newer),
        ]

    def list_models(self) -> dict[str, Any]:
        """The answer of /v1/models: full names."""
        model = {"object": "model", "created": 0, "owned_by": "library"}
        return {"object": "list", "data": [{"id": name, **model} for name in self.models]}

    def error(self, status: int, message: str, path: str = "") -> web.Response:
        """One string in its own API, OpenAI's object under /v1."""
        if not path.startswith("/v1/"):
            return json_response(orjson.dumps({"error": message}), status=status)
        return json_response(openai_error(message, kind=_ERROR_KINDS.get(status, "api_error")), status=status)

    def failure(self, status: int, path: str) -> web.Response:
        """A scripted failure."""
        return self.error(status, f"scripted failure {status}", path)

    async def unknown_path(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """Its web framework's words."""
        return web.Response(status=404, text="404 page not found")

    def admit(self, wanted: Wanted, path: str) -> None:
        """Load the model; 404 if it isn't there."""
        name = _tagged(wanted.model)
        if name not in self.models:
            raise Refusal(self.error(404, f"model '{wanted.model}' not found", path))
        if isinstance(wanted, NativeRequest) and wanted.is_unload:
            self._loaded.pop(name, None)
        else:
            self._load(name)

    def _load(self, name: str) -> None:
        self._loaded[name] = self.models[name]
        self._loaded.move_to_end(name)
        while len(self._loaded) > MAX_LOADED:
            self._loaded.popitem(last=False)

    def _described(self, name: str) -> dict[str, Any]:
        model = self.models[name]
        details = {
            "parent_model": "",
            "format": "gguf",
            "family": "llama",
            "families": ["llama"],
            "parameter_size": "1.2B",
            "quantization_level": "Q4_K_M",
        }
        modified = "2026-01-02T03:04:05.678901234+01:00"
        named = {"name": name, "model": name, "modified_at": modified}
        return {**named, "size": model.size_bytes, "digest": model.digest, "details": details}

    def _running(self, name: str) -> dict[str, Any]:
        described = self._described(name)
        del described["modified_at"]
        expires_at = (datetime.now(UTC) + timedelta(minutes=5)).isoformat()
        return {**described, "expires_at": expires_at, "size_vram": described["size"], "context_length": 4096}

    # What changes or tells more than a job may

    async def _greet(self, _request: web.Request) -> web.Response:
        return web.Response(text="Ollama is running")

    async def _show(self, request: web.Request) -> web.Response:
        name = await self._named(request)
        if name not in self.models:
            return self.error(404, f"model '{name}' not found")
        info = {"general.architecture": "llama", "llama.context_length": 8192}
        shown = {"details": self._described(name)["details"], "model_info": info, "capabilities": ["completion"]}
        return json_response(orjson.dumps({"modelfile": "", "template": "{{ .Prompt }}", **shown}))

    async def _delete(self, request: web.Request) -> web.Response:
        self.ledger.note(request.path, request.headers, await request.read()).outcome = Outcome.FINISHED
        name = await self._named(request)
        self._loaded.pop(name, None)
        if self.models.pop(name, None) is None:
            return self.error(404, f"model '{name}' not found")
        return web.Response()

    async def _administer(self, request: web.Request) -> web.Response:
        self.ledger.note(request.path, request.headers, await request.read()).outcome = Outcome.FINISHED
        return json_response(b'{"status":"success"}')

    async def _named(self, request: web.Request) -> str:
        fields = orjson.loads(await request.read())
        return _tagged(str(fields.get("model") or fields.get("name") or ""))


def _tagged(name: str) -> str:
    """A model's full name: without a tag it is the latest."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"
