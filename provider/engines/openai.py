"""Any server that speaks OpenAI's API and is none of those that we know better."""

from contextlib import AbstractAsyncContextManager

from common.endpoints import Capability
from common.types import ModelId
from provider.engines.fields import count, has_any, rows, text
from provider.engines.http import EngineHttp
from provider.engines.metering import UsageAsker
from provider.engines.prefill import without_prefill
from provider.errors import EngineDown
from provider.protocol.engine import EngineAnswer, EngineStatus, ModelInfo, Question
from provider.settings import EngineKind

HUB = "ghub"
"""What a hub of ours says of its models' owner."""
_NOT_IN_MEMORY = frozenset({"unloaded", "loading", "sleeping", "failed"})


class OpenAIEngine:
    """Its models are all taken for loaded; what it does beyond chats and completions cannot be known."""

    kind = EngineKind.OPENAI
    capabilities = frozenset({Capability.CHAT, Capability.COMPLETIONS})

    def __init__(self, http: EngineHttp) -> None:
        self._http = http
        self._asker = UsageAsker(http)

    async def status(self) -> EngineStatus:
        """Its models; EngineDown if it cannot be reached or is a hub."""
        models = openai_models(await self._http.get_json("/v1/models"), self._http.url)
        return EngineStatus(self.kind, self._http.url, models=models, capabilities=self.capabilities)

    def ask(self, question: Question) -> AbstractAsyncContextManager[EngineAnswer]:
        """Send the bytes to their path, asking for the usage of streams too; only completions are gone on with."""
        return self._asker.ask(without_prefill(question))

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()


def openai_models(listed: object, url: str) -> tuple[ModelInfo, ...]:
    """The models of an answer to `/v1/models`.

    llama.cpp as a router tells of each whether it is loaded; its size on disk stands in `meta`.

    Raises:
        EngineDown: it is not in OpenAI's form, or it is the list of a hub, whose jobs would come round in a circle.
    """
    found = rows(listed, "data")
    if has_any(found, "owned_by", HUB):
        raise EngineDown(f"{url} is a hub, not an engine")
    return tuple(
        ModelInfo(
            ModelId(text(row, "id")),
            is_loaded=text(row.get("status"), "value") not in _NOT_IN_MEMORY,
            size_bytes=count(row.get("meta"), "size"),
        )
        for row in found
        if text(row, "id")
    )
