"""The test engine as vLLM: OpenAI's API, an OpenAPI description that tells what it serves, and metrics.

Written after vLLM's published documentation of its OpenAI-compatible server, with errors as since 0.10.1.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from aiohttp import web

from tests.doubles.counting import CountRequest
from tests.doubles.embedding import EmbeddingRequest
from tests.doubles.engine import Engine, Refusal, Wanted, json_response
from tests.doubles.events import EventApi, EventRequest
from tests.doubles.faults import Faults
from tests.doubles.scripted import Answer, Api, GenerationRequest, MalformedRequestError, last_message, openai_error

MAX_MODEL_LEN = 4096
_ERROR_KINDS = {400: "BadRequestError", 404: "NotFoundError"}


@dataclass(frozen=True, slots=True)
class VLLMRequest(GenerationRequest):
    """What a body asks for; a chat's last message is gone on with only where its fields say so.

    It loses the blanks at its end, as many models' templates trim it.
    """

    @classmethod
    def begun(cls, api: Api, fields: dict[str, Any]) -> str:
        """The text that is gone on with."""
        if api is Api.COMPLETION:
            return super(VLLMRequest, cls).begun(api, fields)
        asks_to_continue = fields.get("continue_final_message") is True
        if asks_to_continue and fields.get("add_generation_prompt", True):
            message = "Cannot set both `continue_final_message` and `add_generation_prompt` to True."
            raise MalformedRequestError(message)
        return last_message(fields).rstrip() if asks_to_continue else ""

    def answer(self, faults: Faults, *, fingerprint: str) -> Answer:
        """What the engine says to it."""
        return VLLMAnswer(self, faults, fingerprint=fingerprint)


class VLLMAnswer(Answer):
    """The piece with the last token tells why it is the last; none follows that tells only this."""

    def tokens(self, start: int, stop: int) -> bytes:
        """Return the joined events of the tokens start..stop-1, counted from this answer's first."""
        events = super().tokens(start, stop)
        if stop < self._request.count:
            return events
        before, _, after = events.rpartition(b'"finish_reason":null')
        return before + b'"finish_reason":"length"' + after

    def ending(self, *, has_done: bool) -> list[bytes]:
        """Return the events after the last token."""
        events = super().ending(has_done=has_done)
        return events[1:] if self._request.count else events


class VLLM(Engine):
    """One model, or several names of it."""

    version = "0.11.2"

    def routes(self) -> list[web.RouteDef]:
        """OpenAI's API and what describes it."""
        return [
            web.get("/health", self._health),
            web.get("/version", self.probe(lambda: {"version": self.version})),
            web.get("/metrics", self._metrics),
            web.get("/openapi.json", self._describe),
            web.get("/v1/models", self.probe(self.list_models)),
            web.post("/v1/chat/completions", self.generation(partial(VLLMRequest.read, Api.CHAT))),
            web.post("/v1/completions", self.generation(partial(VLLMRequest.read, Api.COMPLETION))),
            web.post("/v1/embeddings", self.generation(EmbeddingRequest.read)),
            web.post("/v1/responses", self.generation(partial(EventRequest.read, EventApi.RESPONSES))),
            web.post("/v1/messages", self.generation(partial(EventRequest.read, EventApi.MESSAGES))),
            web.post("/v1/messages/count_tokens", self.generation(CountRequest.read)),
        ]

    def list_models(self) -> dict[str, Any]:
        """The answer of /v1/models: every name has the first as its root."""
        root = next(iter(self.models))
        model = {"object": "model", "created": 0, "owned_by": "vllm", "root": root, "parent": None}
        more = {"max_model_len": MAX_MODEL_LEN, "permission": []}
        return {"object": "list", "data": [{"id": name, **model, **more} for name in self.models]}

    def error(self, status: int, message: str, path: str = "", *, param: str | None = None) -> web.Response:  # noqa: ARG002
        """OpenAI's object; the code is the status, a number."""
        kind = _ERROR_KINDS.get(status, "InternalServerError")
        error = orjson.loads(openai_error(message, kind=kind, code=status))
        error["error"]["param"] = param
        return json_response(orjson.dumps(error), status=status)

    def failure(self, status: int, path: str) -> web.Response:
        """A scripted failure."""
        return self.error(status, f"scripted failure {status}", path)

    async def unknown_path(self, request: web.Request) -> web.StreamResponse:  # noqa: ARG002
        """Its web framework's words."""
        return json_response(b'{"detail":"Not Found"}', status=404)

    def admit(self, wanted: Wanted, path: str) -> None:
        """404 for a model that it doesn't serve."""
        if wanted.model not in self.models:
            message = f"The model `{wanted.model}` does not exist."
            raise Refusal(self.error(404, message, path, param="model"))

    async def _health(self, request: web.Request) -> web.Response:
        answer: web.Response = await self.probe(dict)(request)
        return web.Response() if answer.status == 200 else answer

    async def _metrics(self, _request: web.Request) -> web.Response:
        name = next(iter(self.models))
        running = self.ledger.running
        lines = [
            "# HELP vllm:num_requests_running Number of requests in model execution batches.",
            "# TYPE vllm:num_requests_running gauge",
            f'vllm:num_requests_running{{engine="0",model_name="{name}"}} {float(running)}',
        ]
        return web.Response(text="\n".join([*lines, ""]), content_type="text/plain")

    async def _describe(self, request: web.Request) -> web.Response:
        paths: dict[str, dict[str, Any]] = {}
        for route in request.app.router.routes():
            path = route.resource.canonical if route.resource is not None else ""
            if route.method in ("GET", "POST") and not path.startswith(("/control", "/openapi.json")):
                paths.setdefault(path, {})[route.method.lower()] = {"summary": ""}
        info = {"title": "FastAPI", "version": "0.1.0"}
        return json_response(orjson.dumps({"openapi": "3.1.0", "info": info, "paths": paths}))
