"""Ollama: its own API and OpenAI's, models loaded on demand and put away when idle."""

import re
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import orjson

from common.endpoints import Capability
from common.types import ModelId
from provider.engines.fields import count, find_rows, rows, text
from provider.engines.http import EngineHttp
from provider.engines.metering import UsageAsker
from provider.engines.native.questions import NATIVE_PATHS
from provider.engines.ollama_continuing import continued
from provider.engines.openai import HUB
from provider.engines.prefill import altered
from provider.errors import EngineDown
from provider.protocol.engine import EngineAnswer, EngineStatus, ModelInfo, Question
from provider.settings import EngineKind

ALWAYS = frozenset(
    {
        Capability.CHAT,
        Capability.COMPLETIONS,
        Capability.EMBEDDINGS,
        Capability.NATIVE,
        Capability.PREFILL,  # it goes on with a last message of the assistant's, in either API
    }
)
_SINCE = {Capability.RESPONSES: (0, 13, 3), Capability.MESSAGES: (0, 14, 0)}
_VERSION = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")
_DEFAULT_TAG = ":latest"


class OllamaEngine:
    """`/api/tags` lists what is on disk, `/api/ps` what is in memory."""

    kind = EngineKind.OLLAMA
    usual_url = "http://127.0.0.1:11434"

    def __init__(self, http: EngineHttp) -> None:
        self._http = http
        self._asker = UsageAsker(http)

    @staticmethod
    async def is_here(http: EngineHttp) -> bool:
        """Whether what listens is Ollama."""
        if not text(await http.find_json("/api/version"), "version"):
            return False
        return find_rows(await http.find_json("/api/tags"), "models") is not None

    async def status(self) -> EngineStatus:
        """Its models, with their sizes, digests and GPU memory; EngineDown if it cannot be reached or is a hub."""
        told = await self._http.get_json("/api/version")
        if text(told, HUB):  # whatever the settings say: its jobs would come round in a circle
            raise EngineDown(f"{self._http.url} is a hub, not an engine")
        version = text(told, "version")
        listed = rows(await self._http.get_json("/api/tags"), "models")
        loaded = {_bare(row): row for row in rows(await self._http.get_json("/api/ps"), "models")}
        return EngineStatus(
            self.kind,
            self._http.url,
            version=version,
            models=tuple(
                ModelInfo(
                    name,
                    is_loaded=name in loaded,
                    size_bytes=count(row, "size"),
                    digest=text(row, "digest"),
                    gpu_bytes=count(loaded.get(name), "size_vram"),
                )
                for name, row in {_bare(row): row for row in listed}.items()
                if name
            ),
            capabilities=ALWAYS | {one for one, since in _SINCE.items() if _read_version(version) >= since},
        )

    def ask(self, question: Question) -> AbstractAsyncContextManager[EngineAnswer]:
        """Send the bytes to their path; streams of OpenAI's API are asked for their usage, its own always tell it."""
        if question.said is None:
            return self._asked(question)
        rest = continued(question, question.said)
        return altered(self._asked(rest.question), rest.alterations, self._http.settings.max_event_bytes)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._http.aclose()

    def _asked(self, question: Question) -> AbstractAsyncContextManager[EngineAnswer]:
        if question.endpoint in NATIVE_PATHS:
            return self._http.ask(_said_plainly(question))
        return self._asker.ask(question)


def _bare(row: dict[str, object]) -> ModelId:
    """A model's name; without the tag that Ollama adds to names that have none, so that no model is there twice."""
    return ModelId((text(row, "name") or text(row, "model")).removesuffix(_DEFAULT_TAG))


def _read_version(version: str) -> tuple[int, int, int]:
    """What comes before a `-rc0`; builds without a number are taken for old ones."""
    if (match := _VERSION.match(version)) is None:
        return (0, 0, 0)
    return (int(match[1]), int(match[2]), int(match[3]))


def _said_plainly(question: Question) -> Question:
    """The same question; its own paths stream unless told not to, so whoever wants a whole answer has to say so."""
    if question.stream:
        return question
    try:
        fields = orjson.loads(question.body)
    except ValueError:
        return question  # the engine's to refuse
    if not isinstance(fields, dict) or fields.get("stream") is False:
        return question
    return replace(question, body=orjson.dumps(fields | {"stream": False}))
