"""llama.cpp's server, the built-in one included: OpenAI's API, and it tells its slots."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from common.endpoints import ENDPOINTS, Capability
from provider.engines.fields import count, text
from provider.engines.http import EngineHttp
from provider.engines.openai import openai_models
from provider.engines.pieces import PiecedAnswer, in_pieces
from provider.engines.prefill import CHAT, asked, read_fields, with_message, with_prompt
from provider.engines.responses import CompletedResponse
from provider.errors import EngineDown, EngineRefused
from provider.protocol.engine import EngineAnswer, EngineStatus, Question
from provider.settings import EngineKind

ALWAYS = frozenset({Capability.CHAT, Capability.COMPLETIONS, Capability.PREFILL})
_PERHAPS = frozenset({Capability.EMBEDDINGS, Capability.RESPONSES, Capability.MESSAGES, Capability.COUNT_TOKENS})
_NOT_SERVED = frozenset({404, 405, 501})
_THINKING = "enable_thinking"
_TEMPLATE_FIELDS = "chat_template_kwargs"


class LlamaCppEngine:
    """`/health` answers 503 while the model loads; `/props` tells of the slots, `/slots` which are taken."""

    kind = EngineKind.LLAMACPP
    usual_url = "http://127.0.0.1:8080"

    def __init__(self, http: EngineHttp) -> None:
        self._http = http
        self._capabilities: frozenset[Capability] | None = None

    @staticmethod
    async def is_here(http: EngineHttp) -> bool:
        """Whether what listens is llama.cpp, alone or as a router of others."""
        props = await http.find_json("/props")
        return count(props, "total_slots") is not None or text(props, "role") == "router"

    async def status(self) -> EngineStatus:
        """Its models and slots; EngineDown while it loads."""
        try:
            await self._http.check("/health")
        except EngineDown:
            self._capabilities = None  # it may come back as another
            raise
        models = openai_models(await self._http.get_json("/v1/models"), self._http.url)
        props = await self._http.get_json("/props")
        sleeps = isinstance(props, dict) and props.get("is_sleeping") is True
        if self._capabilities is None and not sleeps:  # to try it would wake it
            self._capabilities = ALWAYS | {one for one in _PERHAPS if await self._serves(one)}
        return EngineStatus(
            self.kind,
            self._http.url,
            version=text(props, "build_info"),
            models=tuple(replace(model, is_loaded=False) for model in models) if sleeps else models,
            capabilities=self._capabilities or ALWAYS,
            slots=count(props, "total_slots") or None,
            in_use=None if sleeps else await self._slots_in_use(props),
        )

    @asynccontextmanager
    async def ask(self, question: Question) -> AsyncIterator[EngineAnswer]:
        """Send the bytes to their path; a whole answer is asked for in pieces where that makes no difference.

        Of responses it leaves out what clients need; that is added.
        """
        pieces = in_pieces(question)
        limit_bytes = self._http.settings.max_event_bytes
        asking = self._http.ask(pieces or question) if question.said is None else self._go_on(question)
        async with asking as answer:
            if pieces is not None and answer.content_type.startswith("text/event-stream"):
                yield PiecedAnswer(answer, limit_bytes)
            elif question.endpoint == "/v1/responses":
                yield CompletedResponse(answer, question, limit_bytes)
            else:
                yield answer

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    @asynccontextmanager
    async def _go_on(self, question: Question) -> AsyncIterator[EngineAnswer]:
        """Ask for the rest of an answer.

        Models that can think are not gone on with by builds before the summer of 2026 unless told not to. What begins
        with its text, not with thoughts, had none to begin with.
        """
        begun = _continued(question)
        async with AsyncExitStack() as stack:
            try:
                answer = await stack.enter_async_context(self._http.ask(begun))
            except EngineRefused as exc:
                if _THINKING not in exc.failure.message:
                    raise
                answer = await stack.enter_async_context(self._http.ask(_unthinking(begun)))
            yield answer

    async def _slots_in_use(self, props: object) -> int | None:
        """None where the server was told not to say."""
        if isinstance(props, dict) and props.get("endpoint_slots") is False:
            return None
        slots = await self._http.find_json("/slots")
        if not isinstance(slots, list):
            return None
        return sum(isinstance(slot, dict) and slot.get("is_processing") is True for slot in slots)

    async def _serves(self, wanted: Capability) -> bool:
        """Whether it does this, as it was built and started.

        Nothing tells but the refusal of an empty request: 404 from builds that don't know the path, 501 without
        `--embeddings`, and a word about pooling from models that cannot embed with it.
        """
        path = next(path for path, known in ENDPOINTS.items() if known.needs is wanted)
        status, words = await self._http.try_post(path)
        return status not in _NOT_SERVED and "Pooling type" not in words


def _continued(question: Question) -> Question:
    """The same with the beginning of its answer: as it is, for its server goes on with a last message to the letter.

    It takes no two of the assistant's there; a client's own is part of the answer to it.
    """
    if question.endpoint != CHAT or question.said is None:
        return with_prompt(question)
    fields = read_fields(question)
    return asked(question, {**fields, "messages": with_message(fields.get("messages"), question.said.text)})


def _unthinking(question: Question) -> Question:
    fields = read_fields(question)
    given = fields.get(_TEMPLATE_FIELDS)
    told = (given if isinstance(given, dict) else {}) | {_THINKING: False}
    return asked(question, {**fields, _TEMPLATE_FIELDS: told})
