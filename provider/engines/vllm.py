"""vLLM: one model held in memory, OpenAI's API and more, as its list of paths tells."""

from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from common.endpoints import ENDPOINTS, Capability
from provider.engines.fields import find_rows, has_any, text
from provider.engines.http import EngineHttp
from provider.engines.metering import UsageAsker
from provider.engines.openai import openai_models
from provider.engines.prefill import CHAT, altered, asked, once, read_fields, split_blanks, with_message, with_prompt
from provider.errors import EngineDown
from provider.protocol.engine import EngineAnswer, EngineStatus, Question
from provider.settings import EngineKind

UNTOLD = frozenset({Capability.CHAT, Capability.COMPLETIONS})
"""What it is taken to do where it was told to keep its list of paths to itself (`--disable-fastapi-docs`)."""
_PREFILL_NEEDS = Capability.CHAT
_TO_CONTINUE = "continue_final_message"
"""Whoever wants an answer continued asks a chat for this, without `add_generation_prompt`."""


class VllmEngine:
    """`/health` has no words, only a status; `/openapi.json` lists the paths that this version and model serve."""

    kind = EngineKind.VLLM
    usual_url = "http://127.0.0.1:8000"

    def __init__(self, http: EngineHttp) -> None:
        self._http = http
        self._asker = UsageAsker(http)
        self._capabilities: frozenset[Capability] | None = None

    @staticmethod
    async def is_here(http: EngineHttp) -> bool:
        """Whether what listens is vLLM."""
        if not text(await http.find_json("/version"), "version"):
            return False
        return has_any(find_rows(await http.find_json("/v1/models"), "data") or [], "owned_by", "vllm")

    async def status(self) -> EngineStatus:
        """Its models, all in memory."""
        try:
            await self._http.check("/health")
        except EngineDown:
            self._capabilities = None  # it may come back as another
            raise
        models = openai_models(await self._http.get_json("/v1/models"), self._http.url)
        if self._capabilities is None:
            self._capabilities = _read_capabilities(await self._http.find_json("/openapi.json"))
        version = text(await self._http.get_json("/version"), "version")
        return EngineStatus(self.kind, self._http.url, version, models, self._capabilities)

    def ask(self, question: Question) -> AbstractAsyncContextManager[EngineAnswer]:
        """Send the bytes to their path, asking for the usage of streams too."""
        if question.said is None or question.endpoint != CHAT:
            return self._asker.ask(with_prompt(question))
        text, blanks = split_blanks(question.said.text)
        asking = self._asker.ask(_continued(question, text) if text else replace(question, said=None))
        return altered(asking, once(blanks), self._http.settings.max_event_bytes)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()


def _continued(question: Question, text: str) -> Question:
    """The same, asked to go on with this text.

    It goes on with a last message only where it is told to. Where the client has not told it so, a last message of the
    assistant's is one before the answer, and the answer is another.
    """
    fields = read_fields(question)
    messages = with_message(fields.get("messages"), text, is_joined=fields.get(_TO_CONTINUE) is True)
    return asked(question, {**fields, "messages": messages, _TO_CONTINUE: True, "add_generation_prompt": False})


def _read_capabilities(described: object) -> frozenset[Capability]:
    paths = described.get("paths") if isinstance(described, dict) else None
    if not isinstance(paths, dict):
        found = UNTOLD
    else:
        found = frozenset(known.needs for path, known in ENDPOINTS.items() if path in paths)
    return found | {Capability.PREFILL} if _PREFILL_NEEDS in found else found
