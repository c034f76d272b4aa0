"""Which engine listens under a URL, or at one of the usual ports of this machine."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from provider.engines.fields import find_rows, has_any
from provider.engines.http import EngineHttp
from provider.engines.llamacpp import LlamaCppEngine
from provider.engines.lmstudio import LMStudioEngine
from provider.engines.native.speaker import NativeSpeaker
from provider.engines.ollama import OllamaEngine
from provider.engines.openai import HUB, OpenAIEngine, openai_models
from provider.engines.vllm import VllmEngine
from provider.errors import EngineDown
from provider.protocol.engine import Engine
from provider.settings import EngineKind, EngineSettings, engine_root

KNOWN = (OllamaEngine, VllmEngine, LlamaCppEngine, LMStudioEngine)
"""Those that can be told for certain, each by paths that no other has."""
USUAL_URLS = {one.kind: one.usual_url for one in KNOWN}
"""Where engines listen unless told otherwise; the first that is there is taken."""


@dataclass(frozen=True, slots=True)
class FoundEngine:
    """An engine's kind and root."""

    kind: EngineKind
    url: str


async def open_engine(settings: EngineSettings) -> Engine:
    """The engine that is set, or that is found.

    Raises:
        EngineDown: nothing is there yet, or a hub.
    """
    return connect_engine(await find_engine(settings), settings)


async def find_engine(settings: EngineSettings, usual_urls: Sequence[str] = tuple(USUAL_URLS.values())) -> FoundEngine:
    """Where the engine is and what; only looked for as far as the settings leave it open.

    Raises:
        EngineDown: nothing is there yet, or a hub.
    """
    if settings.kind is not EngineKind.AUTO:
        url = settings.url or USUAL_URLS.get(settings.kind, USUAL_URLS[EngineKind.VLLM])
        return FoundEngine(settings.kind, engine_root(url))
    if settings.url is not None:
        return FoundEngine(await _kind_under(settings.url, settings), engine_root(settings.url))
    # A hub and many other things listen at these ports: only what is known for certain is taken.
    kinds = await asyncio.gather(*(_known_kind_under(url, settings) for url in usual_urls))
    for url, kind in zip(usual_urls, kinds, strict=True):
        if kind is not None:
            return FoundEngine(kind, url)
    raise EngineDown(f"no engine at {', '.join(usual_urls)}")


def connect_engine(found: FoundEngine, settings: EngineSettings) -> Engine:
    """The adapter for it; it holds connections until it is closed."""
    http = EngineHttp(settings, found.url)
    engine = next((one for one in KNOWN if one.kind is found.kind), OpenAIEngine)(http)
    return engine if isinstance(engine, OllamaEngine) else NativeSpeaker(engine, settings.max_event_bytes)


async def _kind_under(url: str, settings: EngineSettings) -> EngineKind:
    """What listens there; EngineDown if nothing does, or nothing that can be asked."""
    http = EngineHttp(settings, url)
    try:
        if (kind := await _known_kind(http)) is not None:
            return kind
        openai_models(await http.get_json("/v1/models"), http.url)
        return EngineKind.OPENAI
    finally:
        await http.aclose()


async def _known_kind_under(url: str, settings: EngineSettings) -> EngineKind | None:
    http = EngineHttp(settings, url)
    try:
        return await _known_kind(http)
    except EngineDown:
        return None
    finally:
        await http.aclose()


async def _known_kind(http: EngineHttp) -> EngineKind | None:
    """A kind that is certain, or None; EngineDown if nothing listens, or a hub."""
    is_hub = find_rows(await http.find_json("/api/registry"), "nodes") is not None
    if is_hub or has_any(find_rows(await http.find_json("/v1/models"), "data") or [], "owned_by", HUB):
        raise EngineDown(f"{http.url} is a hub, not an engine")  # though it speaks the language of several
    for engine in KNOWN:
        if await engine.is_here(http):
            return engine.kind
    return None
