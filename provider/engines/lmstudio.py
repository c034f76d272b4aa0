"""LM Studio: OpenAI's API and Anthropic's, models loaded on demand."""

from contextlib import AbstractAsyncContextManager

from common.endpoints import Capability
from common.types import ModelId
from provider.engines.fields import count, find_rows, rows, text
from provider.engines.http import EngineHttp
from provider.engines.metering import UsageAsker
from provider.engines.prefill import without_prefill
from provider.errors import EngineDown
from provider.protocol.engine import EngineAnswer, EngineStatus, ModelInfo, Question
from provider.settings import EngineKind

ALWAYS = frozenset({Capability.CHAT, Capability.COMPLETIONS, Capability.EMBEDDINGS})
NEWER = ALWAYS | {Capability.RESPONSES, Capability.MESSAGES}
"""Of those that have `/api/v1`, which came with 0.4.0: responses since 0.3.29, messages since 0.4.1."""


class LMStudioEngine:
    """`/api/v1/models` tells sizes and what is loaded, `/api/v0/models` of older ones only the latter.

    It tells no version, and answers paths that it doesn't have with 200 and an error.
    """

    kind = EngineKind.LMSTUDIO
    usual_url = "http://127.0.0.1:1234"

    def __init__(self, http: EngineHttp) -> None:
        self._http = http
        self._asker = UsageAsker(http)
        self._is_newer: bool | None = None

    @staticmethod
    async def is_here(http: EngineHttp) -> bool:
        """Whether what listens is LM Studio."""
        models = find_rows(await http.find_json("/api/v0/models"), "data")
        if models is not None:
            return all(text(row, "state") for row in models)
        models = find_rows(await http.find_json("/api/v1/models"), "models")
        return models is not None and all("loaded_instances" in row for row in models)

    async def status(self) -> EngineStatus:
        """Its models, loaded or not."""
        try:
            models = await self._models()
        except EngineDown:
            self._is_newer = None  # it may come back as another
            raise
        return EngineStatus(self.kind, self._http.url, models=models, capabilities=NEWER if self._is_newer else ALWAYS)

    def ask(self, question: Question) -> AbstractAsyncContextManager[EngineAnswer]:
        """Send the bytes to their path, asking for the usage of streams too; only completions are gone on with."""
        return self._asker.ask(without_prefill(question))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    async def _models(self) -> tuple[ModelInfo, ...]:
        if self._is_newer is not False:  # each look at a path that it lacks is a line in its log
            newer = find_rows(await self._http.find_json("/api/v1/models"), "models")
            self._is_newer = newer is not None
            if newer is not None:
                return tuple(
                    ModelInfo(ModelId(name), bool(row.get("loaded_instances")), count(row, "size_bytes"))
                    for row in newer
                    if (name := text(row, "key"))
                )
        return tuple(
            ModelInfo(ModelId(name), is_loaded=text(row, "state") == "loaded")
            for row in rows(await self._http.get_json("/api/v0/models"), "data")
            if (name := text(row, "id"))
        )
