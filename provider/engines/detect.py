"""Which engine listens under a URL."""

from provider.engines.base import Engine
from provider.engines.llamacpp import LlamaCppEngine
from provider.engines.openai import OpenAIEngine
from provider.settings import EngineKind, EngineSettings


async def open_engine(settings: EngineSettings) -> Engine:
    """The engine of the kind that is set, or that is found.

    Raises:
        EngineDown: the kind is `auto` and nothing answers yet.
    """
    if settings.kind is EngineKind.OPENAI:
        return OpenAIEngine(settings)
    engine = LlamaCppEngine(settings)
    try:
        if settings.kind is EngineKind.LLAMACPP or await engine.is_here():
            return engine
    except BaseException:
        await engine.aclose()
        raise
    await engine.aclose()
    return OpenAIEngine(settings)
