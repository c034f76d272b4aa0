"""What a provider asks of an engine, whatever it is."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol

from common.types import ModelId
from common.wire import Job


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """What an engine says of itself: its kind and version, its models, those in memory, and its slots if it tells."""

    kind: str
    version: str = ""
    models: tuple[ModelId, ...] = ()
    loaded: tuple[ModelId, ...] = ()
    slots: int | None = None
    url: str = field(default="")


class EngineAnswer(Protocol):
    """An answer that has begun."""

    status: int
    content_type: str

    def chunks(self) -> AsyncIterator[bytes]:
        """The body's bytes as they arrive.

        Raises:
            EngineBroke: the connection was lost before the end.
        """
        ...


class Engine(Protocol):
    """A local inference server."""

    async def status(self) -> EngineStatus:
        """Look at its health and models.

        Raises:
            EngineDown: it cannot be reached or says that it isn't ready.
        """
        ...

    def ask(self, job: Job) -> AbstractAsyncContextManager[EngineAnswer]:
        """Send the job's bytes to its path. Leaving the context closes the connection, which stops the engine.

        Raises:
            EngineDown: it cannot be reached.
            EngineRefused: it answered with an error status.
        """
        ...

    async def aclose(self) -> None:
        """Close every connection."""
        ...
